"""From the scores of calibration rows to a bundle's calibration: what its manifest says and its file holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.blocks import BLOCK_RATES, held_out_alarms
from contract.conformal import tied_share
from contract.errors import InputError
from contract.manifest import Calibration, CalibrationGroup, Metric

__all__ = ["BY_BLOCK", "CalibrationRows"]

BY_BLOCK = "false_alarms_by_block_at_"
"""What the names of figures begin with that blocks held out give; the rate follows."""


@dataclass(frozen=True)
class CalibrationRows:
    """Scored calibration rows, and what is known of them. Both what ``nonesuch calibrate`` and what training makes.

    Attributes:
        scores: float64 [n], in the order of the rows; larger is stranger.
        labels: of the rows, [n], if p-values are to be had among the rows of each label.
        labelled_by: what held them.
        blocks: of each row what names its block, [n], where the rows of a block depend on each other.
        blocked_by: what the rows of a block have in common, in words.
        contaminated: share of the rows, from 0 and below 1, of which some may be anomalies (``contract/conformal.py``);
            where rows have labels, of the rows of each.

    Raises:
        InputError: the share is none, or leaves no ordinary row; there is one block alone; or a share of contaminated
            rows among such as depend on each other.
    """

    scores: NDArray[np.float64]
    labels: Sequence[str] | None = None
    labelled_by: str | None = None
    blocks: Sequence[Any] | NDArray[Any] | None = None
    blocked_by: str | None = None
    contaminated: float = 0.0

    def __post_init__(self) -> None:
        _at_most(self.contaminated, len(self.scores))
        if self.blocks is None:
            return
        if len(np.unique(np.asarray(self.blocks))) < 2:
            raise InputError(expected=f"rows of at least two blocks ({self.blocked_by})", got="those of one alone")
        if self.contaminated:
            raise InputError(
                column="contaminated",
                expected="no share of contaminated rows: rows that depend on each other keep no rate of alarms that "
                "such rows could be counted against",
                got=f"{self.contaminated:g}",
            )

    def calibration(self, **about: Any) -> Calibration:
        """The manifest's part, given those of its fields that these rows do not say."""
        return Calibration(
            n=len(self.scores),
            tied=round(tied_share(self.scores), 4),
            contaminated=_at_most(self.contaminated, len(self.scores)),
            labelled_by=self.labelled_by if self.labels is not None else None,
            groups=tuple(self._group(label) for label in self._names),
            blocks=self._count(slice(None)),
            blocked_by=self.blocked_by if self.blocks is not None else None,
            **about,
        )

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """What the calibration's file holds, by name: the scores ascending, and those of each label."""
        own = {f"scores.{i}": np.sort(self.scores[self._of(label)]) for i, label in enumerate(self._names)}
        return {"scores": np.sort(self.scores), **own}

    def metrics(self) -> tuple[Metric, ...]:
        """Figures of blocks held out, at the rates that the rows can reach; none of rows without blocks."""
        if self.blocks is None:
            return ()
        found = {alpha: held_out_alarms(self.scores, np.asarray(self.blocks), alpha) for alpha in BLOCK_RATES}
        return tuple(
            Metric(
                name=f"{BY_BLOCK}{alpha:g}",
                value=alarms.mean,
                standard_error=alarms.standard_error,
                kind="rank",
                units="1",
                fold="calibration",
                n=len(self.scores),
                blocks=alarms.blocks,
            )
            for alpha, alarms in found.items()
            if alarms is not None
        )

    @property
    def _names(self) -> list[str]:
        return sorted(set(self.labels or ()))

    def _of(self, label: str) -> NDArray[np.bool_]:
        which: NDArray[np.bool_] = np.array(self.labels, dtype=object) == label
        return which

    def _count(self, which: slice | NDArray[np.bool_]) -> int | None:
        return None if self.blocks is None else len(np.unique(np.asarray(self.blocks)[which]))

    def _group(self, label: str) -> CalibrationGroup:
        which = self._of(label)
        own = self.scores[which]
        return CalibrationGroup(
            label=label,
            n=len(own),
            tied=round(tied_share(own), 4),
            contaminated=_at_most(self.contaminated, len(own)),
            blocks=self._count(which),
        )


def _at_most(share: float, n: int) -> int:
    """How many of n rows a share is, at the most; a rounding error below a whole number is one."""
    apart = math.floor(share * n + 1e-9) if 0.0 <= share < 1.0 else -1
    if not 0 <= apart < n:
        raise InputError(column="contaminated", expected="a share from 0 to below 1", got=f"{share:g}")
    return apart
