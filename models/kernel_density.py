"""Kernel density estimate: a normal law around each training row, all of one width.

    log p(x) = log( 1/m sum_i N(x; x_i, h^2 S^2) ),    S = diag(standard deviations of the columns)

(M. Rosenblatt, "Remarks on Some Nonparametric Estimates of a Density Function", 1956; E. Parzen, "On Estimation of a
Probability Density Function and Mode", 1962). The bandwidth h is the one under which each training row is likeliest by
the estimate from all the others (J. D. F. Habbema, J. Hermans and K. van den Broek, "A Stepwise Discriminant Analysis
Program Using Density Estimation", 1974). A draw is a training row plus h S times a standard normal. In double.

The code is the probability integral transform, one coordinate after the other (M. Rosenblatt, "Remarks on a
Multivariate Transformation", 1952): independent uniforms, if rows are of this law. Of a single column it is F(x).

    u_d = sum_i v_i Phi( (x_d - x_id) / (h S_d) ),    v_i proportional to prod_(c < d) N(x_c; x_ic, h^2 S_c^2)

The training rows are the parameters: whoever has a bundle of this family has them.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> column = Column(name="length", kind="real", base_measure="lebesgue")
    >>> model = KernelDensity(Support(shape=(1,), columns=(column,)), bandwidth=0.5)
    >>> model.fit(torch.tensor([[-1.0], [1.0]]))
    >>> round(model.log_prob(torch.tensor([[0.0]]).double()).item(), 4)
    -2.2258
    >>> round(model.encode(torch.tensor([[0.0]]).double()).item(), 4)
    0.5
"""

from __future__ import annotations

from math import log, pi
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from contract.capabilities import Capability, NumberKind
from contract.programs import ProgramInput
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel, register
from models.nets.lanes import full_lanes, row_logsumexp, row_sum
from models.nets.normal import normal_cdf
from models.nets.rows import KeptRows
from models.nets.tabular import FARTHEST, refuse_coarse_columns, why_not_continuous
from models.nets.transforms import Standardise
from models.randomness import bits, normal, state

__all__ = ["KernelDensity", "bandwidth_grid", "leave_one_out"]

_CHUNK = 250  # rows whose distances to all others are in memory at a time


