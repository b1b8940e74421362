"""What an entry of a stream says of a row."""

from __future__ import annotations

import json

import numpy as np
import pytest

from contract.words import MISSING
from scoring.entries import Entry, answers, rows_of_entries
from scoring.scorer import Scorer

ROW = {"real": "0.5", "positive": "1.5", "binary": "1", "ordinal": "2", "count": "3", "class": "red"}


def entry(id_: str, **fields: str) -> Entry:
    return id_.encode(), {name.encode(): value.encode() for name, value in fields.items()}


def test_a_row_is_a_list_or_fields_by_name(table: Scorer) -> None:
    entries = [
        entry("1-0", row='[0.5, 1.5, true, 2, 3, "red"]'),
        entry("2-0", **ROW),
        entry("3-0", **ROW, remark="handed over by nobody"),
        entry("4-0", row="[0.5, null, 1, null, 3, null]"),
        entry("5-0", real="0.5", binary="true", count="3"),
        entry("6-0", **{**ROW, "positive": "NA", "ordinal": "", "class": "?"}),
    ]
    x, errors = rows_of_entries(table.support, entries, MISSING)
    assert not errors
    whole, holes = [0.5, 1.5, 1.0, 2.0, 3.0, 0.0], [0.5, np.nan, 1.0, np.nan, 3.0, np.nan]
    np.testing.assert_array_equal(x, [whole] * 3 + [holes] * 3)


WRONG = {
    "no row": ({"remark": "hello"}, "expected a field 'row' with a list of 6 values as JSON, or the fields 'real', "),
    "no JSON": ({"row": "[1, 2"}, "column 'row': expected a list of 6 numbers, as JSON, got '[1, 2'"),
    "no list": ({"row": '{"real": 1}'}, "expected a list of shape [6], got an object"),
    "a short list": ({"row": "[1]"}, "expected 6 values (shape [6]), got 1"),
    "a wrong value": ({"row": '[0.5, -1, 1, 2, 3, "red"]'}, "column 'positive': expected a finite number above 0"),
    "a wrong word": ({**ROW, "count": "many"}, "column 'count': expected a whole number of 0 or more, got the string"),
    "an infinite number": ({**ROW, "real": "1e999"}, "column 'real': expected a finite number, got the string '1e999'"),
    "a field missing": (
        {"real": "1", "binary": "0"},
        "column 'count': expected a whole number of 0 or more, got no such",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_entry_without_a_row_is_answered_with_its_error(table: Scorer, what: str) -> None:
    fields, words = WRONG[what]
    good, bad, other = answers(table, [entry("1-0", **ROW), entry("2-0", **fields), entry("3-0", **ROW)])
    told = dict(zip(bad.fields[::2], bad.fields[1::2], strict=True))
    assert told.keys() == {b"id", b"error", b"model", b"version", b"digest"}
    assert told[b"id"] == b"2-0"
    assert words in told[b"error"].decode()
    assert bad.unscored
    assert good.fields[2:] == other.fields[2:]
    assert not good.unscored


def test_an_entry_that_is_no_text_is_answered(table: Scorer) -> None:
    one, two = answers(table, [(b"1-0", {b"row": b"\xff\xfe"}), (b"2-0", {b"real": b"\xff", b"\xff": b""})])
    assert b"error" in one.fields
    assert b"error" in two.fields
    (gone,) = answers(table, [(b"3-0", None)])
    assert b"one that was deleted before it was read" in gone.fields[3]


def test_numbers_come_back_as_they_were(table: Scorer) -> None:
    x = np.array([[1 / 3, 0.1, 1.0, 2.0, 7.0, 0.0], [-1e-300, np.nan, 0.0, np.nan, 0.0, np.nan]])
    lists = [[None if v != v else v for v in row] for row in x.tolist()]
    found = answers(table, [entry(f"{i}-0", row=json.dumps(row)) for i, row in enumerate(lists)])
    scores = table.score(x)
    for row, answer in enumerate(found):
        told = dict(zip(answer.fields[::2], answer.fields[1::2], strict=True))
        assert float(told[b"score"]) == scores.score[row]
        assert float(told[b"p_value"]) == scores.p_value[row]
        assert scores.is_anomaly is not None
        assert told[b"is_anomaly"] == str(bool(scores.is_anomaly[row])).lower().encode()
        assert told[b"digest"].decode() == table.model.digest
        assert (told[b"model"], told[b"version"]) == (b"table", b"2")


def test_so_few_calibration_rows_answer_null(root) -> None:
    (answer,) = answers(Scorer.open(root / "few" / "1", verify=False), [entry("1-0", **ROW)])
    assert answer.fields[6:8] == [b"is_anomaly", b"null"]
    assert not answer.alarm


def test_a_model_without_column_names_takes_lists_alone(root) -> None:
    traced = Scorer.open(root / "traced" / "1", verify=False)
    good, bad = answers(traced, [entry("1-0", row="[1, 2]"), entry("2-0", a="1")])
    assert good.fields[3] == b"2.0"
    assert bad.fields[3] == b"expected a field 'row' with a list of 2 values as JSON, got none"
