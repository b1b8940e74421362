"""Monotone maps of single numbers, whose parameters a network gives: what couplings and autoregressive flows apply.

A map takes values [n, c] and parameters [n, c, size], and gives log dy/dx of each value beside it, float64 [n, c].
With all parameters 0 each map is the identity, which is where training starts. None can blow a row up: what scales is
bounded by b, softly, as v / (1 + |v| / b).
"""

from __future__ import annotations

from math import log
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from models.nets.lanes import full_lanes

__all__ = ["Additive", "Affine", "Elementwise", "RationalQuadratic", "softly_bounded"]


class Elementwise(Protocol):
    """A monotone map of numbers, each with parameters of its own."""

    @property
    def size(self) -> int:
        """How many parameters a number takes."""
        ...

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, c], parameters [n, c, size] -> (y [n, c], log dy/dx float64 [n, c])."""
        ...

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """y [n, c], parameters [n, c, size] -> (x [n, c], log dy/dx at that x, float64 [n, c])."""
        ...


def softly_bounded(v: Tensor, bound: float) -> Tensor:
    """v / (1 + |v| / bound), which lies in (-bound, bound) and is v near 0.

    Example:
        >>> softly_bounded(torch.tensor([0.0, 2.0, -1e9]), 2.0).tolist()
        [0.0, 1.0, -2.0]
    """
    return v / (1.0 + v.abs() / bound)


class Additive:
    """y = x + t: volume-preserving.

    Example:
        >>> Additive().forward(torch.tensor([[1.0]]), torch.tensor([[[0.5]]]))[0].item()
        1.5
    """

    size = 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, c], t [n, c, 1] -> (y [n, c], zeros float64 [n, c])."""
        return x + parameters[..., 0], torch.zeros_like(x, dtype=torch.float64)

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """y [n, c], t [n, c, 1] -> (x [n, c], zeros float64 [n, c])."""
        return y - parameters[..., 0], torch.zeros_like(y, dtype=torch.float64)