@register("kernel-density")
class KernelDensity(GenerativeModel):
    """Gaussian kernel density estimate over a table of real columns.

    Args:
        support: real columns, none of which may be missing.
        bandwidth: h, in standard deviations of the columns; chosen by the leave-one-out likelihood if None.

    Raises:
        ValueError: the support is not of that kind, or the bandwidth is not above 0.
    """

    bandwidth: Tensor
    offset: Tensor

    contains_training_rows: ClassVar[bool] = True
    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "one law describes all rows: it knows no labels that a row could have",
        "marginal": "kernels are compared with whole rows: distances in some columns alone are not exported",
        "inpaint": "which training rows are near is asked of whole rows alone: there are no weights given some columns",
        "latent": "a draw is a training row and a step away from it, which no code with one base law stands for",
        "decode": "the probability integral transform of a sum over all training rows has no inverse in closed form",
    }
    log_prob_kind: ClassVar[NumberKind] = "exact"
    code_description: ClassVar[str] = (
        "probability integral transform of each column given those before it, uniform on (0, 1) for rows of this law"
    )
    sample_parameters: ClassVar[tuple[ProgramInput, ...]] = ()

    def __init__(self, support: Support, *, bandwidth: float | None = None):
        super().__init__(support)
        if bandwidth is not None and not bandwidth > 0:
            raise ValueError(f"bandwidth: a width is above 0, which {bandwidth:g} is not")
        self.wanted = bandwidth
        self.scaling = Standardise(support.size)
        self.kept = KeptRows(support.size)
        self.register_buffer("bandwidth", torch.zeros((), dtype=torch.float64))
        self.register_buffer("offset", torch.zeros((), dtype=torch.float64))

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for a table of real columns without missing values, else the reason in words."""
        return why_not_continuous(support, positive=False)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(d,)."""
        return self.support.shape

    def fit(self, x: Tensor) -> None:
        """Keep x [m, d] and choose the bandwidth.

        Raises:
            ValueError: a column is constant or too coarsely rounded, or the likelihood of the bandwidth has no maximum
                within the grid, as where rows repeat each other.
        """
        refuse_coarse_columns(self.support, x)
        self.scaling.fit(x)
        rows, _ = self.scaling.forward_and_log_det(x.double())
        h = self.wanted if self.wanted is not None else _likeliest(rows)
        self.kept.keep(rows)
        self.bandwidth.fill_(h)
        self.offset.fill_(-log(len(rows)) - self.support.size * (log(h) + 0.5 * log(2.0 * pi)))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), exact, in nats of the original units: x float64 [n, d] -> float64 [n]."""
        y, log_det = self.scaling.forward_and_log_det(x)
        # Beyond this squares overflow; the density has long vanished.
        squares = self.kept.squared_distances(y.clamp(-FARTHEST, FARTHEST))  # [n, m]
        return row_logsumexp(squares * (-0.5 / self.bandwidth.square())) + self.offset + log_det

    def encode(self, x: Tensor) -> Tensor:
        """F(x_d given x_1 ... x_(d-1)) for each column d: x float64 [n, d] -> u float64 [n, d]."""
        y = self.scaling.forward_and_log_det(x)[0].clamp(-FARTHEST, FARTHEST)
        z = (y[:, :, None] - self.kept.rows.T) / self.bandwidth  # [n, d, m]
        logs = torch.zeros_like(z)  # of the weights v
        if self.support.size > 1:
            logs = functional.pad(-0.5 * z[:, :-1].square(), (0, 0, 1, 0)).cumsum(dim=1)
        weights = full_lanes(torch.exp, logs - logs.amax(dim=2, keepdim=True))
        return row_sum(weights * normal_cdf(z)) / row_sum(weights)

    def sample(self, seed: Tensor, row: Tensor, *parameters: Tensor) -> Tensor:
        """Draw a training row, and a point near it: seed, row int64 [n] -> x float64 [n, d]."""
        # 32 bits times m over 2^32: a position in [0, m), each as likely as the next to a part in 2^32 / m.
        position = bits(state(seed, row, Stream.LATENT), 1)[:, 0] * len(self.kept) // 2**32
        z = normal(seed, row, Stream.OBSERVATION, dims=self.support.size).double()  # [n, d]
        return self.scaling.inverse_and_log_det(self.kept.take(position) + self.bandwidth * z)[0]


def bandwidth_grid(m: int, dims: int) -> Tensor:
    """Bandwidths to choose from for m standardised rows: float64 [40], ascending by equal factors.

    From a fiftieth to twice the one that suits a normal law best, (4 / ((d + 2) m))^(1 / (d + 4)) (Silverman 1986,
    eq. 4.14): structure makes the best bandwidth narrower, heavy tails a little wider.
    """
    reference: float = (4.0 / ((dims + 2) * m)) ** (1.0 / (dims + 4))
    return reference * torch.logspace(log(0.02), log(2.0), 40, base=torch.e, dtype=torch.float64)


def leave_one_out(rows: Tensor, bandwidths: Tensor) -> Tensor:
    """Mean log-density of each row by the estimate from all others: rows float64 [m, d], [k] -> float64 [k]."""
    m, dims = rows.shape
    total = torch.zeros_like(bandwidths)
    for start in range(0, m, _CHUNK):
        part = rows[start : start + _CHUNK]
        squares = torch.cdist(part, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
        squares[torch.arange(len(part)), torch.arange(start, start + len(part))] = torch.inf
        for i, h in enumerate(bandwidths):
            total[i] += torch.logsumexp(-0.5 * squares / h**2, dim=1).sum()
    return total / m - log(m - 1) - dims * (bandwidths.log() + 0.5 * log(2.0 * pi))


def _likeliest(rows: Tensor) -> float:
    grid = bandwidth_grid(*rows.shape)
    best = int(leave_one_out(rows, grid).argmax())
    if best in (0, len(grid) - 1):
        why = "rows repeat each other, or nearly" if best == 0 else "the tails are heavier than one width can follow"
        raise ValueError(
            f"the leave-one-out likelihood has no maximum between bandwidths {grid[0]:.3g} and {grid[-1]:.3g}: {why}"
        )
    return float(grid[best])
