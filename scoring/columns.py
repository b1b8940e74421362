"""Columns of a table as Arrow has them, turned into the numbers of a model's rows."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from numpy.typing import NDArray

from contract.errors import InputError
from contract.support import Column
from contract.words import MISSING
from scoring.rows import number_of

__all__ = ["column_numbers"]


def column_numbers(
    values: Any, column: Column, name: str, missing: Set[str] = MISSING
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The numbers that stand for a column's values.

    Args:
        values: an Arrow array of numbers, booleans or words, dictionary-encoded or not, [n].
        column: what the model takes there.
        name: what the table calls it, for an error message.
        missing: words for a missing value, in small letters.

    Returns:
        Numbers float64 [n], NaN where one is missing or wrong; and which values the column allows, bool [n].

    Raises:
        InputError: values of a type that stands for no numbers, such as dates.
    """
    types = pyarrow.types
    kind = values.type.value_type if types.is_dictionary(values.type) else values.type
    words = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if types.is_null(kind):
        return _judged(np.full(len(values), np.nan), np.zeros(len(values), dtype=np.bool_), column)
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind)
    if not words and not numeric:
        expected = f"a column of {'words' if column.categories else 'numbers'} ({column.expected})"
        raise InputError(column=name, expected=expected, got=f"one of type {kind}")
    if column.categories is not None:
        return _each_once(values, column, missing)
    if not words:
        plain = values.cast(kind) if types.is_dictionary(values.type) else values
        numbers = plain.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)
        return _judged(numbers, np.zeros(len(values), dtype=np.bool_), column)
    numbers = None if types.is_dictionary(values.type) else _numbers_of_words(values, missing)
    if numbers is not None:
        return _judged(numbers, np.zeros(len(values), dtype=np.bool_), column)
    return _each_once(values, column, missing)


def _numbers_of_words(values: Any, missing: Set[str]) -> NDArray[np.float64] | None:
    """Numbers of words, all at once; None where a word is neither a number nor missing."""
    compute = pyarrow.compute
    try:
        return _finite_or_missing(values.cast(pyarrow.float64()), values)
    except pyarrow.ArrowInvalid:
        pass
    words = compute.utf8_trim_whitespace(values)
    gone = compute.is_in(compute.utf8_lower(words), value_set=pyarrow.array(sorted(missing)))
    words = compute.if_else(gone, None, words)
    try:
        return _finite_or_missing(words.cast(pyarrow.float64()), words)
    except pyarrow.ArrowInvalid:
        return None


def _finite_or_missing(numbers: Any, words: Any) -> NDArray[np.float64]:
    """Numbers [n], NaN where words are null. Arrow reads inf and nan, which are looked at word by word."""
    array: NDArray[np.float64] = numbers.to_numpy(zero_copy_only=False)
    if np.isfinite(array).sum() + words.null_count != len(array):
        raise pyarrow.ArrowInvalid("a word spells no finite number")
    return array


def _each_once(values: Any, column: Column, missing: Set[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Numbers of values by looking at each different one once."""
    if not pyarrow.types.is_dictionary(values.type):
        values = pyarrow.compute.dictionary_encode(values)
    different = [number_of(value, column, missing) for value in values.dictionary.to_pylist()]
    numbers = np.array([np.nan if number is None else number for number in different] + [np.nan])
    wrong = np.array([*(number is None for number in different), False])
    places = np.asarray(pyarrow.compute.fill_null(values.indices.cast(pyarrow.int64()), -1))
    return _judged(numbers[places], wrong[places], column)


def _judged(
    numbers: NDArray[np.float64], wrong: NDArray[np.bool_], column: Column
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return numbers, column.allowed(numbers) & ~wrong
