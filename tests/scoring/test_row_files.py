"""Rows in files: the same rows from CSV, Parquet and npy, and errors that name row and column."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import InputError
from contract.support import Column, Support
from scoring.row_files import read_rows_of
from scoring.rows import FileError

SUPPORT = Support(
    shape=(4,),
    columns=(
        Column(name="size", kind="real", base_measure="lebesgue"),
        Column(name="code", kind="categorical", base_measure="counting", categories=("2", "10", "blue")),
        Column(name="member", kind="binary", base_measure="counting"),
        Column(name="age", kind="count", base_measure="counting", missing_allowed=True),
    ),
)
ROWS = np.array([[0.5, 1.0, 1.0, 30.0], [-2e3, 2.0, 0.0, np.nan], [7.0, 0.0, 1.0, 0.0]])
CSV = "id,size,member,age,code\na1, 0.5 ,true,30,10\n\nb2,-2e3,False,NA,blue\nc3,7,1,0,2\n"


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet(path: Path, **columns: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_file_is_read_by_column_name(tmp_path: Path, encoding: str) -> None:
    content = CSV.encode(encoding)
    found = read_rows_of(written(tmp_path / "rows.csv", content), SUPPORT)
    np.testing.assert_array_equal(found.rows, ROWS)
    assert found.unused == ("id",)
    assert found.sha256 == hashlib.sha256(content).hexdigest()


def test_a_parquet_file_is_read_by_column_name(tmp_path: Path) -> None:
    words = pyarrow.array(["10", "blue", "2"])
    for code in (words, words.dictionary_encode()):
        path = parquet(
            tmp_path / "rows.parquet", age=[30, None, 0], code=code, member=[True, False, True], size=ROWS[:, 0]
        )
        np.testing.assert_array_equal(read_rows_of(path, SUPPORT).rows, ROWS)
    numbers = parquet(
        tmp_path / "n.parquet", age=[30.0, np.nan, 0.0], code=[10, 10, 2], member=[1, 0, 1], size=ROWS[:, 0]
    )
    np.testing.assert_array_equal(read_rows_of(numbers, SUPPORT).rows[:, 1], [1.0, 1.0, 0.0])


def test_an_npy_file_is_read_by_position(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    np.testing.assert_array_equal(read_rows_of(tmp_path / "rows.npy", SUPPORT).rows, ROWS)
    pictures = Support(shape=(2, 2), element=Column(name="dot", kind="binary", base_measure="counting"))
    np.save(tmp_path / "flat.npy", np.ones((3, 4)))
    found = read_rows_of(tmp_path / "flat.npy", pictures).rows
    assert (found.shape, found.dtype) == ((3, 2, 2), np.uint8)


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(numbers, st.sampled_from(["2", "10", "blue"]), st.booleans()), min_size=1, max_size=5))
def test_csv_and_parquet_agree(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, str, bool]]) -> None:
    folder = tmp_path_factory.mktemp("rows")
    lines = ["size,code,member,age", *(f"{size!r},{code},{member},7" for size, code, member in rows)]
    size, code, member = zip(*rows, strict=True)
    by_name = parquet(folder / "a.parquet", size=list(size), code=list(code), member=list(member), age=[7] * len(rows))
    one = read_rows_of(written(folder / "a.csv", "\n".join(lines)), SUPPORT).rows
    np.testing.assert_array_equal(one, read_rows_of(by_name, SUPPORT).rows)
    np.testing.assert_array_equal(one[:, 0], size)


def test_a_number_that_is_no_label_is_the_index_of_one_as_in_the_service(tmp_path: Path) -> None:
    path = parquet(tmp_path / "rows.parquet", age=[1, 1, 1], code=[2, 1, 10], member=[1, 0, 1], size=[0.0, 0.0, 0.0])
    rows = read_rows_of(path, SUPPORT).rows
    records = [{"age": 1, "code": code, "member": 1, "size": 0.0} for code in (2, 1, 10)]
    assert rows[:, 1].tolist() == SUPPORT.records_to_array(records)[:, 1].tolist() == [0.0, 1.0, 1.0]
    # A word is a label or nothing, there as here.
    line = written(tmp_path / "rows.csv", "age,code,member,size\n1,1,1,0\n")
    with pytest.raises(InputError, match="row 0, column 'code': expected one of '2', '10', 'blue', got the string '1'"):
        read_rows_of(line, SUPPORT)


def test_words_for_a_missing_value_may_be_added(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", "size,code,member,age\n1,2,1,-\n")
    with pytest.raises(InputError, match="row 0, column 'age'"):
        read_rows_of(path, SUPPORT)
    assert np.isnan(read_rows_of(path, SUPPORT, missing=["-"]).rows[0, 3])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1,2,1,3\nx,2,1,3\n", r"row 1, column 'size': expected a finite number, got the string 'x'"),
        ("\n\n1e999,2,1,3\n", r"row 0, column 'size': expected a finite number, got the string '1e999'"),
        ("1,2,1,3\n,2,1,3\n", r"row 1, column 'size': expected a finite number, got no value"),
        ("1,3,1,3\n", r"row 0, column 'code': expected one of '2', '10', 'blue', got the string '3'"),
        ("1,2,2,3\n", r"row 0, column 'member': expected 0 or 1, got the string '2'"),
        ("1,2,1,-3\n", r"row 0, column 'age': expected a whole number of 0 or more, or no value"),
        ("1,2,1,3\n1,2,1\n1,2,9,3\n", r"row 1: expected 4 values, as in the line of names, got 3"),
        ("1,2,1,3\n1,2,9,3\n1,2,1\n", r"row 1, column 'member'"),
        ('1,2,1,3\n"1"x,2,1,3\n', r"row 1, column 'size': .* got the string '1x'"),
    ],
)
def test_rows_that_are_none_are_named_as_score_names_them(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_rows_of(written(tmp_path / "rows.csv", "size,code,member,age\n" + content), SUPPORT)


def test_a_row_is_counted_from_the_file_s_first(tmp_path: Path) -> None:
    size = np.zeros(150_000)  # some pieces
    size[149_999] = np.inf
    one = np.ones(len(size), dtype=np.int64)
    path = parquet(tmp_path / "long.parquet", size=size, code=one * 2, member=one, age=one)
    with pytest.raises(InputError, match="row 149999, column 'size': expected a finite number, got inf"):
        read_rows_of(path, SUPPORT)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("size,code,member\n1,2,1\n", r"column 'age': expected a whole number of 0 or more.*got no such column"),
        ("size,size,code,member,age\n1,1,2,1,3\n", r"column 'size': expected one column of that name, got two"),
        ("size,code,member,age\n", r"no rows"),
        ("", r"an empty file"),
        (b"size,code\xff\n", r"not utf-8"),
    ],
)
def test_what_is_wrong_with_a_csv_file_is_named(tmp_path: Path, content: str | bytes, words: str) -> None:
    with pytest.raises(FileError, match=rf"rows\.csv: .*{words}|rows\.csv: {words}"):
        read_rows_of(written(tmp_path / "rows.csv", content), SUPPORT)


def test_what_is_wrong_with_other_files_is_named(tmp_path: Path) -> None:
    def refused(path: Path, words: str, error: type[Exception] = InputError) -> None:
        with pytest.raises(error, match=words):
            read_rows_of(path, SUPPORT)

    good = {"code": ["2", "2"], "member": [1, 0], "age": [3, 4]}
    refused(parquet(tmp_path / "a.parquet", size=[0.5, None], **good), "row 1, column 'size': .* got no value")
    lists = parquet(tmp_path / "b.parquet", size=[[1.0], [2.0]], **good)
    refused(lists, r"column 'size': expected a column of numbers")
    dates = parquet(tmp_path / "c.parquet", size=pyarrow.array([0, 1], pyarrow.date32()), **good)
    refused(dates, "column 'size': expected a column of numbers .* got one of type date32")
    refused(written(tmp_path / "d.parquet", b"PAR"), "d.parquet: cannot be read", FileError)
    refused(written(tmp_path / "e.xls", "1"), "e.xls: expected a file .csv", FileError)
    np.save(tmp_path / "f.npy", np.where(np.isnan(ROWS), -1.0, ROWS))
    refused(tmp_path / "f.npy", "row 1, column 'age': expected a whole number")
    np.save(tmp_path / "g.npy", ROWS[:, :3])
    refused(tmp_path / "g.npy", "g.npy: expected rows of shape", FileError)
    np.save(tmp_path / "h.npy", np.array([["a"]]))
    refused(tmp_path / "h.npy", "expected an array of numbers", FileError)
    np.save(tmp_path / "i.npy", np.array([None]))
    refused(tmp_path / "i.npy", "cannot be read as npy", FileError)
    np.save(tmp_path / "j.npy", ROWS[:0])
    refused(tmp_path / "j.npy", "no rows", FileError)
    refused(tmp_path / "nowhere.csv", "nowhere", OSError)


def test_pictures_are_lists_in_a_column_row(tmp_path: Path) -> None:
    pictures = Support(shape=(2, 2), element=Column(name="dot", kind="binary", base_measure="counting"))
    path = parquet(tmp_path / "dots.parquet", row=[[[1, 0], [0, 1]], [[0, 0], [1, 1]]], name=["a", "b"])
    found = read_rows_of(path, pictures)
    assert found.rows.tolist() == [[[1, 0], [0, 1]], [[0, 0], [1, 1]]]
    assert found.unused == ("name",)
