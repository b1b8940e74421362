"""Alarms keep their rate: the shipped breast-cancer bundle over random splits of the rows that it was not fitted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import betabinom
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from contract.bundle import list_versions, open_bundle
from contract.conformal import p_values
from runtime.model import load_model
from tests.training.runs import ROOT
from training.evaluate import answers, auroc
from training.recipe import load_recipe
from training.train import prepare_data

SPLITS = 20


@pytest.fixture(scope="module")
def scores() -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Scores of the benign calibration and test rows together and of the malignant rows; calibration rows."""
    recipe, _ = load_recipe(ROOT / "recipes" / "breast-cancer.yaml")
    data, folds = prepare_data(recipe, Path())
    assert folds.calibration is not None
    version = max(list_versions(ROOT / "bundles")["breast-cancer"])
    model = load_model(open_bundle(ROOT / "bundles" / "breast-cancer" / str(version)))
    benign = answers(model, "score", (folds.calibration + folds.test).rows)["score"]
    return benign, answers(model, "score", data.anomalies["malignant"])["score"], len(folds.calibration)


@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_flagged_benign_rows_stay_within_the_beta_binomial_law(
    scores: tuple[NDArray[np.float64], NDArray[np.float64], int], alpha: float
) -> None:
    benign, _, n = scores
    m = len(benign) - n
    k = int(np.floor(alpha * (n + 1) + 1e-9))
    low, high = betabinom(m, k, n + 1 - k).interval(0.99)
    random = np.random.default_rng(0)
    flagged = []
    for _ in range(SPLITS):
        dealt = random.permutation(benign)
        flagged.append(int((p_values(np.sort(dealt[:n]), dealt[n:]) <= alpha).sum()))
    assert sum(not low <= count <= high for count in flagged) <= 1
    # The interval alone would pass a p-value that never alarms: the mean over splits is known far better.
    error = betabinom(m, k, n + 1 - k).std() / m / np.sqrt(SPLITS)
    assert abs(np.mean(flagged) / m - k / (n + 1)) < 4 * error


def test_malignant_rows_are_found_about_as_well_as_by_standard_detectors(
    scores: tuple[NDArray[np.float64], NDArray[np.float64], int],
) -> None:
    benign, malignant, n = scores
    recipe, _ = load_recipe(ROOT / "recipes" / "breast-cancer.yaml")
    data, folds = prepare_data(recipe, Path())
    rows = folds.fitted.rows
    scaler = StandardScaler().fit(rows)
    train, test, strange = (scaler.transform(part) for part in (rows, folds.test.rows, data.anomalies["malignant"]))
    forest = IsolationForest(n_estimators=200, random_state=0).fit(train)
    near = NearestNeighbors(n_neighbors=5).fit(train)
    others = [
        auroc(-forest.score_samples(test), -forest.score_samples(strange)),
        auroc(near.kneighbors(test)[0][:, -1], near.kneighbors(strange)[0][:, -1]),
    ]
    value, error = auroc(benign[n:], malignant)
    assert value > 0.9
    for other, its_error in others:
        assert value > other - 3 * np.hypot(error, its_error)
