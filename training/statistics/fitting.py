"""Fitting the statistics that a recipe lists, to the rows that its model was fitted to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from contract.support import Support
from models.base import GenerativeModel, capabilities
from models.protocols import HasEncode
from training.data import Fold
from training.errors import DataError
from training.statistics.background import BackgroundLikelihoodRatio, perturbed
from training.statistics.base import Statistic
from training.statistics.complexity import ResidualEntropy
from training.statistics.mixture import MixtureDensity
from training.statistics.neighbours import KeptPoints, LocalOutlierFactor, NearestRows
from training.statistics.reconstruction import ReconstructionError
from training.statistics.scaled import ScaledSpace
from training.statistics.score import LOG_PROB, Statistics
from training.statistics.sections import (
    Anomaly,
    BackgroundRatio,
    Complexity,
    Mixture,
    Neighbours,
    Reconstruction,
    StatisticSection,
    Typicality,
)
from training.statistics.sections import LocalOutlierFactor as Factor
from training.statistics.typicality import LatentTypicality

__all__ = ["fit_statistics", "no_conditions"]

_BATCH = 1000


def fit_statistics(
    anomaly: Anomaly,
    model: GenerativeModel,
    fold: Fold,
    *,
    seed: int,
    background: Callable[[Fold], GenerativeModel],
    former: Statistics | None = None,
) -> Statistics:
    """The statistics of a recipe's anomaly section.

    Args:
        anomaly: the section, with statistics listed.
        model: the fitted model.
        fold: the rows that it was fitted to.
        seed: of whatever is drawn.
        background: fits another model of the same family to other rows.
        former: statistics of the same section fitted to other rows, whose choices are kept: how many normals.

    Raises:
        DataError: a statistic cannot be fitted to these rows; names it.
    """
    # In an order of their own, so that the first so many are a sample of all.
    fold = fold[np.random.default_rng(seed).permutation(len(fold))]
    modules: dict[str, Statistic] = {}
    for section in anomaly.statistics or ():
        if section.name == LOG_PROB:
            continue
        try:
            modules[section.name] = _fitted(section, model, fold, seed, background, former, [*modules.values()])
        except ValueError as error:
            raise DataError(f"anomaly: {section.name}: {error}") from None
    return Statistics(list(anomaly.directions), modules).eval().requires_grad_(False)


def _fitted(
    section: StatisticSection,
    model: GenerativeModel,
    fold: Fold,
    seed: int,
    background: Callable[[Fold], GenerativeModel],
    former: Statistics | None,
    known: Sequence[Statistic],
) -> Statistic:
    rows = torch.from_numpy(fold.rows)
    match section:
        case BackgroundRatio():
            noisy = perturbed(fold.rows, model.support, section.share, seed)
            other = background(Fold(noisy, fold.labels, fold.groups))
            return BackgroundLikelihoodRatio(other, share=section.share)
        case Complexity():
            return ResidualEntropy(model.support)
        case Typicality():
            return LatentTypicality(model, no_conditions(model))
        case Reconstruction():
            return ReconstructionError(model)
        case Neighbours():
            return NearestRows(_kept(section, model, rows, known), k=section.k)
        case Factor():
            return LocalOutlierFactor(_kept(section, model, rows, known), k=section.k)
        case Mixture():
            chosen = section.components
            if chosen is None and former is not None:
                chosen = cast(MixtureDensity, former.parts["mixture"]).components
            space = ScaledSpace(model.support, rows)
            return MixtureDensity(space, rows, components=chosen, ridge=section.ridge, seed=seed % 2**32)
        case _:
            raise AssertionError(section.name)


def _kept(section: Neighbours | Factor, model: GenerativeModel, rows: Tensor, known: Sequence[Statistic]) -> KeptPoints:
    """The rows to compare with; where another statistic compares with the same ones, its own."""
    code = section.space == "code" or (section.space is None and {"encode", "decode"} <= set(capabilities(model)))
    kept = rows[: section.rows]
    for other in known:
        if isinstance(other, NearestRows | LocalOutlierFactor):
            theirs = other.points
            if len(theirs) == len(kept) and isinstance(theirs.space, _CodeSpace) == code:
                return theirs
    space: nn.Module = _CodeSpace(model) if code else ScaledSpace(model.support, rows)
    given = [value.expand(len(kept)) for value in no_conditions(model)] if code else []
    with torch.no_grad():
        parts = [
            space(kept[start : start + _BATCH], *(value[start : start + _BATCH] for value in given))
            for start in range(0, len(kept), _BATCH)
        ]
    points = torch.cat(parts)
    if not bool(points.isfinite().all()):
        raise ValueError("the code of a training row is not finite")
    return KeptPoints(space, points, where="in code space" if code else _in_words(model.support))


def no_conditions(model: GenerativeModel) -> Sequence[Tensor]:
    """Values of the model's conditions under which nothing is known, scalars."""
    dtypes = {"int64": torch.int64, "float64": torch.float64, "float32": torch.float32}
    return [torch.tensor(part.default or 0.0).to(dtypes[part.dtype]) for part in model.conditions]


def _in_words(support: Support) -> str:
    if support.element is not None:
        return "in spreads of the pixels"
    words = "in spreads of the columns"
    if any(column.kind in ("binary", "categorical") for column in support.columns or ()):
        words += ", a mismatch of categories counting as one"
    return words


class _CodeSpace(nn.Module):
    """The code of a row, flat."""

    def __init__(self, model: GenerativeModel):
        super().__init__()
        self.model = model.baked()

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        """x [n, *shape], conditions [n] -> z float64 [n, d]."""
        z: Tensor = cast(HasEncode, self.model).encode(x, *conditions)
        return z.flatten(1)
