"""The law of the anomaly statistic: from a log-probability to a score, larger for stranger rows.

A likelihood alone misleads: strange rows can be too likely as well as too unlikely. So a score is the negative log
density of the statistic under a law fitted to ordinary rows (W. Morningstar et al., "Density of States Estimation for
Out-of-Distribution Detection", 2021), unless a recipe declares the direction in which rows are strange.

Both laws are torch modules, log_prob float64 [n] -> score float64 [n] in nats, exported as the graph ``score``.
"""

from __future__ import annotations

from math import log, pi, pow

import torch
from torch import Tensor, nn

from models.nets.lanes import LANES, full_lanes, row_sum

__all__ = ["DirectionLaw", "KernelLaw", "silverman_bandwidth"]

# Beyond this a squared distance would overflow; the score there is that of the limit.
_FARTHEST = 1e100


class DirectionLaw(nn.Module):
    """Strange is a low statistic alone: score = -log_prob.

    Example:
        >>> DirectionLaw()(torch.tensor([-3.0, 2.0], dtype=torch.float64)).tolist()
        [3.0, -2.0]
    """

    words = "declared direction: a low log-probability is strange; score = -log_prob"

    def forward(self, log_prob: Tensor) -> Tensor:
        """log_prob float64 [n] -> score float64 [n]."""
        return -log_prob


class KernelLaw(nn.Module):
    """Strange is a statistic that is rare on either side: score = -log of a Gaussian kernel density estimate.

        score(s) = -log( 1/m sum_i N(s; v_i, h^2) )

    with m reference values v and Silverman's bandwidth h (B. W. Silverman, "Density Estimation for Statistics and
    Data Analysis", 1986). Beyond the outermost reference values the score grows strictly, like a square, however far
    the statistic lies: no anomaly is so strange that it ties with a milder one.

    Args:
        reference: statistics of ordinary rows that the model was not fitted to, [m], finite and not all equal.

    Raises:
        ValueError: fewer than two values, or not finite, or all equal.

    Example:
        >>> law = KernelLaw(torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64))
        >>> near, low, lower, high = law(torch.tensor([1.0, -40.0, -1e30, 40.0], dtype=torch.float64)).tolist()
        >>> near < low < lower, near < high
        (True, True)
    """

    words = "Gaussian kernel density of log_prob, Silverman's bandwidth; score = -log density"

    centres: Tensor
    log_weights: Tensor

    def __init__(self, reference: Tensor):
        super().__init__()
        values = reference.double().flatten().sort().values
        if not bool(values.isfinite().all()):
            raise ValueError("a reference value of the anomaly statistic is not finite")
        self.bandwidth = silverman_bandwidth(values)
        # Centres in whole vectors, so that a row's bits do not depend on its batch; those added weigh nothing.
        spare = -len(values) % LANES
        self.register_buffer("centres", torch.cat([values, values[-1:].expand(spare)]))
        weights = values.new_full((len(values),), -log(len(values) * self.bandwidth * (2.0 * pi) ** 0.5))
        self.register_buffer("log_weights", torch.cat([weights, weights.new_full((spare,), -torch.inf)]))

    def forward(self, log_prob: Tensor) -> Tensor:
        """log_prob float64 [n] -> score float64 [n]."""
        s = log_prob.clamp(-_FARTHEST, _FARTHEST)[:, None]  # [n, 1]
        terms = self.log_weights - 0.5 * ((s - self.centres) / self.bandwidth).square()  # [n, m]
        largest = terms.amax(dim=1, keepdim=True)  # finite, since s is
        total = row_sum(torch.exp(terms - largest))[:, None]  # in [1, m]
        return -(largest + full_lanes(torch.log, total))[:, 0]


def silverman_bandwidth(values: Tensor) -> float:
    """0.9 min(standard deviation, interquartile range / 1.34) m^(-1/5) of values [m] (Silverman 1986, eq. 3.31).

    Raises:
        ValueError: fewer than two values, or all equal.
    """
    m = len(values)
    if m < 2 or values.min() == values.max():
        raise ValueError(f"{m} reference values of the anomaly statistic do not vary: they have no density")
    spread = values.double().std().item()
    quarter, three_quarters = torch.quantile(values.double(), torch.tensor([0.25, 0.75]).double()).tolist()
    robust = (three_quarters - quarter) / 1.34
    # More than half of the values may be equal; the robust spread is then 0, and says nothing.
    return 0.9 * (min(spread, robust) if robust > 0 else spread) * pow(m, -0.2)
