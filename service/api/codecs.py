"""Bodies: bounded reading, and JSON in and out by orjson.

Arrays go straight from numpy to JSON. Numbers that JSON lacks become the strings "NaN", "Infinity" and "-Infinity",
as in the JSON mapping of Protocol Buffers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from service.api.problems import ProblemError, explain
from service.limits import Reservation

__all__ = ["PIECE_BYTES", "dump", "dump_large", "load", "read_body", "validate"]

Body = TypeVar("Body", bound=BaseModel)

# Encoding holds the interpreter; an answer beyond this is encoded in pieces, and the event loop breathes in between.
PIECE_BYTES = 2**20


# -- in --------------------------------------------------------------------------------------------------------


async def read_body(request: Request, limit: int, room: Reservation) -> bytes:
    """The body, at most ``limit`` bytes, for which room is reserved before they are read.

    Raises:
        ProblemError: 413.
        Overloaded: no room for so many bytes now.
        ClientDisconnect: the client left before the end.
    """
    declared = request.headers.get("content-length")
    length = int(declared) if declared is not None and declared.isdigit() else None
    if length is not None:
        _check_size(length, limit)
        room.grow(length)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect()
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        _check_size(size, limit)
        if length is None:
            room.grow(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        # The rest of the body will not be read, so the connection cannot be used again.
        raise ProblemError(
            "body-too-large",
            f"the body may have {limit} bytes at most",
            headers={"Connection": "close"},
            expected=f"at most {limit} bytes",
        )


def load(body: bytes) -> Any:
    """The value that a JSON body holds.

    Raises:
        ProblemError: 400.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not body.strip():
            raise ProblemError("unparsable", "the body is empty; expected a JSON object") from None
        raise ProblemError(
            "unparsable", f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None


def validate(value: Any, model: type[Body]) -> Body:
    """A value as a request model.

    Raises:
        ProblemError: 422.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise explain(error, model) from None


# -- out -------------------------------------------------------------------------------------------------------


def dump(value: Any) -> bytes:
    """JSON of a value that may hold numpy arrays and non-finite numbers, in one piece."""
    return orjson.dumps(_plain(value), option=orjson.OPT_SERIALIZE_NUMPY)


async def dump_large(body: Mapping[str, Any]) -> bytes:
    """The same bytes as ``dump`` gives, with the event loop served between pieces of a large array."""
    large = {
        name
        for name, value in body.items()
        if isinstance(value, np.ndarray) and value.ndim and value.nbytes > PIECE_BYTES
    }
    if not large:
        return dump(body)
    out: list[bytes] = []
    for name, value in body.items():
        out += [b"," if out else b"{", orjson.dumps(name), b":"]
        if name not in large:
            out.append(dump(value))
            continue
        rows = max(1, PIECE_BYTES * len(value) // value.nbytes)
        for start in range(0, len(value), rows):
            out += [b"," if start else b"[", dump(value[start : start + rows])[1:-1]]
            await asyncio.sleep(0)
        out.append(b"]")
    out.append(b"}")
    return b"".join(out)


_FEW = 16
"""So few numbers are looked at one by one faster than as an array."""


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int or value is None:
        return value
    if kind is np.ndarray:
        return _array(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else _name(value)
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return value


def _array(array: NDArray[Any]) -> Any:
    if array.ndim == 1 and array.dtype.char == "d" and len(array) <= _FEW:
        values = array.tolist()
        if all(map(math.isfinite, values)):
            return values
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        named = array.astype(object)
        named[np.isnan(array)] = "NaN"
        named[np.isposinf(array)] = "Infinity"
        named[np.isneginf(array)] = "-Infinity"
        return named.tolist()
    return array if array.flags.c_contiguous and array.ndim else array.tolist()


def _name(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
