"""From a folder of pictures to anomaly scores over HTTP: ``nonesuch train FOLDER --for anomaly``, served, and asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from commands.main import main
from contract.bundle import open_bundle
from tests.service.server_process import serving
from tests.training.runs import one_thread
from training.draft import draft_recipe
from training.evaluate import auroc
from training.recipe import parse_recipe
from training.train import prepare_data

NAMES = ["log_prob", "complexity", "neighbours", "local_outlier_factor"]
TRAINED = 148


def tinted() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits in inks of many colours: zeros, and a few of each other digit; uint8 [n, 8, 8, 3]."""
    digits = load_digits()
    inks = np.random.default_rng(0).uniform(0.5, 1.0, (len(digits.images), 1, 1, 3))
    pictures = np.round(digits.images[..., None] * 15.0 * inks).astype(np.uint8)
    others = np.concatenate([pictures[digits.target == digit][:10] for digit in range(1, 10)])
    return pictures[digits.target == 0], others


ZEROS, OTHERS = tinted()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ink")
    for name, pictures in (("zero", ZEROS[:TRAINED]), ("other", OTHERS)):
        (folder / "digits" / name).mkdir(parents=True)
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / "digits" / name / f"{number:03}.png")
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.chdir(folder)
        with pytest.raises(SystemExit) as ended:
            main(["train", "digits", "--for", "anomaly", "--ordinary", "zero"])
    assert ended.value.code in (0, None)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with serving(folder / "bundles") as server, server.client() as client:
        yield client


def scored(client: httpx.Client, pictures: np.ndarray) -> dict[str, Any]:
    answer = client.post("/anomaly-score", json={"model": "digits", "rows": pictures.tolist(), "alpha": 0.1})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_other_pictures_alarm_and_ordinary_ones_do_not(client: httpx.Client) -> None:
    ordinary, others = scored(client, ZEROS[TRAINED:]), scored(client, OTHERS)
    assert list(ordinary["statistics"]) == NAMES
    assert np.mean(ordinary["is_anomaly"]) < 0.3
    assert np.mean(others["is_anomaly"]) > 0.9
    assert auroc(np.array(ordinary["score"]), np.array(others["score"]))[0] > 0.97


def test_what_is_no_digit_alarms_whether_it_is_likelier_or_not(client: httpx.Client) -> None:
    blank = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    noise = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    negative = 255 - ZEROS[-1:]
    grid = np.indices((1, 8, 8, 3)).sum(axis=0).astype(np.uint8) % 2 * 200
    found = scored(client, np.concatenate([blank, noise, negative, grid]))
    assert found["is_anomaly"] == [True] * 4


def test_the_bundle_says_what_its_score_is_made_of_and_how_it_was_measured(folder: Path, client: httpx.Client) -> None:
    card = client.get("/models/digits").json()
    assert card["calibration"]["statistics"] == NAMES
    assert card["provenance"]["contains_training_rows"] is True
    manifest = open_bundle(folder / "bundles" / "digits" / "1").manifest
    assert manifest.support.shape == (8, 8, 3)
    assert next(metric for metric in manifest.metrics if metric.name == "auroc_other").value > 0.95


def test_an_array_of_the_same_pictures_trains_on_the_same_rows(folder: Path) -> None:
    labels = np.repeat([0, 5], [TRAINED, len(OTHERS)])
    np.savez(folder / "digits.npz", x=np.concatenate([ZEROS[:TRAINED], OTHERS]), y=labels)
    drafts = [
        draft_recipe(folder / "digits", data_root=folder, ordinary="zero", purpose="anomaly"),
        draft_recipe(folder / "digits.npz", data_root=folder, label="y", ordinary="0", purpose="anomaly"),
    ]
    recipes = [parse_recipe(draft.text) for draft in drafts]
    folds = [prepare_data(recipe, folder)[1].provenance() for recipe in recipes]
    assert folds[0] == folds[1]
    assert recipes[0].folds == recipes[1].folds
    assert recipes[0].anomaly is not None
    assert recipes[1].anomaly is not None
    assert recipes[0].anomaly.statistics == recipes[1].anomaly.statistics
