"""The fast path: the same answers as the framework's way, for every request, and it is really taken for plain ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.service.server_process import metric, serving
from tests.service.whole import write_all

PATHS = ("/log_prob", "/anomaly-score", "/encode", "/sample")


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Two servers of the same bundles: one with the fast path, one without."""
    root = tmp_path_factory.mktemp("bundles")
    write_all(root)
    with (
        serving(root, NONESUCH_CACHE_BYTES="0") as fast,
        serving(root, NONESUCH_CACHE_BYTES="0", NONESUCH_FAST_PATH="false") as ordinary,
        fast.client() as one,
        ordinary.client() as other,
    ):
        yield one, other
        assert "the fast path failed" not in fast.err


JSON = {"Content-Type": "application/json"}
VARYING = {"x-request-id", "date"}


def both(
    ways: tuple[httpx.Client, httpx.Client], path: str, body: bytes, headers: dict[str, str] | None = None
) -> httpx.Response:
    """Send a request down both ways, and hold the answers against each other."""
    answers = [client.post(path, content=body, headers={**JSON, **(headers or {})}) for client in ways]
    texts = []
    for answer in answers:
        found = answer.json()
        found.pop("request_id", None)  # of a problem
        texts.append(json.dumps(found))
    assert texts[0] == texts[1]
    assert answers[0].status_code == answers[1].status_code
    kept = [{name: value for name, value in answer.headers.items() if name not in VARYING} for answer in answers]
    if answers[0].status_code != 200:
        for headers_ in kept:
            headers_.pop("content-length", None)  # a problem repeats the request's id
    assert kept[0] == kept[1]
    return answers[0]


def fast_answers(ways: tuple[httpx.Client, httpx.Client]) -> float:
    assert metric(ways[1], "nonesuch_fast_answers") == 0
    return metric(ways[0], "nonesuch_fast_answers")


PLAIN = [
    ("/log_prob", {"model": "normal", "rows": [[0.5, -1.0]]}),
    ("/log_prob", {"model": "normal", "rows": [[0.5, -1], [3, 4]], "version": 1}),
    ("/log_prob", {"model": "dots", "rows": [[[0, 1, 0, 1]] * 4] * 3}),
    ("/log_prob", {"model": "dots", "rows": [[0, 1] * 8]}),
    ("/log_prob", {"model": "normal", "rows": [[1e300, -1e300]]}),
    ("/anomaly-score", {"model": "normal", "rows": [[0.5, -1.0], [50.0, 1.0]]}),
    ("/anomaly-score", {"model": "normal", "rows": [[0.5, -1.0]], "alpha": 0.2}),
    ("/anomaly-score", {"model": "normal", "rows": [[0.5, -1.0]], "alpha": 0.001}),
    ("/log_prob", {"model": "normal", "rows": np.random.default_rng(0).normal(size=(2000, 2)).tolist()}),
    ("/anomaly-score", {"model": "normal", "rows": np.random.default_rng(1).normal(size=(1000, 2)).tolist()}),
]


@pytest.mark.parametrize(("path", "body"), PLAIN)
def test_a_plain_question_takes_it(ways: tuple[httpx.Client, httpx.Client], path: str, body: dict[str, Any]) -> None:
    before = fast_answers(ways)
    answer = both(ways, path, json.dumps(body).encode())
    assert answer.status_code == 200
    assert fast_answers(ways) == before + 1
    for client in ways:  # both count what they answered
        assert metric(client, "nonesuch_requests_total", route=path, method="POST", status="200") > 0
        assert metric(client, "nonesuch_rows_total", model=body["model"]) > 0


