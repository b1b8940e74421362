"""From recipe to bundle: what is written, when it goes on, when it starts anew, and that it is whole or absent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from contract.bundle import Bundle, list_versions, open_bundle
from runtime.model import load_model
from runtime.verify import verify
from tests.training.runs import ROOT, train_quietly, write_recipe
from training import bundling
from training import train as training
from training.card import figure
from training.errors import RecipeError, TrainingError, TrainingInputError
from training.evaluate import answers
from training.folds import make_folds
from training.recipe import load_recipe
from training.train import Trained, prepare_data

GAUSSIAN, REALNVP = "contract/gaussian.yaml", "contract/realnvp.yaml"


@pytest.fixture
def bundle(flow: Trained) -> Bundle:
    return flow.bundle


# -- what is written -----------------------------------------------------------------------------------------------


def test_the_bundle_passes_verification_bit_for_bit(bundle: Bundle) -> None:
    found = verify(bundle.folder)
    assert found["reason"] is None
    assert found["bit_equal"]
    assert bundle.folder.parts[-2:] == ("contract-realnvp", "1")
    assert set(bundle.manifest.capabilities) == {"sample", "latent", "decode", "encode", "log_prob", "score"}


def test_the_manifest_says_where_it_came_from(bundle: Bundle) -> None:
    recipe, text = load_recipe(ROOT / "recipes" / REALNVP)
    data, folds = prepare_data(recipe, Path())
    provenance = bundle.manifest.provenance
    assert provenance.recipe == text
    assert provenance.data_sha256 == data.sha256
    assert provenance.folds == folds.provenance()
    assert {name: fold["n"] for name, fold in provenance.folds.items()} == {
        "train": 162,
        "validation": 18,
        "reference": 150,
        "calibration": 150,
        "test": 120,
    }
    assert "torch" in bundle.manifest.tools
    assert not provenance.contains_training_rows


def test_calibration_scores_are_the_exported_graphs_own(bundle: Bundle) -> None:
    recipe, _ = load_recipe(ROOT / "recipes" / REALNVP)
    _, folds = prepare_data(recipe, Path())
    model = load_model(bundle)
    assert folds.calibration is not None
    scores = np.sort(answers(model, "score", folds.calibration.rows)["score"])
    assert np.array_equal(scores, model.calibration_scores)


def test_the_metrics_are_those_of_the_test_fold(bundle: Bundle) -> None:
    recipe, _ = load_recipe(ROOT / "recipes" / REALNVP)
    _, folds = prepare_data(recipe, Path())
    values = answers(load_model(bundle), "log_prob", folds.test.rows)["log_prob"]
    metric = next(metric for metric in bundle.manifest.metrics if metric.name == "test_log_prob")
    assert metric.value == values.mean()
    assert metric.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(len(values)))
    assert (metric.kind, metric.units, metric.fold, metric.n) == ("exact", "nats", "test", 120)


def test_the_card_holds_the_figures(bundle: Bundle) -> None:
    card = bundle.path("card.md").read_text(encoding="utf-8")
    manifest = bundle.manifest
    assert card.startswith("# contract-realnvp 1\n\n*This point does not exist.*")
    for metric in manifest.metrics:
        assert f"| {metric.name} | {figure(metric)} | {metric.kind} | {metric.fold} | {metric.n:,} |" in card
    assert len(manifest.metrics) == 3
    for name, fold in manifest.provenance.folds.items():
        assert f"| {name} | {fold['n']:,} |" in card
    for words in (manifest.provenance.data, manifest.licence, manifest.provenance.recipe, "nonesuch train"):
        assert words in card
    assert "the 150 rows of the reference fold" in card
    assert "| 0.05 | 0.019 to 0.085 |" in card  # the 95 % interval of Beta(7, 144)


def test_without_an_anomaly_section_score_is_refused(tmp_path: Path, exports_once: None) -> None:
    done, _ = train_quietly(write_recipe(tmp_path, GAUSSIAN, anomaly=None), tmp_path)
    manifest = done.bundle.manifest
    assert manifest.calibration is None
    assert "calibration" in manifest.refusals["score"]
    assert set(manifest.provenance.folds) == {"train", "test"}
    assert [metric.name for metric in manifest.metrics] == ["test_log_prob"]


# -- whole or not at all -------------------------------------------------------------------------------------------


def test_what_fails_its_own_verification_is_not_written_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exports_once: None
) -> None:
    def fail(folder: Path) -> dict[str, object]:
        return {"folder": str(folder), "ok": False, "reason": "its graphs are wrong", "bit_equal": False}

    with monkeypatch.context() as patch:
        patch.setattr(bundling, "verify", fail)
        with pytest.raises(TrainingError, match="its graphs are wrong"):
            train_quietly(ROOT / "recipes" / GAUSSIAN, tmp_path)
    assert list_versions(tmp_path / "bundles") == {}

    first, said = train_quietly(ROOT / "recipes" / GAUSSIAN, tmp_path)
    assert "going on" in said
    assert first.bundle.manifest.version == 1

    second, said = train_quietly(ROOT / "recipes" / GAUSSIAN, tmp_path)
    assert f"anew: the last one ended in {first.bundle.folder}" in said
    assert second.bundle.manifest.version == 2
    assert list_versions(tmp_path / "bundles") == {"contract-gaussian": [1, 2]}
    open_bundle(first.bundle.folder)
    for one, two in zip(first.bundle.manifest.metrics, second.bundle.manifest.metrics, strict=True):
        assert one == two


def test_a_tolerance_of_something_never_measured_is_refused(tmp_path: Path, exports_once: None) -> None:
    recipe = write_recipe(tmp_path, GAUSSIAN, tolerance={"test_log_prod": 0.1})
    with pytest.raises(
        TrainingInputError, match="tolerance: test_log_prod is not measured; measured are test_log_prob"
    ):
        train_quietly(recipe, tmp_path)
    assert list_versions(tmp_path / "bundles") == {}


# -- again ---------------------------------------------------------------------------------------------------------


class KilledError(Exception):
    pass


def die(*_: object) -> None:
    raise KilledError


def kill_after_the_fit(recipe: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training, "export_model", die)
        with pytest.raises(KilledError):
            train_quietly(recipe, folder)


def test_a_run_killed_after_the_fit_does_not_fit_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(tmp_path, REALNVP, training=_training(max_epochs=3))
    kill_after_the_fit(recipe, tmp_path, monkeypatch)
    monkeypatch.setattr("training.loop._fit_by_gradients", die)
    kill_after_the_fit(recipe, tmp_path, monkeypatch)  # at the export again, not at the fit


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({}, {}, "going on"),
        ({}, {"fresh": True}, "anew: as asked"),
        ({"title": "This speck does not exist"}, {}, "anew: recipe or data have changed"),
    ],
)
def test_a_killed_run_goes_on_unless_told_otherwise(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exports_once: None,
    changes: dict[str, str],
    options: dict[str, bool],
    words: str,
) -> None:
    kill_after_the_fit(write_recipe(tmp_path, GAUSSIAN), tmp_path, monkeypatch)
    _, said = train_quietly(write_recipe(tmp_path, GAUSSIAN, **changes), tmp_path, **options)
    assert words in said


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "runs" / "contract-gaussian" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(TrainingInputError, match="not a run's folder; name another with --runs"):
            train_quietly(ROOT / "recipes" / GAUSSIAN, tmp_path, fresh=fresh)
    assert precious.read_text() == "years of work"


def test_a_constant_column_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, _ = load_recipe(ROOT / "recipes" / GAUSSIAN)
    data, _ = prepare_data(recipe, Path())
    rows = data.rows.copy()
    rows[:, 1] = 1.0

    def flat(*_: object) -> tuple[object, object]:
        constant = data.__class__(rows, data.support, "flat moons", "0" * 64)
        return constant, make_folds(constant, recipe.folds, calibrated=True, validated=False)

    monkeypatch.setattr(training, "prepare_data", flat)
    with pytest.raises(TrainingInputError, match=r"fit: column ('y'|1) ") as error:
        train_quietly(ROOT / "recipes" / GAUSSIAN, tmp_path)
    assert "\n" not in str(error.value)


def test_an_unreadable_recipe_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        train_quietly(tmp_path / "absent.yaml", tmp_path)
    assert list(tmp_path.iterdir()) == []


# -- killed --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_to_the_same_figures(flow: Trained, tmp_path: Path, exports_once: None) -> None:
    recipe = ROOT / "recipes" / REALNVP
    command = [sys.executable, "-c", "from commands.main import main; main()", "train", str(recipe)]
    command += ["--out", str(tmp_path / "bundles"), "--runs", str(tmp_path / "runs")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    resume = tmp_path / "runs" / "contract-realnvp" / "last.ckpt"
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        while not resume.exists():
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert list_versions(tmp_path / "bundles") == {}

    resumed, said = train_quietly(recipe, tmp_path)
    assert "going on" in said
    assert "fit: goes on after epoch" in said
    assert 0 < resumed.fit.resumed_at < resumed.fit.epochs == flow.fit.epochs
    tolerance = load_recipe(recipe)[0].tolerance
    for one, two in zip(flow.bundle.manifest.metrics, resumed.bundle.manifest.metrics, strict=True):
        assert one.name == two.name
        assert abs(one.value - two.value) <= tolerance.get(one.name, 0.02)


def _training(**changes: object) -> dict[str, object]:
    recipe, _ = load_recipe(ROOT / "recipes" / REALNVP)
    assert recipe.training is not None
    return {**recipe.training.model_dump(exclude_defaults=True), **changes}
