"""From a fitted model to anomaly scores: the law of the statistic, and the calibration scores.

The law only says which values of the statistic are strange; it is fitted in torch. What alarms are counted by, the
ranks of scores among the calibration scores, is measured with the exported graphs, because a difference in the last
place would move a rank.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contract.calibration import CalibrationRows
from contract.errors import InputError
from models.base import GenerativeModel
from runtime.model import LoadedModel
from training.data import Dataset, Fold
from training.errors import DataError
from training.evaluate import answers
from training.folds import Folds, carve, cross_fit_parts
from training.graphs import answers_in_torch
from training.law import DirectionLaw, KernelLaw
from training.loop import fit_model
from training.progress import Reporter
from training.recipe import Recipe, build_model
from training.sections import TableData
from training.statistics.fitting import fit_statistics, no_conditions
from training.statistics.law import JointLaw
from training.statistics.score import AnomalyScore, Statistics

__all__ = [
    "all_statistics",
    "calibration_rows",
    "calibration_scores",
    "cross_fitted_statistics",
    "fit_law",
    "law_rows",
    "scores_in_torch",
    "statistics",
]

_BATCH = 1000


def fit_law(model: GenerativeModel, recipe: Recipe, folds: Folds, folder: Path, reporter: Reporter) -> nn.Module:
    """The law that turns the log-probability of a row into its score.

    Args:
        model: the fitted model.
        recipe: the recipe, with its anomaly section.
        folds: the folds; without a reference fold the statistics are cross-fitted on the training rows.
        folder: the run's folder, where the cross-fits keep their state.
        reporter: where to say how it goes.

    Raises:
        DataError: the statistics do not vary, or are not finite.
    """
    assert recipe.anomaly is not None
    if recipe.anomaly.statistics is not None:
        return _fit_score(model, recipe, folds, folder, reporter)
    if recipe.anomaly.direction == "low":
        return DirectionLaw()
    if folds.reference is not None:
        values = statistics(model, folds.reference)
    else:
        values = cross_fitted_statistics(model, recipe, folds, folder, reporter)
    try:
        return KernelLaw(torch.from_numpy(values))
    except ValueError as error:
        raise DataError(f"{recipe.name}: anomaly: {error}") from None


def law_rows(recipe: Recipe, folds: Folds) -> str | None:
    """Which rows the law was fitted on, in words; None for a declared direction, which is not fitted."""
    if recipe.anomaly is None or (recipe.anomaly.statistics is None and recipe.anomaly.direction == "low"):
        return None
    if folds.reference is not None:
        return f"the {len(folds.reference)} rows of the reference fold"
    return f"the {len(folds.fitted)} training rows, each under a model fitted without it (5-fold)"


def statistics(model: GenerativeModel, fold: Fold) -> NDArray[np.float64]:
    """Log-probabilities in torch: n rows -> float64 [n]."""
    starts = range(0, len(fold), _BATCH)
    return np.concatenate(
        [answers_in_torch(model, "log_prob", {"x": fold.rows[start : start + _BATCH]})["log_prob"] for start in starts]
    )


def cross_fitted_statistics(
    model: GenerativeModel, recipe: Recipe, folds: Folds, folder: Path, reporter: Reporter
) -> NDArray[np.float64]:
    """Log-probability of each training row under a model that was fitted without it: float64 [n_train + n_validation].

    A row's log-probability under a model that was fitted with it is higher than a fresh row's would be.
    """
    values = []
    for part, (kept, held_out) in enumerate(cross_fit_parts(folds.fitted, recipe.folds), start=1):
        other = _another(model, recipe, kept, part, folder / f"cross-fit-{part}", f"cross-fit {part}", reporter)
        values.append(statistics(other, held_out))
    return np.concatenate(values)


def scores_in_torch(model: GenerativeModel, law: nn.Module, fold: Fold) -> NDArray[np.float64]:
    """Scores in torch: n rows -> float64 [n]."""
    with torch.no_grad():
        if isinstance(law, AnomalyScore):
            found = all_statistics(model, law.statistics, fold)
            scores: Tensor = law.law([torch.from_numpy(found[name]) for name in law.statistics.names])
        else:
            scores = law(torch.from_numpy(statistics(model, fold)))
    values: NDArray[np.float64] = scores.numpy()
    return values


@torch.no_grad()
def all_statistics(model: GenerativeModel, listed: Statistics, fold: Fold) -> dict[str, NDArray[np.float64]]:
    """Every statistic in torch, by name: n rows -> float64 [n]; conditions are as where nobody gives one."""
    parts = []
    for start in range(0, len(fold), _BATCH):
        rows = fold.rows[start : start + _BATCH]
        log_prob = None
        if listed.reads_log_prob:
            log_prob = torch.from_numpy(answers_in_torch(model, "log_prob", {"x": rows})["log_prob"])
        given = [value.expand(len(rows)) for value in no_conditions(model)]
        parts.append(listed(torch.from_numpy(rows), log_prob, *given))
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in listed.names}


def _fit_score(model: GenerativeModel, recipe: Recipe, folds: Folds, folder: Path, reporter: Reporter) -> AnomalyScore:
    """The statistics that a recipe lists, and their law on the reference fold, or cross-fitted."""
    assert recipe.anomaly is not None
    listed = _fit_statistics(model, recipe, folds.fitted, 0, folder / "background", reporter)
    if folds.reference is not None:
        values = all_statistics(model, listed, folds.reference)
    else:
        parts = []
        for part, (kept, held_out) in enumerate(cross_fit_parts(folds.fitted, recipe.folds), start=1):
            place, label = folder / f"cross-fit-{part}", f"cross-fit {part}"
            other = model
            if listed.looks_at_model:
                other = _another(model, recipe, kept, part, place, label, reporter)
            found = _fit_statistics(other, recipe, kept, part, place / "background", reporter, listed)
            parts.append(all_statistics(other, found, held_out))
        values = {name: np.concatenate([part[name] for part in parts]) for name in listed.names}
    try:
        law = JointLaw({name: torch.from_numpy(found) for name, found in values.items()}, recipe.anomaly.directions)
    except ValueError as error:
        raise DataError(f"{recipe.name}: anomaly: {error}") from None
    return AnomalyScore(listed, law, model.support, model.conditions)


def _fit_statistics(
    model: GenerativeModel,
    recipe: Recipe,
    fold: Fold,
    part: int,
    folder: Path,
    reporter: Reporter,
    former: Statistics | None = None,
) -> Statistics:
    assert recipe.anomaly is not None

    def background(noisy: Fold) -> GenerativeModel:
        label = "background" if not part else f"background, cross-fit {part}"
        return _another(model, recipe, noisy, part, folder, label, reporter)

    seed = recipe.seed + part
    return fit_statistics(recipe.anomaly, model, fold, seed=seed, background=background, former=former)


def _another(
    model: GenerativeModel, recipe: Recipe, fold: Fold, part: int, folder: Path, label: str, reporter: Reporter
) -> GenerativeModel:
    """A model of the same family, fitted to other rows."""
    train, validation = fold, None
    if recipe.training is not None:
        train, validation = carve(fold, recipe.folds)
    torch.manual_seed(recipe.seed + part)
    other = build_model(recipe, model.support, next((part.vocabulary for part in model.conditions), None))
    fit_model(
        other,
        recipe.training,
        train,
        validation,
        seed=recipe.seed + part,
        folder=folder,
        reporter=reporter,
        label=label,
    )
    return other


def calibration_scores(model: LoadedModel, fold: Fold) -> NDArray[np.float64]:
    """Scores of the calibration fold by the exported graphs, in the fold's order: n rows -> float64 [n].

    Raises:
        DataError: a score is NaN, so it has no rank.
    """
    scores: NDArray[np.float64] = answers(model, "score", fold.rows)["score"]
    if np.isnan(scores).any():
        raise DataError("the score of a calibration row is NaN, so it has no rank")
    return scores


def calibration_rows(recipe: Recipe, data: Dataset, fold: Fold, scores: NDArray[np.float64]) -> CalibrationRows:
    """The calibration fold, scored: by label where the recipe says so, and in blocks where rows come in groups.

    Args:
        recipe: the recipe, with its anomaly section.
        data: the data, which say what labels and groups are called.
        fold: the calibration fold, n rows.
        scores: of its rows, [n].

    Raises:
        DataError: all rows are of one group.
    """
    assert recipe.anomaly is not None
    labels: list[str] | None = None
    if recipe.anomaly.by_label:
        assert fold.labels is not None
        assert data.label_names is not None
        labels = [data.label_names[label] for label in fold.labels]
    try:
        return CalibrationRows(
            scores,
            labels=labels,
            labelled_by=recipe.data.label if isinstance(recipe.data, TableData) and recipe.data.label else "label",
            blocks=fold.groups,
            blocked_by=data.grouped_by,
        )
    except InputError as error:
        raise DataError(f"{recipe.name}: the calibration fold: {error}") from None
