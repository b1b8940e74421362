"""Recipes: what is wrong with one is said in one line that names the file and the field."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from contract.support import Column, Support
from models.base import registry
from training.errors import RecipeError
from training.recipe import build_model, family_of, load_recipe, parse_recipe

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))

GOOD = """
name: some-moons
title: This point does not exist
description: a test
licence: CC0-1.0
family: realnvp
data: {loader: moons, n: 600, noise: 0.1, seed: 0}
model: {layers: 2, hidden: [8]}
training: {max_epochs: 2, batch_size: 32, learning_rate: 1.0e-3}
"""

TABLE = Support(
    shape=(2,), columns=tuple(Column(name=name, kind="real", base_measure="lebesgue") for name in ("x", "y"))
)


UNLABELLED = {"loader": "idx", "train": "a.idx", "description": "pictures"}


def changed(**fields: object) -> str:
    given = {**yaml.safe_load(GOOD), **fields}
    return yaml.safe_dump({name: value for name, value in given.items() if value is not None})


def test_a_good_recipe() -> None:
    recipe = parse_recipe(GOOD)
    assert (recipe.name, recipe.seed, recipe.folds.test, recipe.anomaly) == ("some-moons", 0, 0.2, None)
    assert build_model(recipe, TABLE).support == TABLE


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_here_names_a_family_that_takes_its_sections(path: Path) -> None:
    recipe, text = load_recipe(path)
    assert issubclass(family_of(recipe), registry()[recipe.family])
    assert parse_recipe(text) == recipe
    assert recipe.tolerance, "without tolerances nothing can be compared"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"colour": "red"}, "colour: no such field"),
        ({"name": "Some Moons"}, "name: String should match pattern"),
        ({"name": None}, "name: Field required"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"data": {"loader": "web", "url": "x"}}, "data: Input tag 'web' found using 'loader' does not match"),
        ({"data": {"loader": "moons", "n": 600, "noise": -1, "seed": 0}}, "data.moons.noise: Input should be greater"),
        ({"data": {"loader": "sklearn", "set": "iris"}}, "data.sklearn.set: Input should be 'breast_cancer' or"),
        (
            {"data": {"loader": "sklearn", "set": "digits", "crop": [0, 0, 9, 1]}},
            "data.sklearn: the crop .* must lie within 8 × 8 pixels",
        ),
        (
            {"data": {"loader": "sklearn", "set": "breast_cancer", "crop": [0, 0, 1, 1]}},
            "data.sklearn: only the pictures of 'digits' have a crop, levels, and lines to make a signal of",
        ),
        ({"binarise": {"seed": 0}}, "binarise: only pictures have intensities"),
        ({"data": UNLABELLED, "ordinary": "7"}, "ordinary: the section data names no labels"),
        ({"data": UNLABELLED, "condition": "label"}, "condition: the section data names no labels"),
        ({"ordinary": "upper", "condition": "label"}, "condition: where one label is ordinary, there is none to be"),
        ({"data": {**UNLABELLED, "test_labels": "c.idx"}}, "data.idx: test_labels and label_names come with train_l"),
        ({"data": {**UNLABELLED, "train_labels": "b.idx", "test": "c.idx"}}, "data.idx: test and test_labels come tog"),
        (
            {"data": {**UNLABELLED, "train_labels": "b.idx", "label_names": ["a", "a"]}},
            "data.idx: label_names: 'a' is there twice",
        ),
        ({"model": {"layers": 2, "log_scale_bound": "1e-3"}}, "model: log_scale_bound: YAML reads 1e-3 as text"),
        ({"training": {"max_epochs": 2}}, "training.batch_size: Field required"),
        (
            {"training": {"max_epochs": 2, "batch_size": 8, "learning_rate": 0}},
            "training.learning_rate: Input should be greater than 0",
        ),
        ({"folds": {"test": 1.0}}, "folds.test: Input should be less than 1"),
        ({"anomaly": {"direction": "low"}}, "anomaly.rows: Field required"),
        ({"tolerance": {"test_log_prob": float("inf")}}, "tolerance: test_log_prob: a tolerance must be finite"),
        ({"tolerance": {"test_log_prob": -1}}, "tolerance.test_log_prob: Input should be greater than 0"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=rf"^a.yaml: {message}") as error:
        parse_recipe(changed(**fields), "a.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a recipe is a mapping of fields, not NoneType"),
        ("- 1\n- 2", "a recipe is a mapping of fields, not list"),
        ("name: [", "line 1, column 8: .*expected"),
        ("name: a\nname: b", "line 2, column 1: the key 'name' is given twice"),
        ("data: {n: 1, n: 2}", "line 1, column 14: the key 'n' is given twice"),
        ("name: !!python/object:os.system {}", "line 1, column 7: could not determine a constructor"),
        ("name: \x00", "not YAML"),
    ],
)
def test_what_is_not_a_recipe_at_all(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=rf"^a.yaml: {message}") as error:
        parse_recipe(text, "a.yaml")
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"absent.yaml: no such recipe"):
        load_recipe(tmp_path / "absent.yaml")
    with pytest.raises(RecipeError, match="a folder, not a recipe"):
        load_recipe(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"title: \xe9")
    with pytest.raises(RecipeError, match=r"latin.yaml: cannot be read"):
        load_recipe(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"family": "pixie"}, "family: unknown family 'pixie'; known: .*gaussian"),
        ({"family": "gaussian", "model": {}}, "training: gaussian has a closed form and takes no training section"),
        ({"training": None}, "training: realnvp is trained by gradients and needs this section"),
        ({"model": {"depth": 3}}, "model: depth: no such field"),
        ({"model": {"preprocess": "squash"}}, "model: preprocess: Input should be 'standardise' or 'whiten'"),
        ({"model": {"hidden": ["wide"]}}, "model: hidden.0: Input should be a valid integer"),
        (
            {"training": {"max_epochs": 2, "batch_size": 32, "learning_rate": 0.1, "mirror": True}},
            "training: mirror: only pictures have a left and a right",
        ),
        ({"condition": "label"}, "condition: realnvp cannot be conditional on a label"),
        ({"family": "vae", "model": {"labels": ["a"]}}, "model: labels come from the data; say"),
        ({"family": "made", "model": {}}, "family: made does not fit these data: 'x' is real"),
    ],
)
def test_what_the_family_refuses(fields: dict[str, object], message: str) -> None:
    recipe = parse_recipe(changed(**fields))
    with pytest.raises(RecipeError, match=f"^some-moons: {message}"):
        build_model(recipe, TABLE)