class Affine:
    """y = x exp(s) + t.

    Args:
        bound: s lies in (-bound, bound).

    Example:
        >>> y, log_slope = Affine(bound=5.0).forward(torch.tensor([[1.0]]), torch.tensor([[[0.5, 5.0]]]))
        >>> round(y.item(), 4) == round(torch.tensor(2.5).exp().item() + 0.5, 4), log_slope.item()
        (True, 2.5)
    """

    size = 2

    def __init__(self, *, bound: float):
        if not 0.0 < bound < 30.0:
            raise ValueError(f"the bound on a log-scale lies between 0 and 30, not at {bound:g}")
        self.bound = bound

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, c], (t, raw s) [n, c, 2] -> (y [n, c], s float64 [n, c])."""
        shift, log_scale = self._read(parameters)
        return x * log_scale.exp() + shift, log_scale.double()

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """y [n, c], (t, raw s) [n, c, 2] -> (x [n, c], s float64 [n, c])."""
        shift, log_scale = self._read(parameters)
        return (y - shift) / log_scale.exp(), log_scale.double()

    def _read(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return parameters[..., 0], softly_bounded(parameters[..., 1], self.bound)


class RationalQuadratic:
    """A monotone rational-quadratic spline on [-bound, bound], and the identity beyond.

    Between knots (x0, y0) and (x1, y1), with slopes d0 and d1 there and s = (y1 - y0) / (x1 - x0),

        y = y0 + (y1 - y0) (s v^2 + d0 v (1 - v)) / (s + (d0 + d1 - 2 s) v (1 - v)),    v = (x - x0) / (x1 - x0)

    (C. Durkan, A. Bekasov, I. Murray and G. Papamakarios, "Neural Spline Flows", 2019, section 3.1; J. Gregory and R.
    Delbourgo 1982). Slopes at the ends are 1, as beyond them, so that the slope is continuous. A number has K widths,
    K heights and K - 1 inner slopes: widths and heights are a softmax of softly bounded numbers, no bin a thousandth
    as wide as another, and slopes at knots lie in (1/1000, 1000). In double.

    Args:
        bins: K.
        bound: where the spline ends.

    Example:
        >>> spline = RationalQuadratic(bins=4, bound=3.0)
        >>> x = torch.tensor([[-4.0, 0.5]], dtype=torch.float64)
        >>> spline.forward(x, torch.zeros(1, 2, spline.size))[0].tolist()
        [[-4.0, 0.5]]
    """

    _MOST = log(1000.0)

    def __init__(self, *, bins: int, bound: float):
        if bins < 2 or not 0.0 < bound < 1e6:
            raise ValueError(f"a spline has two bins or more and a bound above 0, not {bins} and {bound:g}")
        self.bins = bins
        self.bound = bound

    @property
    def size(self) -> int:
        """3 K - 1."""
        return 3 * self.bins - 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, c], parameters [n, c, 3 K - 1] -> (y float64 [n, c], log dy/dx float64 [n, c])."""
        x = x.double()
        across, up, slopes = self._knots(parameters)
        x0, x1, y0, y1, d0, d1 = self._bin(across, x, across, up, slopes)
        v = ((x - x0) / (x1 - x0)).clamp(0.0, 1.0)
        s, both = (y1 - y0) / (x1 - x0), v * (1.0 - v)
        below = s + (d0 + d1 - 2.0 * s) * both
        y = y0 + (y1 - y0) * (s * v.square() + d0 * both) / below
        return self._with_tails(x, y, self._slope(v, s, d0, d1, below))

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """y [n, c], parameters [n, c, 3 K - 1] -> (x float64 [n, c], log dy/dx at x float64 [n, c])."""
        y = y.double()
        across, up, slopes = self._knots(parameters)
        x0, x1, y0, y1, d0, d1 = self._bin(up, y, across, up, slopes)
        s = (y1 - y0) / (x1 - x0)
        # The root between 0 and 1 of a v^2 + b v + c, in the form that does not cancel (the paper's appendix A.1).
        above = (y - y0).clamp(min=0.0).minimum(y1 - y0)
        bend = above * (d0 + d1 - 2.0 * s)
        a, b, c = (y1 - y0) * (s - d0) + bend, (y1 - y0) * d0 - bend, -s * above
        root = (b.square() - 4.0 * a * c).clamp(min=1e-300).sqrt()
        v = (2.0 * c / (-b - root)).clamp(0.0, 1.0)
        below = s + (d0 + d1 - 2.0 * s) * v * (1.0 - v)
        return self._with_tails(y, x0 + v * (x1 - x0), self._slope(v, s, d0, d1, below))

    def _knots(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Knots along both axes and slopes at them, float64 [n, c, K + 1] each."""
        widths, heights, raw = torch.split(parameters, [self.bins, self.bins, self.bins - 1], dim=-1)
        slopes = softly_bounded(raw, self._MOST).exp().double()
        return self._edges(widths), self._edges(heights), pad(slopes, (1, 1), value=1.0)

    def _edges(self, raw: Tensor) -> Tensor:
        # Running sums add one number at a time, wherever a row lies in memory.
        sums = softly_bounded(raw, 0.5 * self._MOST).exp().double().cumsum(dim=-1)
        return self.bound * (2.0 * pad(sums / sums[..., -1:], (1, 0)) - 1.0)

    def _bin(self, knots: Tensor, value: Tensor, across: Tensor, up: Tensor, slopes: Tensor) -> tuple[Tensor, ...]:
        """Of each value [n, c]: x0, x1, y0, y1, d0, d1 of the bin of ``knots`` that it lies in, or is nearest to."""
        first = (value[..., None] >= knots[..., 1:-1]).long().sum(dim=-1, keepdim=True)
        parts = (part.gather(-1, first + i)[..., 0] for part in (across, up, slopes) for i in (0, 1))
        return tuple(parts)

    def _slope(self, v: Tensor, s: Tensor, d0: Tensor, d1: Tensor, below: Tensor) -> Tensor:
        inside = d1 * v.square() + 2.0 * s * v * (1.0 - v) + d0 * (1.0 - v).square()
        return (s / below).square() * inside

    def _with_tails(self, value: Tensor, mapped: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        inside = value.abs() <= self.bound
        return torch.where(inside, mapped, value), torch.where(inside, full_lanes(torch.log, slope), 0.0)
