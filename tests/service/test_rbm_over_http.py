"""An estimate over a real socket, with the error that its rows share; and chains whose length each row chooses."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from models.nets.partition import log_partition
from runtime.model import LoadedModel, load_model
from tests.families import TrainedFamily, trained
from tests.service.server_process import serving
from tests.training.runs import train_quietly, write_recipe
from training.checkpoints import load_weights
from training.loop import WEIGHTS
from training.recipe import build_model, load_recipe
from training.train import prepare_data

DETERMINED = 1e-4  # smallest p-value of a test whose draws are fixed: met once in ten thousand choices of a seed

pytestmark = pytest.mark.slow


class Estimated:
    """A machine of 25 visible and 21 hidden units, just beyond what is summed up, after ``nonesuch train``."""

    def __init__(self, folder: Path):
        recipe = write_recipe(
            folder,
            "contract/rbm.yaml",
            name="estimated",
            data={"loader": "sklearn", "set": "digits", "crop": [1, 1, 5, 5]},
            model={"hidden": 21, "chain": 50, "ais_chains": 100, "ais_steps": 150},
            training={"max_epochs": 12, "batch_size": 32, "learning_rate": 0.01, "ema": 0.9},
        )
        done, self.said = train_quietly(recipe, folder)
        self.root = folder / "bundles"
        self.served: LoadedModel = load_model(done.bundle)
        plan, _ = load_recipe(recipe)
        data, self.folds = prepare_data(plan, folder)
        self.model: Any = build_model(plan, data.support)
        load_weights(self.model, folder / "runs" / "estimated" / WEIGHTS)


@pytest.fixture(scope="module")
def estimated(tmp_path_factory: pytest.TempPathFactory) -> Estimated:
    return Estimated(tmp_path_factory.mktemp("estimated"))


@pytest.fixture(scope="module")
def exact() -> TrainedFamily:
    return trained("rbm")


@pytest.fixture(scope="module")
def client(
    estimated: Estimated, exact: TrainedFamily, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    root: Path = tmp_path_factory.mktemp("bundles")
    for folder in (estimated.root, exact.root):
        shutil.copytree(folder, root, dirs_exist_ok=True)
    with serving(root) as server, server.client() as client:
        yield client


def ask(client: httpx.Client, path: str, model: str, **fields: Any) -> dict[str, Any]:
    answer = client.post(path, json={"model": model, **fields})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


# -- the number and its error ----------------------------------------------------------------------------------------


def test_an_estimate_is_near_the_truth_by_the_error_that_it_states(client: httpx.Client, estimated: Estimated) -> None:
    x = estimated.folds.test.rows
    model = estimated.model
    body = ask(client, "/log_prob", "estimated", rows=x.tolist())
    assert (body["kind"], body["units"], body["error_scope"]) == ("estimate", "nats", "shared")
    assert body["standard_error"] == model.log_z_error.item()
    assert 0 < body["standard_error"] < 0.3
    assert body["bias"].startswith("log p is biased high")
    log_z = log_partition(model.weight, model.visible_bias, model.hidden_bias).item()
    truth = (-model.free_energy(torch.from_numpy(x)) - log_z).numpy()
    off = np.array(body["log_prob"]) - truth
    # One draw moves all rows together; their differences are free of it.
    assert np.ptp(off) < 1e-9
    assert abs(off.mean()) < 4 * body["standard_error"]
    assert off.mean() != 0
    np.testing.assert_allclose(body["bits_per_dimension"], -np.array(body["log_prob"]) / (25 * math.log(2)), rtol=1e-12)
    # Asked again, from the cache or not, it is the same; and alone.
    assert ask(client, "/log_prob", "estimated", rows=x.tolist()) == body
    one = ask(client, "/log_prob", "estimated", rows=x[7:8].tolist())
    assert (one["log_prob"], one["free_energy"]) == (body["log_prob"][7:8], body["free_energy"][7:8])


def test_the_free_energy_is_beside_it(client: httpx.Client, estimated: Estimated, exact: TrainedFamily) -> None:
    for name, part in (("estimated", estimated), (exact.recipe.name, exact)):
        model: Any = part.model
        x = part.folds.test.rows[:30]
        body = ask(client, "/log_prob", name, rows=x.tolist())
        energy = np.array(body["free_energy"])
        np.testing.assert_allclose(energy, model.free_energy(torch.from_numpy(x)).numpy(), rtol=1e-9)
        np.testing.assert_allclose(-energy - model.log_z.item(), body["log_prob"], rtol=1e-12)


def test_an_exact_machine_states_no_error(client: httpx.Client, exact: TrainedFamily) -> None:
    body = ask(client, "/log_prob", exact.recipe.name, rows=exact.folds.test.rows[:3].tolist())
    assert body["kind"] == "exact"
    assert "standard_error" not in body


def test_the_figures_carry_the_shared_error(estimated: Estimated) -> None:
    metrics = {metric.name: metric for metric in estimated.served.manifest.metrics}
    x = torch.from_numpy(estimated.folds.test.rows)
    values = estimated.model.log_prob(x).numpy()
    figure, bits = metrics["test_log_prob"], metrics["test_bits_per_dimension"]
    assert figure.kind == bits.kind == "estimate"
    assert figure.value == pytest.approx(values.mean(), abs=1e-6)
    of_rows = values.std(ddof=1) / len(values) ** 0.5
    shared = estimated.model.log_z_error.item()
    assert figure.standard_error == pytest.approx(math.hypot(of_rows, shared), rel=1e-6)
    assert bits.standard_error == pytest.approx(figure.standard_error / (25 * math.log(2)), rel=1e-12)
    card = (estimated.served.bundle.folder / "card.md").read_text(encoding="utf-8")
    assert f"a standard error of {shared:.2g} that all rows share; log p is biased high" in card
    assert "± is one standard error over rows, with the error that all rows share." in card
    assert "log Z = " in estimated.said


def test_scores_and_their_p_values_need_no_log_z(client: httpx.Client, estimated: Estimated) -> None:
    x = estimated.folds.test.rows[:50]
    body = ask(client, "/anomaly-score", "estimated", rows=x.tolist())
    assert list(body["statistics"]) == ["log_prob"]
    # Shifting every log-probability by one number, as another estimate of log Z would, moves no rank.
    program = estimated.served.program("score")
    assert {part.kind for part in program.outputs} == {"score", "statistic"}
    calibration = estimated.served.calibration_scores
    assert calibration is not None
    rank = [(calibration >= score).sum() for score in body["score"]]
    np.testing.assert_allclose(body["p_value"], (1 + np.array(rank)) / (len(calibration) + 1), rtol=1e-12)


# -- chains of any length --------------------------------------------------------------------------------------------


def test_each_row_s_chain_is_its_own_whatever_the_lengths_beside_it(
    client: httpx.Client, estimated: Estimated, exact: TrainedFamily
) -> None:
    for name in ("estimated", exact.recipe.name):
        lengths = [1, 2, 200, 50, 7, 50, 1, 33]
        together = ask(client, "/sample", name, n=8, seed=5, parameters={"steps": lengths})
        assert together["parameters"]["steps"] == lengths
        for row, steps in enumerate(lengths):
            alone = ask(client, "/sample", name, n=1, seed=5, start=row, parameters={"steps": steps})
            assert alone["rows"] == together["rows"][row : row + 1], (name, row)
        default = ask(client, "/sample", name, n=8, seed=5)
        assert [default["rows"][row] for row in (3, 5)] == [together["rows"][row] for row in (3, 5)]
        assert default["rows"] != ask(client, "/sample", name, n=8, seed=5, parameters={"steps": 51})["rows"]


def test_long_chains_draw_from_the_law_whatever_the_lengths_beside_them(
    client: httpx.Client, exact: TrainedFamily
) -> None:
    model: Any = exact.model
    states = ((np.arange(2**12)[:, None] >> np.arange(12)) & 1).astype(np.uint8)
    mass = model.log_prob(torch.from_numpy(states)).exp().numpy()
    independent = np.where(states, mass @ states, 1 - mass @ states).prod(axis=1)
    n = 8000
    lengths = [60, 100] * (n // 2)
    body = ask(client, "/sample", exact.recipe.name, n=n, seed=11, parameters={"steps": lengths})
    state = np.array(body["rows"]).reshape(n, 12) @ (1 << np.arange(12))
    for steps in (60, 100):
        counts = np.bincount(state[np.array(lengths) == steps], minlength=2**12)
        assert p_value(counts, mass) > DETERMINED
        assert p_value(counts, independent) < 1e-6, "the law that chains start from is another, and the test can tell"


def p_value(counts: NDArray[np.int64], law: NDArray[np.float64]) -> float:
    expected = law * counts.sum()
    rare = expected < 5  # pooled
    observed = np.append(counts[~rare], counts[rare].sum())
    return float(stats.chisquare(observed, np.append(expected[~rare], expected[rare].sum())).pvalue)


@pytest.mark.parametrize("steps", [0, 100_001, 1.5])
def test_a_length_out_of_bounds_is_refused(client: httpx.Client, exact: TrainedFamily, steps: float) -> None:
    answer = client.post("/sample", json={"model": exact.recipe.name, "n": 1, "parameters": {"steps": steps}})
    assert answer.status_code == 422
    assert "from 1 to 100000" in answer.text


# -- codes -----------------------------------------------------------------------------------------------------------


def test_a_code_is_the_chance_of_each_hidden_unit_and_is_not_decoded(
    client: httpx.Client, exact: TrainedFamily
) -> None:
    model: Any = exact.model
    x = exact.folds.test.rows[:5]
    body = ask(client, "/encode", exact.recipe.name, rows=x.tolist())
    assert "probability that each hidden unit is on" in body["kind"]
    np.testing.assert_allclose(body["codes"], model.encode(torch.from_numpy(x)).numpy(), atol=1e-12)
    refused = client.post("/decode", json={"model": exact.recipe.name, "codes": body["codes"]})
    assert refused.status_code == 409
    assert "many rows share one" in refused.text
