"""Ours is the pipeline's: the scores of a bundle that ``nonesuch train TABLE --for anomaly`` would write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from rich.console import Console

from contract.bundle import open_bundle
from contract.support import Column, Support
from evaluation.labelled import Labelled, Split, deal
from evaluation.ours import Scores, allowed, scores_of
from runtime.model import load_model
from training.draft import draft_recipe
from training.drafts import Draft, write_draft
from training.evaluate import answers
from training.progress import Reporter
from training.train import train


@pytest.fixture(scope="module")
def split() -> Split:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(260, 3)) * [1.0, 5.0, 0.1] + np.arange(3)
    rows = np.concatenate([rows, np.full((260, 1), 7.0)], axis=1)  # a column that is left out
    return deal(Labelled("made", rows, np.arange(260) >= 240, ""), 0, "A")


@pytest.fixture(scope="module")
def found(split: Split) -> Scores:
    return scores_of("made", split)


def drafted(split: Split, folder: Path) -> Draft:
    file = folder / "made.parquet"
    pa.parquet.write_table(pa.table({f"x{place}": values for place, values in enumerate(split.train.T)}), file)
    return draft_recipe(file, data_root=folder, purpose="anomaly")


def test_the_recipe_is_drafted_for_anomaly_scores(split: Split, found: Scores, tmp_path: Path) -> None:
    assert found.recipe == drafted(split, tmp_path).text
    assert len(found.test) == len(split.test)
    assert np.isfinite(found.test).all()
    assert (np.diff(found.calibration) >= 0).all()


@pytest.mark.slow
def test_scores_are_those_of_the_bundle(split: Split, found: Scores, tmp_path: Path) -> None:
    recipe, _ = write_draft(drafted(split, tmp_path), tmp_path)
    quiet = Reporter(Console(quiet=True))
    trained = train(recipe, data_root=tmp_path, out=tmp_path / "out", runs=tmp_path / "runs", reporter=quiet)
    model = load_model(open_bundle(trained.bundle.folder))
    assert model.calibration_scores is not None
    np.testing.assert_allclose(found.calibration, model.calibration_scores, rtol=1e-6)
    np.testing.assert_allclose(found.test, answers(model, "score", split.test[:, :3])["score"], rtol=1e-6)
    log_prob = answers(model, "log_prob", split.test[:, :3])["log_prob"]
    np.testing.assert_allclose(found.log_prob, log_prob, rtol=1e-6)


def test_rows_that_a_bundle_refuses_are_told_apart() -> None:
    columns = (
        Column(name="level", kind="ordinal", base_measure="counting", levels=3),
        Column(name="weight", kind="positive", base_measure="lebesgue"),
    )
    rows = np.array([[0.0, 1.0], [2.0, 0.5], [3.0, 1.0], [1.0, 0.0], [1.5, 1.0]])
    assert allowed(Support(shape=(2,), columns=columns), rows).tolist() == [True, True, False, False, False]
