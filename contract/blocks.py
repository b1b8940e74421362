"""Alarms of dependent rows, measured: what is known of them where nothing can be promised.

Rows that come in blocks (windows of a stretch of a series, rows of a day or of a machine) depend on each other within
their block. They are then not exchangeable with a new row, a p-value is no more than a rank, and the realised rate of
alarms has not the beta law of ``contract/conformal.py``, which is that of independent rows: n rows in B blocks may say
as little as B. In its place, each block is held out in turn, and the rows of it that alarm are counted by the scores of
all other blocks.

- The mean of these shares over the blocks estimates the rate in a new block like them. Where rows are independent it is
  near alpha by construction: of blocks of one row each exactly k rows of n alarm. What it lies above alpha is what
  dependence costs: the rows of a strange block stand on their own.
- Its standard error, over blocks, estimates how far the realised rate of this one calibration set may be off, as the
  width of the beta law does for independent rows: a threshold put at a quantile of the scores scatters as the share of
  rows above it does, of which the blocks are the independent parts. For independent rows the two agree, being
  sqrt(alpha (1 - alpha) / n).

Blocks next to each other in a series depend on each other too. The figures see nothing of that, nor of a series that is
another one later.

**What is not used.** V. Chernozhukov, K. Wuethrich and Y. Zhu 2018 ("Exact and robust conformal inference methods for
predictive machine learning with dependent data") permute whole blocks of a series. If blocks are exchangeable, a new
*block's* p-value among B blocks is exact, and at least 1 / (B + 1); under all shifts of a stationary, strongly mixing
series a row's rank is approximately uniform as n grows. The first is about blocks and not about rows, and cannot reach
the usual alpha with some tens of blocks; the second is what a rank among all rows is, and rests on a limit and on
conditions that nobody here has looked at. So neither is promised.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.conformal import alarm_rank, ranks

__all__ = ["BLOCK_RATES", "BlockAlarms", "clustered_error", "held_out_alarms"]

BLOCK_RATES = (0.01, 0.05, 0.1)
"""Rates alpha at which the alarms of blocks held out are counted."""


class BlockAlarms(NamedTuple):
    """The share of a block's rows that alarm by the scores of the other blocks.

    Attributes:
        mean: over the blocks, each counting once, however many rows it has.
        standard_error: of the mean, over the blocks.
        blocks: how many there are.
    """

    mean: float
    standard_error: float
    blocks: int


def held_out_alarms(scores: NDArray[np.float64], blocks: NDArray[Any], alpha: float) -> BlockAlarms | None:
    """Count, with each block held out in turn, its rows that alarm at alpha by the scores of all others.

    Args:
        scores: of the rows, [n]; larger is stranger.
        blocks: of each row what names its block, [n]; at least two different ones.
        alpha: rate of false alarms asked for, in (0, 1).

    Returns:
        The figures; None where the rows beside some block are so few that none could alarm.

    Raises:
        ValueError: fewer than two blocks.
    """
    _, of = np.unique(blocks, return_inverse=True)
    sizes = np.bincount(of)
    if len(sizes) < 2:
        raise ValueError("a block is held out of others, and there is only one")
    every = np.sort(scores)
    shares = np.empty(len(sizes))
    for block, rows in enumerate(np.split(np.argsort(of, kind="stable"), np.cumsum(sizes)[:-1])):
        own = np.sort(scores[rows])
        rank = alarm_rank(len(every) - len(own), alpha)
        if not rank:
            return None
        among_others = ranks(every, own) - (ranks(own, own) - 1)
        shares[block] = np.mean(among_others <= rank)
    return BlockAlarms(float(shares.mean()), float(shares.std(ddof=1)) / sqrt(len(shares)), len(shares))


def clustered_error(values: NDArray[Any], blocks: NDArray[Any]) -> float | None:
    """Standard error of the mean of rows that depend on each other within blocks: [n], [n] -> a number.

    The mean over rows is a ratio of sums over blocks, and its error that of such a ratio (W. Cochran 1977, "Sampling
    techniques", chapter 9A): with d_b the sum of a block's deviations from the mean, sqrt(B / (B - 1) sum d_b^2) / n.
    None of one block, which says nothing of others.
    """
    _, of = np.unique(blocks, return_inverse=True)
    deviations = np.bincount(of, weights=values - np.mean(values))
    count = len(deviations)
    if count < 2:
        return None
    return sqrt(count / (count - 1) * float(deviations @ deviations)) / len(values)
