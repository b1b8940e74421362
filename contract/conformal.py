"""Split-conformal p-values for anomaly scores, and what they promise.

With n calibration scores exchangeable with the score s of an ordinary row,

    p = (1 + #{calibration >= s}) / (n + 1)

is super-uniform: P(p <= alpha) <= alpha, on average over draws of the calibration rows (Vovk, Gammerman and Shafer
2005; Bates et al. 2023, "Testing for outliers with conformal p-values"). For one fixed calibration set without ties
the realised rate of false alarms is Beta(k, n + 1 - k) with k = floor(alpha * (n + 1)).
"""

from __future__ import annotations

from functools import lru_cache
from math import floor, lgamma

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["alarm_rank", "false_alarm_interval", "p_values", "ranks", "smallest_p_value"]

# Absorbs the rounding of alpha * (n + 1): 0.29 * 100 is 28.999999999999996 and must count as 29.
_RANK_SLACK = 1e-9


def ranks(calibration: NDArray[np.float64], scores: ArrayLike) -> NDArray[np.int64]:
    """1 + #{calibration >= s} for each score; ties count against an alarm.

    Args:
        calibration: sorted ascending, [n]; larger means stranger.
        scores: any shape; NaN is not allowed.

    Returns:
        int64 array of the scores' shape, in 1 ... n + 1.

    Raises:
        ValueError: a score is NaN, which has no rank.
    """
    values = np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError("a score is NaN, so it has no rank among the calibration scores")
    return 1 + len(calibration) - np.searchsorted(calibration, values, side="left").astype(np.int64)


def p_values(calibration: NDArray[np.float64], scores: ArrayLike) -> NDArray[np.float64]:
    """Conformal p-values, (1 + #{calibration >= s}) / (n + 1). Arguments and errors as for ``ranks``."""
    return ranks(calibration, scores) / (len(calibration) + 1)


def smallest_p_value(n: int) -> float:
    """The smallest p-value that n calibration scores can give."""
    return 1.0 / (n + 1)


def alarm_rank(n: int, alpha: float) -> int:
    """k = floor(alpha * (n + 1)): a row alarms when its rank is at most k. Zero means that n cannot reach alpha."""
    return floor(alpha * (n + 1) + _RANK_SLACK)


@lru_cache(maxsize=1024)
def false_alarm_interval(n: int, alpha: float, level: float = 0.95) -> tuple[float, float] | None:
    """Central interval of the realised false-alarm rate of one calibration set, from Beta(k, n + 1 - k).

    Args:
        n: calibration scores.
        alpha: asked rate, in (0, 1).
        level: probability inside the interval, over draws of the calibration rows.

    Returns:
        (low, high), or None when n cannot reach alpha (then nothing ever alarms).
    """
    k = alarm_rank(n, alpha)
    if k < 1:
        return None
    tail = (1.0 - level) / 2.0
    return _beta_quantile(k, n, tail), _beta_quantile(k, n, 1.0 - tail)


def _beta_quantile(k: int, n: int, probability: float) -> float:
    # For integers, the Beta(k, n + 1 - k) distribution function at x is P(Binomial(n, x) >= k): a finite sum,
    # inverted by bisection, so that the contract needs no SciPy.
    if k > n:
        return 1.0
    terms = np.arange(k, n + 1)
    log_choose = np.array([lgamma(n + 1) - lgamma(j + 1) - lgamma(n - j + 1) for j in terms])
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        log_terms = log_choose + terms * np.log(middle) + (n - terms) * np.log1p(-middle)
        if np.exp(log_terms).sum() < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0
