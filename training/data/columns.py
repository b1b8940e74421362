"""Columns of a table: what a file holds, what it seems to be, and the numbers that stand for it in an array.

``inspect_column`` says what a column is: where a recipe names its kind, that is checked; else the values decide, by the
rules in its docstring. What cannot be modelled is left out, and the finding says why.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from contract.support import BaseMeasure, Column, ColumnKind
from contract.words import TRUTHS
from training.data.dataset import Labels, resolution_of
from training.errors import DataError
from training.sections import ColumnSpec

__all__ = ["Finding", "RawColumn", "Where", "column_values", "inspect_column", "label_codes"]

MOST_CATEGORIES = 100
"""Different words from which on a column of text is no column of categories."""

_MOST_LEVELS = 12
_LARGEST_LEVEL = 20
_SHOWN = 3  # example values of a finding
_NAMES_ROWS = re.compile(r"(^|[_\s-])(id|uuid|key|index|nr|no)$", re.IGNORECASE)
_DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%m-%Y", "%d %b %Y", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M")

Where = Callable[[int], str]
"""Position of a row in an array -> where it is in the file, for an error message: ``wine.csv: line 18``."""


@dataclass(frozen=True)
class RawColumn:
    """A column as a file has it: each row a word, and each word perhaps a number.

    Attributes:
        name: its name.
        words: the different values as text, missing ones apart, in the order in which they first occur.
        numbers: the number that each word is, NaN where it is none, float64 [len(words)].
        codes: position of each row's value in ``words``, -1 where it is missing, int64 [n].
        type: what the file itself says that the values are; CSV files say nothing.
    """

    name: str
    words: tuple[str, ...]
    numbers: NDArray[np.float64]
    codes: NDArray[np.int64]
    type: Literal["number", "boolean", "date"] | None = None

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which rows have no value, [n]."""
        return self.codes < 0

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """The number of each row, NaN where it is missing or no number, float64 [n]."""
        return np.append(self.numbers, np.nan)[self.codes]

    @cached_property
    def truths(self) -> NDArray[np.float64] | None:
        """0 for each word that spells false and 1 for true, if all do."""
        spelt = [TRUTHS.get(word.lower()) for word in self.words[:3]]
        if not spelt or len(self.words) > 2 or None in spelt:
            return None
        return np.array(spelt, dtype=np.float64)

    @property
    def present(self) -> NDArray[np.int64]:
        """Positions of the words that occur, [u]."""
        return np.unique(self.codes[self.codes >= 0])

    def first(self, word: int) -> int:
        """The first row with that word."""
        return int(np.argmax(self.codes == word))


@dataclass(frozen=True)
class Finding:
    """What a column turned out to be.

    Attributes:
        name: the column's.
        column: what it is; None where it is left out.
        missing: share of rows without a value.
        examples: some of its values.
        remark: why it is what it is, or why it is left out.
    """

    name: str
    column: Column | None
    missing: float
    examples: tuple[str, ...]
    remark: str


def inspect_column(raw: RawColumn, spec: ColumnSpec | None, where: Where, ordinary: NDArray[np.bool_]) -> Finding:
    """What a column is.

    A column that is the same in every ordinary row is left out, whatever the recipe says. Without a recipe's word:
    0 and 1, or true and false, are binary; whole numbers on a short scale without gaps are ordinal, other whole numbers
    from 0 up are counts; other numbers are positive where they never reach 0 and spread over a factor of 20 or are
    skewed, else real; words are categories. Names of rows, dates, free text and columns that mix numbers with words are
    left out.

    Args:
        raw: the column.
        spec: what the recipe says of it, if anything.
        where: where a row is.
        ordinary: which rows are ordinary, [n].

    Raises:
        DataError: a value is not what the recipe says; names file, row and column.
    """

    def found(column: Column | None, remark: str) -> Finding:
        return Finding(raw.name, column, float(raw.missing.mean()), raw.words[:_SHOWN], remark)

    seen = np.unique(raw.codes[ordinary])
    seen = seen[seen >= 0]
    if len(seen) < 2 or len(np.unique(raw.numbers[seen], equal_nan=False)) == 1:  # 3 and 3.0 are one value
        among = "" if ordinary.all() else " ordinary"
        if not len(seen):
            return found(None, f"left out: no{among} row has a value")
        hole = " or missing" if raw.missing[ordinary].any() else ""
        return found(None, f"left out: the same in every{among} row, {_short(raw.words[seen[0]])!r}{hole}")
    if spec is not None:
        column = _as_told(raw, spec, where)
        column_values(raw, column, where)
        return found(column, "as the recipe says")
    why_not = _why_not(raw, where)
    if why_not is not None:
        return found(None, f"left out: {why_not}")
    return found(*_by_its_values(raw))


