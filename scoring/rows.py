"""Words, values and lists turned into the numbers of a model's rows, each by itself where one of them is wrong.

Words mean what they mean where tables are trained on (``contract.words``): spaces around them do not count, ``NA`` and
its like are missing values, ``true`` and ``false`` are 1 and 0.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from contract.errors import InputError
from contract.support import Column, Support
from contract.words import TRUTHS, parse_number

__all__ = [
    "ROW",
    "ClusterError",
    "Errors",
    "FileError",
    "in_file",
    "label_of",
    "located",
    "number_of",
    "refused",
    "rows_of_lists",
]

ROW = "row"
"""Where rows without column names are: a column of lists, or a field that holds a list as JSON."""

Array = NDArray[Any]
Errors = dict[int, InputError]
"""Why rows are none, by position."""

_LONGEST_SHOWN = 40


class FileError(Exception):
    """A file that cannot be read as what it is called; the message names it."""


class ClusterError(Exception):
    """A cluster that cannot be reached, or whose workers cannot do their work; the message says which and why."""


def number_of(value: Any, column: Column, missing: Set[str]) -> float | None:
    """The number that stands for a value; NaN for a missing one, None where the value stands for none.

    Whether the column allows the number is another question. A number that is no label of a column of categories is
    the index of one, as in records.

    Args:
        value: a word, a number or a boolean; None is missing.
        column: what the model takes there.
        missing: words for a missing value, in small letters.
    """
    if value is None:
        return float("nan")
    labels = column.categories
    if isinstance(value, str):
        word = value.strip()
        if labels is not None and word in labels:
            return float(labels.index(word))
        small = word.lower()
        if small in missing:
            return float("nan")
        if labels is not None:
            return None
        if small in TRUTHS:
            return TRUTHS[small]
        number = parse_number(word)
        return None if number != number else number
    number = float(value)
    if labels is None:
        return number
    spelt = _spelt(value)
    return float(labels.index(spelt)) if spelt in labels else number


def label_of(value: Any, missing: Set[str]) -> str | None:
    """A label in words; None where there is none. A number is spelt as short as it goes, so that 1 and 1.0 are one."""
    if isinstance(value, str):
        word = value.strip()
        return None if word.lower() in missing else word
    if value is None or value != value:
        return None
    return _spelt(value) if isinstance(value, bool | int | float | Decimal) else str(value)


def _spelt(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{float(value):g}" if abs(value) < 1e6 else repr(value)


def refused(value: Any, column: Column, name: str, row: int | None = None) -> InputError:
    """The error of a value that its column does not allow."""
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        got = "no value"
    elif isinstance(value, str):
        got = f"the string {value[:_LONGEST_SHOWN]!r}"
    else:
        got = str(value).lower()[:_LONGEST_SHOWN]
    return InputError(row=row, column=name, expected=column.expected.replace("or null", "or no value"), got=got)


def located(error: InputError, row: int | None) -> InputError:
    """The same error at another row, or at none."""
    return InputError(row=row, column=error.column, expected=error.expected, got=error.got)


def in_file(error: InputError, path: Path) -> str:
    """The error of a file's row, in words: rows are counted as the service's errors count them."""
    return f"{path}: {error}" + (" (rows are counted from 0)" if error.row is not None else "")


def rows_of_lists(support: Support, lists: Sequence[Any]) -> tuple[Array, Errors]:
    """Rows from lists, nested or flat, or from such lists as JSON, read as the service reads them.

    Returns:
        Rows [n, *shape] of the support's dtype, and why some are none; what stands for those means nothing.
    """
    errors: Errors = {}
    given: list[Any] = []
    for row, value in enumerate(lists):
        try:
            given.append(orjson.loads(value) if isinstance(value, str | bytes) else value)
        except orjson.JSONDecodeError:
            shown = (value.decode(errors="replace") if isinstance(value, bytes) else str(value))[:_LONGEST_SHOWN]
            expected = f"a list of {support.size} numbers, as JSON"
            errors[row] = InputError(row=row, column=ROW, expected=expected, got=repr(shown))
            given.append(None)
    if given and not errors:
        try:
            return support.rows_to_array(given), errors
        except InputError:
            pass
    rows = np.zeros((len(given), *support.shape), dtype=support.dtype)
    for row, value in enumerate(given):
        if row in errors:
            continue
        try:
            rows[row] = support.rows_to_array([value])[0]
        except InputError as error:
            errors[row] = located(error, row)
    return rows, errors
