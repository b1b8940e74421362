"""Arrow's columns as numbers: the same values whatever they are stored as."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import InputError
from contract.support import Column, Support
from contract.words import MISSING, parse_number
from scoring.columns import column_numbers
from tests.scoring.bundles import CATEGORIES

REAL = Column(name="real", kind="real", base_measure="lebesgue", missing_allowed=True)
COUNT = Column(name="count", kind="count", base_measure="counting")
BINARY = Column(name="binary", kind="binary", base_measure="counting")
CLASS = Column(name="class", kind="categorical", base_measure="counting", categories=CATEGORIES, missing_allowed=True)


def numbers(values: Any, column: Column) -> list[float | str | None]:
    """Numbers, None where one is missing, ``wrong`` where it is not allowed."""
    found, allowed = column_numbers(values, column, column.name)
    return [
        "wrong" if not good else None if np.isnan(number) else number
        for number, good in zip(found.tolist(), allowed.tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 2, None], pa.int8()),
        pa.array([1, 2, None], pa.uint64()),
        pa.array([1.0, 2.0, None], pa.float32()),
        pa.array([1.0, 2.0, float("nan")]),
        pa.array([Decimal("1.00"), Decimal("2.00"), None]),
        pa.array(["1", " 2.0 ", "NA"]),
        pa.array(["1", "+2", ""], pa.large_string()),
        pa.array(["1e0", ".2e1", None], pa.string_view()),
        pa.array(["1", "2", "?"]).dictionary_encode(),
        pa.array([1, 2, None]).dictionary_encode(),
    ],
    ids=lambda values: str(values.type),
)
def test_a_number_is_a_number_however_it_is_stored(values: Any) -> None:
    assert numbers(values, REAL) == [1.0, 2.0, None]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (pa.array([True, False, None]), [1.0, 0.0, "wrong"]),
        (pa.array(["true", "False", "1"]), [1.0, 0.0, 1.0]),
        (pa.array(["yes", "2", ""]), ["wrong", "wrong", "wrong"]),
        (pa.nulls(2), ["wrong", "wrong"]),
    ],
)
def test_truths(values: Any, found: list[Any]) -> None:
    assert numbers(values, BINARY) == found


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (pa.array(["red", " blue", "7", "", "pink"]), [0.0, 1.0, 2.0, None, "wrong"]),
        (pa.array(["blue", None, "red"]).dictionary_encode(), [1.0, None, 0.0]),
        # A number is a label before it is an index, as in the service's records.
        (pa.array([7, 0, 4, None]), [2.0, 0.0, "wrong", None]),
        (pa.array([7.0, 3.0, float("nan")]), [2.0, 3.0, None]),
        (pa.array([True, False]), [3.0, 0.0]),
        (pa.array(["0"]), ["wrong"]),
    ],
)
def test_categories(values: Any, found: list[Any]) -> None:
    assert numbers(values, CLASS) == found


def test_categories_are_read_as_records_are() -> None:
    support = Support(shape=(1,), columns=(CLASS,))
    for value in ("red", "7", 7, 7.0, 0, 3, None):
        record = support.records_to_array([{"class": value}])[0, 0]
        found, allowed = column_numbers(pa.array([value]), CLASS, "class")
        assert allowed[0]
        np.testing.assert_array_equal(found[0], record)


@pytest.mark.parametrize("values", [pa.array([datetime.date(2026, 1, 1)]), pa.array([[1.0]]), pa.array([b"1"])])
def test_what_stands_for_no_numbers_is_refused_whole(values: Any) -> None:
    with pytest.raises(InputError, match=r"column 'count': expected a column of numbers .*, got one of type"):
        column_numbers(values, COUNT, "count")


WORDS = st.sampled_from(
    ["NaN", "na", "", "-inf", "1_000", "0x1f", "1e", "1e400", " 3 ", "\t4", "1.", ".5", "true", "e5"]
)


@given(st.lists(WORDS | st.floats().map(str) | st.integers().map(str) | st.text("0123456789.+-eE ", max_size=6)))
def test_words_are_the_numbers_that_they_are_in_training(words: list[str]) -> None:
    found, allowed = column_numbers(pa.array(words, pa.string()), REAL, "real")
    for word, number, good in zip(words, found.tolist(), allowed.tolist(), strict=True):
        small = word.strip().lower()
        if small in MISSING:
            assert good
            assert np.isnan(number)
        elif small in ("true", "false"):
            assert number == float(small == "true")
        else:
            wanted = parse_number(word.strip())
            assert good == np.isfinite(wanted)
            assert not good or number == wanted


def test_a_word_of_one_s_own_may_be_missing() -> None:
    values = pa.array(["1", "-999", "NA"])
    assert numbers(values, COUNT) == [1.0, "wrong", "wrong"]
    found, allowed = column_numbers(values, REAL, "real", MISSING | {"-999"})
    assert allowed.all()
    assert np.isnan(found).tolist() == [False, True, True]


@pytest.mark.parametrize("word", ["inf", "-Infinity", "nan(1)", "1e400"])
def test_what_arrow_alone_takes_for_a_number_is_none(word: str) -> None:
    assert numbers(pa.array(["1", word]), REAL) == [1.0, "wrong"]