def column_values(raw: RawColumn, column: Column, where: Where) -> NDArray[np.float64]:
    """The numbers that stand for a column's values in an array: float64 [n], NaN where they are missing.

    Raises:
        DataError: a value that the column does not allow; names file, row and column.
    """
    if column.categories is not None:
        position = {word: float(place) for place, word in enumerate(column.categories)}
        numbers = np.array([position.get(word, np.nan) for word in raw.words], dtype=np.float64)
    elif raw.truths is not None:
        numbers = raw.truths
    else:
        numbers = raw.numbers
    good = np.isfinite(numbers) & column.allowed(np.nan_to_num(numbers))
    wrong = ~np.append(good, column.missing_allowed)[raw.codes]
    if wrong.any():
        row = int(np.argmax(wrong))
        got = "no value" if raw.codes[row] < 0 else repr(_short(raw.words[raw.codes[row]]))
        raise DataError(f"{where(row)}, column {column.name!r}: expected {_expected(column)}, got {got}")
    return np.append(numbers + 0.0, np.nan)[raw.codes]  # -0.0 becomes 0.0: equal rows have equal bytes


def label_codes(raw: RawColumn, where: Where, names: Sequence[str] | None = None) -> tuple[Labels, list[str]]:
    """Labels as numbers, and what these are called; in the order of numbers, else of the alphabet, if not given.

    Raises:
        DataError: a row has no label, or one that is not among the names.
    """
    if raw.missing.any():
        raise DataError(f"{where(int(np.argmax(raw.missing)))}, column {raw.name!r}: expected a label, got no value")
    known = list(names) if names is not None else in_order(raw, raw.present)
    position = {word: place for place, word in enumerate(known)}
    for word in raw.present:
        if raw.words[word] not in position:
            expected = f"one of the labels {', '.join(map(repr, known))}"
            got = repr(_short(raw.words[word]))
            raise DataError(f"{where(raw.first(word))}, column {raw.name!r}: expected {expected}, got {got}")
    places = np.array([position.get(word, -1) for word in raw.words], dtype=np.int64)
    return places[raw.codes], known


def in_order(raw: RawColumn, words: NDArray[np.int64]) -> list[str]:
    """Words by the numbers that they are, if all are numbers, else by the alphabet."""
    numbers = raw.numbers[words]
    if np.isfinite(numbers).all():
        words = words[np.argsort(numbers, kind="stable")]
        return [raw.words[word] for word in words]
    return sorted(raw.words[word] for word in words)


# -- what a recipe says --------------------------------------------------------------------------------------------


def _as_told(raw: RawColumn, spec: ColumnSpec, where: Where) -> Column:
    missing = bool(raw.missing.any()) if spec.missing_allowed is None else spec.missing_allowed
    levels, categories, resolution = spec.levels, spec.categories, spec.resolution
    values = raw.values[~np.isnan(raw.values)]
    if spec.kind == "ordinal" and levels is None:
        # Before the largest value says how many levels there are, every value must be one that could be a level.
        column_values(raw, _column(raw.name, "count", missing), where)
        levels = max(2, int(values.max()) + 1)
        if levels > 2**16:
            row = int(np.nanargmax(raw.values))
            raise DataError(f"{where(row)}, column {raw.name!r}: expected a level from 0 to 65535, got {levels - 1}")
    if spec.kind == "categorical" and categories is None:
        categories = tuple(in_order(raw, raw.present))
    if spec.kind in ("real", "positive") and resolution is None:
        resolution = resolution_of(values)
    return _column(raw.name, spec.kind, missing, levels=levels, categories=categories, resolution=resolution)


# -- what the values say -------------------------------------------------------------------------------------------


