"""Inspection: what values say of their column, and why some columns are left out."""

from __future__ import annotations

import numpy as np
import pytest

from contract.words import parse_number
from training.data.columns import Finding, RawColumn, inspect_column

RNG = np.random.default_rng(0)


def raw(values: list[str | None], name: str = "c") -> RawColumn:
    words = tuple(dict.fromkeys(word for word in values if word is not None))
    codes = np.array([-1 if word is None else words.index(word) for word in values], dtype=np.int64)
    return RawColumn(name, words, np.array([parse_number(word) for word in words]), codes)


def found(values: list[str | None], name: str = "c") -> Finding:
    return inspect_column(raw(values, name), None, lambda row: f"t.csv: line {row + 2}", np.ones(len(values), np.bool_))


def numbers(values: object) -> list[str | None]:
    return [repr(value) for value in np.asarray(values).tolist()]


@pytest.mark.parametrize(
    ("values", "kind", "remark"),
    [
        (numbers(RNG.integers(0, 2, 50)), "binary", "0 and 1"),
        (["true", "False", None], "binary", "true and false, as 1 and 0"),
        (numbers([3, 4, 5, 6, 7, 8, 5, 6]), "ordinal", "a scale, 3 to 8; if more can come, say count; if codes, cat"),
        (numbers([0, 1, 2, 9]), "count", "whole numbers, 0 to 9"),
        (numbers(RNG.poisson(30.0, 300)), "count", "whole numbers"),
        (numbers([5.0, 7.0, 100.0]), "count", "whole numbers, 5 to 100"),
        (numbers([-5, 7, 100]), "real", "-5 to 100, steps of 1"),
        (numbers(np.round(RNG.normal(20.0, 1.0, 300), 2)), "real", "steps of 0.01"),
        (numbers(RNG.lognormal(0.0, 2.0, 300)), "positive", "heavy tail"),
        (numbers(np.round(RNG.lognormal(0.0, 0.6, 300) + 5, 9)), "positive", ""),  # skewed
        (numbers(RNG.lognormal(0.0, 2.0, 300) - 0.5), "real", "heavy tail"),
        (numbers([0.5, 1.5, 2.5] * 4), "real", "3 different values: if they are codes, say categorical"),
        (["a", "b", "b", None], "categorical", "2 words, 2 of them in fewer than 10 rows"),
        (["3", "b", "b", "c"], "categorical", "3 words"),
    ],
)
def test_what_values_say_of_their_column(values: list[str | None], kind: str, remark: str) -> None:
    finding = found(values)
    assert finding.column is not None
    assert finding.column.kind == kind
    assert remark in finding.remark
    assert finding.column.missing_allowed == (None in values)
    assert finding.missing == values.count(None) / len(values)


@pytest.mark.parametrize(
    ("name", "values", "remark"),
    [
        ("c", ["7", "7", "7.0"], "the same in every row, '7'"),
        ("c", ["7", None, "7"], "the same in every row, '7' or missing"),
        ("c", [None, None], "no row has a value"),
        ("row", numbers(RNG.permutation(40) + 100), "it numbers the rows"),
        ("customer_id", numbers(np.arange(40) * 7919), "it names the rows: 40 different values"),
        ("c", [f"x{i:05}" for i in range(40)], "it names the rows: 40 different values"),
        ("c", [f"the {i} words of a sentence" for i in range(40)], "free text"),
        ("c", [f"word{i % 120}" for i in range(1200)], "120 different words: too many to learn"),
        ("c", ["2020-01-01", "2020-01-02", None], "dates: "),
        ("c", ["2020-01-01 10:00:00", "2020-01-02 11:30:00"], "dates: "),
        ("c", ["31/12/2020", "01/01/2021"], "dates: "),
        ("c", ["1.5", "2.5", "n.d.", "3.5"], "numbers, but 'n.d.' in line 4; mend it, or list it under missing"),
    ],
)
def test_what_cannot_be_modelled_is_left_out_with_the_reason(name: str, values: list[str | None], remark: str) -> None:
    finding = found(values, name)
    assert finding.column is None
    assert finding.remark.startswith("left out: ")
    assert remark in finding.remark


@pytest.mark.parametrize("word", ["1", "-1", "+1.5", ".5", "5.", "1e-3", "1.5E+10"])
def test_numbers_are_decimal(word: str) -> None:
    assert parse_number(word) == float(word)


@pytest.mark.parametrize("word", ["1_000", "inf", "nan", "0x1f", "1,5", "1 000", "", "1e999", "١"])
def test_what_python_takes_for_a_number_and_people_do_not(word: str) -> None:
    assert np.isnan(parse_number(word))
