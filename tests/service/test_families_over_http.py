"""Every family over a real socket: what the graphs say is what HTTP says, and what a family lacks is a 409."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from contract.capabilities import Capability
from models.base import registry
from runtime.loop import run_program
from tests.families import TrainedFamily, all_trained, every_state, trained
from tests.service.server_process import serving
from tests.service.test_refusals import refused

FAMILIES = sorted(registry())


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    root: Path = tmp_path_factory.mktemp("bundles")
    for family in all_trained():
        shutil.copytree(family.root, root, dirs_exist_ok=True)
    with serving(root) as server, server.client() as client:
        yield client


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> TrainedFamily:
    return trained(request.param)


def ask(client: httpx.Client, path: str, family: TrainedFamily, **fields: Any) -> httpx.Response:
    return client.post(path, json={"model": family.recipe.name, **fields})


def graphs(family: TrainedFamily, capability: Capability, **inputs: Any) -> dict[str, np.ndarray]:
    return run_program(family.served, capability, inputs)


def test_http_gives_the_graphs_own_bits(client: httpx.Client, family: TrainedFamily) -> None:
    capabilities = family.served.manifest.capabilities
    x = family.folds.test.rows[:20]
    rows = np.where(np.isnan(x), None, x).tolist() if x.dtype.kind == "f" else x.tolist()
    expected: dict[str, tuple[np.ndarray, dict[str, Any], str]] = {}
    if "sample" in capabilities:
        drawn = graphs(family, "sample", seed=np.full(20, 8), row=np.arange(3, 23))["x"]
        expected["/sample"] = drawn, {"n": 20, "seed": 8, "start": 3}, "rows"
    if "log_prob" in capabilities:
        expected["/log_prob"] = graphs(family, "log_prob", x=x)["log_prob"], {"rows": rows}, "log_prob"
    if "encode" in capabilities:
        expected["/encode"] = graphs(family, "encode", x=x)["z"], {"rows": rows}, "codes"
    if "decode" in capabilities:
        z = graphs(family, "latent", seed=np.full(20, 8), row=np.arange(20))["z"]
        expected["/decode"] = graphs(family, "decode", z=z)["x"], {"codes": z.tolist()}, "rows"
    if "score" in capabilities:
        expected["/anomaly-score"] = graphs(family, "score", x=x)["score"], {"rows": rows}, "score"
    assert expected
    for path, (values, fields, name) in expected.items():
        answer = ask(client, path, family, **fields)
        assert answer.status_code == 200, answer.text
        # As numbers: a value that is not finite is written as a word.
        np.testing.assert_array_equal(np.array(answer.json()[name], dtype=np.float64), values, err_msg=path)
        if path == "/log_prob":
            parts = graphs(family, "log_prob", x=x)
            assert answer.json().get("trace") is None, "nobody asked for it"
            asked = ask(client, path, family, **fields, trace=True)
            if "trace" not in parts:
                assert asked.status_code == 422
                assert "this model's log_prob is no sum of terms that are known" in asked.json()["detail"]
            else:
                assert asked.json()[name] == answer.json()[name]
                trace = np.array(asked.json()["trace"])
                np.testing.assert_array_equal(trace, parts["trace"])
                np.testing.assert_allclose(trace.reshape(len(x), -1).sum(axis=1), values, rtol=1e-12)
        if path == "/encode":
            parts = graphs(family, "encode", x=x)
            assert ("scale" in parts) == (answer.json().get("scale") is not None)
            if "scale" in parts:
                np.testing.assert_array_equal(np.array(answer.json()["scale"]), parts["scale"])


def test_a_trace_counts_as_part_of_the_answer() -> None:
    family = trained("wavenet")
    row = family.folds.test.rows[0].tolist()
    most = 4096 // (24 * len(row) + 8)  # a double takes 24 characters at most
    with serving(family.root, NONESUCH_MAX_ANSWER_BYTES="4096") as server, server.client() as client:
        for n, trace, status in ((most, True, 200), (most + 1, True, 422), (most + 1, False, 200)):
            answer = ask(client, "/log_prob", family, rows=[row] * n, trace=trace)
            assert answer.status_code == status, answer.text
            if status == 422:
                assert f"at most {most} at a time" in refused(answer, 422, "answer-too-large")["detail"]


def test_what_is_unlikely_about_a_row_is_said_by_the_best_that_a_family_knows(
    client: httpx.Client, family: TrainedFamily
) -> None:
    manifest, support = family.served.manifest, family.served.manifest.support
    if "score" not in manifest.capabilities:
        return
    x = family.folds.test.rows[:3]
    rows = np.where(np.isnan(x), None, x).tolist() if x.dtype.kind == "f" else x.tolist()
    answer = ask(client, "/anomaly-score", family, rows=rows, explain=True)
    outputs = (
        [] if "log_prob" not in manifest.capabilities else [p.name for p in family.served.program("log_prob").outputs]
    )
    if answer.status_code != 200:
        assert answer.status_code == 422
        random = bool(outputs) and family.served.program("log_prob").input("seed") is not None
        assert not outputs or random or "sample" not in manifest.capabilities, answer.text
        return
    found = answer.json()
    method, contributions = found["explanation"]["method"], np.array(found["contributions"], dtype=np.float64)
    parts = graphs(family, "log_prob", x=x)
    log_prob = parts["log_prob"]
    if "trace" in parts or support.size == 1:
        assert method == "chain_rule"
        np.testing.assert_allclose(contributions.reshape(len(x), -1).sum(axis=1), log_prob, rtol=1e-12)
        if "trace" in parts:
            np.testing.assert_array_equal(contributions, parts["trace"].reshape(contributions.shape))
    else:
        assert contributions.shape == (len(x), *support.shape)
        assert method == ("conditional" if "marginal" in manifest.capabilities else "replacement")
    if family.name in ("independent", "parametric"):
        np.testing.assert_allclose(contributions.reshape(len(x), -1).sum(axis=1), log_prob, rtol=1e-9)
    if (
        method == "conditional" and support.discrete and all(column.kind == "binary" for column, _ in support.alike)
    ):  # the same by Bayes' rule over the two values of each column
        for i in range(support.size):
            other = x.reshape(len(x), -1).copy()
            other[:, i] = 1 - other[:, i]
            flipped = graphs(family, "log_prob", x=other.reshape(x.shape))["log_prob"]
            wanted = log_prob - np.logaddexp(log_prob, flipped)
            np.testing.assert_allclose(contributions.reshape(len(x), -1)[:, i], wanted, atol=1e-9)
    assert found["explanation"]["exact"] == (method != "replacement" and found["explanation"]["kind"] == "exact")


def test_what_a_family_lacks_is_a_409_with_its_reason(client: httpx.Client, family: TrainedFamily) -> None:
    paths: dict[Capability, tuple[str, str]] = {
        "sample": ("/sample", ""),
        "log_prob": ("/log_prob", "rows"),
        "encode": ("/encode", "rows"),
        "decode": ("/decode", "codes"),
        "score": ("/anomaly-score", "rows"),
    }
    refusals = family.served.manifest.refusals
    for capability, (path, field) in paths.items():
        fields = {field: family.folds.test.rows[:1].tolist()} if field else {}
        answer = ask(client, path, family, **fields)
        if capability in refusals:
            assert answer.status_code == 409
            assert refusals[capability] in answer.json()["detail"]
        elif field != "codes":
            assert answer.status_code == 200


def test_an_enumerable_family_sums_to_one_over_http(client: httpx.Client) -> None:
    counted = 0
    for name in FAMILIES:
        family = trained(name)
        support = family.model.support
        if not support.discrete:
            continue
        answer = ask(client, "/log_prob", family, rows=every_state(support).tolist()).json()
        total = np.exp(answer["log_prob"]).sum()
        if answer["kind"] == "lower_bound":  # on every state: no more than one in expectation
            assert 0.5 < total < 1.05
        else:
            assert answer["kind"] == "exact"
            assert abs(total - 1.0) < 1e-3
        bits = -np.array(answer["log_prob"]) / (support.size * np.log(2.0))
        np.testing.assert_allclose(answer["bits_per_dimension"], bits, rtol=1e-12)
        counted += 1
    assert counted
