"""The law of several statistics together: what each says by itself, added up.

    score(s) = sum_j t_j(s_j)

Without a direction, t_j is minus the log-density of statistic j under a kernel estimate (``training/law.py``): the
product of one-dimensional densities of W. Morningstar et al. ("Density of States Estimation for Out-of-Distribution
Detection", 2021). With one, t_j is minus the logarithm of a survival probability, as in R. A. Fisher's way to combine
tests ("Statistical Methods for Research Workers", 1932): the score is then monotone in the statistic. The sum takes the
statistics for independent, which they are not: it ranks rows, and whether the ranks mean anything is for the
calibration rows to say, whose scores come from the same sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log

import torch
from torch import Tensor, nn

from contract.programs import Direction
from models.nets.lanes import full_lanes, row_sum
from training.law import KernelLaw

__all__ = ["JointLaw", "TailLaw"]

_FARTHEST = 1e100
_KNOTS = 64
_TAIL = 0.1  # share of the reference values that the tail's law is fitted to
_FEWEST = 8  # ... and how many they are at the least
_HEAVIEST = 1.0


class TailLaw(nn.Module):
    """Minus the log survival probability of a statistic, of which one direction is strange.

        t(s) = -log P(S >= s),        s of the high direction; of the low one, of -s

    Up to the upper tenth of m reference values it interpolates -log((m - i + 1) / (m + 1)) at the i-th smallest, by
    straight lines between quantiles. Beyond, the excess e over the threshold u is of a generalised Pareto law
    (J. Pickands, "Statistical Inference Using Extreme Order Statistics", 1975) of scale b and shape c >= 0,

        t(s) = t(u) + log(1 + c e / b) / c,        t(u) + e / b where c = 0

    fitted by probability-weighted moments (J. R. M. Hosking and J. R. Wallis, "Parameter and Quantile Estimation for
    the Generalized Pareto Distribution", 1987); a law with an end, c < 0, would take a row beyond it for impossible,
    and is taken for c = 0. Below the least reference value t falls towards 0 like the inverse of the distance. So t is
    above 0, finite, continuous, and strictly monotone however far a row lies.

    Args:
        reference: statistics of ordinary rows that it was not fitted to, [m], finite and not all equal.
        direction: which one is strange.

    Raises:
        ValueError: fewer than two values, or not finite, or all equal.

    Example:
        >>> law = TailLaw(torch.arange(1.0, 100.0).double(), "high")
        >>> round(law(torch.tensor([50.0]).double()).exp().item(), 6)  # half of the values are as high
        2.0
    """

    knots: Tensor
    values: Tensor
    slopes: Tensor

    def __init__(self, reference: Tensor, direction: Direction):
        super().__init__()
        values = reference.double().flatten()
        if not bool(values.isfinite().all()):
            raise ValueError("a reference value is not finite")
        if len(values) < 2 or bool((values == values[0]).all()):
            raise ValueError(f"{len(values)} reference values do not vary: they have no law")
        self.sign = -1.0 if direction == "low" else 1.0
        ordered = (self.sign * values).sort().values
        m = len(ordered)
        tail = min(max(int(_TAIL * m), _FEWEST), m - 1)
        threshold = ordered[m - 1 - tail]
        excess = ordered[ordered > threshold] - threshold
        if not len(excess):  # the largest value is so common that it is the threshold too
            threshold = ordered[ordered < threshold][-1]
            excess = ordered[ordered > threshold] - threshold
        knots, heights = _body(ordered, threshold)
        self.shape, self.scale = _pareto(excess)
        rises = (heights[1:] - heights[:-1]) / (knots[1:] - knots[:-1])
        self.register_buffer("knots", knots)
        self.register_buffer("values", heights)
        self.register_buffer("slopes", torch.cat([rises, rises.new_zeros(1)]))
        # As steep below the first knot as above it.
        self.fall = float(heights[0] / rises[0]) if len(rises) else self.scale

    def forward(self, s: Tensor) -> Tensor:
        """float64 [n] -> float64 [n], above 0."""
        u = (self.sign * s).clamp(-_FARTHEST, _FARTHEST)
        place = ((u[:, None] >= self.knots).long().sum(dim=1) - 1).clamp(min=0)  # [n]
        left, height = self.knots.index_select(0, place), self.values.index_select(0, place)
        inside = height + self.slopes.index_select(0, place) * (u - left)
        below = self.values[0] / (1.0 + (self.knots[0] - u).relu() / self.fall)
        e = (u - self.knots[-1]).relu() / self.scale
        if self.shape > 0.0:
            e = full_lanes(torch.log, (1.0 + self.shape * e)[:, None])[:, 0] / self.shape
        return torch.where(u < self.knots[0], below, torch.where(u >= self.knots[-1], self.values[-1] + e, inside))


class JointLaw(nn.Module):
    """The sum of what each statistic says by itself.

    Args:
        reference: statistics of ordinary rows that these were not fitted to, by name, each [m].
        directions: the direction of each, by the same names, in the order in which they are given.

    Raises:
        ValueError: the values of a statistic do not vary, or are not finite; names it.
    """

    def __init__(self, reference: Mapping[str, Tensor], directions: Mapping[str, Direction]):
        super().__init__()
        self.directions = dict(directions)
        self.terms = nn.ModuleList()
        for name, direction in directions.items():
            try:
                both = direction == "both"
                self.terms.append(KernelLaw(reference[name]) if both else TailLaw(reference[name], direction))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

    @property
    def words(self) -> str:
        """What the score is, in words."""
        parts = []
        for direction, what in (
            ("both", "minus the log-density of {}, by a Gaussian kernel estimate"),
            ("low", "minus the log-probability of {} as low, with a generalised Pareto tail"),
            ("high", "minus the log-probability of {} as high, with a generalised Pareto tail"),
        ):
            names = [name for name, given in self.directions.items() if given == direction]
            parts += [what.format(" and of ".join(names))] if names else []
        return "score = " + ", plus ".join(parts)

    def forward(self, statistics: list[Tensor]) -> Tensor:
        """The statistics in order, float64 [n] each -> score float64 [n]."""
        return row_sum(torch.stack([term(s) for term, s in zip(self.terms, statistics, strict=True)], dim=1))


def _body(ordered: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Knots up to the threshold, strictly rising, and -log of the share of values as high: [q], [q]."""
    m = len(ordered)
    quantiles = torch.linspace(0, 1, _KNOTS, dtype=torch.float64)
    upto = ordered[ordered <= threshold]
    knots = torch.unique(upto[(quantiles * (len(upto) - 1)).round().long()])
    as_high = m - torch.searchsorted(ordered, knots)
    return knots, log(m + 1) - as_high.double().log()


def _pareto(excess: Tensor) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto law of excesses [q] above 0, by probability-weighted moments."""
    ordered = excess.sort().values
    q = len(ordered)
    mean = float(ordered.mean())
    if q < _FEWEST:
        return 0.0, mean
    weights = 1.0 - (torch.arange(1, q + 1, dtype=torch.float64) - 0.35) / q
    weighted = float((weights * ordered).mean())
    rest = mean - 2.0 * weighted
    shape = 2.0 - mean / rest if rest > 0.0 else 0.0
    if not shape > 0.0:
        return 0.0, mean
    return min(shape, _HEAVIEST), 2.0 * mean * weighted / rest
