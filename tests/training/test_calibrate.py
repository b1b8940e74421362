"""The law of the anomaly statistic: which rows it is fitted on, and what measuring says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score

from contract.conformal import tied_share
from runtime.model import load_model
from tests.training.runs import ROOT, train_quietly, write_recipe
from training.calibrate import cross_fitted_statistics, fit_law, law_rows, statistics
from training.errors import DataError, RecipeError
from training.evaluate import answers, auroc
from training.folds import Folds, cross_fit_parts
from training.law import DirectionLaw, KernelLaw
from training.progress import Reporter
from training.recipe import Anomaly, Recipe, build_model, load_recipe
from training.sections import MoonsData
from training.train import prepare_data

QUIET = Reporter(Console(quiet=True))


def small_gaussian(n: int = 300) -> tuple[Recipe, Folds, Any]:
    recipe, _ = load_recipe(ROOT / "recipes" / "contract" / "gaussian.yaml")
    recipe = recipe.model_copy(update={"data": MoonsData(loader="moons", n=n, noise=0.1, seed=0)})
    data, folds = prepare_data(recipe, Path())
    model = build_model(recipe, data.support)
    model.fit(torch.from_numpy(folds.train.rows))
    return recipe, folds, model


def test_with_a_reference_fold_the_law_is_fitted_on_it(tmp_path: Path) -> None:
    recipe, folds, model = small_gaussian(600)
    law = fit_law(model, recipe, folds, tmp_path, QUIET)
    assert folds.reference is not None
    assert isinstance(law, KernelLaw)
    expected = KernelLaw(torch.from_numpy(statistics(model, folds.reference)))
    x = torch.linspace(-9, 1, 20).double()
    assert torch.equal(law(x), expected(x))
    assert law_rows(recipe, folds) == "the 150 rows of the reference fold"
    assert list(tmp_path.iterdir()) == []


def test_below_400_rows_every_training_row_is_scored_by_a_model_that_never_saw_it(tmp_path: Path) -> None:
    recipe, folds, model = small_gaussian(300)
    assert folds.reference is None
    values = cross_fitted_statistics(model, recipe, folds, tmp_path, QUIET)
    assert len(values) == len(folds.train) == 141
    parts = cross_fit_parts(folds.train, recipe.folds)
    by_hand = [
        multivariate_normal(fit.rows.mean(axis=0), np.cov(fit.rows.T, bias=True)).logpdf(held.rows)
        for fit, held in parts
    ]
    assert values == pytest.approx(np.concatenate(by_hand))
    assert values.mean() < statistics(model, folds.train).mean(), "rows that a model saw are likelier under it"
    law = fit_law(model, recipe, folds, tmp_path, QUIET)
    x = torch.linspace(-9, 1, 20).double()
    assert torch.equal(law(x), KernelLaw(torch.from_numpy(values))(x))
    assert law_rows(recipe, folds) == "the 141 training rows, each under a model fitted without it (5-fold)"


def test_a_declared_direction_needs_no_reference(tmp_path: Path) -> None:
    recipe, folds, model = small_gaussian()
    recipe = recipe.model_copy(update={"anomaly": Anomaly(rows="points", direction="low")})
    assert isinstance(fit_law(model, recipe, folds, tmp_path, QUIET), DirectionLaw)
    assert law_rows(recipe, folds) is None
    assert list(tmp_path.iterdir()) == []


def test_a_statistic_that_does_not_vary_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, folds, model = small_gaussian(600)
    monkeypatch.setattr("training.calibrate.statistics", lambda _, rows: np.zeros(len(rows)))
    with pytest.raises(DataError, match=r"^contract-gaussian: anomaly: "):
        fit_law(model, recipe, folds, tmp_path, QUIET)


def test_auroc_is_scikit_learns_ties_included() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        ordinary, strange = random.integers(0, 8, 30).astype(float), random.integers(2, 11, 20).astype(float)
        truth = roc_auc_score(np.r_[np.zeros(30), np.ones(20)], np.r_[ordinary, strange])
        assert auroc(ordinary, strange)[0] == pytest.approx(truth, abs=1e-12)


def test_the_standard_error_of_an_auroc_is_its_spread_over_samples() -> None:
    random = np.random.default_rng(1)
    pairs = [auroc(random.normal(size=80), random.normal(1.0, size=50)) for _ in range(400)]
    spread, stated = np.std([value for value, _ in pairs]), np.mean([error for _, error in pairs])
    assert stated == pytest.approx(spread, rel=0.15)  # a spread from 400 samples is known to 3.5 %


def test_a_recipe_calibrates_each_label_apart(tmp_path: Path) -> None:
    anomaly = {"rows": "moons", "direction": "low", "by_label": True}
    path = write_recipe(tmp_path, "contract/naive-bayes.yaml", anomaly=anomaly)
    done, _ = train_quietly(path, tmp_path)
    about = done.bundle.manifest.calibration
    assert about is not None
    recipe, _ = load_recipe(path)
    data, folds = prepare_data(recipe, tmp_path)
    fold = folds.calibration
    assert fold is not None
    assert fold.labels is not None
    assert data.label_names is not None
    assert about.labelled_by == "label"
    assert about.labels == tuple(sorted(data.label_names))
    model = load_model(done.bundle)
    scores = answers(model, "score", fold.rows)["score"]
    for group in about.groups:
        own = scores[fold.labels == data.label_names.index(group.label)]
        assert group.n == len(own)
        assert np.array_equal(model.group_scores[group.label], np.sort(own))
    assert model.calibration_scores is not None
    assert np.array_equal(model.calibration_scores, np.sort(scores))
    assert about.tied == round(tied_share(scores), 4)
    assert f"| {about.labels[0]} | {about.groups[0].n} |" in (done.bundle.folder / "card.md").read_text()


def test_rows_without_labels_have_none_to_calibrate_apart(tmp_path: Path) -> None:
    anomaly = {"rows": "points", "by_label": True}
    path = write_recipe(tmp_path, "contract/gaussian.yaml", anomaly=anomaly)
    with pytest.raises(RecipeError, match="anomaly: by_label: rows have labels where a recipe says `condition: label`"):
        load_recipe(path)
