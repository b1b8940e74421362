"""Histogram of one column, its bins of one width that cross-validation chooses.

    log p(x) = log( (1 - 2 t) q_j / h ) in bin j,    q_j = (n_j + 1/2) / (n + m/2),    t = 1 / (n + 1)

for n training rows, n_j of them in bin j of m. The width h has the least leave-one-out estimate of the risk, the
integral of the squared error up to a constant (M. Rudemo, "Empirical Choice of Histograms and Kernel Density
Estimators", 1982; L. Wasserman, "All of Nonparametric Statistics", 2006, eq. 6.16):

    J(h) = 2 / ((n - 1) h) - (n + 1) / ((n - 1) h) sum_j (n_j / n)^2

The plain histogram has density 0 wherever it has seen no row, so that any fresh extreme costs an infinite number of
nats. So t of all mass is in each of two exponential tails (``models/nets/tails.py``), and half a row is added to each
bin (Krichevsky and Trofimov 1981). The density is then positive everywhere, and the distribution function a bijection
of the line and (0, 1), a straight line in each bin.

The code is the probability integral transform u = F(x); a draw is F^-1 of a uniform. Where a column is rounded, edges
lie half-way between its values, and each bin has as many of them as another. In double.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> column = Column(name="wait", kind="real", base_measure="lebesgue")
    >>> model = Histogram(Support(shape=(1,), columns=(column,)))
    >>> model.fit(torch.linspace(0.0, 1.0, 999)[:, None])
    >>> x = torch.tensor([[0.25], [2.0]], dtype=torch.float64)
    >>> [round(p, 3) for p in model.log_prob(x).exp().tolist()]
    [0.998, 0.0]
    >>> [round(v, 9) for v in model.decode(model.encode(x))[:, 0].tolist()]
    [0.25, 2.0]
"""

from __future__ import annotations

from math import ceil
from typing import ClassVar

import torch
from torch import Tensor

from contract.capabilities import Capability, NumberKind
from contract.programs import ProgramInput
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel, register
from models.nets.inversion import inside, invert_steps, open_uniform, uniform_log_prob
from models.nets.sized import SizedByData
from models.nets.tabular import why_not_continuous
from models.nets.tails import ExponentialTails

__all__ = ["Histogram", "bin_counts", "leave_one_out_risk"]

_MOST_BINS = 2000


