"""Split-conformal p-values for anomaly scores, alarms and discoveries by them, and what these promise.

With n calibration scores exchangeable with the score s of an ordinary row,

    p = (1 + #{calibration >= s}) / (n + 1)

is super-uniform: P(p <= alpha) <= alpha, on average over draws of the calibration rows (Vovk, Gammerman and Shafer
2005; Bates, Candès, Lei, Romano and Sesia 2023, "Testing for outliers with conformal p-values"). A row alarms when its
rank (n + 1) p is at most k.

- **Marginal**: k = floor(alpha (n + 1)). For one fixed calibration set without ties the realised rate of false alarms
  is Beta(k, n + 1 - k); with ties it is at most that.
- **Training-conditional** (V. Vovk 2012, "Conditional validity of inductive conformal predictors"): the largest k
  whose Beta(k, n + 1 - k) has its 95 % quantile at or below alpha. All but one calibration set in twenty then keep the
  rate alpha by themselves.
- **Discoveries** (Y. Benjamini and Y. Hochberg 1995, "Controlling the false discovery rate"): of m rows, those of the
  largest j for which j p-values are at most fdr j / m. The p-values of one request share their calibration rows, and
  so depend on each other, but in the harmless direction (Bates et al. 2023, theorem 2). See ``discoveries``.

**Contaminated calibration.** Suppose that up to c of the n calibration rows are no ordinary rows, whatever they score,
and that the others are exchangeable with the new ordinary row given them. Every promise above then holds with n - c in
the place of n, ranks being counted among all n:

- A row of rank at most k among all n has rank at most k among the n_0 >= n - c ordinary ones, since leaving scores out
  can only lower #{calibration >= s}. That happens with probability at most k / (n_0 + 1) <= k / (n - c + 1). Hence
  p = (1 + #{calibration >= s}) / (n - c + 1), and 1 at most.
- The k-th largest of all scores is at least the k-th largest of the ordinary ones, so that the realised rate is at most
  Beta(k, n_0 + 1 - k), which is smaller for larger n_0.

Where contaminated rows score high, as anomalies should, this is conservative: they stand between an anomaly like them
and an alarm. With c = 0 all the same, the rate would be at most alpha (n + 1) / (n - c + 1), and at most alpha where
contaminated scores are stochastically larger than ordinary ones.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, floor, lgamma, log, log1p, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CONFIDENCE",
    "TIED",
    "Guarantee",
    "alarm_rank",
    "calibration_needed",
    "discoveries",
    "false_alarm_interval",
    "fewest_discoveries",
    "p_values",
    "ranks",
    "rate_interval",
    "smallest_p_value",
    "tied_share",
    "training_conditional_rank",
]

Guarantee = Literal["marginal", "training_conditional"]
"""How a rate of false alarms is kept: on average over calibration sets, or by 95 % of them each for itself."""

CONFIDENCE = 0.95
"""Share of calibration sets that keep a training-conditional promise."""

TIED = 0.01
"""Where a larger share of the calibration scores tie with another one, answers say that alarms are rarer for it."""

# Absorbs the rounding of alpha * (n + 1): 0.29 * 100 is 28.999999999999996 and must count as 29.
_RANK_SLACK = 1e-9

_MOST_NEEDED = 10**9


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


def p_values(calibration: NDArray[np.float64], scores: ArrayLike, contaminated: int = 0) -> NDArray[np.float64]:
    """Conformal p-values, (1 + #{calibration >= s}) / (n - contaminated + 1), at most 1.

    Arguments and errors are those of ``ranks``; ``contaminated`` is how many of the n calibration rows, at most, are no
    ordinary ones.
    """
    return np.minimum(ranks(calibration, scores) / (len(calibration) - contaminated + 1), 1.0)


def smallest_p_value(n: int) -> float:
    """The smallest p-value that n calibration scores can give; n without those that may be contaminated."""
    return 1.0 / (n + 1)


def tied_share(calibration: NDArray[np.float64]) -> float:
    """The share of calibration scores that another one equals: float64 [n] -> from 0 to 1."""
    _, counts = np.unique(calibration, return_counts=True)
    return float(counts[counts > 1].sum() / len(calibration))


# -- alarms --------------------------------------------------------------------------------------------------------


def alarm_rank(n: int, alpha: float) -> int:
    """k = floor(alpha * (n + 1)): a row alarms when its rank is at most k. Zero means that n cannot reach alpha."""
    return floor(alpha * (n + 1) + _RANK_SLACK)


@lru_cache(maxsize=1024)
def training_conditional_rank(n: int, alpha: float, confidence: float = CONFIDENCE) -> int:
    """The largest k for which the quantile of Beta(k, n + 1 - k) at ``confidence`` is at most alpha (Vovk 2012).

    Alarms at ranks up to k have a realised rate of at most alpha in a share ``confidence`` of all calibration sets of n
    independent rows; ties only lower the rate. Zero means that n cannot reach alpha.
    """
    # The distribution function of Beta(k, n + 1 - k) at alpha is P(Binomial(n, alpha) >= k), which falls with k.
    low, terms = _binomial(n, alpha)
    at_least = np.cumsum(terms[::-1])[::-1]
    return max(0, low + int((at_least >= confidence).sum()) - 1)


def calibration_needed(alpha: float, guarantee: Guarantee) -> int | None:
    """The fewest calibration rows with which any row can alarm at alpha; None where they are more than 10**9."""
    needed = 1.0 / max(alpha, 1e-300) - 1.0
    if guarantee == "training_conditional":
        needed = log(1.0 - CONFIDENCE) / log1p(-max(alpha, 1e-300))
    return max(1, ceil(needed - _RANK_SLACK)) if needed <= _MOST_NEEDED else None


def false_alarm_interval(n: int, alpha: float, level: float = 0.95) -> tuple[float, float] | None:
    """``rate_interval`` of alarms that are marginal at alpha."""
    return rate_interval(n, alarm_rank(n, alpha), level=level)


@lru_cache(maxsize=1024)
def rate_interval(n: int, k: int, contaminated: int = 0, level: float = 0.95) -> tuple[float, float] | None:
    """Central interval of the realised false-alarm rate of one calibration set, of alarms at ranks up to k.

    Without contamination it is that of Beta(k, n + 1 - k). With up to c contaminated rows of n, the high end is that of
    Beta(k, n - c + 1 - k), as when they all score low, and the low end that of Beta(k - c, n + 1 - k), as when they all
    score high; it is 0 where k is at most c.

    Args:
        n: calibration scores.
        k: largest rank that alarms.
        contaminated: how many of the n, at most, are no ordinary rows'.
        level: probability inside the interval, over draws of the calibration rows.

    Returns:
        (low, high), or None when nothing ever alarms.
    """
    if k < 1:
        return None
    tail = (1.0 - level) / 2.0
    low = _beta_quantile(k - contaminated, n - contaminated, tail) if k > contaminated else 0.0
    return low, _beta_quantile(k, n - contaminated, 1.0 - tail)


# -- discoveries ---------------------------------------------------------------------------------------------------


def discoveries(rank: NDArray[np.int64], n: int, fdr: float) -> NDArray[np.bool_]:
    """Benjamini–Hochberg over the rows of one request: which of them to call anomalies.

    With j the largest number for which j of the m rows have p-values of at most fdr j / m, those are the discoveries.
    The expected share of ordinary rows among them (0 if there are none) is at most fdr m_0 / m, of m_0 ordinary rows,
    if those are exchangeable with the calibration rows given the anomalies, ties included:

    Take an ordinary row i, and condition on the n + 1 values of its score and the calibration scores, in no order, and
    on all other scores. Which of the values is row i's is then uniform, so p_i is super-uniform; and the larger p_i,
    the smaller the value that is missing from the calibration scores, so that no other p-value falls and the number of
    discoveries J does not grow. For p_i super-uniform and J falling with p_i, E[1{p_i <= fdr J / m} / J] <= fdr / m
    (G. Blanchard and E. Roquain 2008, "Two simple sufficient conditions for FDR control", lemma 3.2). The sum over the
    ordinary rows is the claim. Contaminated calibration scores are among what is conditioned on.

    Args:
        rank: of each row, [m], by ``ranks``.
        n: calibration scores, less those that may be contaminated.
        fdr: false discovery rate to keep, in (0, 1).

    Returns:
        bool [m].
    """
    m = len(rank)
    most = np.floor(np.arange(1, m + 1) * (fdr * (n + 1)) / m + _RANK_SLACK)
    passing = np.flatnonzero(np.sort(rank) <= most)
    return np.less_equal(rank, most[passing[-1]] if len(passing) else 0)


def fewest_discoveries(n: int, m: int, fdr: float) -> int | None:
    """The fewest rows that can be discovered of m: 1 where n + 1 >= m / fdr. None where n can reach no discovery.

    A row's p-value is at least 1 / (n + 1), so that j rows are needed for which 1 / (n + 1) <= fdr j / m.
    """
    if alarm_rank(n, fdr) < 1:
        return None
    return min(m, max(1, ceil(m / (fdr * (n + 1)) - _RANK_SLACK)))


# -- Beta and binomial laws of whole numbers, so that the contract needs no SciPy -----------------------------------


def _beta_quantile(k: int, n: int, probability: float) -> float:
    # The Beta(k, n + 1 - k) distribution function at x is P(Binomial(n, x) >= k), inverted by bisection.
    if k > n:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if not low < middle < high:
            break
        start, terms = _binomial(n, middle)
        if terms[max(0, k - start) :].sum() < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


def _binomial(n: int, x: float) -> tuple[int, NDArray[np.float64]]:
    """Probabilities of Binomial(n, x) at low, low + 1, …; outside of them lie less than 1e-20 in all."""
    mean, spread = n * x, 10.0 * sqrt(n * x * (1.0 - x)) + 40.0
    low, high = max(0, floor(mean - spread)), min(n, ceil(mean + spread))
    j = np.arange(low, high, dtype=np.float64)
    log_odds = log(x) - log1p(-x)
    first = lgamma(n + 1) - lgamma(low + 1) - lgamma(n - low + 1) + low * log(x) + (n - low) * log1p(-x)
    steps = np.log((n - j) / (j + 1.0)) + log_odds
    return low, np.exp(first + np.concatenate([[0.0], np.cumsum(steps)]))
