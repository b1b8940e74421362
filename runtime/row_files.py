"""Rows in files: CSV and Parquet by column name, npy by position. Words mean what they mean in tables for training.

Columns that a bundle does not know are passed over and named, since a table for training has them too: keys, dates,
labels. A column that the bundle knows must be there, also where its values may be missing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.digest import sha256
from contract.errors import InputError
from contract.support import Column, Support
from contract.words import MISSING, TRUTHS, parse_number

__all__ = ["RowFile", "RowFileError", "read_rows_of"]

_LONGEST_SHOWN = 40


class RowFileError(ValueError):
    """A file that holds no rows of a support; the message names the file, and row and column where one is at fault."""


@dataclass(frozen=True)
class RowFile:
    """Rows and where they came from.

    Attributes:
        rows: [n, *shape] of the support's dtype.
        sha256: of the file.
        unused: columns of the file that the support lacks.
    """

    rows: NDArray[Any]
    sha256: str
    unused: tuple[str, ...] = ()


def read_rows_of(path: Path, support: Support) -> RowFile:
    """The rows in a CSV, Parquet or npy file.

    Raises:
        RowFileError: it cannot be read, lacks a column, or holds a value that a column does not allow. Rows are counted
            from 0, but in CSV files, whose lines are named.
        OSError: there is no such file.
    """
    data = path.read_bytes()
    if path.suffix == ".npy":
        return RowFile(_array(path, data, support), sha256(data))
    if path.suffix not in (".csv", ".parquet"):
        raise RowFileError(f"{path}: expected rows in a .csv, a .parquet or an .npy file")
    columns = support.columns
    if columns is None:
        raise RowFileError(
            f"{path}: rows of shape {list(support.shape)} have no column names; give them as an npy file"
        )
    header, values_of, n, where = _csv(path, data) if path.suffix == ".csv" else _parquet(path, data)
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise RowFileError(f"{path}: two columns are called {twice!r}")
    absent = next((column for column in columns if column.name not in header), None)
    if absent is not None:
        raise RowFileError(f"{path}: column {absent.name!r}: expected {absent.expected}, got no such column")
    if not n:
        raise RowFileError(f"{path}: no rows")
    rows = np.stack([_numbers(values_of(column.name), column, where) for column in columns], axis=1)
    names = {column.name for column in columns}
    return RowFile(support.check(rows), sha256(data), tuple(name for name in header if name not in names))


_Table = tuple[list[str], Callable[[str], Sequence[Any]], int, Callable[[int], str]]
"""Names of the columns, the values of one, the number of rows, and where a row is."""


def _array(path: Path, data: bytes, support: Support) -> NDArray[Any]:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise RowFileError(f"{path}: cannot be read as npy: {' '.join(str(error).split())}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise RowFileError(f"{path}: expected an array of numbers")
    if not array.size:
        raise RowFileError(f"{path}: no rows")
    try:
        return support.read(array)
    except InputError as error:
        raise RowFileError(f"{path}: {error}") from None


def _csv(path: Path, data: bytes) -> _Table:
    lines, records = [], []
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        for record in reader:
            if record:
                lines.append(reader.line_num)
                records.append(record)
    except UnicodeDecodeError:
        raise RowFileError(f"{path}: it is not UTF-8") from None
    except csv.Error as error:
        raise RowFileError(f"{path}: line {reader.line_num}: cannot be read: {error}") from None
    if not records:
        raise RowFileError(f"{path}: an empty file")
    header, rows = [name.strip() for name in records[0]], records[1:]
    for line, record in zip(lines[1:], rows, strict=True):
        if len(record) != len(header):
            raise RowFileError(
                f"{path}: line {line}: expected {len(header)} values, as in the header, got {len(record)}"
            )

    def values_of(name: str) -> list[str]:
        place = header.index(name)
        return [record[place] for record in rows]

    return header, values_of, len(rows), lambda row: f"{path}: line {lines[row + 1]}"


def _parquet(path: Path, data: bytes) -> _Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise RowFileError(f"{path}: reading Parquet needs pyarrow, which is not installed here") from None
    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(data))
    except (OSError, pyarrow.ArrowException) as error:
        raise RowFileError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    header = list(table.column_names)
    return header, lambda name: table.column(name).to_pylist(), table.num_rows, lambda row: f"{path}: row {row}"


def _numbers(values: Sequence[Any], column: Column, where: Callable[[int], str]) -> NDArray[np.float64]:
    """The numbers that stand for a column's values, float64 [n], NaN where they are missing."""
    found = [_number(value, column) for value in values]
    numbers = np.array([np.nan if number is None else number for number in found], dtype=np.float64)
    wrong = ~column.allowed(numbers) | np.array([number is None for number in found], dtype=np.bool_)
    if wrong.any():
        row = int(np.argmax(wrong))
        expected = column.expected.replace(", or null", ", or no value")
        raise RowFileError(f"{where(row)}, column {column.name!r}: expected {expected}, got {_shown(values[row])}")
    return numbers


def _number(value: Any, column: Column) -> float | None:
    """The number that stands for a value, NaN for a missing one; None where the value stands for none."""
    labels = column.categories
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, str):
        word = value.strip()
        if labels is not None and word in labels:
            return float(labels.index(word))
        small = word.lower()
        if small in MISSING:
            return float("nan")
        if labels is not None:
            return None
        number = TRUTHS.get(small, parse_number(word))
        return None if number != number else number
    if value is None or value != value:
        return float("nan")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if labels is None:
        return number
    spelt = f"{number:g}" if abs(number) < 1e6 else repr(value)
    return float(labels.index(spelt)) if spelt in labels else None


def _shown(value: Any) -> str:
    if value is None or value != value or (isinstance(value, str) and value.strip().lower() in MISSING):
        return "no value"
    text = repr(value.strip()) if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
