"""Whether served scores still look like the calibration scores: a distance, and a test that may be looked at for ever.

The null hypothesis is that served scores are exchangeable with the n calibration scores. Those of rows that depend on
each other never are, and nothing but the distance is known of them (record 39). Three pieces:

- ``kolmogorov_smirnov``: how far some scores lie from the calibration scores; one look at one sample.
- ``OnlineRanks``: p-values of the scores as they come, independent and uniform on [0, 1] under the null. The first
  score is ranked among the calibration scores, the next among those and the first, and so on (Vovk, Nouretdinov and
  Gammerman 2003, "Testing exchangeability on-line"). Ranked among the calibration scores alone, p-values are *not*
  independent: whatever distinguishes those n scores from the law that they were drawn of comes back in every p-value,
  and a test on them alarms sooner or later for any n.
- ``Martingale``: bets against the uniformity of those p-values. Its wealth is a non-negative martingale that starts at
  1, so that by Ville's inequality P(it ever reaches 1 / level) <= level, however long and often it is looked at.
"""

from __future__ import annotations

from math import exp, pi, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CHUNK", "Martingale", "OnlineRanks", "kolmogorov_smirnov"]

CHUNK = 256
"""Scores taken at once at most: comparing them with each other costs the square, and products over them stay finite."""


