"""Tables: CSV and Parquet files, read by PyArrow, whose columns are named or inspected."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from contract.support import Column, Support
from contract.words import MISSING, parse_number
from training.data.columns import (
    Finding,
    RawColumn,
    Where,
    column_values,
    inspect_column,
    label_codes,
)
from training.data.dataset import Dataset, Labels
from training.errors import DataError
from training.sections import ColumnSpec, CsvData, ParquetData

__all__ = ["RawTable", "findings_of", "read_table", "table", "tabulate", "wanted_columns"]


@dataclass(frozen=True)
class RawTable:
    """A file of named columns.

    Attributes:
        path: the file.
        columns: its columns, in the file's order.
        n: number of rows.
        where: where a row is in the file.
    """

    path: Path
    columns: tuple[RawColumn, ...]
    n: int
    where: Where

    def column(self, name: str, what: str) -> RawColumn:
        """The column of that name.

        Raises:
            DataError: there is none; lists those that there are.
        """
        for column in self.columns:
            if column.name == name:
                return column
        known = ", ".join(repr(column.name) for column in self.columns[:20])
        more = f" and {len(self.columns) - 20} more" if len(self.columns) > 20 else ""
        raise DataError(f"{self.path}: {what}: no column {name!r}; there are {known}{more}")


def table(spec: CsvData | ParquetData, root: Path, ordinary: str | None) -> Dataset:
    """The rows of a file of named columns.

    Args:
        spec: the recipe's data section.
        root: data folder.
        ordinary: label of the ordinary rows, if the recipe names one; a column that they do not vary in is left out.

    Raises:
        DataError: the file is missing or damaged, or a value is not what its column holds; names file, line and column.
    """
    raw = read_table(root / spec.file, spec)
    test = None if spec.test is None else read_table(root / spec.test, spec)
    labels = test_labels = names = None
    if spec.label is not None:
        labels, known = label_codes(raw.column(spec.label, "label"), raw.where)
        names = tuple(known)
        if test is not None:
            test_labels, _ = label_codes(test.column(spec.label, "label"), test.where, names)
    findings = findings_of(raw, spec.columns, spec.drop, spec.label, _ordinary(labels, names, ordinary, raw))
    rows, support = tabulate(raw, findings)
    return Dataset(
        rows=rows,
        support=support,
        description=spec.description,
        test=None if test is None else _rows_of(test, support.columns or ()),
        labels=labels,
        test_labels=test_labels,
        label_names=names,
        left_out={finding.name: finding.remark for finding in findings if finding.column is None},
    )


def findings_of(
    raw: RawTable,
    columns: dict[str, ColumnSpec],
    drop: Sequence[str],
    label: str | None,
    ordinary: NDArray[np.bool_],
) -> list[Finding]:
    """What each column is that is neither dropped nor the label, in the file's order.

    Raises:
        DataError: the recipe names a column that the file lacks, or of another kind than its values.
    """
    for name in columns:
        raw.column(name, "columns")
    for name in drop:
        raw.column(name, "drop")
    apart = {*drop, label}
    return [
        inspect_column(column, columns.get(column.name), raw.where, ordinary)
        for column in wanted_columns(raw)
        if column.name not in apart
    ]


def wanted_columns(raw: RawTable) -> Iterator[RawColumn]:
    """The columns that have a name; a table saved with the numbers of its rows has one that has none."""
    return (column for column in raw.columns if column.name)


def tabulate(raw: RawTable, findings: Sequence[Finding]) -> tuple[NDArray[np.float64], Support]:
    """Rows float64 [n, d] of the columns that were found worth keeping, and their support.

    Raises:
        DataError: none was.
    """
    kept = tuple(finding.column for finding in findings if finding.column is not None)
    if not kept:
        raise DataError(f"{raw.path}: no column is left: " + "; ".join(f"{f.name!r} {f.remark}" for f in findings[:5]))
    return _rows_of(raw, kept), Support(shape=(len(kept),), columns=kept)


def read_table(path: Path, spec: CsvData | ParquetData) -> RawTable:
    """A file as it is.

    Raises:
        DataError: no such file, or not such a file; names the line where one is at fault.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file; name the data folder with --data or NONESUCH_DATA")
    raw = _read_csv(path, spec) if isinstance(spec, CsvData) else _read_parquet(path)
    if not raw.n:
        raise DataError(f"{path}: no rows")
    names = [column.name for column in raw.columns]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: two columns are called {twice!r}")
    return raw


def _rows_of(raw: RawTable, columns: Sequence[Column]) -> NDArray[np.float64]:
    parts = [column_values(raw.column(column.name, "columns"), column, raw.where) for column in columns]
    return np.ascontiguousarray(np.stack(parts, axis=1))


def _ordinary(
    labels: Labels | None, names: Sequence[str] | None, ordinary: str | None, raw: RawTable
) -> NDArray[np.bool_]:
    if labels is None or names is None or ordinary is None or ordinary not in names:
        return np.ones(raw.n, dtype=np.bool_)
    mask: NDArray[np.bool_] = labels == list(names).index(ordinary)
    return mask