@register("histogram")
class Histogram(SizedByData, GenerativeModel):
    """Histogram of one real column, with exponential tails.

    Args:
        support: one real column that may not be missing.
        bins: m, between the least and the largest training row; chosen by the risk if None.

    Raises:
        ValueError: the support is not of that kind, or there is no bin.
    """

    start: Tensor
    width: Tensor
    below: Tensor
    masses: Tensor

    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "one law describes all rows: it knows no labels that a row could have",
        "marginal": "a row has one column: with that left out, nothing is left to have a probability",
        "inpaint": "a row has one column: with that left out, nothing is known, and a draw is one of /sample",
    }
    log_prob_kind: ClassVar[NumberKind] = "exact"
    code_description: ClassVar[str] = "probability integral transform F(x), a bijection of the line and (0, 1)"
    latent_parameters: ClassVar[tuple[ProgramInput, ...]] = ()

    def __init__(self, support: Support, *, bins: int | None = None):
        super().__init__(support)
        if bins is not None and bins < 1:
            raise ValueError(f"bins: a histogram has at least one, not {bins}")
        self.wanted = bins
        for name in ("start", "width"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        self.register_buffer("below", torch.zeros(0, dtype=torch.float64))  # F at each bin's lower edge
        self.register_buffer("masses", torch.zeros(0, dtype=torch.float64))
        self.tails = ExponentialTails()

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for one real column without missing values, else the reason in words."""
        reason = why_not_continuous(support, positive=False)
        if reason is None and support.size > 1:
            reason = f"a histogram of {support.size} columns would have more bins than rows: it is for one column"
        return reason

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(1,)."""
        return self.support.shape

    def fit(self, x: Tensor) -> None:
        """Choose the bins and count x [n, 1].

        Raises:
            ValueError: the column is constant, or the risk has no minimum, as where rows repeat each other.
        """
        rows = x.double()[:, 0].sort().values
        low, high, n = float(rows[0]), float(rows[-1]), len(rows)
        assert self.support.columns is not None
        column = self.support.columns[0]
        if not low < high:
            raise ValueError(f"column {column.name!r} is constant: it has no density, and belongs left out")
        start, width, bins = self._bins(rows, column.resolution)
        counts = bin_counts(rows, start, width, bins)
        self.tails.fit(rows, least=width)
        masses = (1.0 - 2.0 * self.tails.mass) * (counts + 0.5) / (n + 0.5 * bins)
        self.start.fill_(start)
        self.width.fill_(width)
        self.masses = masses
        self.below = self.tails.mass + masses.cumsum(dim=0) - masses

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), exact, in nats of the original units: x float64 [n, 1] -> float64 [n]."""
        left, right, at = self._place(x)
        within = (self.masses / self.width).log().index_select(0, at)
        return self.tails.log_density(left, right, within)

    def encode(self, x: Tensor) -> Tensor:
        """F(x): x float64 [n, 1] -> u float64 [n, 1]."""
        left, right, at = self._place(x)
        share = (x[:, 0] - self.start) / self.width - at.double()
        within = self.below.index_select(0, at) + self.masses.index_select(0, at) * share
        return self.tails.distribution(left, right, within)[:, None]

    def decode(self, z: Tensor) -> Tensor:
        """F^-1(u); what lies outside (0, 1) counts as its ends: u float64 [n, 1] -> x float64 [n, 1]."""
        u = inside(z)[:, 0]
        at = invert_steps(torch.cat([self.below[1:], torch.ones_like(self.below[:1])]), u)
        share = (u - self.below.index_select(0, at)) / self.masses.index_select(0, at)
        within = self.start + self.width * (at.double() + share)
        end = self.start + self.width * self.masses.shape[0]
        return self.tails.quantile(u, self.start, end, within)[:, None]

    def latent(self, seed: Tensor, row: Tensor, *parameters: Tensor) -> Tensor:
        """Draw codes, uniforms on (0, 1): seed, row int64 [n] -> u float64 [n, 1]."""
        return open_uniform(seed, row, Stream.LATENT, dims=1)

    def latent_log_prob(self, z: Tensor) -> Tensor:
        """0 where u is in (0, 1), else -inf: float64 [n, 1] -> float64 [n]."""
        return uniform_log_prob(z)

    def _place(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How far below and above all bins x [n, 1] lies, and the bin: float64 [n], [n], int64 [n]."""
        bins = self.masses.shape[0]
        left = (self.start - x[:, 0]).relu()
        right = (x[:, 0] - (self.start + self.width * bins)).relu()
        at = ((x[:, 0] - self.start) / self.width).floor().clamp(0.0, bins - 1.0)
        return left, right, at.long()

    def _bins(self, rows: Tensor, resolution: float | None) -> tuple[float, float, int]:
        """Start, width and number of the bins for ascending rows [n]."""
        low, high, n = float(rows[0]), float(rows[-1]), len(rows)
        tried: dict[float, tuple[float, float, int]] = {}
        most = min(_MOST_BINS, 4 * n)
        for bins in [self.wanted] if self.wanted is not None else range(1, most + 1):
            start, width, number = low, (high - low) / bins, bins
            if resolution is not None:
                values = round((high - low) / resolution) + 1  # between the ends, both included
                each = ceil(values / bins)
                start, width, number = low - 0.5 * resolution, each * resolution, ceil(values / each)
            tried.setdefault(width, (start, width, number))
        risks = {width: leave_one_out_risk(rows, *bins) for width, bins in tried.items()}
        best = min(risks, key=lambda width: risks[width])
        finest = best == min(tried) and (resolution is None or best > 1.5 * resolution)
        if self.wanted is None and finest:
            raise ValueError(
                f"the leave-one-out risk has no minimum with up to {most} bins: rows repeat each other, or nearly, or "
                "the tails are too heavy for bins of one width"
            )
        return tried[best]


def bin_counts(rows: Tensor, start: float, width: float, bins: int) -> Tensor:
    """How many of ascending rows [n] are in each bin, the last of which holds its upper end: float64 [bins]."""
    edges = start + width * torch.arange(1, bins, dtype=torch.float64)
    ends = torch.searchsorted(rows, edges).double()
    return torch.diff(ends, prepend=ends.new_zeros(1), append=ends.new_full((1,), float(len(rows))))


def leave_one_out_risk(rows: Tensor, start: float, width: float, bins: int) -> float:
    """J(h) of a histogram of ascending rows [n]; the integral of p^2 minus twice the mean of p at rows left out."""
    n = len(rows)
    squares = float((bin_counts(rows, start, width, bins) / n).square().sum())
    return (2.0 - (n + 1.0) * squares) / ((n - 1.0) * width)
