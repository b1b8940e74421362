"""Statistics of uniform draws laid out over an address: each gives p-values, uniform if the draws are.

A block of draws has one axis for each part of the address that varied. ``battery`` asks of every axis whether
neighbours along it are independent, and of the whole whether the draws are uniform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["avalanche", "battery", "chi_square", "kolmogorov_smirnov", "lag_correlations", "smallest"]

Block = NDArray[np.float32]
PValues = NDArray[np.float64]


def kolmogorov_smirnov(block: Block) -> PValues:
    """Kolmogorov-Smirnov against the uniform law, one p-value for each index of the first axis: [s, ...] -> [s]."""
    rows = np.sort(block.reshape(len(block), -1).astype(np.float64), axis=1)
    n = rows.shape[1]
    steps = np.arange(n + 1) / n
    distance = np.maximum((steps[1:] - rows).max(axis=1), (rows - steps[:-1]).max(axis=1))
    return np.asarray(stats.kstwo.sf(distance, n))


def chi_square(tuples: NDArray[np.float32], bins: int) -> float:
    """Pearson's test that points [n, d] are uniform in the unit cube, cut into ``bins`` along each axis."""
    n, d = tuples.shape
    assert n >= 10 * bins**d, f"{n} points are too few for {bins}^{d} cells"
    cells = np.minimum((tuples * bins).astype(np.int64), bins - 1)
    index = np.ravel_multi_index(tuple(cells.T), (bins,) * d)
    counts = np.bincount(index, minlength=bins**d)
    expected = n / bins**d
    return float(stats.chi2.sf(((counts - expected) ** 2).sum() / expected, bins**d - 1))


def lag_correlations(block: Block, axis: int, lags: Sequence[int]) -> PValues:
    """Correlation between draws ``lag`` apart along an axis, two-sided, one p-value for each lag."""
    centred = np.moveaxis((block.astype(np.float64) - 0.5) * 12**0.5, axis, 0)
    found = []
    for lag in lags:
        products = centred[lag:] * centred[:-lag]  # mean 0, variance 1, uncorrelated among themselves
        found.append(2 * stats.norm.sf(abs(products.sum()) / products.size**0.5))
    return np.array(found)


def avalanche(bits: Callable[[NDArray[np.int64]], NDArray[np.uint32]], words: NDArray[np.int64], width: int) -> PValues:
    """Does a flipped input bit flip each output bit half of the time?

    Args:
        bits: the function: integers [n] -> 32 bits [n].
        words: inputs to flip bits of, [n].
        width: how many of their low bits to flip, one at a time.

    Returns:
        Two-sided p-values, [width, 32], normal approximation to the binomial.
    """
    before = bits(words)
    found = np.empty((width, 32))
    for position in range(width):
        changed = before ^ bits(words ^ (np.int64(1) << np.int64(position)))
        flips = ((changed[:, None] >> np.arange(32, dtype=np.uint32)) & 1).sum(axis=0)
        found[position] = 2 * stats.norm.sf(np.abs(flips - len(words) / 2) / (len(words) ** 0.5 / 2))
    return found


def battery(block: Block, axes: Sequence[str]) -> dict[str, PValues]:
    """Every statistic of a block that it is large enough for, by name."""
    found: dict[str, PValues] = {
        "uniform at each index of the first axis": kolmogorov_smirnov(block),
        "uniform in all": kolmogorov_smirnov(block.reshape(1, -1)),
    }
    for axis, name in enumerate(axes):
        length = block.shape[axis]
        moved = np.moveaxis(block, axis, -1)
        for d, bins in ((2, 32), (3, 10)):
            points = moved[..., : length - length % d].reshape(-1, d)  # disjoint, so that they are independent
            if length >= d and len(points) >= 10 * bins**d:
                found[f"{d}-D along {name}"] = np.array([chi_square(points, bins)])
        if length > 1:
            found[f"lags along {name}"] = lag_correlations(block, axis, range(1, min(length, 33)))
    return found


def smallest(found: Mapping[str, PValues]) -> tuple[float, str]:
    """The smallest p-value after Bonferroni's correction for all of them, and the statistic that gave it."""
    count = sum(values.size for values in found.values())
    name = min(found, key=lambda statistic: float(found[statistic].min()))
    return min(1.0, float(found[name].min()) * count), name
