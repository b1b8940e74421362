"""Least-squares cross-validation in one dimension: the smoothing with the least estimate of the squared error.

For an estimate p fitted to rows x_1 ... x_n, and p_-i to all of them but x_i,

    integral of p^2 - 2/n sum_i p_-i(x_i)

is an unbiased estimate of the mean integrated squared error but for a constant (M. Rudemo, "Empirical Choice of
Histograms and Kernel Density Estimators", 1982; A. W. Bowman, "An alternative method of cross-validation for the
smoothing of density estimates", 1984). Both searches here cost some n log n, where the plain formula costs n^2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_bandwidth", "best_neighbour", "neighbour_distance"]

Array = NDArray[Any]

_CELLS = 2**14
_BANDWIDTHS = np.geomspace(0.05, 2.0, 60)  # times Silverman's


def best_bandwidth(rows: NDArray[np.float64]) -> float:
    """Bandwidth of a Gaussian kernel for rows [n], in their own units, of 60 from 0.05 to 2 times Silverman's.

    Rows are first counted in 16,384 cells, each shared between its two ends, which changes distances by some 1e-7 of
    the range squared; the sums over all pairs are then sums over distances, by a fast Fourier transform.
    """
    n = len(rows)
    low, high = float(rows.min()), float(rows.max())
    width = (high - low) / (_CELLS - 1)
    place = (rows - low) / width
    left = np.minimum(place.astype(np.int64), _CELLS - 2)
    share = place - left
    counts = np.bincount(left, 1.0 - share, _CELLS) + np.bincount(left + 1, share, _CELLS)
    spectrum = np.fft.rfft(counts, 2 * _CELLS)
    pairs = np.fft.irfft(np.abs(spectrum) ** 2)[:_CELLS]  # at distance 0, 1, 2 ... cells, each pair once
    pairs[1:] *= 2.0  # and the other way round
    distances = width * np.arange(_CELLS)

    def risk(h: float) -> float:
        square = float(pairs @ _normal(distances, math.sqrt(2.0) * h)) / n**2
        left_out = (float(pairs @ _normal(distances, h)) - n * float(_normal(0.0, h))) / (n * (n - 1))
        return square - 2.0 * left_out

    silverman = float(rows.std()) * (4.0 / (3.0 * n)) ** 0.2
    return float(min(silverman * _BANDWIDTHS, key=risk))


def best_neighbour(rows: NDArray[np.float64], low: float, high: float) -> int:
    """Which neighbour to take for rows [n]: of 25 numbers from 2 to n/2; the integral is taken from low to high."""
    n = len(rows)
    ordered = np.sort(rows)
    grid = _midpoints(low, high, 4096)

    def risk(k: int) -> float:
        density = k / (2.0 * n * neighbour_distance(ordered, grid, k))
        # A row is its own nearest neighbour: the k-th of the others is its (k + 1)-th of all.
        left_out = k / (2.0 * (n - 1) * neighbour_distance(ordered, ordered, k + 1))
        return float((density**2).mean() * (high - low) - 2.0 * left_out.mean())

    numbers = sorted({int(k) for k in np.geomspace(2, n // 2, 25).round()})
    return min(numbers, key=risk)


def neighbour_distance(ordered: NDArray[np.float64], x: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Distance from each of x [m] to the k-th nearest of ascending rows [n]: float64 [m].

    The k nearest are neighbours in the order, from i to i + k - 1, and i is the first place from which the row before
    the window would be no nearer than its last: found by bisection.
    """
    n = len(ordered)
    if not 1 <= k <= n:
        raise ValueError(f"k: from 1 to {n}, not {k}")
    first = np.zeros(len(x), dtype=np.int64)
    last = np.full(len(x), n - k, dtype=np.int64)
    while (open_ := first < last).any():
        middle = (first + last) // 2
        # Dropping the row at `middle` for the one at `middle + k` brings the window nearer.
        nearer = x - ordered[middle] > ordered[np.minimum(middle + k, n - 1)] - x
        first = np.where(open_ & nearer, middle + 1, first)
        last = np.where(open_ & ~nearer, middle, last)
    return np.asarray(np.maximum(x - ordered[first], ordered[first + k - 1] - x))


def _midpoints(low: float, high: float, count: int) -> NDArray[np.float64]:
    return np.asarray(low + (high - low) * (np.arange(count) + 0.5) / count)


def _normal(x: Any, deviation: float) -> Any:
    return np.exp(-0.5 * (x / deviation) ** 2) / (deviation * math.sqrt(2.0 * math.pi))
