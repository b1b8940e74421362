"""Bundles whose score is made of several statistics: trained by small recipes, and asked through their graphs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from contract.capabilities import Capability
from contract.manifest import Manifest
from runtime.loop import run_program
from runtime.model import LoadedModel, load_model
from tests.training.runs import train_quietly
from training.errors import RecipeError
from training.folds import Folds
from training.recipe import build_model, family_of, load_recipe, parse_recipe
from training.statistics.law import JointLaw, TailLaw
from training.train import prepare_data

DIGITS = {"loader": "sklearn", "set": "digits", "crop": [2, 2, 4, 4]}
MOONS = {"loader": "moons", "n": 300, "noise": 0.1, "seed": 0}
RECIPES: dict[str, dict[str, Any]] = {
    "pictures": {
        "family": "independent",
        "data": DIGITS,
        "anomaly": {
            "rows": "digits",
            "statistics": [
                "log_prob",
                {"name": "background_ratio", "share": 0.2},
                "complexity",
                {"name": "neighbours", "k": 3, "rows": 300},
            ],
        },
    },
    "moons": {
        "family": "gaussian",
        "data": MOONS,
        "anomaly": {
            "rows": "moons",
            "statistics": ["typicality", {"name": "neighbours", "k": 1}, {"name": "log_prob", "direction": "low"}],
            "reference": "cross-fit",
        },
    },
    "autoencoder": {
        "family": "vae",
        "data": DIGITS,
        "binarise": {"seed": 0},
        "model": {"latent": 2, "widths": [8], "blocks": 0, "neck": 8},
        "training": {"max_epochs": 2, "batch_size": 64, "learning_rate": 0.003},
        "folds": {"repeats": "apart"},
        "anomaly": {"rows": "digits", "statistics": ["reconstruction", "log_prob"]},
    },
}
NEEDLESS: dict[str, tuple[Capability, ...]] = {
    "pictures": ("sample", "marginal", "inpaint"),
    "moons": ("marginal", "inpaint"),
    "autoencoder": ("sample", "latent", "encode", "decode"),
}


def recipe_text(name: str, **changes: Any) -> str:
    about = {"name": f"scored-{name}", "title": "t", "description": "d", "licence": "CC0-1.0"}
    return yaml.safe_dump({**about, **RECIPES[name], **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def make(name: str) -> tuple[LoadedModel, Folds]:
        folder: Path = tmp_path_factory.mktemp(name)
        (folder / "recipe.yaml").write_text(recipe_text(name))
        recipe, _ = load_recipe(folder / "recipe.yaml")
        with pytest.MonkeyPatch.context() as patch:
            # What a score needs no graph of is not exported: that would take longer than all else.
            patch.setattr(family_of(recipe), "lacks", property(lambda model: dict.fromkeys(NEEDLESS[name], "a test")))
            trained, _ = train_quietly(folder / "recipe.yaml", folder)
        return load_model(trained.bundle), prepare_data(recipe, folder)[1]

    return make


def statistics_of(manifest: Manifest) -> dict[str, tuple[str, str | None]]:
    program = manifest.capabilities["score"]
    return {part.name: (part.units, part.direction) for part in program.outputs if part.kind == "statistic"}


def asked(model: LoadedModel, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return run_program(model, "score", {"x": rows})


@pytest.mark.parametrize(
    ("name", "listed", "keeps"),
    [
        (
            "pictures",
            {
                "log_prob": ("nats", "both"),
                "background_ratio": ("nats", "low"),
                "complexity": ("bits", "both"),
                "neighbours": ("none", "high"),
            },
            True,
        ),
        (
            "moons",
            {"typicality": ("nats", "high"), "neighbours": ("none", "high"), "log_prob": ("nats", "low")},
            True,
        ),
        ("autoencoder", {"reconstruction": ("data", "high"), "log_prob": ("nats", "both")}, False),
    ],
)
def test_the_manifest_lists_statistics_with_units_and_direction(
    made: Any, name: str, listed: dict[str, tuple[str, str]], keeps: bool
) -> None:
    model, _ = made(name)
    assert statistics_of(model.manifest) == listed
    assert model.manifest.calibration is not None
    assert model.manifest.calibration.statistics == tuple(listed)
    assert model.manifest.provenance.contains_training_rows is keeps
    assert Manifest.model_validate_json(model.manifest.model_dump_json()) == model.manifest


@pytest.mark.parametrize("name", RECIPES)
def test_a_row_s_score_has_the_same_bits_whatever_its_batch(made: Any, name: str) -> None:
    model, folds = made(name)
    rows = folds.test.rows[:50]
    whole = asked(model, rows)
    for part in (slice(0, 1), slice(3, 10), slice(1, 50)):
        some = asked(model, rows[part])
        assert all(some[key].tobytes() == value[part].tobytes() for key, value in whole.items())
    # ... and log_prob is the one that /log_prob gives.
    if "log_prob" in whole:
        alone = run_program(model, "log_prob", {"x": rows})["log_prob"]
        assert alone.tobytes() == whole["log_prob"].tobytes()


@pytest.mark.parametrize("name", RECIPES)
def test_the_calibration_scores_are_those_of_the_calibration_fold(made: Any, name: str) -> None:
    model, folds = made(name)
    assert np.sort(asked(model, folds.calibration.rows)["score"]) == pytest.approx(model.calibration_scores, rel=1e-9)


def test_a_statistic_in_the_graph_is_the_one_of_the_rows_that_it_was_fitted_to(made: Any) -> None:
    model, folds = made("pictures")
    found = asked(model, folds.test.rows[:40])
    fitted = folds.fitted.rows.reshape(len(folds.fitted), -1).astype(float)
    spread = np.sqrt(np.square(fitted - fitted.mean(axis=0)).mean())
    everyone = np.sort(
        np.linalg.norm((folds.test.rows[:40].reshape(40, 1, -1) - fitted[None]) / spread, axis=2), axis=1
    )
    # Of 300 rows by lot: no nearer than the nearest of all, and at least as near as about the tenth of all.
    assert (found["neighbours"] >= everyone[:, 2] - 1e-9).all()
    assert np.median(found["neighbours"]) < np.median(everyone[:, 30])
    assert (found["background_ratio"] > found["log_prob"]).all()  # log p of a background is below 0 where rows are


def test_cross_fitted_rows_never_meet_themselves(made: Any) -> None:
    """The reference values are of rows as new as those of the test fold: a distance to itself would be 0."""
    model, folds = made("moons")
    assert folds.reference is None
    fresh = asked(model, folds.test.rows)["score"]
    calibration = np.asarray(model.calibration_scores)
    assert abs(np.median(fresh) - np.median(calibration)) < 1.0
    # A term of minus log survival is 1 on average over fresh rows, if its reference values are like theirs.
    assert 0.7 < fresh.mean() / 3 < 1.4


def test_reference_folds_are_set_aside_unless_the_recipe_cross_fits() -> None:
    anomaly = {"rows": "moons", "statistics": ["mixture"]}
    data = {**MOONS, "n": 600}
    for reference, size in (("fold", 150), ("cross-fit", None)):
        recipe = parse_recipe(recipe_text("moons", data=data, anomaly={**anomaly, "reference": reference}))
        fold = prepare_data(recipe, Path())[1].reference
        assert (None if fold is None else len(fold)) == size


def test_what_is_strange_by_one_statistic_alone_is_strange() -> None:
    reference = torch.from_numpy(np.random.default_rng(0).normal(size=400))
    law = JointLaw({"a": reference, "b": reference}, {"a": "high", "b": "low"})
    zero, far = torch.zeros(1).double(), torch.full((1,), 30.0).double()
    assert float(law([far, zero])) > float(law([zero, zero])) + 5
    assert float(law([zero, -far])) > float(law([zero, zero])) + 5
    assert float(law([-far, far])) < float(law([zero, zero]))
    assert float(TailLaw(reference, "high")(zero)) == pytest.approx(np.log(2), abs=0.15)


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "statistic", "words"),
    [
        ("moons", "reconstruction", "gaussian has no reconstruction: its code is a bijection"),
        ("moons", "complexity", "there is no complexity here: only a picture has neighbouring pixels"),
        ("pictures", "typicality", "independent has no typicality: coordinates that are independent share nothing"),
        ("pictures", {"name": "neighbours", "space": "code"}, "independent has no neighbours: coordinates"),
        ("autoencoder", "background_ratio", "vae has no background_ratio: its log-probability is a lower bound"),
        ("autoencoder", "typicality", "vae has no typicality: the code of a row is the mean of a law of codes"),
    ],
)
def test_a_statistic_that_a_family_cannot_have_is_refused_in_the_field_s_terms(
    name: str, statistic: Any, words: str
) -> None:
    recipe = parse_recipe(recipe_text(name, anomaly={"rows": "rows", "statistics": [statistic]}))
    data, _ = prepare_data(recipe, Path())
    with pytest.raises(RecipeError, match=words):
        build_model(recipe, data.support)


def test_a_ratio_of_bounds_is_refused_where_columns_are_dequantised() -> None:
    anomaly = {"rows": "moons", "statistics": ["background_ratio"]}
    recipe = parse_recipe(recipe_text("moons", anomaly=anomaly, model={"dequantise": True}))
    support, _ = prepare_data(recipe, Path())
    rounded = support.support.model_copy(
        update={"columns": tuple(c.model_copy(update={"resolution": 0.1}) for c in support.support.columns or ())}
    )
    with pytest.raises(RecipeError, match="there is no background_ratio here: its log-probability is a lower bound"):
        build_model(recipe, rounded)


@pytest.mark.parametrize(
    ("anomaly", "words"),
    [
        ({"statistics": ["neighbors"]}, r"anomaly\.statistics\.0: .*'neighbors'"),
        ({"statistics": ["mixture", "mixture"]}, "mixture is listed twice"),
        ({"statistics": []}, r"anomaly\.statistics: "),
        ({"statistics": ["mixture"], "direction": "low"}, "say it of each statistic"),
        ({"statistics": [{"name": "neighbours", "k": 0}]}, r"statistics\.0\.neighbours\.k: "),
        ({"statistics": [{"name": "complexity", "k": 3}]}, r"complexity\.k: no such field"),
        ({"statistics": [{"name": "mixture", "direction": "up"}]}, "direction"),
    ],
)
def test_what_is_not_understood_of_an_anomaly_section_is_named(anomaly: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        parse_recipe(recipe_text("moons", anomaly={"rows": "moons", **anomaly}))
