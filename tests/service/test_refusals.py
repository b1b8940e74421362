"""Bad requests: each gets its status, a message that names row, column and what was expected, and changes nothing."""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from contract.capabilities import UNASKED, Capability
from service.api.problems import KINDS, MEDIA_TYPE, Problem
from tests.service.server_process import ServerProcess, metric

JSON = {"Content-Type": "application/json"}
GOOD = {"model": "normal", "rows": [[0.0, 1.0]]}
TOP = 2**53


def refused(answer: httpx.Response, status: int, slug: str, **members: Any) -> dict[str, Any]:
    """Check a problem document, and give it back."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    problem: dict[str, Any] = answer.json()
    Problem.model_validate_json(answer.content, strict=True)
    assert problem["type"] == f"/problems/{slug}"
    assert problem["title"] == KINDS[slug].title
    assert problem["status"] == status == KINDS[slug].status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert {name: problem.get(name) for name in members} == members
    return problem


@pytest.fixture(autouse=True)
def _nothing_changes(client: httpx.Client) -> Iterator[None]:
    """Whatever a test here does, no row is computed or kept, no byte held, and the good answer stays what it was."""
    good = client.post("/log_prob", json=GOOD).json()
    before = _figures(client)
    yield
    assert _figures(client) == before
    assert client.post("/log_prob", json=GOOD).json() == good


def _figures(client: httpx.Client) -> list[str]:
    names = r"nonesuch_(rows_total|cache_\w+|batch_rows_\w+|rows_in_flight|backlog_seconds|body_bytes_held)\b"
    figures = [line for line in client.get("/metrics").text.splitlines() if re.match(names, line)]
    assert figures
    return figures


# -- 400 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "where"), [(b"", "empty"), (b'{"model": "normal",', "column 20"), (b'{"model": NaN}', "column 11")]
)
def test_400_says_where_the_json_ends(client: httpx.Client, body: bytes, where: str) -> None:
    problem = refused(client.post("/sample", content=body, headers=JSON), 400, "unparsable")
    assert where in problem["detail"]


# -- 404, 405 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/sample", "/log_prob", "/encode", "/decode", "/anomaly-score", "/classify", "/inpaint"]
)
def test_404_names_the_models_that_there_are(client: httpx.Client, path: str) -> None:
    body = {"model": "nonesuch"}
    body |= {"/sample": {}, "/decode": {"codes": [[0, 0]]}}.get(path, {"rows": [[0, 0]]})
    problem = refused(client.post(path, json=body), 404, "unknown-model")
    assert "'nonesuch'" in problem["detail"]
    assert "dots, normal, sleeper" in problem["detail"]


def test_404_names_the_versions_that_there_are(client: httpx.Client) -> None:
    problem = refused(client.post("/sample", json={"model": "dots", "version": 9}), 404, "unknown-model")
    assert "version 9" in problem["detail"]
    assert "1, 2" in problem["detail"]
    refused(client.get("/models/dots/versions/9"), 404, "unknown-model")
    refused(client.get("/models/nonesuch"), 404, "unknown-model")


def test_a_refused_bundle_is_not_there(client: httpx.Client) -> None:
    refused(client.post("/sample", json={"model": "broken"}), 404, "unknown-model")


@pytest.mark.parametrize("path", ["/nothing", "/sample/", "/models/dots/versions/one", "/static/none.css", "/x"])
def test_404_for_addresses_where_nothing_is(client: httpx.Client, path: str) -> None:
    assert path in refused(client.get(path), 404, "not-found")["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/sample", "POST"), ("DELETE", "/models", "GET"), ("PUT", "/decode", "POST")],
)
def test_405_says_what_the_address_takes(client: httpx.Client, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, path)
    assert allowed in refused(answer, 405, "method-not-allowed")["detail"]
    assert allowed in answer.headers["allow"]


# -- 406, 415 ------------------------------------------------------------------------------------------------------


def test_406_when_json_is_not_wanted(client: httpx.Client) -> None:
    answer = client.post("/log_prob", json=GOOD, headers={"Accept": "text/html"})
    expected = "application/json, application/x-npy or application/x-npz"
    refused(answer, 406, "not-acceptable", expected=expected)


@pytest.mark.parametrize(
    "given",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "multipart/form-data; boundary=x",
    ],
)
def test_415_for_bodies_that_are_not_said_to_be_json(client: httpx.Client, given: str | None) -> None:
    headers = {"Content-Type": given} if given else {}
    answer = client.post("/log_prob", content=json.dumps(GOOD), headers=headers)
    refused(answer, 415, "unsupported-media-type", expected="application/json or application/x-npy")


def test_415_for_compressed_bodies(client: httpx.Client) -> None:
    content = gzip.compress(json.dumps(GOOD).encode())
    answer = client.post("/log_prob", content=content, headers={**JSON, "Content-Encoding": "gzip"})
    assert "gzip" in refused(answer, 415, "unsupported-media-type")["detail"]


# -- 409 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/log_prob", {"model": "sleeper", "rows": [[0, 0]]}),
        ("/encode", {"model": "dots", "rows": [[0] * 16]}),
        ("/decode", {"model": "dots", "codes": [[0]]}),
        ("/anomaly-score", {"model": "dots", "rows": [[0] * 16]}),
    ],
)
def test_409_says_why_the_model_has_no_such_number(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    problem = refused(client.post(path, json=body), 409, "capability-not-supported")
    assert "made by hand without it" in problem["detail"]
    assert body["model"] in problem["detail"]


@pytest.mark.parametrize(
    ("path", "body", "capability"),
    [
        ("/classify", {"model": "dots", "rows": [[0] * 16]}, "classify"),
        ("/inpaint", {"model": "dots", "rows": [[None] * 16]}, "inpaint"),
        ("/sample", {"model": "normal", "given": {"width": 1}}, "inpaint"),
    ],
)
def test_409_of_a_question_that_is_newer_than_the_bundle(
    client: httpx.Client, path: str, body: dict[str, Any], capability: Capability
) -> None:
    # The manifests of these bundles say nothing of it.
    problem = refused(client.post(path, json=body), 409, "capability-not-supported")
    assert UNASKED[capability] in problem["detail"]
    assert client.get(f"/models/{body['model']}").json()["refusals"][capability] == UNASKED[capability]


# -- 422: the envelope -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "field", "words"),
    [
        ("/sample", {}, "model", "missing"),
        ("/sample", {"model": ""}, "model", "not empty"),
        ("/sample", {"model": 3}, "model", "a string, got 3"),
        ("/sample", {"model": "normal", "sed": 1}, "sed", "did you mean 'seed'"),
        ("/sample", {"model": "normal", "rows": [[1, 2]]}, "rows", "no member 'rows'"),
        ("/sample", {"model": "normal", "n": 0}, "n", "at least 1, got 0"),
        ("/sample", {"model": "normal", "n": -3}, "n", "at least 1, got -3"),
        ("/sample", {"model": "normal", "n": 2.5}, "n", "a whole number, got 2.5"),
        ("/sample", {"model": "normal", "n": "2"}, "n", "a whole number, got the string '2'"),
        ("/sample", {"model": "normal", "n": True}, "n", "a whole number, got true"),
        ("/sample", {"model": "normal", "seed": -1}, "seed", "at least 0, got -1"),
        ("/sample", {"model": "normal", "seed": TOP}, "seed", f"below {TOP}, got {TOP}"),
        ("/sample", {"model": "normal", "seed": 2**70}, "seed", "a whole number"),
        ("/sample", {"model": "normal", "start": TOP}, "start", f"below {TOP}"),
        ("/sample", {"model": "normal", "version": 0}, "version", "at least 1, got 0"),
        ("/sample", {"model": "normal", "condition": []}, "condition", "an object, got an empty list"),
        ("/log_prob", {"model": "normal", "rows": {}}, "rows", "a list, got an object"),
        ("/log_prob", {"model": "normal", "rows": "[[1,2]]"}, "rows", "a list, got the string"),
        ("/decode", {"model": "normal"}, "codes", "missing"),
        ("/decode", {"model": "normal", "codes": []}, "codes", "at least 1"),
        ("/anomaly-score", {**GOOD, "alpha": 0}, "alpha", "above 0"),
        ("/anomaly-score", {**GOOD, "alpha": 1}, "alpha", "below 1"),
        ("/anomaly-score", {**GOOD, "alpha": "0.1"}, "alpha", "a number, got the string"),
        ("/anomaly-score", {**GOOD, "fdr": 1.5}, "fdr", "below 1"),
        ("/anomaly-score", {**GOOD, "fdr": "0.1"}, "fdr", "a number, got the string"),
        ("/anomaly-score", {**GOOD, "guarantee": "always"}, "guarantee", "'marginal' or 'training_conditional'"),
    ],
)
def test_422_names_the_member_at_fault(
    client: httpx.Client, path: str, body: dict[str, Any], field: str, words: str
) -> None:
    problem = refused(client.post(path, json=body), 422, "invalid-request", field=field)
    assert field in problem["detail"]
    assert words in problem["detail"]


def test_422_for_addresses_beyond_the_last(client: httpx.Client) -> None:
    answer = client.post("/sample", json={"model": "normal", "seed": 1, "start": TOP - 2, "n": 3})
    assert "2**53" in refused(answer, 422, "invalid-request")["detail"]


@pytest.mark.parametrize("path", ["/log_prob", "/encode", "/anomaly-score"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "got neither"),
        ({"rows": None}, "got neither"),
        ({"rows": [[0, 0]], "records": [{"width": 0, "height": 0}]}, "got both"),
        ({"rows": []}, "at least one row"),
        ({"records": []}, "at least one row"),
    ],
)
def test_422_for_neither_or_both_of_rows_and_records(
    client: httpx.Client, path: str, given: dict[str, Any], words: str
) -> None:
    answer = client.post(path, json={"model": "normal", **given})
    assert words in refused(answer, 422, "invalid-request")["detail"]


@pytest.mark.parametrize("given", ["0", "-5", "soon", "1.5", "99999999999999999999", "٣"])
def test_422_for_a_time_limit_that_is_none(client: httpx.Client, given: str) -> None:
    answer = client.post("/log_prob", json=GOOD, headers={"X-Timeout-Ms": given.encode()})  # type: ignore[dict-item]
    refused(answer, 422, "invalid-request", field="X-Timeout-Ms")


# -- 422: the rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/log_prob", "/encode", "/anomaly-score"])
@pytest.mark.parametrize(
    ("rows", "row", "column", "expected", "got"),
    [
        ([[0, 0], [1, "two"]], 1, "height", "a finite number", "the string 'two'"),
        ([[0, 0], [1, None]], 1, "height", "a finite number", "null"),
        ([[0, 0], ["NaN", 1]], 1, "width", "a finite number", "nan"),
        ([["Infinity", 0]], 0, "width", "a finite number", "inf"),
        ([[0, 0], [1]], 1, None, "2 values (shape [2])", "1"),
        ([[0, 0], [1, 2, 3]], 1, None, "2 values (shape [2])", "3"),
        ([[0, 0], 7], 1, None, "a list of shape [2]", "7"),
        ([[0, 0], {"width": 1}], 1, None, "a list of shape [2]", "an object"),
        ([[0, [1]]], 0, "height", "a finite number", "a list"),
    ],
)
def test_422_names_row_column_and_what_was_expected(
    client: httpx.Client, path: str, rows: Any, row: int, column: str | None, expected: str, got: str
) -> None:
    answer = client.post(path, json={"model": "normal", "rows": rows})
    problem = refused(answer, 422, "invalid-input", row=row, column=column, expected=expected, got=got)
    assert f"row {row}" in problem["detail"]
    assert expected in problem["detail"]


@pytest.mark.parametrize(
    ("records", "row", "column", "words"),
    [
        ([{"width": 1, "height": 2}, {"width": 1}], 1, "height", "no such column"),
        ([{"width": 1, "height": 2, "depth": 3}], 0, "depth", "only the columns"),
        ([{"width": 1, "height": "tall"}], 0, "height", "the string 'tall'"),
        ([{"width": 1, "height": 2}, [1, 2]], 1, None, "an object"),
    ],
)
def test_422_for_records(client: httpx.Client, records: Any, row: int, column: str | None, words: str) -> None:
    answer = client.post("/log_prob", json={"model": "normal", "records": records})
    assert words in refused(answer, 422, "invalid-input", row=row, column=column)["detail"]


def test_422_names_a_pixel_by_its_place(client: httpx.Client) -> None:
    rows = [[[0] * 4 for _ in range(4)] for _ in range(3)]
    rows[2][3][1] = 2
    answer = client.post("/log_prob", json={"model": "dots", "rows": rows})
    refused(answer, 422, "invalid-input", row=2, column="[3][1]", expected="0 or 1", got="2")


def test_422_for_records_of_a_model_whose_columns_have_no_names(client: httpx.Client) -> None:
    answer = client.post("/log_prob", json={"model": "dots", "records": [{"a": 1}]})
    refused(answer, 422, "invalid-input")


@pytest.mark.parametrize(
    ("codes", "row"), [([[0, 0], [1]], 1), ([[0, 0], [0, "a"]], 1), ([[0, 0, 0]], 0), ([3], 0), ([[0, None]], 0)]
)
def test_422_for_codes(client: httpx.Client, codes: Any, row: int) -> None:
    answer = client.post("/decode", json={"model": "normal", "codes": codes})
    refused(answer, 422, "invalid-input", row=row, column="codes")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"temprature": 1}, "temperature"),
        ({"temperature": "hot"}, "a finite number"),
        ({"temperature": None}, "a finite number"),
        ({"temperature": 99}, "10"),
        ({"temperature": [1, 1, 1]}, "2"),
    ],
)
def test_422_for_parameters(client: httpx.Client, parameters: dict[str, Any], words: str) -> None:
    answer = client.post("/sample", json={"model": "normal", "n": 2, "seed": 1, "parameters": parameters})
    assert words in refused(answer, 422, "invalid-input", column=next(iter(parameters)))["detail"]


def test_422_for_conditions_of_a_model_that_takes_none(client: httpx.Client) -> None:
    answer = client.post("/sample", json={"model": "normal", "condition": {"label": 3}})
    refused(answer, 422, "invalid-input", column="label")


def test_422_when_the_answer_would_be_too_large(client: httpx.Client) -> None:
    answer = client.post("/sample", json={"model": "normal", "n": 10**8, "seed": 1})
    assert "start" in refused(answer, 422, "answer-too-large")["detail"]
    assert refused(client.post("/sample", json={"model": "normal", "n": TOP - 1, "seed": 1}), 422, "answer-too-large")


# -- 413 -----------------------------------------------------------------------------------------------------------


def test_413_before_a_byte_of_the_body_is_read(server: ServerProcess, client: httpx.Client) -> None:
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=30.0) as connection:
        connection.sendall(
            b"POST /log_prob HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 8388609\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = connection.makefile("rb").read()  # to the end: the server closes the connection
    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert b"8388608" in answer
    assert metric(client, "nonesuch_body_bytes_held") == 0


def test_413_for_a_body_that_is_sent_whole(client: httpx.Client) -> None:
    answer = client.post("/log_prob", content=b" " * (8 * 2**20 + 1), headers=JSON)
    refused(answer, 413, "body-too-large", expected="at most 8388608 bytes")


def test_413_for_a_body_that_does_not_say_how_long_it_is(client: httpx.Client) -> None:
    answer = client.post("/log_prob", content=(b" " * 2**20 for _ in range(9)), headers=JSON)
    refused(answer, 413, "body-too-large")
