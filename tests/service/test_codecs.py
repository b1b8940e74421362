"""JSON in and out: what is accepted, what is refused, and that numbers survive."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import BaseModel, ConfigDict

from service.api import codecs
from service.api.problems import ProblemError

NAMES = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    n: int = 1


def test_a_body_becomes_a_model() -> None:
    assert codecs.validate(codecs.load(b' {"n": 3} '), Body).n == 3


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "empty"),
        (b" \n ", "empty"),
        (b'{"n": 3', "line 1, column 8"),
        (b'{"n":\n NaN}', "line 2, column 2"),
        (b'{"n": 3} x', "line 1, column 10"),
        (b'{"n": "\xff"}', "line 1"),
        (b"[" * 5000 + b"]" * 5000, "depth"),
    ],
)
def test_what_is_not_json_is_400_and_says_where(body: bytes, where: str) -> None:
    with pytest.raises(ProblemError, match=where) as refused:
        codecs.validate(codecs.load(body), Body)
    assert refused.value.status == 400


@pytest.mark.parametrize("body", [b"[1]", b"3", b'"n"', b"null"])
def test_json_that_is_no_object_is_422(body: bytes) -> None:
    with pytest.raises(ProblemError, match="expected an object") as refused:
        codecs.validate(codecs.load(body), Body)
    assert refused.value.status == 422


# -- out ---------------------------------------------------------------------------------------------------------


def _back(value: Any) -> Any:
    return (
        NAMES.get(value, value)
        if isinstance(value, str)
        else [_back(v) for v in value]
        if isinstance(value, list)
        else value
    )


@given(
    arrays.arrays(
        np.float64, arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6), elements=st.floats(width=64)
    )
)
def test_doubles_survive_bit_for_bit(array: Any) -> None:
    back = np.array(_back(json.loads(codecs.dump(array))), dtype=np.float64).reshape(array.shape)
    finite = np.isfinite(array)
    assert np.array_equal(np.isnan(back), np.isnan(array))
    assert np.array_equal(back[~np.isnan(array)], array[~np.isnan(array)])
    assert np.array_equal(back[finite].view(np.int64), array[finite].view(np.int64))  # the sign of zero too


@given(
    st.sampled_from([np.uint8, np.int64, np.float32, np.bool_]).flatmap(
        lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=1, max_dims=3, max_side=5))
    )
)
def test_arrays_of_other_types_survive(array: Any) -> None:
    back = np.array(_back(json.loads(codecs.dump(array)))).astype(array.dtype)
    assert np.array_equal(back, array, equal_nan=array.dtype.kind == "f")


def test_arrays_that_are_not_contiguous_are_written_in_their_own_order() -> None:
    array = np.arange(12.0).reshape(3, 4).T[::2]
    assert json.loads(codecs.dump(array)) == array.tolist()


def test_numbers_that_json_lacks_are_named_wherever_they_are() -> None:
    body = {"a": float("nan"), "b": {"c": np.array([1.0, np.inf])}, "d": -np.inf, "e": None, "f": (0.5, 1.0)}
    assert json.loads(codecs.dump(body)) == {
        "a": "NaN",
        "b": {"c": [1.0, "Infinity"]},
        "d": "-Infinity",
        "e": None,
        "f": [0.5, 1.0],
    }


def test_a_large_answer_has_the_same_bytes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 3))
    rows[17, 1], rows[999, 2] = np.nan, -np.inf
    body = {"model": "m", "rows": rows, "bits": np.arange(5000, dtype=np.uint8).reshape(-1, 4), "n": 1000, "none": None}
    whole = codecs.dump(body)
    for size in (1, 100, 5000, 10**9):
        monkeypatch.setattr(codecs, "PIECE_BYTES", size)
        assert asyncio.run(codecs.dump_large(body)) == whole
    assert orjson.loads(whole)["rows"][17][1] == "NaN"


def test_the_event_loop_is_served_while_a_large_answer_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "PIECE_BYTES", 800)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def run() -> None:
        ticking = asyncio.create_task(tick())
        await codecs.dump_large({"rows": np.zeros((1000, 1))})
        ticking.cancel()

    asyncio.run(run())
    assert ticks >= 10
