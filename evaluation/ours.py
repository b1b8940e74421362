"""What ``nonesuch train TABLE --for anomaly`` makes of a split's training rows, without writing a bundle of it.

The training rows become a file, and everything that happens to them is the pipeline's: the recipe is drafted by
inspection, the folds are its own (a test fold that nothing here looks at among them), and model, law and calibration
scores are fitted on these. Only the export is left out: scores are torch's, and equal the exported graphs' up to the
parity that every bundle states.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from contract.support import Support
from evaluation.labelled import Split
from models.base import GenerativeModel
from training.calibrate import fit_law, scores_in_torch, statistics
from training.data import Fold
from training.draft import draft_recipe
from training.errors import DataError
from training.folds import fold_sizes
from training.loop import fit_model
from training.progress import Reporter
from training.recipe import build_model, parse_recipe
from training.train import prepare_data

__all__ = ["Scores", "allowed", "default_digest", "scores_of"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Scores:
    """What the default says of a split.

    Attributes:
        test: scores of the test rows, [m], larger for stranger ones; infinite where the bundle would refuse the row,
            because a value is none that its column can have.
        log_prob: log-probability of the test rows, [m]; -infinite where the row would be refused.
        calibration: scores of the calibration rows, ascending, [n].
        family: that the draft chose.
        recipe: the draft.
    """

    test: NDArray[np.float64]
    log_prob: NDArray[np.float64]
    calibration: NDArray[np.float64]
    family: str
    recipe: str


def scores_of(name: str, split: Split) -> Scores:
    """Draft, fit, calibrate and score.

    Raises:
        TrainingInputError: a recipe cannot be drafted for these rows, or trained on them.
        TrainingError: training diverged.
    """
    quiet = Reporter(Console(quiet=True))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file = folder / f"{name}.parquet"
        columns = {f"x{place}": values for place, values in enumerate(split.train.T)}
        pa.parquet.write_table(pa.table(columns), file)
        draft = draft_recipe(file, data_root=folder, purpose="anomaly")
        recipe = parse_recipe(draft.text)
        data, folds = prepare_data(recipe, folder)
        torch.manual_seed(recipe.seed)
        model = build_model(recipe, data.support)
        run = folder / "run"
        fit_model(model, recipe.training, folds.train, folds.validation, seed=recipe.seed, folder=run, reporter=quiet)
        law = fit_law(model, recipe, folds, run, quiet)
    assert folds.calibration is not None
    kept = [int(column.name[1:]) for column in data.support.columns or ()]
    rows = split.test[:, kept].astype(folds.train.rows.dtype)
    accepted = allowed(data.support, rows)
    log_prob = np.full(len(rows), -np.inf)
    test = np.full(len(rows), np.inf)
    log_prob[accepted], test[accepted] = _scored(model, law, rows[accepted])
    calibration = np.sort(_scored(model, law, folds.calibration.rows)[1])
    for scores in (test, calibration):
        if np.isnan(scores).any():
            raise DataError(f"{name}: {int(np.isnan(scores).sum())} of {len(scores)} scores are NaN")
    return Scores(test, log_prob, calibration, recipe.family, draft.text)


@cache
def default_digest() -> str:
    """Eight hex digits that change with what is drafted: lines that were measured of another default do not count.

    They are of the recipes for a small and a larger made table, and of the sizes of their folds, so that they do not
    change with the code that fits.
    """
    texts = []
    with tempfile.TemporaryDirectory() as temporary:
        for n in (100, 5000):
            file = Path(temporary) / "made.parquet"
            rows = np.random.default_rng(0).standard_normal((n, 2)).round(6)
            pa.parquet.write_table(pa.table({"x0": rows[:, 0], "x1": rows[:, 1]}), file)
            text = draft_recipe(file, data_root=Path(temporary), purpose="anomaly").text
            sizes = fold_sizes(n, parse_recipe(text).folds, official_test=False, calibrated=True)
            texts += [text, str(sizes)]
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:8]


def allowed(support: Support, rows: Array) -> NDArray[np.bool_]:
    """Which rows a bundle of that support would score rather than refuse: [n, d] -> bool [n]."""
    columns = support.columns or ()
    by_column = [column.allowed(values) for column, values in zip(columns, rows.T, strict=True)]
    return np.asarray(np.all(by_column, axis=0), dtype=np.bool_)


def _scored(model: GenerativeModel, law: nn.Module, rows: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-probability and score: [n, d] -> [n], [n]."""
    if not len(rows):
        return np.empty(0), np.empty(0)
    return statistics(model, Fold(rows)), scores_in_torch(model, law, Fold(rows))
