"""Explanations of anomaly scores, over a real socket, each held against its own definition."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from contract.support import Column, Support
from service.api.anomaly_score import AnomalyScoreAnswer
from service.explanations import MOST_RUNS, USUAL_DRAWS, usual_row
from tests.service.redis_server import RedisServer
from tests.service.server_process import ROOT, serving
from tests.service.test_refusals import refused


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(ROOT / "bundles") as server, server.client() as client:
        yield client


def asked(client: httpx.Client, path: str, **fields: Any) -> dict[str, Any]:
    answer = client.post(path, json=fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def explained(client: httpx.Client, model: str, rows: Any) -> dict[str, Any]:
    answer = client.post("/anomaly-score", json={"model": model, "rows": rows, "explain": True})
    assert answer.status_code == 200, answer.text
    AnomalyScoreAnswer.model_validate_json(answer.content, strict=True)
    found: dict[str, Any] = answer.json()
    return found


def test_nobody_is_told_who_has_not_asked(client: httpx.Client) -> None:
    rows = [[0.5, 0.25]]
    plain = asked(client, "/anomaly-score", model="moons", rows=rows)
    assert not {"explanation", "contributions", "columns"} & set(plain)
    assert asked(client, "/anomaly-score", model="moons", rows=rows, explain=False) == plain
    found = explained(client, "moons", rows)
    assert {name: found[name] for name in plain} == plain


def test_a_column_given_all_others_is_the_law_integrated_along_its_line(client: httpx.Client) -> None:
    row = [0.7, -0.4]
    found = explained(client, "moons-gaussian", [row, [9.0, 9.0]])
    assert found["explanation"]["method"] == "conditional"
    assert found["explanation"]["exact"]
    grid = np.linspace(-12.0, 12.0, 4001)
    for column in range(2):
        line = np.tile(row, (len(grid), 1))
        line[:, column] = grid
        along = np.exp(asked(client, "/log_prob", model="moons-gaussian", rows=line.tolist())["log_prob"])
        at = asked(client, "/log_prob", model="moons-gaussian", rows=[row])["log_prob"][0]
        wanted = at - np.log(along.sum() * (grid[1] - grid[0]))
        assert found["contributions"][0][column] == pytest.approx(wanted, abs=1e-8)
    assert max(found["contributions"][1]) < min(found["contributions"][0])


def test_other_models_are_asked_about_usual_values(client: httpx.Client) -> None:
    rows = [[0.5, 0.25], [1.0, 5.0]]
    found = explained(client, "moons", rows)
    about = found["explanation"]
    assert (about["method"], about["exact"], about["kind"]) == ("replacement", False, "exact")
    assert "approximation" in about["meaning"]
    drawn = np.array(asked(client, "/sample", model="moons", n=USUAL_DRAWS, seed=0)["rows"])
    usual = np.median(drawn, axis=0)
    others = [[usual[0], y] for _, y in rows] + [[x, usual[1]] for x, _ in rows]
    log_prob = np.array(asked(client, "/log_prob", model="moons", rows=rows + others)["log_prob"])
    wanted = log_prob[:2, None] - log_prob[2:].reshape(2, 2).T
    np.testing.assert_array_equal(found["contributions"], wanted)
    assert found["contributions"][1][1] < -10, "it is the second that is far out"


def test_arrays_come_with_what_they_are_in_a_header(client: httpx.Client) -> None:
    rows = np.array([[0.5, 0.25], [1.0, 5.0]])
    file = io.BytesIO()
    np.save(file, rows)
    answer = client.post(
        "/anomaly-score?model=moons&explain=true",
        content=file.getvalue(),
        headers={"Content-Type": "application/x-npy", "Accept": "application/x-npz"},
    )
    assert answer.status_code == 200, answer.text
    found = explained(client, "moons", rows.tolist())
    with np.load(io.BytesIO(answer.content)) as arrays:
        np.testing.assert_array_equal(arrays["contributions"], found["contributions"])
        np.testing.assert_array_equal(arrays["p_value"], found["p_value"])
    assert json.loads(answer.headers["Nonesuch-Explanation"]) == found["explanation"]
    assert json.loads(answer.headers["Nonesuch-Columns"]) == found["columns"]
    for words in ("explain=1", "explain=perhaps", "explain=true&explain=true"):
        refused = client.post(
            f"/anomaly-score?model=moons&{words}",
            content=file.getvalue(),
            headers={"Content-Type": "application/x-npy"},
        )
        assert refused.status_code == 422
        assert "explain" in refused.text
    both = client.post("/anomaly-score?explain=true", json={"model": "moons", "rows": [[0, 0]], "explain": False})
    assert both.status_code == 422
    assert "give it once" in both.json()["detail"]


def test_a_quota_counts_the_rows_that_an_explanation_takes(redis_server: RedisServer) -> None:
    settings = {"NONESUCH_ANONYMOUS_ROWS_PER_MINUTE": "20", "NONESUCH_CACHE_BYTES": "0"}
    settings |= {"REDIS_URL": redis_server.url, "NONESUCH_REDIS_TIMEOUT_MS": "5000"}  # a minute that does not end here
    question: dict[str, Any] = {"model": "moons-gaussian", "rows": [[0.5, 0.25]]}
    with serving(ROOT / "bundles", **settings) as server, server.client() as client:
        plain = client.post("/anomaly-score", json=question)
        assert plain.headers["ratelimit-remaining"] == "19"
        explained = client.post("/anomaly-score", json=question | {"explain": True})
        assert explained.headers["ratelimit-remaining"] == "16", "the row, and one without each of its two columns"
        many = question | {"rows": [[0.5, 0.25]] * 7, "explain": True}
        refused(client.post("/anomaly-score", json=many), 422, "larger-than-quota")


def test_what_is_not_explained_is_refused_before_it_is_scored(client: httpx.Client) -> None:
    def refused(model: str, rows: Any, **version: int) -> str:
        answer = client.post("/anomaly-score", json={"model": model, **version, "rows": rows, "explain": True})
        assert answer.status_code == 422
        assert answer.json()["column"] == "explain"
        return str(answer.json()["detail"])

    assert "drawn at random" in refused("garments", [[[0] * 28] * 28])
    assert "784 columns, of which at most 256 can be explained" in refused("digits", [[[0] * 28] * 28], version=1)
    many = MOST_RUNS // 2 + 1
    words = refused("moons", [[0.0, 0.0]] * many)
    assert f"at most {MOST_RUNS // 2} rows of 2 columns" in words
    assert f"got {many} rows" in words


def test_it_takes_the_time_that_its_runs_take(client: httpx.Client) -> None:
    row = asked(client, "/sample", model="breast-cancer", n=1, seed=1)["rows"]
    body = {"model": "breast-cancer", "rows": row * 1000, "explain": True}
    answer = client.post("/anomaly-score", json=body, headers={"X-Timeout-Ms": "1"})
    assert answer.status_code in (503, 504)


def test_the_usual_row_is_made_of_values_that_occur() -> None:
    labels = ("a", "b", "c")
    support = Support(
        shape=(4,),
        columns=(
            Column(name="real", kind="real", base_measure="lebesgue"),
            Column(name="class", kind="categorical", base_measure="counting", categories=labels),
            Column(name="hole", kind="real", base_measure="lebesgue", missing_allowed=True),
            Column(name="empty", kind="count", base_measure="counting", missing_allowed=True),
        ),
    )
    nan = float("nan")
    rows = np.array([[4.0, 2.0, nan, nan], [1.0, 0.0, 3.0, nan], [3.0, 2.0, 1.0, nan], [2.0, 0.0, 2.0, nan]])
    np.testing.assert_array_equal(usual_row(support, rows), [2.0, 0.0, 2.0, nan])
    dots = Support(shape=(1, 2), element=Column(name="dot", kind="binary", base_measure="counting"))
    found = usual_row(dots, np.array([[[1, 0]], [[1, 0]], [[0, 1]]], dtype=np.uint8))
    assert (found.tolist(), found.dtype) == ([1, 0], np.uint8)
