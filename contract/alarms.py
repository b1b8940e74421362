"""Which ranks alarm: the rule by which a calibration keeps a rate of false alarms, for answers and tables alike."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.conformal import TIED, Guarantee, alarm_rank, rate_interval, training_conditional_rank
from contract.manifest import Calibration

__all__ = ["AlarmRule", "alarm_rule"]


class AlarmRule(NamedTuple):
    """What a calibration says of ranks at one alpha.

    Attributes:
        rank: the largest that alarms; 0 where none can.
        places: what a rank is divided by, for a p-value.
        interval: 95 % interval of the realised rate of false alarms; None where nothing ever alarms.
    """

    rank: int
    places: int
    interval: tuple[float, float] | None

    @property
    def largest_flagged_p_value(self) -> float | None:
        """The p-value up to which rows alarm; None where none can."""
        return self.rank / self.places if self.rank else None

    def p_values(self, rank: NDArray[np.int64]) -> NDArray[np.float64]:
        """Conformal p-values of ranks, of any shape; 1 at most, which contamination may pass."""
        return np.minimum(rank / self.places, 1.0)

    def flagged(self, rank: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Which ranks alarm; None where none can, which is not the same as no."""
        return np.less_equal(rank, self.rank) if self.rank else None


@lru_cache(maxsize=1024)
def alarm_rule(about: Calibration, alpha: float, guarantee: Guarantee) -> AlarmRule:
    """The rule of a calibration at a rate of false alarms, in (0, 1), kept as the guarantee says."""
    rank_at = training_conditional_rank if guarantee == "training_conditional" else alarm_rank
    k = rank_at(about.ordinary, alpha)
    interval = rate_interval(about.n, k, about.contaminated)
    if interval is not None and about.tied > TIED:
        interval = 0.0, interval[1]  # the beta law is only the upper end of a rate with ties
    return AlarmRule(k, about.ordinary + 1, interval)
