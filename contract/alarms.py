"""Which ranks alarm: the rule by which a calibration keeps a rate of false alarms, for answers and tables alike.

Where calibration rows depend on each other, the rule is the same and nothing is kept: ranks alarm as they would if the
rows were independent, and what is asked for beyond that is refused.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.conformal import TIED, Guarantee, alarm_rank, rate_interval, training_conditional_rank
from contract.errors import InputError
from contract.manifest import Calibration

__all__ = ["NO_GUARANTEE", "AlarmRule", "alarm_rule", "check_promises", "unknown_label"]

NO_GUARANTEE = "no guarantee: dependent data"
"""What is said of alarms wherever calibration rows depend on each other."""

_MOST_LABELS = 12  # in an error message


class AlarmRule(NamedTuple):
    """What a calibration says of ranks at one alpha.

    Attributes:
        rank: the largest that alarms; 0 where none can.
        places: what a rank is divided by, for a p-value.
        interval: 95 % interval of the realised rate of false alarms; None where nothing ever alarms, and where the
            calibration rows depend on each other.
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
    """The rule of a calibration at a rate of false alarms, in (0, 1), kept as the guarantee says.

    Raises:
        InputError: it cannot be kept so, by ``check_promises``.
    """
    check_promises(about, guarantee)
    rank_at = training_conditional_rank if guarantee == "training_conditional" else alarm_rank
    k = rank_at(about.ordinary, alpha)
    interval = None if about.dependent else rate_interval(about.n, k, about.contaminated)
    if interval is not None and about.tied > TIED:
        interval = 0.0, interval[1]  # the beta law is only the upper end of a rate with ties
    return AlarmRule(k, about.ordinary + 1, interval)


def check_promises(about: Calibration, guarantee: Guarantee, fdr: float | None = None) -> None:
    """Refuse to keep what dependent calibration rows cannot.

    Raises:
        InputError: the rows depend on each other, and more is asked for than alarms at alpha.
    """
    if not about.dependent:
        return
    why = f"this version's calibration rows come in {about.blocks} blocks of rows that depend on each other"
    if guarantee != "marginal":
        expected = f"no such guarantee ({NO_GUARANTEE}): {why}"
        raise InputError(column="guarantee", expected=expected, got=f"the string {guarantee!r}")
    if fdr is not None:
        expected = f"no rate of false discoveries ({NO_GUARANTEE}): {why}"
        raise InputError(column="fdr", expected=expected, got=f"{fdr:g}")


def unknown_label(
    about: Calibration | None, label: str, column: str = "label", row: int | None = None
) -> InputError | None:
    """Why no row can be held against the calibration rows of a label; None where there are such rows.

    Args:
        about: the calibration, if there is one.
        label: the label.
        column: what held it.
        row: which row has it, if it is of one alone.
    """
    if about is not None and label in about.labels:
        return None
    if about is None or not about.groups:
        expected = "no label, for this version was calibrated without any (nonesuch calibrate --label)"
    else:
        named = about.labels[:_MOST_LABELS]
        more = f" or {len(about.labels) - len(named)} others" if len(about.labels) > len(named) else ""
        expected = f"one of the labels of the calibration rows: {', '.join(map(repr, named))}{more}"
    return InputError(row=row, column=column, expected=expected, got=f"the string {label[:40]!r}")
