"""A model that is conditional on a label, from the recipe to the figures of its bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from contract.bundle import Bundle
from runtime.loop import run_program
from runtime.model import LoadedModel, load_model
from tests.training.runs import train_quietly, write_recipe
from training.folds import Folds
from training.recipe import load_recipe
from training.report import reevaluate
from training.train import prepare_data

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Conditional:
    folder: Path
    bundle: Bundle
    served: LoadedModel
    folds: Folds


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Conditional:
    """A small VAE of grey digits, 0 ... 9 its labels, trained for some seconds."""
    folder = tmp_path_factory.mktemp("conditional")
    training = {"max_epochs": 12, "batch_size": 32, "learning_rate": 0.003, "clip": 100, "ema": 0.99}
    recipe = write_recipe(
        folder,
        "contract/vae.yaml",
        data={"loader": "sklearn", "set": "digits", "crop": [1, 1, 6, 6]},
        binarise=None,
        condition="label",
        model={"latent": 4, "widths": [16, 24], "blocks": 0, "neck": 8, "prior_layers": 4, "label_dropout": 0.2},
        training=training,
        folds={"repeats": "together"},
        tolerance={"test_log_prob": 2.0, "test_log_prob_given_label": 2.0},
    )
    trained, _ = train_quietly(recipe, folder)
    _, folds = prepare_data(load_recipe(recipe)[0], folder)
    return Conditional(folder, trained.bundle, load_model(trained.bundle), folds)


def test_labels_come_from_the_data_and_none_is_the_default(conditional: Conditional) -> None:
    programs = conditional.bundle.manifest.capabilities
    for name in ("sample", "latent", "decode", "encode", "log_prob"):
        label = programs[name].input("label")  # type: ignore[index]
        assert label is not None
        assert label.vocabulary == tuple("0123456789")
        assert label.default == 10


def test_figures_with_and_without_a_label_are_named_apart(conditional: Conditional) -> None:
    figures = {metric.name: metric for metric in conditional.bundle.manifest.metrics}
    test = conditional.folds.test
    assert test.labels is not None
    for suffix, given in (("", {}), ("_given_label", {"label": test.labels})):
        values = run_program(conditional.served, "log_prob", {"x": test.rows, **given})["log_prob"]
        figure = figures[f"test_log_prob{suffix}"]
        assert figure.kind == "lower_bound"
        assert abs(figure.value - values.mean()) < 1e-9
        bits = figures[f"test_bits_per_dimension{suffix}"]
        assert abs(bits.value + values.mean() / (36 * np.log(2))) < 1e-9
    assert all(line.within for line in reevaluate(conditional.bundle.folder, conditional.folder) if line.tolerance)


def test_the_right_label_explains_a_row_better_than_another(conditional: Conditional) -> None:
    test = conditional.folds.test
    assert test.labels is not None

    def bound(label: np.ndarray) -> np.ndarray:
        return run_program(conditional.served, "log_prob", {"x": test.rows, "label": label})["log_prob"]

    right, wrong = bound(test.labels), bound((test.labels + 1) % 10)
    gain = right - wrong
    assert gain.mean() > 4 * gain.std(ddof=1) / len(gain) ** 0.5
    assert gain.mean() > 1.0


def test_draws_look_like_their_label(conditional: Conditional) -> None:
    train = conditional.folds.train
    assert train.labels is not None
    means = np.stack([train.rows[train.labels == label].mean(axis=0) for label in range(10)])
    n = 40
    for label in range(10):
        asked = {"seed": np.full(n, 1), "row": np.arange(n), "label": np.full(n, label)}
        drawn = run_program(conditional.served, "sample", asked)["x"].mean(axis=0)
        nearest = np.square(means - drawn).sum(axis=(1, 2)).argsort()
        assert label in nearest[:2], f"draws of {label} look like {nearest[0]}"
    rows = [
        run_program(
            conditional.served, "sample", {"seed": np.full(n, 1), "row": np.arange(n), "label": np.full(n, label)}
        )
        for label in (0, 1, 10)
    ]
    assert len({part["x"].tobytes() for part in rows}) == 3


def test_the_score_takes_no_label_unless_one_is_given(conditional: Conditional) -> None:
    # Calibration rows were scored without.
    calibration = conditional.folds.calibration
    assert calibration is not None
    scores = run_program(conditional.served, "score", {"x": calibration.rows})["score"]
    assert np.array_equal(np.sort(scores), conditional.served.calibration_scores)
