"""The fast path: the same answers as the framework's way, for every request, and it is really taken for plain ones."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.api.negotiation import NPY, NPZ
from tests.bundles import write
from tests.service.server_process import metric, serving
from tests.service.test_arrays_over_http import bounded, saved
from tests.service.whole import write_all

PATHS = ("/log_prob", "/anomaly-score", "/encode", "/sample")


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Two servers of the same bundles: one with the fast path, one without."""
    root = tmp_path_factory.mktemp("bundles")
    write_all(root)
    write(root, bounded())
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
        if "json" not in answer.headers["content-type"]:
            texts.append(answer.content)
            continue
        found = answer.json()
        found.pop("request_id", None)  # of a problem
        texts.append(json.dumps(found).encode())
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
    ("/anomaly-score", {"model": "normal", "rows": [[0.5, -1.0], [50.0, 1.0]], "fdr": 0.2}),
    ("/anomaly-score", {"model": "normal", "rows": [[0.5, -1.0], [50.0, 1.0]], "fdr": 1e-5, "alpha": 0.2}),
    ("/anomaly-score", {"model": "normal", "rows": [[0.5, -1.0]], "guarantee": "marginal"}),
    ("/anomaly-score", {"model": "normal", "rows": [[0.5, -1.0]], "guarantee": "training_conditional", "alpha": 0.1}),
    ("/anomaly-score", {"model": "normal", "rows": [[50.0, 1.0]], "guarantee": "training_conditional", "fdr": 0.1}),
    ("/log_prob", {"model": "normal", "rows": np.random.default_rng(0).normal(size=(2000, 2)).tolist()}),
    ("/anomaly-score", {"model": "normal", "rows": np.random.default_rng(1).normal(size=(1000, 2)).tolist()}),
    (
        "/anomaly-score",
        {
            "model": "normal",
            "guarantee": "training_conditional",
            "fdr": 0.3,
            "rows": (3.0 * np.random.default_rng(1).normal(size=(1000, 2))).tolist(),
        },
    ),
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
    ("/anomaly-score", b'{"model":"normal","alpha":1.0,"rows":[[0.5,1.0]]}', {}, 422),
    ("/anomaly-score", b'{"model":"normal","alpha":0.0,"rows":[[0.5,1.0]]}', {}, 422),
    ("/anomaly-score", b'{"model":"normal","alpha":-0.1,"rows":[[0.5,1.0]]}', {}, 422),
    ("/anomaly-score", b'{"model":"normal","fdr":1.0,"rows":[[0.5,1.0]]}', {}, 422),
    ("/anomaly-score", b'{"model":"normal","fdr":0.0,"rows":[[0.5,1.0]]}', {}, 422),
    ("/anomaly-score", b'{"model":"normal","fdr":"0.1","rows":[[0.5,1.0]]}', {}, 422),
    ("/anomaly-score", b'{"model":"normal","fdr":null,"rows":[[0.5,1.0]]}', {}, 200),
    ("/anomaly-score", b'{"model":"normal","guarantee":null,"rows":[[0.5,1.0]]}', {}, 422),
    ("/anomaly-score", b'{"model":"normal","guarantee":"always","rows":[[0.5,1.0]]}', {}, 422),
    ("/anomaly-score", b'{"model":"normal","guarantee":1,"rows":[[0.5,1.0]]}', {}, 422),
    ("/log_prob", b'{"model":"normal","fdr":0.1,"rows":[[0.5,1.0]]}', {}, 422),
    ("/log_prob", b'{"model":"normal","guarantee":"marginal","rows":[[0.5,1.0]]}', {}, 422),
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
GUARANTEES = st.sampled_from(["marginal", "training_conditional", "Marginal", ""])
BODIES = st.fixed_dictionaries(
    {"model": st.sampled_from(["normal", "dots", "nobody"]) | VALUES, "rows": GOOD | ROWS | VALUES},
    optional={
        "version": st.sampled_from([1, 2, 0]) | VALUES,
        "alpha": st.floats(0, 1) | VALUES,
        "guarantee": GUARANTEES | VALUES,
        "fdr": st.floats(0, 1) | VALUES,
        "[": VALUES,
    },
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
        for body in (b'{"rows":[[0.5,1.0]]}', b'{"model":"normal","rows":[[0.5,1.0]]}'):
            before = fast_answers(ways)
            answer = both(ways, f"/log_prob{query}", body)
            assert fast_answers(ways) == before + (answer.status_code == 200)


@pytest.mark.parametrize(
    ("query", "members", "status"),
    [
        ("model=normal&version=1&alpha=0.2", {}, 200),
        ("alpha=0.2&model=normal", {"version": 1}, 200),
        ("alpha=0.2", {"model": "normal", "alpha": 0.2}, 200),
        ("version=1", {"model": "normal", "version": 1}, 200),
        ("alpha=2e-1&model=nor%6dal", {}, 200),
        ("alpha=0.2", {"model": "normal", "alpha": 0.3}, 422),
        ("fdr=0.2&guarantee=training_conditional", {"model": "normal", "alpha": 0.3}, 200),
        ("guarantee=training_conditional", {"model": "normal", "guarantee": "training_conditional", "fdr": 0.1}, 200),
        ("guarantee=training_conditional", {"model": "normal", "guarantee": "marginal"}, 422),
        ("guarantee=sure", {"model": "normal"}, 422),
        ("guarantee=", {"model": "normal"}, 422),
        ("fdr=0.2", {"model": "normal", "fdr": 0.3}, 422),
        ("fdr=1", {"model": "normal"}, 422),
        ("version=2", {"model": "normal", "version": 1}, 422),
        ("version=1", {"model": "normal", "version": True}, 422),
        ("version=", {"model": "normal"}, 422),
        ("alpha=1", {"model": "normal"}, 422),
        ("alpha=1.0", {"model": "normal"}, 422),
        ("alpha=0.0", {"model": "normal"}, 422),
        ("alpha=nan", {"model": "normal"}, 422),
        ("version=1&version=1", {"model": "normal"}, 422),
        ("model=normal&more=1", {}, 422),
        ("model=%ff", {}, 422),
        ("model=" + "n" * 200, {}, 422),
    ],
)
def test_what_query_and_body_name_together(
    ways: tuple[httpx.Client, httpx.Client], query: str, members: dict[str, Any], status: int
) -> None:
    before = fast_answers(ways)
    rows = [[0.5, 1.0], [9.0, 9.0]]
    answer = both(ways, f"/anomaly-score?{query}", json.dumps({**members, "rows": rows}).encode())
    assert answer.status_code == status
    assert fast_answers(ways) == before + (status == 200)


# -- npy -----------------------------------------------------------------------------------------------------------


def both_npy(
    ways: tuple[httpx.Client, httpx.Client], path: str, body: bytes, accept: str = "*/*", **query: Any
) -> httpx.Response:
    """Send rows as an npy file down both ways."""
    return both(ways, f"{path}?{urlencode(query)}", body, {"Content-Type": NPY, "Accept": accept})


X = np.random.default_rng(2).normal(size=(50, 2))


@pytest.mark.parametrize("accept", ["*/*", "application/json", NPY])
@pytest.mark.parametrize(
    ("model", "array"),
    [
        ("normal", X),
        ("normal", X[:1]),
        ("normal", np.asfortranarray(X)),
        ("normal", X.astype(">f8")),
        ("normal", X.astype("float16")),
        ("normal", np.array([[1, 2]], dtype="uint8")),
        ("normal", np.array([[1e300, -1e300]])),
        ("normal", np.repeat(X, 1000, axis=0)),
        ("dots", np.ones((3, 4, 4), dtype="uint8")),
        ("dots", np.ones((3, 16), dtype=bool)),
    ],
)
def test_a_plain_npy_question_takes_it(
    ways: tuple[httpx.Client, httpx.Client], accept: str, model: str, array: Any
) -> None:
    before = fast_answers(ways)
    answer = both_npy(ways, "/log_prob", saved(array), accept, model=model)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == (NPY if accept == NPY else "application/json")
    assert fast_answers(ways) == before + 1
    asked = {"model": model, "rows": (array * 1).tolist()}  # JSON's true and false are for the ordinary way
    by_json = both(ways, "/log_prob", json.dumps(asked).encode(), {"Accept": accept})
    assert by_json.content == answer.content
    assert fast_answers(ways) == before + 2
    if accept == NPY:
        assert np.load(io.BytesIO(answer.content)).shape == (len(array),)
        assert answer.headers["nonesuch-kind"] == "exact"


def test_a_plain_npy_question_about_strange_rows_takes_it(ways: tuple[httpx.Client, httpx.Client]) -> None:
    before = fast_answers(ways)
    queries = ({}, {"version": 1}, {"alpha": 0.2}, {"alpha": 0.001, "version": 1}, {"fdr": 0.3})
    for query in (*queries, {"guarantee": "training_conditional", "alpha": 0.2, "fdr": 0.1}):
        assert both_npy(ways, "/anomaly-score", saved(X), model="normal", **query).status_code == 200
    assert fast_answers(ways) == before + 6


@pytest.mark.parametrize(
    ("path", "body", "accept", "query", "status"),
    [
        ("/anomaly-score", saved(X), NPZ, {"model": "normal"}, 200),
        ("/anomaly-score", saved(X), NPY, {"model": "normal"}, 406),
        ("/log_prob", saved(X), NPZ, {"model": "normal"}, 200),
        ("/log_prob", saved(X), f"{NPY}, */*;q=0.1", {"model": "normal"}, 200),
        ("/log_prob", saved(X), "text/html", {"model": "normal"}, 406),
        ("/log_prob", saved(X), NPY, {"model": "bounded"}, 406),  # each number has an error that must not be left out
        ("/log_prob", saved(X), NPY, {}, 422),
        ("/log_prob", saved(X), NPY, {"model": "nobody"}, 404),
        ("/log_prob", saved(X), NPY, {"model": "normal", "version": 7}, 404),
        ("/log_prob", saved(X), NPY, {"model": "normal", "version": "one"}, 422),
        ("/log_prob", saved(X), NPY, {"model": "normal", "alpha": 0.1}, 422),
        ("/log_prob", saved(X), NPY, {"model": "normal", "parameters.temperature": 1}, 422),
        ("/log_prob", saved(X), NPY, {"model": "normal", "rows": 1}, 422),
        ("/log_prob", saved(X)[:-1], NPY, {"model": "normal"}, 400),
        ("/log_prob", saved(X) + b"1", NPY, {"model": "normal"}, 400),
        ("/log_prob", b"", NPY, {"model": "normal"}, 400),
        ("/log_prob", b'{"model":"normal","rows":[[1,2]]}', NPY, {"model": "normal"}, 400),
        ("/log_prob", saved(X[:, :1]), NPY, {"model": "normal"}, 422),
        ("/log_prob", saved(X[0]), NPY, {"model": "normal"}, 422),
        ("/log_prob", saved(X[:0]), NPY, {"model": "normal"}, 422),
        ("/log_prob", saved(np.array(1.0)), NPY, {"model": "normal"}, 422),
        ("/log_prob", saved(X * 1j), NPY, {"model": "normal"}, 422),
        ("/log_prob", saved(X.astype("g")), NPY, {"model": "normal"}, 422),
        ("/log_prob", saved(np.array([["a", "b"]])), NPY, {"model": "normal"}, 422),
        ("/log_prob", saved(np.array([[None, 1.0]])), NPY, {"model": "normal"}, 422),  # would be unpickled
        ("/log_prob", saved(np.array([[1.0, np.nan]])), NPY, {"model": "normal"}, 422),
        ("/log_prob", saved(np.full((1, 4, 4), 2)), NPY, {"model": "dots"}, 422),
        ("/log_prob", saved(np.tile(X, (6000, 1))), NPY, {"model": "normal"}, 200),  # more than is checked at once
    ],
)
def test_an_npy_question_out_of_the_ordinary_is_answered_alike(
    ways: tuple[httpx.Client, httpx.Client], path: str, body: bytes, accept: str, query: dict[str, Any], status: int
) -> None:
    before = fast_answers(ways)
    assert both_npy(ways, path, body, accept, **query).status_code == status
    assert fast_answers(ways) == before


def test_npy_beyond_the_limit_is_refused(tmp_path: Any) -> None:
    write_all(tmp_path)
    with serving(tmp_path, NONESUCH_MAX_BINARY_BYTES="1024") as server, server.client() as client:
        for rows, status in ((56, 200), (57, 413)):  # 1,024 bytes with the header, and 1,040
            content = saved(np.resize(X, (rows, 2)))
            assert (
                client.post("/log_prob?model=normal", content=content, headers={"Content-Type": NPY}).status_code
                == status
            )
        assert metric(client, "nonesuch_fast_answers") == 1


def test_two_headers_of_a_kind_are_no_plain_question(ways: tuple[httpx.Client, httpx.Client]) -> None:
    before = fast_answers(ways)
    body = b'{"model":"normal","rows":[[0.5,1.0]]}'
    for name, first, second in (
        ("Content-Type", "application/json", "text/plain"),
        ("Content-Type", "text/plain", "application/json"),
        ("Accept", "application/json", "text/plain"),
        ("Accept", "text/plain", "application/json"),
    ):
        headers = [("Content-Type", "application/json")] if name == "Accept" else []
        answers = [
            client.post("/log_prob", content=body, headers=[*headers, (name, first), (name, second)]) for client in ways
        ]
        assert answers[0].status_code == answers[1].status_code
    assert fast_answers(ways) == before


SHAPES = st.sampled_from([(1, 2), (3, 2), (2, 2), (2,), (), (0, 2), (2, 0), (1, 3), (2, 1, 2), (1, 4, 4), (2, 16)])
DTYPES = st.sampled_from(["f8", ">f8", "f4", "f2", "i1", "u8", ">i4", "?", "c8", "U2", "S3", "M8[s]", "O", "g"])


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """npy files of many kinds, whole ones and spoilt ones."""
    dtype = np.dtype(draw(DTYPES))
    elements = st.sampled_from([0, 1]) | st.integers(0, 3) if dtype.kind in "fiuO" else None
    array = draw(arrays.arrays(dtype, draw(SHAPES), elements=elements))
    file = io.BytesIO()
    version = draw(st.sampled_from([(1, 0), (1, 0), (2, 0), (3, 0)]))
    np.lib.format.write_array(file, np.asfortranarray(array) if draw(st.booleans()) else array, version=version)
    content = file.getvalue()
    match draw(st.sampled_from(["whole", "whole", "cut", "longer", "changed"])):
        case "cut":
            return content[: draw(st.integers(0, len(content)))]
        case "longer":
            return content + draw(st.binary(min_size=1, max_size=9))
        case "changed":
            at = draw(st.integers(0, len(content) - 1))
            return content[:at] + draw(st.binary(min_size=1, max_size=4)) + content[at + 1 :]
        case _:
            return content


QUERIES = st.fixed_dictionaries(
    {"model": st.sampled_from(["normal", "normal", "dots", "nobody"])},
    optional={
        "version": st.sampled_from(["1", "1", "2", "0", "1.0", "x", ""]),
        "alpha": st.floats(0, 1).map(str) | st.sampled_from(["0.05", "1", "nan"]),
        "guarantee": GUARANTEES,
        "fdr": st.floats(0, 1).map(str) | st.sampled_from(["0.2", "0", "x"]),
    },
)


@given(st.sampled_from(["/log_prob", "/anomaly-score"]), files(), st.sampled_from(["*/*", NPY]), QUERIES)
def test_every_npy_file_is_answered_alike_and_fast_where_it_is_answered(
    ways: tuple[httpx.Client, httpx.Client], path: str, body: bytes, accept: str, query: dict[str, str]
) -> None:
    before = fast_answers(ways)
    answer = both_npy(ways, path, body, accept, **query)
    assert answer.status_code in (200, 400, 404, 406, 409, 422)
    assert fast_answers(ways) == before + (answer.status_code == 200)
