"""How much likelier a row is under the model than under one of the same rows with noise in them.

    LLR(x) = log p(x) - log p_background(x)

A likelihood is made largely by what has nothing to do with what a row is of, such as a picture's blank background; a
model of rows of which a share of the values is drawn anew learns that part as well, and the ratio is left with the
rest (J. Ren, P. J. Liu, E. Fertig, J. Snoek, R. Poplin, M. DePristo, J. Dillon and B. Lakshminarayanan, "Likelihood
Ratios for Out-of-Distribution Detection", 2019). The background model is of the bundle's own family, with the same
hyper-parameters and budget.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contract.programs import Units
from contract.support import Support
from models.base import GenerativeModel
from models.protocols import HasLogProb
from training.statistics.base import Statistic

__all__ = ["BackgroundLikelihoodRatio", "perturbed"]

_FARTHEST = 1e100


class BackgroundLikelihoodRatio(Statistic):
    """log p(x) less that of a background model, in nats.

    Args:
        background: a fitted model of perturbed rows, with a one-shot log-probability.
        share: of the values that were drawn anew for it.
    """

    name: ClassVar[str] = "background_ratio"
    units: ClassVar[Units] = "nats"
    reads_log_prob: ClassVar[bool] = True

    strangest: Tensor

    def __init__(self, background: GenerativeModel, *, share: float):
        super().__init__()
        self.background, self.share = background.baked(), share
        self.register_buffer("strangest", torch.tensor(-_FARTHEST, dtype=torch.float64))

    @property
    def words(self) -> str:
        """What the numbers are."""
        return f"log_prob less that of the same family fitted to rows of which {self.share:.0%} of the values are noise"

    @classmethod
    def why_not(cls, family: type[GenerativeModel]) -> str | None:
        """None where the log-probability is a number, else the reason in words."""
        if not hasattr(family, "log_prob"):
            if hasattr(family, "log_weight"):
                return "its log-probability is a lower bound, and the difference of two bounds bounds nothing"
            return "it has no log-probability"
        if getattr(family, "log_prob_kind", None) == "estimate":
            return "its log-probability is an estimate, whose normalising constant would have to be found twice"
        return None

    @property
    def keeps_rows(self) -> bool:
        """Whether the background model is one that keeps its rows."""
        return self.background.contains_training_rows

    def forward(self, x: Tensor, log_prob: Tensor | None, *conditions: Tensor) -> Tensor:
        """x [n, *shape], log_prob float64 [n], conditions [n] -> float64 [n]."""
        assert log_prob is not None
        beside = cast(HasLogProb, self.background).log_prob(x, *conditions)
        ratio = log_prob - beside.clamp(-_FARTHEST, _FARTHEST)
        # So far out that both densities have vanished, the row is as strange as can be.
        return torch.where(log_prob <= -_FARTHEST, self.strangest, ratio)


def perturbed(rows: NDArray[Any], support: Support, share: float, seed: int) -> NDArray[Any]:
    """Rows of which each value, with probability ``share``, is drawn anew: [n, *shape] -> [n, *shape].

    A picture's pixel is drawn uniformly over its levels, as Ren et al. do; a column's value from the values that it has
    in all rows, so that what is broken is how columns go together.
    """
    rng = np.random.default_rng(seed)
    redrawn = rng.random(rows.shape) < share
    if support.element is not None:
        levels = support.element.levels or 2
        noise = rng.integers(levels, size=rows.shape).astype(rows.dtype)
    else:
        noise = np.stack([rng.choice(column, size=len(rows)) for column in rows.T], axis=1)
    mixed: NDArray[Any] = np.where(redrawn, noise, rows)
    return np.ascontiguousarray(mixed, dtype=rows.dtype)
