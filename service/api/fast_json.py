"""Fast reading of plain questions: rows of numbers in JSON, and nothing out of the ordinary.

What is read here is read exactly as ``service/api/codecs.py`` and the request models would read it; whatever they might
refuse, or read with more care (strings, nulls, records, unknown fields, a field given twice), is left to them. Small
bodies go through orjson, large ones through simdjson's flat buffers, which need no Python object a number.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.api.fast_names import Question, plain

simdjson: Any
try:
    simdjson = importlib.import_module("simdjson")
except ImportError:  # no wheel for this platform: large bodies then go the ordinary way
    simdjson = None

__all__ = ["LARGE", "read_large", "read_small"]

LARGE = 16_384
"""Bytes from which a body is read in another thread, by simdjson."""

_KEPT = 2**22
"""A parser, which has dozens of bytes of memory for each byte of its longest document, is used again up to this."""

_parsers: list[Any] = []


def read_small(body: bytes | bytearray) -> Question | None:
    """A plain question from a small body, or None where there may be more to it."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(value) is not dict or type(value.get("rows")) is not list:
        return None
    try:
        rows = np.array(value.pop("rows"))
    except (ValueError, OverflowError):  # rows of different lengths
        return None
    return _question(value, rows)


def read_large(body: bytes | bytearray) -> Question | None:
    """The same from a large body; for another thread."""
    if simdjson is None:
        return None
    try:
        parser = _parsers.pop()
    except IndexError:
        parser = simdjson.Parser()
    try:
        return _read_with(parser, body)
    except (ValueError, RuntimeError):  # not JSON, or a number that is too large or too long
        return None
    finally:
        if len(body) <= _KEPT:
            _parsers.append(parser)


def _read_with(parser: Any, body: bytes | bytearray) -> Question | None:
    """What points into the parser's memory ends with this call: the parser refuses other documents until then."""
    document = parser.parse(body)
    return _of_document(body, document) if isinstance(document, simdjson.Object) else None


def _of_document(body: bytes | bytearray, document: Any) -> Question | None:
    names = list(document.keys())
    if len(names) != len(set(names)) or "rows" not in names:
        return None
    fields = {name: document[name] for name in names if name != "rows"}
    if not isinstance(document["rows"], simdjson.Array) or any(
        type(v) not in (str, int, float) for v in fields.values()
    ):
        return None
    rows = _flat_rows(body, document["rows"])
    return _question(fields, rows) if rows is not None else None


def _flat_rows(body: bytes | bytearray, rows: Any) -> NDArray[np.float64] | None:
    """A list of lists of numbers, all of one length -> [n, k]; None for any other nesting."""
    n = len(rows)
    # The buffer is flat whatever the nesting: with n + 1 brackets in all there are n lists in a list, and no more.
    if not n or body.count(b"[") != n + 1:
        return None
    try:
        values = np.frombuffer(rows.as_buffer(of_type="d"), dtype=np.float64)  # a copy, not the parser's memory
        width, left = divmod(len(values), n)
        if left or not width or any(len(row) != width for row in rows):
            return None
    except TypeError:  # something other than numbers, or than rows
        return None
    return values.reshape(n, width)


def _question(fields: Mapping[str, Any], rows: NDArray[Any]) -> Question | None:
    """The question, where every field is one that is known, of the type that the request model asks for."""
    if rows.dtype.kind not in "fi" or rows.ndim < 2 or not len(rows):
        return None
    named = plain(fields)
    return Question(named, rows) if named is not None else None