OTHER = [
    ("/log_prob", b'{"model":"normal","rows":[[0.5,null]]}', {}, 422),
    ("/log_prob", b'{"model":"normal","rows":[[0.5,"NaN"]]}', {}, 422),
    ("/log_prob", b'{"model":"normal","rows":[[0.5,1.0],[1.0]]}', {}, 422),
    ("/log_prob", b'{"model":"normal","rows":[[[0.5],1.0]]}', {}, 422),
    ("/log_prob", b'{"model":"normal","rows":[]}', {}, 422),
    ("/log_prob", b'{"model":"normal","rows":[[]]}', {}, 422),
    ("/log_prob", b'{"model":"normal","rows":{"0":[1,2]}}', {}, 422),
    ("/log_prob", b'{"model":"dots","rows":[[0,1,2,0,0,1,0,1,0,1,0,1,0,1,0,1]]}', {}, 422),
    ("/log_prob", b'{"model":"nobody","rows":[[0.5,1.0]]}', {}, 404),
    ("/log_prob", b'{"model":"normal","version":9,"rows":[[0.5,1.0]]}', {}, 404),
    ("/log_prob", b'{"model":"normal","version":"1","rows":[[0.5,1.0]]}', {}, 422),
    ("/log_prob", b'{"model":"normal","alpha":0.1,"rows":[[0.5,1.0]]}', {}, 422),
    ("/anomaly-score", b'{"model":"normal","alpha":1,"rows":[[0.5,1.0]]}', {}, 422),
    ("/anomaly-score", b'{"model":"normal","alpha":true,"rows":[[0.5,1.0]]}', {}, 422),
    ("/anomaly-score", b'{"model":"dots","rows":[[0,1,0,1,0,1,0,1,0,1,0,1,0,1,0,1]]}', {}, 409),
    ("/log_prob", b'{"model":"sleeper","rows":[[0.5]]}', {}, 409),
    ("/log_prob", b'{"rows":[[0.5,1.0]]}', {}, 422),
    ("/log_prob", b'{"model":null,"rows":[[0.5,1.0]]}', {}, 422),
    ("/log_prob", b'{"model":"normal","rows":[[0.5,1.0]],"more":1}', {}, 422),
    ("/log_prob", b'[{"model":"normal","rows":[[0.5,1.0]]}]', {}, 422),
    ("/log_prob", b'{"model":"normal","rows":[[0.5,1.0]]', {}, 400),
    ("/log_prob", b"", {}, 400),
    ("/log_prob", b'{"model":"normal","rows":[[0.5,1.0]]}', {"Content-Type": "text/plain"}, 415),
    ("/log_prob", b'{"model":"normal","rows":[[0.5,1.0]]}', {"Accept": "text/html"}, 406),
    ("/log_prob", b'{"model":"normal","rows":[[0.5,1.0]]}', {"Content-Encoding": "gzip"}, 415),
    ("/log_prob", b'{"model":"normal","rows":[[0.5,1.0]]}', {"X-Timeout-Ms": "no"}, 422),
    ("/log_prob", b'{"model":"normal","rows":[[0.5,true]]}', {}, 200),
    ("/log_prob", b'{"model":"normal","records":[{"width":1,"height":2}]}', {}, 200),
    ("/log_prob", b'{"model":"normal","rows":[[0.5,1.0]],"parameters":{}}', {}, 200),
    ("/log_prob", b'{"model":"normal","rows":[[9,9]],"rows":[[0.5,1.0]]}', {}, 200),
    ("/log_prob", b'{"model":"normal","rows":[[0.5,1.0]]}', {"X-Request-Id": "mine", "X-Timeout-Ms": "9000"}, 200),
    ("/log_prob", b'{"model":"normal","rows":[[9007199254740993,1.0]]}', {}, 200),
    ("/log_prob", b'{"model":"normal","rows":[[123456789012345678901234567890,1.0]]}', {}, 200),
]


@pytest.mark.parametrize(("path", "body", "headers", "status"), OTHER)
def test_whatever_is_out_of_the_ordinary_is_answered_alike(
    ways: tuple[httpx.Client, httpx.Client], path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert both(ways, path, body, headers).status_code == status


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: [*rows[:-1], [1.0]],
        lambda rows: [*rows[:-1], [[1.0], 2.0]],
        lambda rows: [*rows[:-1], [1.0, None]],
        lambda rows: [*rows[:-1], [1.0, True]],
        lambda rows: [*rows[:-1], [1.0, "Infinity"]],
        lambda rows: [*rows[:-2], [1.0], [1.0, 2.0, 3.0]],
        lambda rows: [[row] for row in rows],
        lambda rows: [value for row in rows for value in row],
        lambda rows: [*rows[:-1], [1, 2**63]],
        lambda rows: [*rows[:-1], [1, 2**70]],
    ],
)
def test_a_large_body_with_one_bad_row_is_refused_alike(ways: tuple[httpx.Client, httpx.Client], spoil: Any) -> None:
    rows = spoil(np.random.default_rng(0).normal(size=(1500, 2)).tolist())
    body = json.dumps({"model": "normal", "rows": rows}).encode()
    assert len(body) > 20_000
    both(ways, "/log_prob", body)
    both(ways, "/log_prob", b'{"rows":[[1,2]],' + body[1:])


VALUES = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**70), 2**70)
    | st.booleans()
    | st.none()
    | st.sampled_from(["NaN", "Infinity", "x", "["])
)
ROWS = st.lists(
    st.lists(VALUES | st.lists(VALUES, max_size=2), max_size=3) | VALUES | st.lists(VALUES, min_size=2, max_size=2),
    max_size=4,
)
NUMBERS = st.floats(-5, 5) | st.integers(-5, 5)
GOOD = st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=1, max_size=4)
BODIES = st.fixed_dictionaries(
    {"model": st.sampled_from(["normal", "dots", "nobody"]) | VALUES, "rows": GOOD | ROWS | VALUES},
    optional={"version": st.sampled_from([1, 2, 0]) | VALUES, "alpha": st.floats(0, 1) | VALUES, "[": VALUES},
)


@given(st.sampled_from(PATHS), BODIES)
def test_every_body_is_answered_alike(ways: tuple[httpx.Client, httpx.Client], path: str, body: dict[str, Any]) -> None:
    both(ways, path, json.dumps(body).encode())
    if isinstance(body["rows"], list) and body["rows"]:  # the same question as a large body
        both(
            ways, path, json.dumps({**body, "rows": body["rows"] * (20_000 // len(json.dumps(body["rows"])))}).encode()
        )


def test_what_the_query_names(ways: tuple[httpx.Client, httpx.Client]) -> None:
    before = fast_answers(ways)
    assert both(ways, "/log_prob?model=normal", b'{"rows":[[0.5,1.0]]}').status_code == 200
    assert fast_answers(ways) == before + 1
    for query in ("", "?", "?model=normal", "?model=nobody", "?model=normal&version=1", "?model=nor%6dal", "?x=1"):
        both(ways, f"/log_prob{query}", b'{"rows":[[0.5,1.0]]}')
        both(ways, f"/log_prob{query}", b'{"model":"normal","rows":[[0.5,1.0]]}')
