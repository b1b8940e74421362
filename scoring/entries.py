"""Entries of a Redis Stream: what they say of a row, and what is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import InputError
from contract.support import Support
from contract.words import MISSING
from scoring.rows import ROW, Errors, label_of, located, number_of, refused, rows_of_lists
from scoring.scorer import Scorer

__all__ = ["Answer", "Entry", "answers", "rows_of_entries"]

Entry = tuple[bytes, Mapping[bytes, bytes] | None]
"""Id and fields; no fields where the entry was deleted before anybody had read it."""


@dataclass(frozen=True)
class Answer:
    """What is answered.

    Attributes:
        entry: id of the entry.
        fields: of the answer: name, value, name, value …
        alarm: whether the row is flagged.
        unscored: whether the entry holds no row that could be scored.
    """

    entry: bytes
    fields: list[bytes]
    alarm: bool
    unscored: bool


_NAMED = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def answers(scorer: Scorer, entries: Sequence[Entry], missing: Set[str] = MISSING) -> list[Answer]:
    """Score entries; one that holds no row is answered with ``error`` and keeps no other from its score."""
    x, errors = rows_of_entries(scorer.support, entries, missing)
    labels = None if scorer.label is None else _labels(scorer.label, entries, missing, errors)
    good = [place for place in range(len(entries)) if place not in errors]
    own = None if labels is None else [labels[place] for place in good]
    scores = scorer.try_score(x[good] if errors else x, own)
    for row, error in scores.errors.items():
        errors[good[row]] = error
    manifest = scorer.manifest
    about = [
        b"model", manifest.name.encode(),
        b"version", str(manifest.version).encode(),
        b"digest", scorer.model.digest.encode(),
    ]  # fmt: skip
    row_of = {place: row for row, place in enumerate(good)}
    found: list[Answer] = []
    for place, (entry, _) in enumerate(entries):
        if place in errors:
            words = str(located(errors[place], None)).encode()
            found.append(Answer(entry, [b"id", entry, b"error", words, *about], alarm=False, unscored=True))
            continue
        row = row_of[place]
        silent = scores.is_anomaly is None or (scores.undecided is not None and scores.undecided[row])
        alarm = None if silent or scores.is_anomaly is None else bool(scores.is_anomaly[row])
        fields = [b"id", entry, b"score", _spelt(scores.score[row]), b"p_value", _spelt(scores.p_value[row])]
        fields += [b"is_anomaly", b"null" if alarm is None else b"true" if alarm else b"false"]
        if labels is not None:
            fields += [b"label", labels[place].encode()]
        found.append(Answer(entry, [*fields, *about], alarm=alarm is True, unscored=False))
    return found


def _labels(field: str, entries: Sequence[Entry], missing: Set[str], errors: Errors) -> list[str]:
    """The label of each entry; one that has none is added to the errors, unless there is one already."""
    found = []
    for place, (_, fields) in enumerate(entries):
        word = (fields or {}).get(field.encode())
        label = None if word is None else label_of(word.decode(errors="replace"), missing)
        if label is None:
            got = "no such field" if word is None else "no value"
            errors.setdefault(place, InputError(column=field, expected="a label", got=got))
        found.append(label or "")
    return found


def rows_of_entries(support: Support, entries: Sequence[Entry], missing: Set[str]) -> tuple[NDArray[Any], Errors]:
    """Rows of entries: a list as JSON in the field ``row``, or a field for each column, by name.

    Other fields are passed over. A column that may be missing may also be left out.

    Returns:
        Rows [n, *shape] of the support's dtype, and why some entries hold none; what stands for those means nothing.
    """
    names = [column.name for column in support.columns or ()]
    by_name = ROW in names
    errors: Errors = {}
    rows = np.zeros((len(entries), *support.shape), dtype=support.dtype)
    lists: dict[int, bytes] = {}
    for place, (_, fields) in enumerate(entries):
        if fields is None:
            errors[place] = InputError(expected="an entry with fields", got="one that was deleted before it was read")
        elif ROW.encode() in fields and not by_name:
            lists[place] = fields[ROW.encode()]
        else:
            try:
                rows[place] = _record(support, fields, missing)
            except InputError as error:
                errors[place] = error
    if lists:
        where = np.fromiter(lists, dtype=np.int64, count=len(lists))
        rows[where], wrong = rows_of_lists(support, list(lists.values()))
        errors |= {int(where[row]): error for row, error in wrong.items()}
    return rows, errors


def _record(support: Support, fields: Mapping[bytes, bytes], missing: Set[str]) -> NDArray[Any]:
    columns = support.columns or ()
    words = [fields.get(column.name.encode()) for column in columns]
    if all(word is None for word in words):
        by_name = f", or the fields {', '.join(repr(column.name) for column in columns[:12])}" if columns else ""
        expected = f"a field {ROW!r} with a list of {support.size} values as JSON{by_name}"
        raise InputError(expected=expected, got="neither" if columns else "none")
    values = np.empty((1, len(columns)))
    for place, (column, word) in enumerate(zip(columns, words, strict=True)):
        if word is None and not column.missing_allowed:
            raise InputError(column=column.name, expected=column.expected, got="no such field")
        text = None if word is None else word.decode(errors="replace")
        number = number_of(text, column, missing)
        if number is None or not column.allowed(np.array(number)):
            raise refused(text, column, column.name)
        values[0, place] = number
    row: NDArray[Any] = support.read(values)[0]
    return row


def _spelt(value: float) -> bytes:
    """The shortest spelling that gives the same number back."""
    spelt = repr(float(value))
    return _NAMED.get(spelt, spelt).encode()
