"""Orthogonal series estimate of the density of one column: a few cosines, as many as cross-validation keeps.

    log p(x) = log( f(y) / (b - a) ),    y = (x - a) / (b - a)
    f(y) = 1 + sum_(k = 1)^J c_k sqrt(2) cos(k pi y),    c_k = 1/n sum_i sqrt(2) cos(k pi y_i)

for training rows at y_i in [0, 1], their place between the least a and the largest b (N. N. Cencov, "Evaluation of an
Unknown Distribution Density from Observations", 1962). J has the least leave-one-out estimate of the risk, the
integral of the squared error up to a constant (R. Kronmal and M. Tarter, "The Estimation of Probability Densities and
Cumulatives by Fourier Series Methods", 1968; M. Rudemo 1982), with m_k the mean of the squares of the k-th cosines:

    R(J) = sum_(k = 1)^J (2 m_k - (n + 1) c_k^2) / (n - 1)

A sum of cosines may be negative; its positive part is taken, a share w = 1 / (n + 1) of the uniform law added, and the
whole scaled to be a law again. That is done once, at the ends of 1,024 cells; between them the density is a straight
line, so that what is served is a law by itself, its distribution function a parabola in each cell, with an inverse.
Beyond either end lies 1 / (n + 1) of all mass, in an exponential tail (``models/nets/tails.py``).

The code is the probability integral transform u = F(x); a draw is F^-1 of a uniform. In double.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> column = Column(name="phase", kind="real", base_measure="lebesgue")
    >>> model = OrthogonalSeries(Support(shape=(1,), columns=(column,)), terms=1)
    >>> model.fit(torch.tensor([[0.0], [0.2], [0.25], [0.3], [1.0]]))
    >>> x = torch.tensor([[0.1], [0.9]], dtype=torch.float64)
    >>> [round(p, 3) for p in model.log_prob(x).exp().tolist()]
    [1.111, 0.222]
    >>> [round(v, 9) for v in model.decode(model.encode(x))[:, 0].tolist()]
    [0.1, 0.9]
"""

from __future__ import annotations

from math import pi, sqrt
from typing import ClassVar

import torch
from torch import Tensor

from contract.capabilities import Capability, NumberKind
from contract.programs import ProgramInput
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel, register
from models.nets.inversion import inside, invert_steps, open_uniform, uniform_log_prob
from models.nets.lanes import full_lanes
from models.nets.tabular import refuse_coarse_columns, why_not_continuous
from models.nets.tails import ExponentialTails

__all__ = ["OrthogonalSeries", "cosine_means", "leave_one_out_risks"]

_CELLS = 1024
_MOST_TERMS = 256  # a cosine has four cells or more to a half-wave


