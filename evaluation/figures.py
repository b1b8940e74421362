"""What is measured of scores: how well they rank, how often they alarm, and how often a discovery is false."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom
from sklearn.metrics import average_precision_score

from contract.conformal import (
    TIED,
    alarm_rank,
    discoveries,
    fewest_discoveries,
    ranks,
    tied_share,
    training_conditional_rank,
)
from training.evaluate import auroc

__all__ = [
    "ALPHAS",
    "FDR",
    "alarm_figures",
    "alarm_interval",
    "false_discoveries",
    "kept_by_chance",
    "ranking_figures",
    "simulated_discoveries",
    "simulated_training_conditional",
]

ALPHAS = (0.01, 0.05, 0.1)
"""Rates at which alarms are counted."""

FDR = 0.1
"""False discovery rate that discoveries are asked for."""

_REQUESTS, _ROWS, _PLANTED = 200, 100, 10  # per split; rows of a request; anomalies among them
_LEVEL = 0.99

Array = NDArray[Any]


def ranking_figures(ordinary: Array, strange: Array) -> dict[str, float]:
    """AUROC with its standard error (DeLong) and AUPR, the average precision: scores [m], [n] -> figures.

    Ties count half in the first; in the second, rows of equal scores are flagged together.
    """
    value, error = auroc(ordinary, strange)
    scores = np.concatenate([ordinary, strange])
    _, places = np.unique(scores, return_inverse=True)  # an infinite score is a place like any other
    labels = np.arange(len(scores)) >= len(ordinary)
    precision = float(average_precision_score(labels, places))
    return {"auroc": float(value), "auroc_standard_error": float(error), "aupr": precision}


# -- alarms --------------------------------------------------------------------------------------------------------


def alarm_figures(calibration: Array, ordinary: Array, strange: Array) -> dict[str, Any]:
    """How many held-out rows alarm, by guarantee and alpha, where the calibration can reach it.

    Args:
        calibration: scores, ascending, [n].
        ordinary: scores of held-out ordinary rows, [m].
        strange: scores of held-out anomalies.
    """
    n = len(calibration)
    places, strange_places = ranks(calibration, ordinary), ranks(calibration, strange)
    found: dict[str, Any] = {"n_calibration": n, "tied": tied_share(calibration)}
    for guarantee, rank_of in (("marginal", alarm_rank), ("training_conditional", training_conditional_rank)):
        reached = {alpha: k for alpha in ALPHAS if (k := rank_of(n, alpha)) >= 1}
        found[guarantee] = {
            f"{alpha:g}": {
                "rank": k,
                "false_alarms": int((places <= k).sum()),
                "detected": int((strange_places <= k).sum()),
            }
            for alpha, k in reached.items()
        }
    return found


def alarm_interval(m: int, n: int, k: int, tied: float) -> tuple[int, int]:
    """The central 99 % interval of the number of alarms among m ordinary rows: of the beta-binomial (m, k, n + 1 - k).

    With k of n calibration scores in reach and no ties, the number of alarms among m exchangeable rows has that law,
    whatever the model. With ties there are fewer: where more than 1 % of the calibration scores tie with another one,
    the interval begins at 0.
    """
    low, high = betabinom(m, k, n + 1 - k).interval(_LEVEL)
    return (0 if tied > TIED else int(low)), int(high)


def kept_by_chance(m: int, n: int, k: int, alpha: float) -> float:
    """With what probability at most alpha m of m ordinary rows alarm, of alarms at ranks up to k of n without ties."""
    return float(betabinom(m, k, n + 1 - k).cdf(np.floor(alpha * m + 1e-9)))


@cache
def simulated_training_conditional(n: int, alpha: float, repetitions: int, seed: int) -> float:
    """The share of calibration sets of n uniform scores whose realised rate of alarms is at most alpha.

    A row alarms when its score reaches the k-th largest calibration score, so that the rate is known exactly: it is
    one minus that score.
    """
    k = training_conditional_rank(n, alpha)
    draws = np.random.default_rng(seed).random((repetitions, n))
    thresholds = np.partition(draws, n - k, axis=1)[:, n - k]
    return float((1.0 - thresholds <= alpha).mean())


# -- discoveries ---------------------------------------------------------------------------------------------------


def false_discoveries(calibration: Array, ordinary: Array, strange: Array, seed: int) -> dict[str, Any] | None:
    """Benjamini-Hochberg over requests of a hundred held-out rows, ten of them anomalies, drawn by lot.

    Returns:
        Mean share of ordinary rows among the discoveries, and of anomalies that are discovered; None where there are
        too few rows for a request, or the calibration can reach no discovery.
    """
    n, m = len(calibration), _ROWS - _PLANTED
    if len(ordinary) < m or len(strange) < _PLANTED or fewest_discoveries(n, _ROWS, FDR) is None:
        return None
    generator = np.random.default_rng([seed, 1])
    results = []
    for _ in range(_REQUESTS):
        request = np.concatenate(
            [generator.choice(ordinary, m, replace=False), generator.choice(strange, _PLANTED, replace=False)]
        )
        results.append(_request(ranks(calibration, request), n, m))
    false, found = np.mean(results, axis=0)
    return {"requests": _REQUESTS, "rows": _ROWS, "planted": _PLANTED, "false": float(false), "found": float(found)}


@cache
def simulated_discoveries(
    n: int, m: int, planted: int, *, rounded: bool, repetitions: int, seed: int
) -> tuple[float, float, float]:
    """The same with made scores and a new calibration set each time, so that the false discovery rate is their mean.

    Args:
        n: calibration rows, standard normal.
        m: rows of a request.
        planted: how many of them are anomalies, of normal law about 3.
        rounded: whether all scores are rounded to tenths, which makes many ties.
        repetitions: calibration sets, and requests.
        seed: of the draws.

    Returns:
        False discovery rate, its standard error, and the share of anomalies discovered.
    """
    generator = np.random.default_rng(seed)
    results = np.array(list(_made_requests(generator, n, m, planted, rounded, repetitions)))
    false, found = results.mean(axis=0)
    return float(false), float(results[:, 0].std(ddof=1) / np.sqrt(repetitions)), float(found)


def _made_requests(
    generator: np.random.Generator, n: int, m: int, planted: int, rounded: bool, repetitions: int
) -> Iterator[tuple[float, float]]:
    for _ in range(repetitions):
        scores = generator.standard_normal(n + m)
        scores[n + m - planted :] += 3.0
        scores = np.round(scores, 1) if rounded else scores
        yield _request(ranks(np.sort(scores[:n]), scores[n:]), n, m - planted)


def _request(places: NDArray[np.int64], n: int, ordinary: int) -> tuple[float, float]:
    """Share of the discoveries that are among the first, ordinary, rows; share of the others that are discovered."""
    called = discoveries(places, n, FDR)
    false, true = int(called[:ordinary].sum()), int(called[ordinary:].sum())
    return false / max(1, false + true), true / (len(called) - ordinary)
