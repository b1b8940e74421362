"""Pictures scored by a bundle that ships: from its own graphs, beside its raw log-probability."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contract.bundle import open_bundle
from evaluation.pictures import measure_pictures, read_pictures
from runtime.model import load_model
from training.errors import DataError
from training.evaluate import answers, auroc

BUNDLE = Path(__file__).parents[2] / "bundles" / "garments" / "1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flat pictures, and noise."""
    generator = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("pictures")
    flat = np.repeat(generator.integers(0, 256, (12, 1, 1)), 28, axis=1).repeat(28, axis=2).astype(np.uint8)
    noise = generator.integers(0, 256, (9, 28, 28), dtype=np.uint8)
    np.savez(folder / "pictures.npz", flat=flat, noise=noise, small=noise[:, :8, :8], real=noise / 255)
    return folder


def test_what_is_measured_is_what_the_graphs_say(folder: Path) -> None:
    found = measure_pictures(BUNDLE, "pictures.npz:flat", "pictures.npz:noise", folder)
    model = load_model(open_bundle(BUNDLE))
    flat, noise = (answers(model, "score", read_pictures(f"pictures.npz:{key}", folder)) for key in ("flat", "noise"))
    assert found["score"]["auroc"] == auroc(flat["score"], noise["score"])[0]
    assert found["log_prob"]["auroc"] == auroc(-flat["log_prob"], -noise["log_prob"])[0]
    assert (found["bundle"], found["family"], found["log_prob_kind"]) == ("garments/1", "vae", "lower_bound")
    assert (found["n_ordinary"], found["n_strange"]) == (12, 9)
    assert found["digest"] == model.digest
    assert found["statistics"] == ["log_prob"]


def test_of_many_pictures_a_lot_is_taken(folder: Path) -> None:
    found = measure_pictures(BUNDLE, "pictures.npz:flat", "pictures.npz:noise", folder, most=3)
    assert (found["n_ordinary"], found["n_strange"]) == (3, 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pictures.npz:small", r"it takes pictures of shape \[28, 28\], not \[8, 8\]"),
        ("pictures.npz:real", "expected pictures of unsigned bytes"),
        ("pictures.npz:none", "no array 'none'"),
        ("absent.gz", "no such file"),
    ],
)
def test_what_are_no_pictures_for_the_bundle_is_refused(folder: Path, name: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        measure_pictures(BUNDLE, "pictures.npz:flat", name, folder)


def test_a_bundle_without_a_score_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="it has no score program"):
        measure_pictures(BUNDLE.parents[1] / "monsters" / "1", "pictures.npz:flat", "pictures.npz:noise", folder)