@register("orthogonal-series")
class OrthogonalSeries(GenerativeModel):
    """Cosine series of one real column, with exponential tails.

    Args:
        support: one real column that may not be missing.
        terms: J, 0 to 256; chosen by the risk if None.

    Raises:
        ValueError: the support is not of that kind, or so many terms cannot be told apart on the grid.
    """

    start: Tensor
    width: Tensor
    terms: Tensor
    heights: Tensor
    below: Tensor

    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "one law describes all rows: it knows no labels that a row could have",
        "marginal": "a row has one column: with that left out, nothing is left to have a probability",
        "inpaint": "a row has one column: with that left out, nothing is known, and a draw is one of /sample",
    }
    log_prob_kind: ClassVar[NumberKind] = "exact"
    code_description: ClassVar[str] = "probability integral transform F(x), a bijection of the line and (0, 1)"
    latent_parameters: ClassVar[tuple[ProgramInput, ...]] = ()

    def __init__(self, support: Support, *, terms: int | None = None):
        super().__init__(support)
        if terms is not None and not 0 <= terms <= _MOST_TERMS:
            raise ValueError(f"terms: a series has 0 to {_MOST_TERMS} of them, not {terms}")
        self.wanted = terms
        for name in ("start", "width", "terms"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        self.register_buffer("heights", torch.zeros(_CELLS + 1, dtype=torch.float64))  # density at the cells' ends
        self.register_buffer("below", torch.zeros(_CELLS, dtype=torch.float64))  # F at each cell's lower end
        self.tails = ExponentialTails()

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for one real column without missing values, else the reason in words."""
        reason = why_not_continuous(support, positive=False)
        if reason is None and support.size > 1:
            reason = f"a series in {support.size} columns would have more terms than rows: it is for one column"
        return reason

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(1,)."""
        return self.support.shape

    def fit(self, x: Tensor) -> None:
        """Choose the terms and sum them up, for x [n, 1].

        Raises:
            ValueError: the column is constant or too coarsely rounded, or the risk falls with every further term, as
                where rows repeat each other.
        """
        rows = x.double()[:, 0].sort().values
        low, high, n = float(rows[0]), float(rows[-1]), len(rows)
        assert self.support.columns is not None
        if not low < high:
            name = self.support.columns[0].name
            raise ValueError(f"column {name!r} is constant: it has no density, and belongs left out")
        refuse_coarse_columns(self.support, x)
        coefficients, squares = cosine_means((rows - low) / (high - low))
        terms = self.wanted if self.wanted is not None else _least_risk(coefficients, squares, n)
        y = torch.arange(_CELLS + 1, dtype=torch.float64) / _CELLS
        k = torch.arange(1, terms + 1, dtype=torch.float64)
        series = 1.0 + sqrt(2.0) * torch.cos(pi * y[:, None] * k) @ coefficients[:terms]
        width = (high - low) / _CELLS
        self.tails.fit(rows, least=width)
        share = float(self.tails.mass)  # of the uniform law too
        positive = series.clamp(min=0.0)
        heights = (1.0 - share) * positive / _areas(positive).sum() + share
        heights = (1.0 - 2.0 * share) * heights / _areas(heights).sum()
        areas = _areas(heights)
        self.start.fill_(low)
        self.width.fill_(width)
        self.terms.fill_(terms)
        self.heights.copy_(heights / (high - low))
        self.below.copy_(share + areas.cumsum(dim=0) - areas)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), exact, in nats of the original units: x float64 [n, 1] -> float64 [n]."""
        left, right, at, share = self._place(x)
        first, slope = self._line(at)
        within = full_lanes(torch.log, (first + slope * share)[:, None])[:, 0]
        return self.tails.log_density(left, right, within)

    def encode(self, x: Tensor) -> Tensor:
        """F(x): x float64 [n, 1] -> u float64 [n, 1]."""
        left, right, at, share = self._place(x)
        first, slope = self._line(at)
        within = self.below.index_select(0, at) + self.width * share * (first + 0.5 * slope * share)
        return self.tails.distribution(left, right, within)[:, None]

    def decode(self, z: Tensor) -> Tensor:
        """F^-1(u); what lies outside (0, 1) counts as its ends: u float64 [n, 1] -> x float64 [n, 1]."""
        u = inside(z)[:, 0]
        at = invert_steps(torch.cat([self.below[1:], torch.ones_like(self.below[:1])]), u)
        first, slope = self._line(at)
        # The root of first v + slope v^2 / 2 = mass, in the form that loses no digits where the slope is small.
        mass = ((u - self.below.index_select(0, at)) / self.width).relu()
        root = (first.square() + 2.0 * slope * mass).relu().sqrt()
        within = self.start + self.width * (at.double() + 2.0 * mass / (first + root))
        end = self.start + self.width * _CELLS
        return self.tails.quantile(u, self.start, end, within)[:, None]

    def latent(self, seed: Tensor, row: Tensor, *parameters: Tensor) -> Tensor:
        """Draw codes, uniforms on (0, 1): seed, row int64 [n] -> u float64 [n, 1]."""
        return open_uniform(seed, row, Stream.LATENT, dims=1)

    def latent_log_prob(self, z: Tensor) -> Tensor:
        """0 where u is in (0, 1), else -inf: float64 [n, 1] -> float64 [n]."""
        return uniform_log_prob(z)

    def _place(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """How far x [n, 1] lies below and above all cells, its cell, and its place in it: [n] each, the cell int64."""
        left = (self.start - x[:, 0]).relu()
        right = (x[:, 0] - (self.start + self.width * _CELLS)).relu()
        place = ((x[:, 0] - self.start) / self.width).clamp(0.0, float(_CELLS))
        at = place.floor().clamp(max=_CELLS - 1.0)
        return left, right, at.long(), place - at

    def _line(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Density at a cell's lower end, and what it rises by up to the other: cells int64 [n] -> [n], [n]."""
        first = self.heights.index_select(0, at)
        return first, self.heights.index_select(0, at + 1) - first


def cosine_means(y: Tensor) -> tuple[Tensor, Tensor]:
    """Means of sqrt(2) cos(k pi y), and of their squares, for k = 1 ... 256: y float64 [n] in [0, 1] -> [256], [256].

    Example:
        >>> coefficients, squares = cosine_means(torch.tensor([0.0, 1.0]).double())
        >>> [round(v, 6) + 0.0 for v in coefficients[:3].tolist()], round(squares[0].item(), 6)
        ([0.0, 1.414214, 0.0], 2.0)
    """
    total = torch.zeros(2, _MOST_TERMS, dtype=torch.float64)
    k = torch.arange(1, _MOST_TERMS + 1, dtype=torch.float64)
    for part in torch.split(y, 4096):
        cosines = sqrt(2.0) * torch.cos(pi * part[:, None] * k)
        total += torch.stack([cosines.sum(dim=0), cosines.square().sum(dim=0)])
    return total[0] / len(y), total[1] / len(y)


def leave_one_out_risks(coefficients: Tensor, squares: Tensor, n: int) -> Tensor:
    """R(J) for J = 0 ... K, of n rows with these means of K cosines and of their squares: float64 [K + 1].

    The integral of f^2 minus twice the mean of f at rows left out, plus 1, which is what both say of the constant term.
    """
    return torch.cat(
        [coefficients.new_zeros(1), ((2.0 * squares - (n + 1) * coefficients.square()) / (n - 1)).cumsum(0)]
    )


def _least_risk(coefficients: Tensor, squares: Tensor, n: int) -> int:
    terms = int(leave_one_out_risks(coefficients, squares, n).argmin())
    if terms > 15 * _MOST_TERMS // 16:  # where it falls all along, the very last may by chance be worse than one before
        raise ValueError(
            f"the leave-one-out risk falls up to {terms} terms: rows repeat each other, or nearly, or the density has "
            "structure too narrow for a series"
        )
    return terms


def _areas(heights: Tensor) -> Tensor:
    """Mass of each cell of a unit interval, under the straight lines between heights [m + 1]: float64 [m]."""
    return 0.5 * (heights[1:] + heights[:-1]) / (len(heights) - 1)
