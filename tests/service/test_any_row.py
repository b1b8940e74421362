"""Any row that a manifest's support allows is answered; any that it does not is refused, by its row and column."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from contract.bundle import GOLDENS, write_arrays
from tests.bundles import _parts, graph_bytes, write
from tests.service.server_process import serving

COLUMNS: list[dict[str, Any]] = [
    {"name": "real", "kind": "real", "base_measure": "lebesgue"},
    {"name": "positive", "kind": "positive", "base_measure": "lebesgue", "missing_allowed": True},
    {"name": "binary", "kind": "binary", "base_measure": "counting"},
    {"name": "ordinal", "kind": "ordinal", "base_measure": "counting", "levels": 3, "missing_allowed": True},
    {"name": "count", "kind": "count", "base_measure": "counting"},
    {"name": "class", "kind": "categorical", "base_measure": "counting", "categories": ["red", "blue"]},
]
PICTURE = {"name": "pixel", "kind": "ordinal", "base_measure": "counting", "levels": 4}
D = len(COLUMNS)


def bundle(name: str, support: dict[str, Any], dtype: str, width: int) -> Any:
    """A bundle whose log_prob is finite for whatever numbers it gets: the sum of tanh, with missing values as 0."""
    double, kind = TensorProto.DOUBLE, {"float64": TensorProto.DOUBLE, "uint8": TensorProto.UINT8}[dtype]
    shape = list(support["shape"])
    nodes = [
        helper.make_node("Cast", ["x"], ["cast"], to=double),
        helper.make_node("Reshape", ["cast", "flat"], ["rows"]),
        helper.make_node("IsNaN", ["rows"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "rows"], ["seen"]),
        helper.make_node("Clip", ["seen", "low", "high"], ["clipped"]),
        helper.make_node("ReduceSum", ["clipped", "axis"], ["log_prob"], keepdims=0),
    ]
    constants = {"flat": np.array([-1, width]), "zero": np.array(0.0), "axis": np.array([1])}
    constants |= {"low": np.array(-1.0), "high": np.array(1.0)}
    x = np.ones((2, *shape), dtype=dtype)
    files = {
        "log_prob.onnx": graph_bytes(
            nodes,
            {"x": (kind, ["n", *shape])},
            {"log_prob": (double, ["n"])},
            [numpy_helper.from_array(value, key) for key, value in constants.items()],
        ),
        GOLDENS: write_arrays({"log_prob.in.x": x, "log_prob.out.log_prob": np.full(2, float(width))}),
    }
    program = {
        "step": "log_prob",
        "inputs": [{"name": "x", "dtype": dtype, "shape": shape, "source": "data"}],
        "outputs": [{"name": "log_prob", "dtype": "float64", "kind": "unnormalised", "units": "nats"}],
    }
    fields, every = _parts(name, 1, {"log_prob": program}, ["log_prob"], files)
    return {**fields, "support": support}, every


@pytest.fixture(scope="module", params=["true", "false"], ids=["fast path", "framework"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    root = tmp_path_factory.mktemp("bundles")
    write(root, bundle("table", {"shape": [D], "columns": COLUMNS}, "float64", D))
    write(root, bundle("picture", {"shape": [2, 3], "element": PICTURE}, "uint8", 6))
    plain = [{"name": f"c{i}", "kind": "real", "base_measure": "lebesgue"} for i in range(3)]
    write(root, bundle("plain", {"shape": [3], "columns": plain}, "float64", 3))
    with serving(root, NONESUCH_FAST_PATH=request.param) as server, server.client() as client:
        yield client
        assert "Traceback" not in server.err


def allowed(column: dict[str, Any], value: Any) -> bool:
    """What a column allows, said once more and independently of contract/support.py."""
    missing = column.get("missing_allowed", False)
    if value is None or value == "NaN":
        return bool(missing)
    if isinstance(value, str):
        return value in column.get("categories", ())
    if isinstance(value, list | dict):
        return False
    try:
        number = float(value)
    except OverflowError:
        return False
    if not math.isfinite(number):
        return False
    whole = number == math.floor(number)
    top = {"binary": 1, "ordinal": column.get("levels", 1) - 1, "categorical": len(column.get("categories", ())) - 1}
    match column["kind"]:
        case "real":
            return True
        case "positive":
            return number > 0
        case "count":
            return whole and number >= 0
        case kind:
            return whole and 0 <= number <= top[kind]


VALUES = (
    st.floats(allow_nan=False)
    | st.sampled_from([0, 1, 2, 3, -1, 0.5, -0.0, 1e308, 5e-324, 2**53 + 1, 2**63, 2**64, 10**40])
    | st.sampled_from(["NaN", "Infinity", "-Infinity", "red", "blue", "green", "1", ""])
    | st.booleans()
    | st.none()
    | st.sampled_from([[], [1], {}, {"a": 1}])
)
FITTING = [
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(5e-324, allow_infinity=False, allow_nan=False) | st.none(),
    st.sampled_from([0, 1, 0.0, 1.0, True]),
    st.sampled_from([0, 1, 2.0, None]),
    st.integers(0, 2**60) | st.floats(0, 1e300).map(math.floor),
    st.sampled_from(["red", "blue", 0, 1]),
]


def posted(client: httpx.Client, body: dict[str, Any]) -> httpx.Response:
    clean = dumps_clean(body)
    return client.post("/log_prob", content=clean, headers={"Content-Type": "application/json"})


def dumps_clean(value: Any) -> bytes:
    def named(part: Any) -> Any:
        if isinstance(part, float) and not math.isfinite(part):
            return "Infinity" if part > 0 else "-Infinity"
        if isinstance(part, list):
            return [named(one) for one in part]
        return {name: named(one) for name, one in part.items()} if isinstance(part, dict) else part

    return json.dumps(named(value)).encode()


def judge(client: httpx.Client, body: dict[str, Any], rows: list[list[Any]], columns: list[dict[str, Any]]) -> None:
    bad = [(r, c) for r, row in enumerate(rows) for c, value in enumerate(row) if not allowed(columns[c], value)]
    answer = posted(client, body)
    found = answer.json()
    if not bad:
        assert answer.status_code == 200, found
        assert len(found["log_prob"]) == len(rows)
    else:
        assert answer.status_code == 422, found
        names = [column["name"] for column in columns]
        assert (found["row"], names.index(found["column"])) in bad, found
        assert found["expected"]
        assert found["detail"]


@settings(max_examples=150)
@given(st.lists(st.tuples(*(fit | VALUES for fit in FITTING)).map(list), min_size=1, max_size=3))
def test_any_row_of_a_table(client: httpx.Client, rows: list[list[Any]]) -> None:
    judge(client, {"model": "table", "rows": rows}, rows, COLUMNS)


@settings(max_examples=150)
@given(st.lists(st.tuples(*FITTING).map(list), min_size=1, max_size=3))
def test_any_row_that_fits_is_answered(client: httpx.Client, rows: list[list[Any]]) -> None:
    judge(client, {"model": "table", "rows": rows}, rows, COLUMNS)
    records = [dict(zip((c["name"] for c in COLUMNS), row, strict=True)) for row in rows]
    names = {0: "red", 1: "blue"}
    numbers = [{**record, "class": names.get(record["class"], record["class"])} for record in records]
    left_out = [{name: value for name, value in record.items() if value is not None} for record in numbers]
    asked: list[dict[str, Any]] = [{"records": numbers}, {"records": left_out}, {"rows": rows}]
    answers = [posted(client, {"model": "table", **body}).json()["log_prob"] for body in asked]
    assert answers[0] == answers[1] == answers[2]


@settings(max_examples=150)
@given(st.lists(st.lists(st.integers(0, 3) | VALUES, min_size=6, max_size=6), min_size=1, max_size=3))
def test_any_picture(client: httpx.Client, rows: list[list[Any]]) -> None:
    columns = [{**PICTURE, "name": f"[{i // 3}][{i % 3}]"} for i in range(6)]
    judge(client, {"model": "picture", "rows": [[row[:3], row[3:]] for row in rows]}, rows, columns)


@settings(max_examples=150)
@given(st.lists(st.lists(st.floats(allow_nan=False) | VALUES, min_size=3, max_size=3), min_size=1, max_size=3))
def test_any_row_of_real_columns(client: httpx.Client, rows: list[list[Any]]) -> None:
    columns = [{"name": f"c{i}", "kind": "real"} for i in range(3)]
    judge(client, {"model": "plain", "rows": rows}, rows, columns)


def test_a_number_that_no_double_holds_is_not_json_here(client: httpx.Client) -> None:
    answer = posted(client, {"model": "plain", "rows": [[0.0, 0.0, 10**400]]})
    assert answer.status_code == 400
    assert "column" in answer.json()["detail"]  # of the text


@settings(max_examples=100)
@given(st.lists(st.lists(st.floats(-3, 3), min_size=0, max_size=5), min_size=1, max_size=4))
def test_rows_of_any_length(client: httpx.Client, rows: list[list[float]]) -> None:
    answer = posted(client, {"model": "plain", "rows": rows})
    wrong = [r for r, row in enumerate(rows) if len(row) != 3]
    assert answer.status_code == (422 if wrong else 200)
    if wrong:
        assert answer.json()["row"] in (wrong[0], None)
        assert "3" in answer.json()["expected"]


@pytest.mark.parametrize(
    ("record", "column", "expected"),
    [
        ({"class": "green"}, "class", "one of 'red', 'blue'"),
        ({"count": "three"}, "count", "a whole number of 0 or more"),
        ({"real": None}, "real", "a finite number"),
        ({"shape": 1}, "shape", "only the columns"),
    ],
)
def test_a_stranger_understands_what_is_wrong_with_a_record(
    client: httpx.Client, record: dict[str, Any], column: str, expected: str
) -> None:
    good = {"real": 1.5, "positive": 2.0, "binary": 1, "ordinal": 2, "count": 3, "class": "red"}
    found = posted(client, {"model": "table", "records": [good, {**good, **record}]}).json()
    assert (found["status"], found["row"], found["column"]) == (422, 1, column)
    assert expected in found["expected"]
    lacking = {name: value for name, value in good.items() if name != column}
    if column in good:
        found = posted(client, {"model": "table", "records": [lacking]}).json()
        assert (found["status"], found["row"], found["column"], found["got"]) == (422, 0, column, "no such column")