def kolmogorov_smirnov(calibration: NDArray[np.float64], scores: ArrayLike) -> tuple[float, float]:
    """Two-sample Kolmogorov–Smirnov statistic, two-sided, and its p-value for one look.

    Args:
        calibration: sorted ascending, [n].
        scores: [m], in any order.

    Returns:
        The largest distance between the two empirical distribution functions, and the limit law's probability of one
        as large, with Stephens' correction for finite samples (1970, "Use of the Kolmogorov–Smirnov, Cramér–von Mises
        and related statistics without extensive tables"). With ties the probability is an upper bound.

    Raises:
        ValueError: there are no scores.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    n, m = len(calibration), len(values)
    if not n or not m:
        raise ValueError("two samples are needed, and one of them is empty")
    at = np.concatenate([calibration, values])
    distances = np.searchsorted(calibration, at, side="right") / n - np.searchsorted(values, at, side="right") / m
    statistic = float(np.abs(distances).max())
    root = sqrt(n * m / (n + m))
    return statistic, _kolmogorov_tail((root + 0.12 + 0.11 / root) * statistic)


def _kolmogorov_tail(x: float) -> float:
    """P(the limit of sqrt(n) D >= x). Each of the two series converges within a few terms on its side of 1."""
    if x < 0.04:  # where the first series divides by zero, and the tail is 1 to the last bit
        return 1.0
    if x < 1.0:
        return 1.0 - sqrt(2.0 * pi) / x * sum(exp(-((2 * k - 1) ** 2) * pi**2 / (8.0 * x * x)) for k in range(1, 6))
    return 2.0 * sum((-1.0) ** (k - 1) * exp(-2.0 * (k * x) ** 2) for k in range(1, 6))


class OnlineRanks:
    """P-values of scores as they come, each among the calibration scores and all earlier ones; large scores, small p.

    The n calibration scores cut the line into n + 1 cells. Of an earlier score only its cell is remembered, so that
    what is kept does not grow. Nothing is lost of the p-values' law: under the null the cells are drawn from Pólya's
    urn with one ball of each of n + 1 colours, where the next score falls into cell j with probability (1 + the scores
    that fell there) / (n + 1 + all of them). So

        p = (weight of the cells above + u * weight of the score's own cell) / weight of all

    with u uniform is uniform, whatever came before. Scores equal to a calibration score are told from it by coin: each
    score of either kind has a uniform number that decides between equals, the calibration scores' drawn once.

    Args:
        calibration: sorted ascending, [n].
        random: what u and the coins are drawn from.
    """

    def __init__(self, calibration: NDArray[np.float64], random: np.random.Generator):
        self._calibration = calibration
        self._random = random
        self._weights = np.ones(len(calibration) + 1, dtype=np.int64)
        self._total = len(calibration) + 1
        # Equal scores share the place of the first of them, and stand behind it in the order of their numbers.
        first = np.searchsorted(calibration, calibration, side="left")
        self._places = np.sort(first + random.random(len(calibration)))

    def __call__(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """P-values of the next scores, [k] -> [k]; they are remembered. At most ``CHUNK`` at once."""
        k = len(scores)
        coins = self._random.random((k, 2))
        cells = np.searchsorted(self._calibration, scores, side="left")
        tied = np.searchsorted(self._calibration, scores, side="right") > cells
        if tied.any():
            cells[tied] = np.searchsorted(self._places, cells[tied] + coins[tied, 1])
        higher, equal = _earlier(cells)
        above = self._total - np.cumsum(self._weights)[cells] + higher
        own = self._weights[cells] + equal
        p: NDArray[np.float64] = (above + coins[:, 0] * own) / (self._total + np.arange(k))
        np.add.at(self._weights, cells, 1)
        self._total += k
        return p


_BEFORE = np.triu(np.ones((CHUNK, CHUNK), dtype=bool), k=1)


def _earlier(cells: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """For each of k cells, how many of those before it are higher, and how many equal."""
    k = len(cells)
    order = np.argsort(cells, kind="stable")
    rank = np.empty(k, dtype=np.uint8)
    rank[order] = np.arange(k, dtype=np.uint8)
    # Equal cells are ranked in their order, so that one comparison of small numbers finds the higher ones.
    higher = rank[:, None] > rank
    higher &= _BEFORE[:k, :k]
    equal = rank - np.searchsorted(cells[order], cells)
    return np.add.reduce(higher.view(np.uint8), axis=0, dtype=np.uint8), equal


# A bet is 1 + size * shape(p); the shapes have mean zero under the null, and no bet is ever negative.
_TAIL = 0.05
_PLACE, _SPREAD, _TAILS = (-0.9, -0.45, -0.15, 0.15, 0.45, 0.9), (-0.8, -0.3, 0.3, 0.8), (0.02, 0.1)
_SIZES = np.zeros((len(_PLACE) + len(_SPREAD) + len(_TAILS), 3))
_SIZES[:6, 0], _SIZES[6:10, 1], _SIZES[10:, 2] = _PLACE, _SPREAD, _TAILS


class Martingale:
    """Wealth of somebody who bets that p-values cease to be uniform at a time and in a way unknown.

    All of it is cash at first. Before the t-th p-value, T(t - 1) - T(t) of it goes in equal parts into bets of several
    shapes and sizes, T(t) = 1 / (1 + log(1 + t)): a mixture over the times at which a change may begin, of which none
    is so late that it has no part. What is put in when the change comes is about 1 / (t log^2 t), and so a change that
    begins at row t costs some log t + 2 log log t nats before the alarm, and not the decay of bets that were lost since
    the start (as in the jumpers of Vovk et al. 2021, "Retrain or not retrain", whose wealth falls without end).

    The shapes, linear and quadratic in p or a step: *place* (scores lie higher or lower), *spread* (more or less of
    them at the ends), *tail* (more of them among the highest twentieth).

    Attributes:
        rows: p-values seen.
        log: natural logarithm of the wealth; 0 at the start.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.log = 0.0
        self._placed = np.zeros(len(_SIZES))
        self._scale = 0.0  # logarithm of the unit it is counted in, the wealth itself, so that nothing overflows

    def __call__(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logarithm of the wealth after each of the next p-values, [k] -> [k]. At most ``CHUNK`` at once."""
        t = self.rows + np.arange(1, len(p) + 1)
        cash = 1.0 / (1.0 + np.log1p(t))
        # T(t - 1) - T(t), without its cancellation, in equal parts.
        put_in = np.log1p(1.0 / t) * cash / (1.0 + np.log(t)) * (exp(-self._scale) / len(_SIZES))
        grown = np.cumprod(_bets(p), axis=1)
        bought = np.empty_like(grown)  # in units of what each bet was worth at the start of the chunk
        bought[:, 0] = put_in[0] + self._placed
        bought[:, 1:] = put_in[1:] / grown[:, :-1]
        placed = np.cumsum(bought, axis=1) * grown
        path: NDArray[np.float64] = self._scale + np.log(placed.sum(axis=0) + cash * exp(-self._scale))
        self.rows, self.log = int(t[-1]), float(path[-1])
        self._placed, self._scale = placed[:, -1] * exp(self._scale - self.log), self.log
        return path


def _bets(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """What one unit becomes in each bet, [k] -> [bets, k]."""
    shapes = np.empty((3, len(p)))
    x = shapes[0] = 1.0 - 2.0 * p
    shapes[1] = 1.5 * x * x - 0.5
    shapes[2] = (p < _TAIL) * (1.0 / _TAIL) - 1.0
    bets: NDArray[np.float64] = _SIZES @ shapes
    bets += 1.0
    return bets
