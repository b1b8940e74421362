"""Means over sets with intervals: of what is paired, set by set and seed by seed.

Sets stand for the tables that a user might bring, seeds for the lots that they might be split by. A resample draws
units (sets, or sources of sets) with replacement, and in each of their sets seeds with replacement; the interval is the
central 95 % of the resamples' means (B. Efron 1979; percentiles).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MARGIN", "Interval", "bootstrap", "verdict"]

MARGIN = 0.01
"""Of non-inferiority: one point of AUROC."""

_RESAMPLES = 10_000
_LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"

    @property
    def signed(self) -> str:
        """The same as a difference."""
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def bootstrap(values: Mapping[str, Sequence[float]], units: Mapping[str, str] | None = None) -> Interval:
    """Mean over sets of the mean over seeds, with its interval.

    Args:
        values: figures of a set's seeds, by set; at least one each.
        units: what a set belongs to; sets of one unit are drawn together. None: each is drawn by itself.

    Raises:
        ValueError: no sets, or one without a figure.
    """
    if not values or any(not len(seeds) for seeds in values.values()):
        raise ValueError("there is a set without a figure, or no set")
    members: dict[str, list[Sequence[float]]] = {}
    for name, seeds in values.items():
        members.setdefault(name if units is None else units[name], []).append(seeds)
    figures, counts = _padded(list(members.values()))
    u, s, k = figures.shape
    generator = np.random.default_rng(0)
    chosen = generator.integers(u, size=(_RESAMPLES, u))
    drawn = (generator.random((_RESAMPLES, u, s, k)) * counts[chosen][..., None]).astype(np.int64)  # a seed's place
    inside = np.arange(k) < counts[chosen][..., None]
    seeds_drawn = np.take_along_axis(figures[chosen], drawn, axis=3)
    of_set = (seeds_drawn * inside).sum(axis=3) / np.maximum(counts[chosen], 1)
    there = counts[chosen] > 0
    means = (of_set * there).sum(axis=(1, 2)) / there.sum(axis=(1, 2))
    low, high = np.quantile(means, [(1.0 - _LEVEL) / 2.0, (1.0 + _LEVEL) / 2.0])
    return Interval(float(np.mean([np.mean(seeds) for seeds in values.values()])), float(low), float(high))


def verdict(difference: Interval, margin: float = MARGIN) -> str:
    """What the interval of ours minus theirs says, in words.

    Example:
        >>> verdict(Interval(0.0, -0.02, 0.02))
        'not shown: the interval reaches below −0.01'
    """
    if difference.low > 0:
        return "ours is better"
    if difference.low > -margin:
        return "ours is not inferior"
    if difference.high < -margin:
        return "ours is inferior by more than a point"
    return f"not shown: the interval reaches below −{margin:g}"


def _padded(members: list[list[Sequence[float]]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Figures [units, sets, seeds], filled up with 0, and how many seeds each set has, 0 where there is no set."""
    s = max(len(sets) for sets in members)
    k = max(len(seeds) for sets in members for seeds in sets)
    figures, counts = np.zeros((len(members), s, k)), np.zeros((len(members), s), dtype=np.int64)
    for unit, sets in enumerate(members):
        for place, seeds in enumerate(sets):
            figures[unit, place, : len(seeds)] = seeds
            counts[unit, place] = len(seeds)
    return figures, counts