def _why_not(raw: RawColumn, where: Where) -> str | None:
    """Why a column without a recipe's word is left out; None where it is not."""
    distinct, n = len(raw.words), int((~raw.missing).sum())
    numeric = np.isfinite(raw.numbers)
    if raw.type == "date" or (raw.type is None and not numeric.any() and _are_dates(raw.words)):
        return "dates: tomorrow's would all be unlike those seen; give weekday, hour or age as columns of their own"
    if raw.type == "boolean" or raw.truths is not None:
        return None
    if numeric.all():
        values = raw.numbers
        whole = bool((values == np.floor(values)).all())
        if whole and distinct == n >= 20 and np.ptp(values) == n - 1:
            return "it numbers the rows"
        if whole and distinct > 0.95 * n and n >= 20 and _NAMES_ROWS.search(raw.name):
            return f"it names the rows: {distinct:,} different values"
        return None
    share = float(numeric[raw.codes[~raw.missing]].mean())
    if share >= 0.5:
        word = int(np.argmax(~numeric))
        place = where(raw.first(word)).rpartition(": ")[2]
        return f"numbers, but {_short(raw.words[word])!r} in {place}; mend it, or list it under missing"
    if distinct > 0.5 * n and distinct > 20:
        if sum(" " in word for word in raw.words) > 0.5 * distinct:
            return "free text"
        return f"it names the rows: {distinct:,} different values"
    if distinct > MOST_CATEGORIES:
        return f"{distinct:,} different words: too many to learn; group them, or name the column categorical"
    return None


def _by_its_values(raw: RawColumn) -> tuple[Column, str]:
    missing = bool(raw.missing.any())
    if raw.truths is not None:
        return _column(raw.name, "binary", missing), "true and false, as 1 and 0"
    if not np.isfinite(raw.numbers).all():
        words = in_order(raw, raw.present)
        counts = np.bincount(raw.codes[~raw.missing])
        rare = int((counts < 10).sum())
        remark = f"{len(words)} words" + (f", {rare} of them in fewer than 10 rows" if rare else "")
        return _column(raw.name, "categorical", missing, categories=tuple(words)), remark
    values = raw.values[~raw.missing]
    low, high, distinct = float(values.min()), float(values.max()), len(np.unique(raw.numbers))
    if (values == np.floor(values)).all():
        if low == 0.0 and high == 1.0:
            return _column(raw.name, "binary", missing), "0 and 1"
        short = distinct <= _MOST_LEVELS and high <= _LARGEST_LEVEL and distinct == high - low + 1
        # A count tails off; of a scale, the top is in use: a tenth of an even share is little to ask of it.
        if low >= 0 and short and (values == high).mean() >= 0.1 / distinct:
            remark = f"a scale, {low:g} to {high:g}; if more can come, say count; if codes, categorical"
            return _column(raw.name, "ordinal", missing, levels=int(high) + 1), remark
        if low >= 0:
            remark = f"whole numbers, {low:g} to {high:g}"
            return _column(raw.name, "count", missing), remark + _tail(values)
    resolution = resolution_of(values)
    remark = f"{low:.4g} to {high:.4g}" + (f", steps of {resolution:g}" if resolution else "")
    if distinct <= _MOST_LEVELS:
        remark += f"; {distinct} different values: if they are codes, say categorical"
    positive = low > 0 and (high / low >= 20 or _skewness(values) > 1)
    kind: ColumnKind = "positive" if positive else "real"
    return _column(raw.name, kind, missing, resolution=resolution), remark + _tail(values)


def _tail(values: NDArray[np.float64]) -> str:
    """A remark on values that lie farther out than any of a normal law would: ten quartile distances."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    farthest = float(np.abs(values - middle).max())
    if high > low and farthest > 10 * (high - low):
        return f"; heavy tail: the farthest lies {farthest / (high - low):.0f} interquartile ranges out"
    return ""


def _skewness(values: NDArray[np.float64]) -> float:
    scaled = values / np.abs(values).max()
    spread = scaled.std()
    return float((((scaled - scaled.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0


def _are_dates(words: Sequence[str]) -> bool:
    some = words[:200]
    return all(len(word) >= 8 and _is_date(word) for word in some)


def _is_date(word: str) -> bool:
    try:
        datetime.datetime.fromisoformat(word)
    except ValueError:
        return any(_follows(word, form) for form in _DAYS)
    return True


def _follows(word: str, form: str) -> bool:
    try:
        datetime.datetime.strptime(word, form)
    except ValueError:
        return False
    return True


def _column(
    name: str,
    kind: ColumnKind,
    missing: bool,
    *,
    levels: int | None = None,
    categories: tuple[str, ...] | None = None,
    resolution: float | None = None,
) -> Column:
    measure: BaseMeasure = "lebesgue" if kind in ("real", "positive") else "counting"
    return Column(
        name=name,
        kind=kind,
        base_measure=measure,
        resolution=resolution,
        levels=levels,
        categories=categories,
        missing_allowed=missing,
    )


def _expected(column: Column) -> str:
    """What a column accepts in a file, where nobody writes null."""
    words = column.expected.removesuffix(", or null")
    return f"{words}, or an empty cell" if column.missing_allowed else words


def _short(word: str) -> str:
    return word if len(word) <= 40 else f"{word[:37]}..."