# -- CSV -----------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, spec: CsvData) -> RawTable:
    misfits: list[Any] = []

    def misfit(row: Any) -> str:
        misfits.append(row)
        return "error"

    try:
        with pyarrow.input_stream(str(path), compression="detect") as stream:
            text = stream.read()
        header = next(_records(text, spec), None)
        if header is None:
            raise DataError(f"{path}: an empty file")
        found = pyarrow.csv.read_csv(
            io.BytesIO(text),
            # One thread: only then does a row that does not fit know its number.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, encoding=spec.encoding, block_size=1 << 24),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=spec.delimiter, newlines_in_values=True, invalid_row_handler=misfit
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pyarrow.string() for name in header[1]}, strings_can_be_null=False
            ),
        )
    except UnicodeError:
        raise DataError(f"{path}: it is not {spec.encoding}; name its encoding, such as encoding: latin-1") from None
    except (OSError, LookupError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    except pyarrow.ArrowInvalid as error:
        if misfits:
            line = _line(text, spec, misfits[0].number - 2)
            expected, got = misfits[0].expected_columns, misfits[0].actual_columns
            raise DataError(f"{path}: line {line}: expected {expected} values, as in the header, got {got}") from None
        if "UTF8" in str(error):
            raise DataError(f"{path}: it is not utf-8; name its encoding, such as encoding: latin-1") from None
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    missing = MISSING | {word.lower() for word in spec.missing}
    columns = tuple(
        _from_words(name, _encoded(column), missing, spec.decimal)
        for name, column in zip(found.column_names, found.columns, strict=True)
    )
    return RawTable(path, columns, found.num_rows, lambda row: f"{path}: line {_line(text, spec, row)}")


def _records(text: bytes, spec: CsvData) -> Iterator[tuple[int, list[str]]]:
    """Number of its last line, and values, of each record, that of the names included; empty lines are none."""
    wrapper = io.TextIOWrapper(io.BytesIO(text), encoding=spec.encoding.replace("utf-8", "utf-8-sig"), newline="")
    reader = csv.reader(wrapper, delimiter=spec.delimiter)
    for record in reader:
        if record:
            yield reader.line_num, record


def _line(text: bytes, spec: CsvData, row: int) -> int:
    """The line, from 1, on which row ``row`` (from 0) ends; found anew, since it is only needed when all is lost."""
    for number, (line, _) in enumerate(_records(text, spec)):
        if number == row + 1:
            return line
    return row + 2


def _from_words(name: str, encoded: Any, missing: frozenset[str], decimal: str) -> RawColumn:
    """A column of text: words stripped, those that spell a missing value taken out."""
    stripped = [str(word).strip() for word in encoded.dictionary.to_pylist()]
    place: dict[str, int] = {}
    for word in stripped:
        if word.lower() not in missing:
            place.setdefault(word, len(place))
    codes = np.array([place.get(word, -1) for word in stripped] + [-1], dtype=np.int64)
    rows = np.asarray(encoded.indices.fill_null(-1), dtype=np.int64)
    words = tuple(place)
    numbers = [parse_number(word.replace(decimal, ".") if decimal != "." else word) for word in words]
    return RawColumn(name, words, np.array(numbers, dtype=np.float64), codes[rows])


# -- Parquet -------------------------------------------------------------------------------------------------------


def _read_parquet(path: Path) -> RawTable:
    try:
        found = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    columns = tuple(
        _from_arrow(path, name, column) for name, column in zip(found.column_names, found.columns, strict=True)
    )
    return RawTable(path, columns, found.num_rows, lambda row: f"{path}: row {row + 1}")


def _from_arrow(path: Path, name: str, column: Any) -> RawColumn:
    kind = column.type
    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    if types.is_null(kind):
        return RawColumn(name, (), np.empty(0), np.full(len(column), -1, dtype=np.int64))
    if types.is_string(kind) or types.is_large_string(kind):
        return _from_words(name, _encoded(column), MISSING, ".")
    if types.is_temporal(kind):
        raw = _from_words(name, _encoded(column.cast(pyarrow.string())), MISSING, ".")
        return RawColumn(name, raw.words, np.full(len(raw.words), np.nan), raw.codes, "date")
    if types.is_boolean(kind):
        raw = _from_words(name, _encoded(column.cast(pyarrow.string())), MISSING, ".")
        return RawColumn(name, raw.words, raw.numbers, raw.codes, "boolean")
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return from_numbers(name, column.cast(pyarrow.float64(), safe=False).to_numpy())
    raise DataError(f"{path}: column {name!r}: expected numbers, words, booleans or dates, got {kind}; drop it")


def from_numbers(name: str, values: NDArray[np.float64]) -> RawColumn:
    """A column of numbers, NaN where one is missing: float64 [n]."""
    numbers, codes = np.unique(values[~np.isnan(values)], return_inverse=True)
    rows = np.full(len(values), -1, dtype=np.int64)
    rows[~np.isnan(values)] = codes
    words = tuple(str(int(v)) if v == np.floor(v) and abs(v) < 2**53 else repr(v) for v in numbers.tolist())
    return RawColumn(name, words, np.where(np.isfinite(numbers), numbers, np.nan), rows, "number")


def _encoded(column: Any) -> Any:
    """A column of strings as its different values and their places."""
    encoded = pyarrow.compute.dictionary_encode(column)
    return encoded.combine_chunks() if isinstance(encoded, pyarrow.ChunkedArray) else encoded
