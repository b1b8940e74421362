"""The bundles that ship: pinned, small, made by the recipes beside them, and made again by them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from contract.bundle import list_versions, open_bundle
from contract.lock import read_lock
from runtime.model import load_model
from runtime.verify import verify
from tests.training.runs import ROOT, train_quietly
from training.evaluate import answers, tolerated
from training.recipe import family_of, load_recipe, parse_recipe
from training.report import reevaluate
from training.sections import MoonsData
from training.train import prepare_data

BUNDLES = ROOT / "bundles"
VERSIONS = list_versions(BUNDLES)
FOLDERS = [BUNDLES / name / str(version) for name, versions in VERSIONS.items() for version in versions]
NEWEST = {name: BUNDLES / name / str(max(versions)) for name, versions in VERSIONS.items()}
NAMES = {"bike", "breast-cancer", "digits", "garments", "monsters", "moons", "moons-gaussian", "rbm-digits", "thyroid"}
# Recipes of minutes of training, on data that one brings, and the bundles that they make.
UNSHIPPED = {
    "cifar-anomaly": "cifar-anomaly",
    "fashion-anomaly": "fashion-anomaly",
    "glow-mnist": "glow-mnist",
    "made-digits": "made-digits",
    "maf-mnist": "maf-mnist",
    "mixture-digits": "mixture-digits",
    "pixelcnn-garments": "pixelcnn-garments",
    "realnvp-mnist": "realnvp-mnist",
    "taxi": "taxi",
}
# Recipes of further versions: they make versions of bundles that have a recipe of their own.
FURTHER = {"digits-gated": "digits"}


def test_every_bundle_has_its_recipe_and_every_recipe_its_bundle_or_an_excuse() -> None:
    assert set(VERSIONS) == NAMES
    assert {path.stem for path in (ROOT / "recipes").glob("*.yaml")} == NAMES | set(UNSHIPPED) | set(FURTHER)


@pytest.mark.parametrize("name", sorted(UNSHIPPED))
def test_a_recipe_without_a_bundle_is_one_that_can_be_read(name: str) -> None:
    recipe, _ = load_recipe(ROOT / "recipes" / f"{name}.yaml")
    assert recipe.name == UNSHIPPED[name]
    family_of(recipe)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
class TestShipped:
    def test_it_is_the_pinned_one_and_answers_as_its_goldens(self, folder: Path) -> None:
        found = verify(folder, read_lock(BUNDLES)[f"{folder.parent.name}/{folder.name}"])
        assert found["reason"] is None

    def test_its_recipe_is_one_that_is_here(self, folder: Path) -> None:
        names = [folder.parent.name, *(stem for stem, bundle in FURTHER.items() if bundle == folder.parent.name)]
        texts = [load_recipe(ROOT / "recipes" / f"{name}.yaml")[1] for name in names]
        assert open_bundle(folder).manifest.provenance.recipe in texts

    def test_it_is_small(self, folder: Path) -> None:
        assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6

    def test_every_figure_has_a_tolerance(self, folder: Path) -> None:
        manifest = open_bundle(folder).manifest
        recipe = parse_recipe(manifest.provenance.recipe)
        assert set(recipe.tolerance) == {metric.name for metric in manifest.metrics}

    def test_its_figures_are_measured_again(self, folder: Path) -> None:
        manifest = open_bundle(folder).manifest
        recipe = parse_recipe(manifest.provenance.recipe)
        root = os.environ.get("NONESUCH_DATA")
        if recipe.data.loader not in ("sklearn", "moons", "made") and root is None:
            pytest.skip("NONESUCH_DATA names no data folder")
        for line in reevaluate(folder, Path(root or ".")):
            assert line.within, line
            # Measured with the very graphs: what is left is rounding, or a p-value that lies on the edge.
            assert line.measured == pytest.approx(line.manifest, abs=1e-3), line


def test_digits_are_learnt_as_well_as_the_card_says() -> None:
    values = {}
    for version in VERSIONS["digits"]:
        manifest = open_bundle(BUNDLES / "digits" / str(version)).manifest
        metric = next(metric for metric in manifest.metrics if metric.name == "test_log_prob")
        assert (metric.n, metric.kind) == (10_000, "exact")
        values[manifest.family] = metric.value
    assert values["made"] > -90.0
    assert values["gated-pixelcnn"] > -82.0


def test_the_flow_beats_the_normal_law_on_the_same_moons() -> None:
    metrics = {}
    folds = []
    for name, folder in NEWEST.items():
        if name.startswith("moons"):
            manifest = open_bundle(folder).manifest
            metrics[manifest.name] = {metric.name: metric for metric in manifest.metrics}["test_log_prob"]
            folds.append(manifest.provenance.folds["test"])
    assert folds[0] == folds[1]
    assert metrics["moons"].value - metrics["moons-gaussian"].value > 0.5


def test_the_flow_comes_close_to_the_law_that_made_the_moons_and_no_closer() -> None:
    recipe, _ = load_recipe(ROOT / "recipes" / "moons.yaml")
    _, folds = prepare_data(recipe, Path())
    assert isinstance(recipe.data, MoonsData)
    angle = np.linspace(0, np.pi, 2000)
    arcs = np.concatenate(
        [np.stack([np.cos(angle), np.sin(angle)], 1), np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], 1)]
    )
    variance = recipe.data.noise**2
    truth = np.concatenate(
        [
            np.log(np.exp(-np.square(part[:, None] - arcs).sum(axis=2) / (2 * variance)).mean(axis=1))
            for part in np.array_split(folds.test.rows, 8)
        ]
    ) - np.log(2 * np.pi * variance)
    folder = NEWEST["moons"]
    flow = answers(load_model(open_bundle(folder)), "log_prob", folds.test.rows)["log_prob"]
    # The mean difference is the Kullback-Leibler divergence: never negative, but for the rows' luck.
    error = np.std(truth - flow) / np.sqrt(len(flow))
    assert -3 * error < np.mean(truth - flow) < 0.05


@pytest.mark.slow
def test_breast_cancer_trained_again_comes_out_the_same(tmp_path: Path) -> None:
    shipped = NEWEST["breast-cancer"]
    again, _ = train_quietly(ROOT / "recipes" / "breast-cancer.yaml", tmp_path)
    recipe, _ = load_recipe(ROOT / "recipes" / "breast-cancer.yaml")
    old, new = open_bundle(shipped).manifest, again.bundle.manifest
    assert new.provenance.data_sha256 == old.provenance.data_sha256
    assert new.provenance.folds == old.provenance.folds
    for one, two in zip(old.metrics, new.metrics, strict=True):
        assert one.name == two.name
        assert tolerated(one.name, two.value, one.value, recipe.tolerance), (one, two)
