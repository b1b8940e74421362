"""k-nearest-neighbour density: high where the k-th nearest training row is close.

    log p(x) = -d log r_k(x) + constant,    p(x) = k / (m V_d r_k(x)^d) / det S,    S = diag(standard deviations)

with r_k the distance of the k-th nearest of m training rows, in standard deviations of the columns, and V_d the volume
of the unit ball (D. O. Loftsgaarden and C. P. Quesenberry, "A Nonparametric Estimate of a Multivariate Density
Function", 1965). It is consistent at each point as k grows and k/m vanishes, and yet is no law: its tails fall like
r^-d, so that its integral is infinite. Only differences mean anything, and nothing can be drawn. In double.

The training rows are the parameters: whoever has a bundle of this family has them.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> column = Column(name="length", kind="real", base_measure="lebesgue")
    >>> model = NearestNeighbours(Support(shape=(1,), columns=(column,)), k=2)
    >>> model.fit(torch.tensor([[0.0], [1.0], [2.0], [10.0]]))
    >>> near, far = model.log_prob(torch.tensor([[1.0], [9.0]]).double())
    >>> round((near - far).exp().item(), 6)  # 7 from the second nearest against 1
    7.0
"""

from __future__ import annotations

from math import lgamma, log, pi
from typing import ClassVar

import torch
from torch import Tensor

from contract.capabilities import Capability, NumberKind
from contract.support import Support
from models.base import GenerativeModel, register
from models.nets.lanes import full_lanes, row_sum
from models.nets.rows import KeptRows
from models.nets.tabular import FARTHEST, refuse_coarse_columns, why_not_continuous
from models.nets.transforms import Standardise

__all__ = ["NearestNeighbours"]


@register("nearest-neighbours")
class NearestNeighbours(GenerativeModel):
    """k-nearest-neighbour density over a table of real columns.

    Args:
        support: real columns, none of which may be missing.
        k: which neighbour's distance counts; at least 2, since a training row is its own nearest.

    Raises:
        ValueError: the support is not of that kind, or k is less than 2.
    """

    offset: Tensor

    contains_training_rows: ClassVar[bool] = True
    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "one law describes all rows: it knows no labels that a row could have",
        "marginal": "without a normalised law there is none of some of the columns either",
        "inpaint": "without a normalised law there is none of what is missing given what is known",
        "sample": "the density does not integrate: its tails fall like r^-d, so there is no law to draw from",
        "latent": "without a normalised law there is no base law of codes either",
        "decode": "there are no codes to give the rows of",
        "encode": "the distance of a neighbour is one number for all rows as far away, and no code of a row",
    }
    log_prob_kind: ClassVar[NumberKind] = "unnormalised"

    def __init__(self, support: Support, *, k: int = 10):
        super().__init__(support)
        if k < 2:
            raise ValueError(f"k: at least 2, since a training row is its own nearest, not {k}")
        self.k = k
        self.scaling = Standardise(support.size)
        self.kept = KeptRows(support.size)
        self.register_buffer("offset", torch.zeros((), dtype=torch.float64))

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for a table of real columns without missing values, else the reason in words."""
        return why_not_continuous(support, positive=False)

    def fit(self, x: Tensor) -> None:
        """Keep x [m, d].

        Raises:
            ValueError: a column is constant or too coarsely rounded, there are fewer than k rows, or a row occurs k
                times, where the density is infinite.
        """
        refuse_coarse_columns(self.support, x)
        m, d = x.shape
        if m < self.k:
            raise ValueError(f"{m} rows have no neighbour number {self.k}")
        distinct, counts = torch.unique(x, dim=0, return_counts=True)
        if counts.max() >= self.k:
            repeated = [f"{value:g}" for value in distinct[counts.argmax()].tolist()]
            raise ValueError(
                f"the row ({', '.join(repeated)}) occurs {counts.max()} times, and neighbour number {self.k} lies at "
                "distance 0, where the density is infinite; take a larger k"
            )
        self.scaling.fit(x)
        self.kept.keep(self.scaling.forward_and_log_det(x.double())[0])
        log_volume = 0.5 * d * log(pi) - lgamma(0.5 * d + 1.0)
        self.offset.fill_(log(self.k) - log(m) - log_volume)

    def log_prob(self, x: Tensor) -> Tensor:
        """-d log r_k plus a constant, unnormalised, in nats: x float64 [n, d] -> float64 [n]."""
        y, log_det = self.scaling.forward_and_log_det(x)
        y = y.clamp(-FARTHEST, FARTHEST)  # beyond this squares overflow
        nearest = torch.topk(self.kept.squared_distances(y), self.k, dim=1, largest=False).indices  # [n, k]
        # Measured again from the differences: as small as it is, the distance then has all its digits.
        squares = row_sum((y[:, None, :] - self.kept.take(nearest)).square())  # [n, k]
        farthest = squares.amax(dim=1, keepdim=True)  # [n, 1]: r_k^2
        return -0.5 * self.support.size * full_lanes(torch.log, farthest)[:, 0] + self.offset + log_det
