"""What a row is: the data support, and the way between records (names, strings) and arrays (numbers).

Only names and strings become numbers here. Scaling, one-hot codes and their Jacobians live inside the graphs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from contract.errors import InputError

__all__ = ["BaseMeasure", "Column", "ColumnKind", "Support"]

ColumnKind = Literal["real", "positive", "binary", "ordinal", "count", "categorical"]
BaseMeasure = Literal["lebesgue", "counting"]
Array = NDArray[Any]

_MOST_LISTED = 12  # categories in an error message
_NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class Column(BaseModel):
    """One coordinate of a row.

    A missing value is NaN in an array and null in JSON. A category is its index in ``categories`` in an array and
    its string in a record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, description="Name in records and in error messages.")]
    kind: ColumnKind
    base_measure: BaseMeasure = Field(
        description="Measure that a density refers to: lebesgue for continuous values, counting for discrete ones."
    )
    resolution: float | None = Field(
        default=None, gt=0, description="Spacing of the values where they are rounded, in the column's own units."
    )
    levels: int | None = Field(default=None, ge=2, description="K of an ordinal-K column, values 0 ... K-1.")
    categories: tuple[str, ...] | None = Field(default=None, description="Labels of a categorical column, in order.")
    missing_allowed: bool = Field(default=False, description="Whether null (NaN) is a value of this column.")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.kind == "categorical") != (self.categories is not None):
            raise ValueError(f"column {self.name!r}: categories belong to categorical columns, and only to them")
        if self.categories is not None and (
            len(self.categories) < 2 or len(set(self.categories)) != len(self.categories)
        ):
            raise ValueError(f"column {self.name!r}: categories must be at least two different strings")
        if (self.kind == "ordinal") != (self.levels is not None):
            raise ValueError(f"column {self.name!r}: levels belong to ordinal columns, and only to them")
        continuous = self.kind in ("real", "positive")
        if continuous != (self.base_measure == "lebesgue"):
            measure = "lebesgue" if continuous else "counting"
            raise ValueError(f"column {self.name!r}: a {self.kind} column has base measure {measure}")
        return self

    @property
    def expected(self) -> str:
        """What the column accepts, in words for an error message."""
        words = {
            "real": "a finite number",
            "positive": "a finite number above 0",
            "binary": "0 or 1",
            "ordinal": f"a whole number from 0 to {(self.levels or 1) - 1}",
            "count": "a whole number of 0 or more",
            "categorical": _one_of(self.categories or ()),
        }[self.kind]
        return f"{words}, or null" if self.missing_allowed else words

    def allowed(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Which values the column allows: array of floating numbers, of any shape -> bool array of that shape."""
        finite: NDArray[np.bool_] = np.isfinite(values)
        if self.kind == "real" and not self.missing_allowed:
            return finite
        good: NDArray[np.bool_]
        with np.errstate(invalid="ignore"):
            match self.kind:
                case "real":
                    good = finite
                case "positive":
                    good = finite & (values > 0)
                case "binary":
                    good = (values == 0) | (values == 1)
                case "ordinal" | "categorical":
                    top = (self.levels or len(self.categories or ())) - 1
                    good = finite & (values >= 0) & (values <= top) & (np.floor(values) == values)
                case "count":
                    good = finite & (values >= 0) & (np.floor(values) == values)
        return good | np.isnan(values) if self.missing_allowed else good


class Support(BaseModel):
    """Shape and meaning of one row.

    Either ``columns`` names every coordinate of a flat row (tables), or ``element`` describes all of them alike
    (pictures).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = Field(
        description="Shape of one row, without the batch: [30] for a table, [28, 28] for a grey picture."
    )
    columns: tuple[Column, ...] | None = None
    element: Column | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.columns is None) == (self.element is None):
            raise ValueError("a support has either columns or an element")
        if self.columns is not None:
            if self.shape != (len(self.columns),):
                raise ValueError(f"shape {list(self.shape)} does not fit {len(self.columns)} columns")
            names = [column.name for column in self.columns]
            if len(set(names)) != len(names):
                raise ValueError("two columns have the same name")
        return self

    @cached_property
    def size(self) -> int:
        """Number of coordinates in a row."""
        return prod(self.shape)

    @cached_property
    def discrete(self) -> bool:
        """Whether every coordinate has the counting measure; only then do bits per dimension make sense."""
        return all(column.base_measure == "counting" for column in self.columns or (self.element,) if column)

    @cached_property
    def dtype(self) -> str:
        """Type of the arrays that graphs take and give: uint8 for pictures of at most 256 levels, else float64."""
        element = self.element
        small = element is not None and not element.missing_allowed
        if small and element is not None and (element.kind == "binary" or (element.levels or 257) <= 256):
            return "uint8"
        return "float64"

    @cached_property
    def with_holes(self) -> Support:
        """The same support with any coordinate left out: null in JSON, NaN in arrays, which are float64 then."""
        columns, element = self.columns, self.element
        free = {"missing_allowed": True}
        return Support(
            shape=self.shape,
            columns=None if columns is None else tuple(column.model_copy(update=free) for column in columns),
            element=None if element is None else element.model_copy(update=free),
        )

    def holes(self, rows: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Split rows with holes: float64 [n, *shape] of ``with_holes`` -> (rows of ``dtype``, known bool [n, *shape]).

        A hole holds 1, which every column allows.
        """
        known = ~np.isnan(rows)
        return np.ascontiguousarray(np.where(known, rows, 1.0), dtype=self.dtype), known

    def column_at(self, index: int) -> Column:
        """The column of flat coordinate ``index``."""
        if self.columns is not None:
            return self.columns[index]
        assert self.element is not None
        return self.element

    def label(self, index: int) -> str:
        """Name of flat coordinate ``index``: the column's, or its place in the row, such as ``[3][14]``."""
        if self.columns is not None:
            return self.columns[index].name
        return "".join(f"[{i}]" for i in np.unravel_index(index, self.shape))

    # -- arrays ------------------------------------------------------------------------------------------------

    def check(self, rows: Array) -> Array:
        """Validate an array of rows and give it the support's dtype.

        Args:
            rows: numeric array [n, *shape].

        Returns:
            The rows as a C-contiguous array of ``dtype``.

        Raises:
            InputError: wrong shape, or a value that its column does not allow; names the first row and column.
        """
        if rows.ndim < 1 or tuple(rows.shape[1:]) != self.shape:
            raise InputError(expected=f"rows of shape {list(self.shape)}", got=f"an array of shape {list(rows.shape)}")
        # Single precision, which becomes double without a change, is looked at as it is: half the memory.
        values = rows if rows.dtype.char == "f" else rows.astype(np.float64, copy=False)
        values = values.reshape(len(rows), self.size)
        if len(self.alike) == 1 and self.alike[0][0].allowed(values).all():
            return np.ascontiguousarray(rows, dtype=self.dtype)
        good: list[tuple[NDArray[np.int64] | slice, NDArray[np.bool_]]] = [
            (where, column.allowed(values[:, where])) for column, where in self.alike
        ]
        if not all(allowed.all() for _, allowed in good):
            whole = np.empty(values.shape, dtype=np.bool_)
            for where, allowed in good:
                whole[:, where] = allowed
            row, index = (int(i) for i in np.argwhere(~whole)[0])
            raise self._unexpected(row, index, rows.reshape(len(rows), self.size)[row, index].item())
        return np.ascontiguousarray(rows, dtype=self.dtype)

    @cached_property
    def alike(self) -> tuple[tuple[Column, NDArray[np.int64] | slice], ...]:
        """Coordinates that allow the same values, each group with one of its columns, so that it is checked at once."""
        if self.columns is None:
            assert self.element is not None
            return ((self.element, slice(None)),)
        groups: dict[tuple[Any, ...], list[int]] = {}
        for index, column in enumerate(self.columns):
            levels = column.levels or len(column.categories or ())
            groups.setdefault((column.kind, levels, column.missing_allowed), []).append(index)
        if len(groups) == 1:
            return ((self.columns[0], slice(None)),)
        return tuple((self.columns[places[0]], np.array(places)) for places in groups.values())

    def read(self, numbers: Array) -> Array:
        """Rows from an array of numbers, each of the support's shape or flat: [n, …] -> [n, *shape] of ``dtype``.

        Raises:
            InputError: as for ``check``.
        """
        if numbers.shape[1:] != self.shape and numbers.shape[1:] == (self.size,):
            numbers = numbers.reshape(len(numbers), *self.shape)
        return self.check(numbers)

    def rows_to_array(self, rows: Sequence[Any]) -> Array:
        """Arrays from JSON: a list of rows, each nested as ``shape`` or flat, -> [n, *shape] of ``dtype``.

        Booleans count as 0 and 1, null as missing, and the strings "NaN", "Infinity" and "-Infinity" as the numbers
        they name; what the columns then allow is checked. Categories may be given as indices or as labels.

        Raises:
            InputError: as for ``check``; also for a string where a number belongs, or a row of another length.
        """
        try:
            array = np.array(rows)
        except (ValueError, OverflowError):  # rows of different lengths, or an integer too large for any dtype
            array = np.empty(0, dtype=object)
        if array.dtype.kind in "biuf" and array.ndim >= 2 and array.shape[1:] in (self.shape, (self.size,)):
            return self.read(array)
        return self.check(self._row_by_row(rows))

    def records_to_array(self, records: Sequence[Mapping[str, Any]]) -> Array:
        """Arrays from records, objects by column name -> [n, D] of ``dtype``.

        A column that may be missing may also be left out.

        Raises:
            InputError: a column is absent, unknown or holds what it does not allow; names row and column.
        """
        if self.columns is None:
            raise InputError(expected="rows, for this model's columns have no names", got="records")
        names = {column.name for column in self.columns}
        values = np.empty((len(records), len(self.columns)), dtype=np.float64)
        for row, record in enumerate(records):
            if not isinstance(record, Mapping):
                raise InputError(row=row, expected="an object with a value for each column", got=_words(record))
            for index, column in enumerate(self.columns):
                if column.name in record:
                    values[row, index] = self._number(_as_label(record[column.name], column), row, index)
                elif column.missing_allowed:
                    values[row, index] = np.nan
                else:
                    raise InputError(row=row, column=column.name, expected=column.expected, got="no such column")
            if len(record) > len(names) or any(name not in names for name in record):
                unknown = next(name for name in record if name not in names)
                raise InputError(
                    row=row, column=unknown, expected=f"only the columns {_list(sorted(names))}", got="another column"
                )
        return self.check(values)

    def array_to_records(self, rows: Array) -> list[dict[str, Any]]:
        """Records from arrays: [n, D] -> objects by column name; NaN becomes None, a category its label.

        Raises:
            InputError: the support has no named columns.
        """
        if self.columns is None:
            raise InputError(expected="a support with named columns", got="one without")
        readers = [_reader(column) for column in self.columns]
        return [
            {column.name: read(value) for column, read, value in zip(self.columns, readers, row, strict=True)}
            for row in rows.tolist()
        ]

    # -- slow and explicit, for what the fast way cannot read ---------------------------------------------------

    def _row_by_row(self, rows: Sequence[Any]) -> NDArray[np.float64]:
        values = np.empty((len(rows), self.size), dtype=np.float64)
        for row, given in enumerate(rows):
            flat = self._flatten(given, row)
            for index, value in enumerate(flat):
                values[row, index] = self._number(value, row, index)
        return values.reshape((len(rows), *self.shape))

    def _flatten(self, given: Any, row: int) -> list[Any]:
        shape = list(self.shape)
        if not isinstance(given, list | tuple):
            raise InputError(row=row, expected=f"a list of shape {shape}", got=_words(given))
        flat: list[Any] = list(given)
        if len(self.shape) > 1 and len(flat) == self.size and not any(isinstance(v, list | tuple) for v in flat):
            return flat
        for depth, length in enumerate(self.shape):
            groups = [given] if depth == 0 else flat
            if depth > 0:
                flat = [value for group in groups for value in group]
            for group in groups:
                if len(group) != length:
                    what = "values" if depth == len(self.shape) - 1 else "lists"
                    raise InputError(row=row, expected=f"{length} {what} (shape {shape})", got=f"{len(group)}")
            if depth < len(self.shape) - 1:
                for value in flat:
                    if not isinstance(value, list | tuple):
                        raise InputError(row=row, expected=f"nested lists of shape {shape}", got=_words(value))
        return flat

    def _number(self, value: Any, row: int, index: int) -> float:
        column = self.column_at(index)
        if isinstance(value, str) and column.categories is not None and value in column.categories:
            return float(column.categories.index(value))
        if isinstance(value, str) and value in _NON_FINITE:
            return _NON_FINITE[value]
        if value is None and column.missing_allowed:
            return float("nan")
        if isinstance(value, int | float | np.integer | np.floating):
            try:
                return float(value)
            except OverflowError:
                pass
        raise self._unexpected(row, index, value)

    def _unexpected(self, row: int, index: int, value: Any) -> InputError:
        column = self.column_at(index)
        return InputError(row=row, column=self.label(index), expected=column.expected, got=_words(value))


def _as_label(value: Any, column: Column) -> Any:
    """A record holds labels: where these are numbers, as in a column of codes, a number is a label and no index."""
    if column.categories is None or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    spelt = f"{value:g}" if abs(value) < 1e6 else repr(value)
    return spelt if spelt in column.categories else value


def _one_of(categories: Sequence[str]) -> str:
    if len(categories) <= _MOST_LISTED:
        return f"one of {', '.join(map(repr, categories))}"
    some = ", ".join(map(repr, categories[:_MOST_LISTED]))
    return f"one of its {len(categories)} categories: {some}, …"


def _reader(column: Column) -> Any:
    categories = column.categories

    def read(value: float) -> Any:
        if value != value:
            return None
        if categories is not None:
            return categories[int(value)]
        return value if column.base_measure == "lebesgue" else int(value)

    return read


def _words(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    if isinstance(value, bool | int | float):
        if isinstance(value, int) and value.bit_length() > 128:  # Python refuses to print very long integers
            return f"an integer of {value.bit_length()} bits"
        text = str(value).lower() if isinstance(value, bool) else repr(value)
        return text if len(text) <= 40 else f"{text[:37]}..."
    if isinstance(value, list | tuple):
        return "a list"
    return "an object" if isinstance(value, dict) else type(value).__name__


def _list(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:6])
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} more"
