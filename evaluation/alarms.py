"""Alarms among held-out rows, cell by cell, beside what was promised of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from contract.conformal import Guarantee
from evaluation.bootstrap import Interval, bootstrap
from evaluation.figures import alarm_interval, kept_by_chance

__all__ = ["AlarmCell", "alarm_cells", "share_kept"]

Line = Mapping[str, Any]


@dataclass(frozen=True)
class AlarmCell:
    """Alarms of one set, seed and alpha.

    Attributes:
        set: its name.
        seed: of the split.
        alpha: rate asked for.
        n: calibration rows.
        rank: the largest that alarms.
        m: held-out ordinary rows.
        alarms: how many of these alarm.
        tied: share of calibration scores that another one equals.
        detected: share of held-out anomalies that alarm.
    """

    set: str
    seed: int
    alpha: float
    n: int
    rank: int
    m: int
    alarms: int
    tied: float
    detected: float

    @cached_property
    def interval(self) -> tuple[int, int]:
        """Where the number of alarms lies for 99 of 100 cells."""
        return alarm_interval(self.m, self.n, self.rank, self.tied)

    @property
    def above(self) -> bool:
        """Whether there are more."""
        return self.alarms > self.interval[1]

    @property
    def below(self) -> bool:
        """Whether there are fewer."""
        return self.alarms < self.interval[0]

    @property
    def waived(self) -> bool:
        """Whether ties are why there is no lower end."""
        return self.interval[0] == 0 and alarm_interval(self.m, self.n, self.rank, 0.0)[0] > 0

    @property
    def share(self) -> float:
        """Share of held-out ordinary rows that alarm."""
        return self.alarms / self.m

    @property
    def kept(self) -> bool:
        """Whether at most alpha of the held-out ordinary rows alarm."""
        return self.alarms <= self.alpha * self.m + 1e-9

    @property
    def kept_by_chance(self) -> float:
        """How probable that is, of scores without ties."""
        return kept_by_chance(self.m, self.n, self.rank, self.alpha)

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.set}, seed {self.seed}, α = {self.alpha:g}: {self.alarms:,} of {self.m:,}, not {low:,} to {high:,}"
        )


def alarm_cells(ours: Mapping[str, Mapping[int, Line]], guarantee: Guarantee) -> dict[float, list[AlarmCell]]:
    """The cells of our lines by alpha, where the calibration can reach it."""
    found: dict[float, list[AlarmCell]] = {}
    for name, seeds in ours.items():
        for seed, line in sorted(seeds.items()):
            for given, counts in line.get(guarantee, {}).items():
                alpha = float(given)
                cell = AlarmCell(
                    name,
                    seed,
                    alpha,
                    n=line["n_calibration"],
                    rank=counts["rank"],
                    m=line["n_ordinary"],
                    alarms=counts["false_alarms"],
                    tied=line["tied"],
                    detected=counts["detected"] / line["n_strange"],
                )
                found.setdefault(alpha, []).append(cell)
    return dict(sorted(found.items()))


def share_kept(cells: Sequence[AlarmCell]) -> Interval:
    """Share of cells in which at most alpha of the rows alarm, a mean over sets, with its interval."""
    by_set: dict[str, list[float]] = {}
    for cell in cells:
        by_set.setdefault(cell.set, []).append(float(cell.kept))
    return bootstrap(by_set)
