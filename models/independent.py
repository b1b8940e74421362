"""Independent coordinates: a table of probabilities for each, and nothing that joins them.

    log p(x) = sum_d log P_d(x_d),    P_d(v) = (n_d(v) + a) / (n + a L_d)

where n_d(v) of n training rows have value v at coordinate d, of L_d values. Without pseudo-counts, a = 0, this is the
maximum of the likelihood; a = 1/2 (R. E. Krichevsky and V. K. Trofimov, "The performance of universal encoding", 1981)
keeps a value that no training row has from being impossible. D numbers stand for a law of D bits, where a law without
any assumption needs 2^D - 1: what it loses thereby is what other families are measured against.

Draws are quantiles of uniforms, coordinate by coordinate. With labels it becomes naive Bayes, a family of its own.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> pixel = Column(name="pixel", kind="binary", base_measure="counting")
    >>> model = Independent(Support(shape=(1, 2), element=pixel), smoothing=0.5)
    >>> model.fit(torch.tensor([[[0, 1]], [[0, 1]], [[1, 1]]], dtype=torch.uint8))
    >>> model.log_prob(torch.tensor([[[0, 1]]], dtype=torch.uint8)).exp().tolist()  # 2.5 / 4 times 3.5 / 4
    [0.546875]
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from contract.capabilities import Capability, NumberKind
from contract.programs import ProgramInput
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel, register
from models.nets.levels import IndependentLevels, why_not_levels
from models.randomness import uniform

__all__ = ["Independent"]


@register("independent")
class Independent(GenerativeModel):
    """Law of D independent coordinates, each binary, ordinal or categorical.

    Args:
        support: coordinates with finitely many values, none of which may be missing.
        smoothing: a, added to the count of each value.

    Raises:
        ValueError: the support is not of that kind, or a pseudo-count is not above 0.
    """

    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "one law describes all rows: it knows no labels that a row could have",
        "encode": "coordinates that are independent share nothing that a code could stand for; naive Bayes has labels",
        "decode": "there are no codes to give the rows of: coordinates that are independent share nothing",
        "latent": "there is no latent variable: each coordinate is drawn by itself",
    }
    log_prob_kind: ClassVar[NumberKind] = "exact"
    sample_parameters: ClassVar[tuple[ProgramInput, ...]] = ()

    def __init__(self, support: Support, *, smoothing: float = 0.5):
        super().__init__(support)
        if not 0.0 < smoothing < float("inf"):
            raise ValueError(f"smoothing: a pseudo-count is a finite number above 0, not {smoothing:g}")
        self.smoothing = smoothing
        self.law = IndependentLevels(support, classes=1)

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for coordinates with finitely many values and none missing, else the reason in words."""
        return why_not_levels(support)

    def fit(self, x: Tensor) -> None:
        """Count the values of x [n, *shape]."""
        self.law.fit(x, torch.zeros(len(x), dtype=torch.int64), smoothing=self.smoothing)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), exact, in nats: x [n, *shape] -> float64 [n]."""
        return self.law.log_prob(x)[:, 0]

    def marginal(self, x: Tensor, known: Tensor) -> Tensor:
        """log p(known coordinates of x), exact, in nats: x, known bool [n, *shape] -> float64 [n]."""
        return self.law.log_prob(x, known)[:, 0]

    def inpaint(self, x: Tensor, known: Tensor, seed: Tensor, row: Tensor) -> Tensor:
        """Draw what is not known of x [n, *shape]; known bool [n, *shape], addresses int64 [n]."""
        return torch.where(known, x, self.sample(seed, row))

    def sample(self, seed: Tensor, row: Tensor, *parameters: Tensor) -> Tensor:
        """Draw each coordinate by itself: seed, row int64 [n] -> x [n, *shape]."""
        u = uniform(seed, row, Stream.OBSERVATION, dims=self.support.size).double()  # [n, D]
        values = self.law.quantile(u, torch.zeros_like(row))
        dtype = torch.uint8 if self.support.dtype == "uint8" else torch.float64
        return values.to(dtype).reshape(-1, *self.support.shape)
