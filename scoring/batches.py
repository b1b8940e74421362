"""Which columns of a table hold a model's rows, and the rows that an Arrow record batch of them holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from numpy.typing import NDArray

from contract.errors import InputError
from contract.support import Support
from contract.words import MISSING
from scoring.columns import column_numbers
from scoring.rows import ROW, Errors, FileError, label_of, refused, rows_of_lists
from scoring.sources import Source

__all__ = ["columns_of", "columns_read", "names_in", "rows_of"]

Array = NDArray[Any]


def columns_read(support: Support, names: Sequence[str]) -> list[str]:
    """Which columns of a table hold a model's rows, in the order of the row's numbers.

    Columns by name; of a model whose columns have no names, the column ``row`` of lists, or all columns in order.

    Raises:
        InputError: a column is not there, or there are not as many as a row has numbers.
    """
    if support.columns is not None:
        for column in support.columns:
            if column.name not in names:
                raise InputError(
                    column=column.name, expected=column.expected, got=f"no such column, only {_listed(names)}"
                )
            if list(names).count(column.name) > 1:
                raise InputError(column=column.name, expected="one column of that name", got="two")
        return [column.name for column in support.columns]
    if ROW in names:
        return [ROW]
    if len(names) != support.size:
        expected = f"a column {ROW!r} of lists of {support.size} numbers, or {support.size} columns of numbers"
        raise InputError(expected=expected, got=f"{len(names)} columns")
    return list(names)


def columns_of(source: Source, support: Support, keep: Collection[str] = ()) -> list[str]:
    """Which columns of a file are read: those of a model's rows, and those to keep beside them.

    Raises:
        FileError: a column is not there, or there are two of its name.
    """
    for name in keep:
        if name not in source.names:
            there = ", ".join(map(repr, source.names))
            raise FileError(f"{source.path}: no column {name!r} to keep; there are {there}")
    apart = () if support.columns is not None else keep
    try:
        wanted = columns_read(support, [name for name in source.names if name not in apart])
    except InputError as error:
        raise FileError(f"{source.path}: {error}") from None
    columns = list(dict.fromkeys([*wanted, *keep]))
    for name in columns:
        if source.names.count(name) > 1:
            raise FileError(f"{source.path}: two columns are called {name!r}")
    return columns


def rows_of(
    batch: Any, support: Support, missing: Set[str] = MISSING, keep: Collection[str] = ()
) -> tuple[Array, Errors]:
    """A record batch's rows as a model takes them.

    Args:
        batch: columns by name, n rows.
        support: of the model.
        missing: words for a missing value, in small letters.
        keep: columns that are no number of a row, unless they have the name of one.

    Returns:
        Rows [n, *shape] of the support's dtype, and why some are none, by position.

    Raises:
        InputError: a column is not there, or of a type that stands for no numbers.
    """
    apart = () if support.columns is not None else keep
    names = columns_read(support, [name for name in batch.schema.names if name not in apart])
    if support.columns is None and names == [ROW]:
        return rows_of_lists(support, batch.column(ROW).to_pylist())
    numbers = np.empty((batch.num_rows, support.size))
    allowed = np.empty(numbers.shape, dtype=np.bool_)
    for place, name in enumerate(names):
        column = support.column_at(place)
        numbers[:, place], allowed[:, place] = column_numbers(batch.column(name), column, name, missing)
    errors: Errors = {}
    for row in np.flatnonzero(~allowed.all(axis=1)).tolist():
        place = int(np.argmin(allowed[row]))
        value = batch.column(names[place])[row].as_py()
        errors[row] = refused(value, support.column_at(place), names[place], row)
    # What stands for a row that is none is looked at by nobody.
    rows = np.zeros((batch.num_rows, *support.shape), dtype=support.dtype)
    good = allowed.all(axis=1)
    if good.all():
        return support.read(numbers), errors
    rows[good] = support.read(numbers[good])
    return rows, errors


def names_in(batch: Any, column: str, missing: Set[str] = MISSING, what: str = "a label") -> tuple[list[str], Errors]:
    """Names that a column of a record batch gives its rows, such as labels, as ``scoring.rows.label_of`` spells them.

    Args:
        batch: columns by name, n rows.
        column: which holds them.
        missing: words for a missing value, in small letters.
        what: a row has, for an error message.

    Returns:
        Names [n], and why some rows have none, by position; what stands for those means nothing.
    """
    values = batch.column(column)
    if not pyarrow.types.is_dictionary(values.type):
        values = pyarrow.compute.dictionary_encode(values)
    spelt = [label_of(value, missing) for value in values.dictionary.to_pylist()]
    found = [None if place is None else spelt[place] for place in values.indices.to_pylist()]
    errors = {
        row: InputError(row=row, column=column, expected=what, got="no value")
        for row, name in enumerate(found)
        if name is None
    }
    return [name or "" for name in found], errors


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:12]))
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "none"
