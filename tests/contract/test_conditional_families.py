"""What a family promises of labels, once its contract recipe is conditional on them: Bayes' rule, also over HTTP.

Like the other contract tests it is parametrised over the registry: a family that can classify is tested here.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp

from models.base import capabilities, registry
from runtime.loop import run_program
from runtime.model import LoadedModel, load_model
from runtime.verify import verify
from service.api.classify import ClassifyAnswer
from tests.families import RECIPES
from tests.service.server_process import serving
from tests.training.runs import train_quietly, write_recipe
from training.folds import Folds
from training.recipe import load_recipe
from training.train import prepare_data

Array = NDArray[Any]

CLASSIFIERS = [name for name, cls in registry().items() if "classify" in capabilities(cls)]


@dataclass(frozen=True)
class Conditional:
    root: Path
    served: LoadedModel
    folds: Folds

    @property
    def name(self) -> str:
        return self.served.manifest.name


@pytest.fixture(scope="module")
def train_once(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def of(family: str) -> Conditional:
        folder = tmp_path_factory.mktemp(family)
        base, _ = load_recipe(RECIPES / f"{family}.yaml")
        few = {} if base.training is None else {"training": {**base.training.model_dump(), "max_epochs": 3}}
        # Whose law the scores are of is tested elsewhere.
        recipe = write_recipe(folder, f"contract/{family}.yaml", condition="label", anomaly=None, tolerance=None, **few)
        trained, _ = train_quietly(recipe, folder)
        return Conditional(
            folder / "bundles", load_model(trained.bundle), prepare_data(load_recipe(recipe)[0], folder)[1]
        )

    return of


@pytest.fixture(params=CLASSIFIERS)
def family(request: pytest.FixtureRequest, train_once: Any) -> Conditional:
    found: Conditional = train_once(request.param)
    return found


def by_bayes(served: LoadedModel, x: Array) -> Array:
    """log p(label given x) of rows by the served log_prob given each label: [n, *shape] -> [n, labels]."""
    output = served.program("classify").outputs[0]
    labels, n = range(len(output.vocabulary or ())), len(x)
    given = [run_program(served, "log_prob", {"x": x, "label": np.full(n, label)})["log_prob"] for label in labels]
    joint = np.log(output.prior or ()) + np.stack(given, axis=1)
    return np.asarray(joint - logsumexp(joint, axis=1, keepdims=True))


def test_some_family_classifies() -> None:
    assert {"gated-pixelcnn", "naive-bayes"} <= set(CLASSIFIERS)


def test_probabilities_of_labels_are_bayes_rule_on_the_served_log_prob(family: Conditional) -> None:
    x = family.folds.test.rows[:100]
    found = run_program(family.served, "classify", {"x": x})["log_posterior"]
    assert np.allclose(found, by_bayes(family.served, x), rtol=1e-4, atol=1e-4)
    assert np.allclose(np.exp(found).sum(axis=1), 1.0, atol=1e-12)
    # What was learnt says more than the prior does, of labels that the model has not seen with these rows.
    assert family.folds.test.labels is not None
    prior = np.log(family.served.program("classify").outputs[0].prior or ())
    own = family.folds.test.labels[:100]
    gain = found[np.arange(len(x)), own] - prior[own]
    assert gain.mean() > 4 * gain.std() / len(gain) ** 0.5


def test_the_prior_is_the_labels_shares_of_the_training_rows(family: Conditional) -> None:
    output = family.served.program("classify").outputs[0]
    assert family.folds.train.labels is not None
    # Half a row is added to each label, unless every label must have rows of its own anyway.
    more = 0.0 if family.served.manifest.family == "naive-bayes" else 0.5
    counts = np.bincount(family.folds.train.labels, minlength=len(output.vocabulary or ())) + more
    assert output.prior == pytest.approx(tuple(counts / counts.sum()), rel=1e-12)
    assert output.vocabulary == family.served.program("log_prob").inputs[-1].vocabulary


def test_an_answer_depends_on_no_neighbour_and_is_the_same_after_loading_again(family: Conditional) -> None:
    x = family.folds.test.rows[:60]
    whole = run_program(family.served, "classify", {"x": x})["log_posterior"]
    for rows in ([7], [9, 7, 1], list(range(5, 38))):
        assert (
            run_program(family.served, "classify", {"x": x[rows]})["log_posterior"].tobytes() == whole[rows].tobytes()
        )
    assert verify(family.served.bundle.folder)["bit_equal"]


def test_http_says_the_same(family: Conditional) -> None:
    x = family.folds.test.rows[:20]
    wanted = np.exp(run_program(family.served, "classify", {"x": x})["log_posterior"])
    labels = family.served.program("classify").outputs[0].vocabulary or ()
    with serving(family.root) as server, server.client() as client:
        answer = client.post("/classify", json={"model": family.name, "rows": x.tolist()})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        ClassifyAnswer.model_validate(body)
        assert np.array_equal(np.array(body["probabilities"]), wanted)
        assert body["predicted"] == [labels[i] for i in wanted.argmax(axis=1)]
        assert body["labels"] == list(labels)
        assert body["kind"] == "exact"
        raw = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
        assert_same_as_an_array(client, family, x, wanted, raw)


def assert_same_as_an_array(
    client: httpx.Client, family: Conditional, x: Array, wanted: Array, headers: dict[str, str]
) -> None:
    file = io.BytesIO()
    np.save(file, x)
    answer = client.post(f"/classify?model={family.name}", content=file.getvalue(), headers=headers)
    assert answer.status_code == 200, answer.text
    assert np.array_equal(np.load(io.BytesIO(answer.content)), wanted)
    assert answer.headers["nonesuch-kind"] == "exact"
