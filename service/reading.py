"""From the rows and codes of a request, as lists, records or arrays, to the arrays that programs take."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import InputError
from contract.programs import Program
from contract.randomness import ADDRESS_LIMIT
from contract.support import Support
from service.partial import Partial

__all__ = ["PIECE", "Given", "read_codes", "read_partial", "read_rows", "read_seed"]

Array = NDArray[Any]
Given = Sequence[Any] | Array
"""Rows or codes: lists from JSON, or an array of numbers."""

PIECE = 2**17
"""Numbers of an array that are checked at once: they cost a few arrays of doubles while it lasts."""


async def read_rows(support: Support, rows: Given | None, records: Sequence[Mapping[str, Any]] | None) -> Array:
    """Rows or records, of which one is None -> [n, *shape] of the support's dtype.

    Raises:
        InputError: none given or both, or what the support does not allow.
    """
    if rows is not None and records is not None:
        raise InputError(column="records", expected="either rows or records", got="both")
    if isinstance(rows, np.ndarray):
        return await _in_pieces(rows, support.read, "rows", support.shape)
    given = rows if rows is not None else records
    if not given:
        raise InputError(column="rows", expected="at least one row, in rows or in records", got="none")
    return support.rows_to_array(rows) if rows is not None else support.records_to_array(records or ())


async def read_partial(support: Support, rows: Given | None, records: Sequence[Mapping[str, Any]] | None) -> Partial:
    """Rows or records with holes.

    Raises:
        InputError: as for ``read_rows``.
    """
    x = await read_rows(support.with_holes, rows, records)
    return Partial(*(await asyncio.to_thread(support.holes, x) if x.size > PIECE else support.holes(x)))


async def read_codes(program: Program, codes: Given) -> Array:
    """Codes -> [n, *shape] of the dtype that the program takes.

    Raises:
        InputError: none given, or one of another shape, or with what is no finite number in it.
    """
    part = program.data_input
    assert part is not None
    shape, dtype = part.shape, np.dtype(part.dtype)
    wanted = f"finite numbers in a list of shape {list(shape)}"
    if isinstance(codes, np.ndarray):

        def check(piece: Array) -> Array:
            good = np.isfinite(piece).reshape(len(piece), -1).all(axis=1)
            if not good.all():
                raise InputError(row=int(np.argmin(good)), column="codes", expected=wanted, got="another number")
            return np.ascontiguousarray(piece, dtype=dtype)

        if codes.ndim and codes.shape[1:] != shape:
            raise InputError(
                column="codes", expected=f"codes of shape {list(shape)}", got=f"an array of shape {list(codes.shape)}"
            )
        return await _in_pieces(codes, check, "codes", shape)
    if not codes:
        raise InputError(column="codes", expected="at least one code", got="none")
    for row, code in enumerate(codes):
        try:
            array = np.array(code)
        except ValueError:
            array = np.empty(0, dtype=object)
        if array.dtype.kind not in "biuf" or array.shape != shape:
            raise InputError(row=row, column="codes", expected=wanted)
        if not np.isfinite(array).all():
            raise InputError(row=row, column="codes", expected="finite numbers", got="a number that is not finite")
    return np.array(codes, dtype=dtype)


async def _in_pieces(array: Array, check: Callable[[Array], Array], name: str, shape: Sequence[int]) -> Array:
    """Checks an array piece by piece; a large one in a thread, away from the event loop."""
    if not array.ndim or not len(array):
        wanted = f"an array of shape [n, {', '.join(map(str, shape))}] with n of at least 1"
        raise InputError(column=name, expected=wanted, got=f"an array of shape {list(array.shape)}")
    rows = max(1, PIECE * len(array) // max(1, array.size))
    if rows >= len(array):
        return check(array)

    def every() -> Array:
        pieces = []
        for start in range(0, len(array), rows):
            try:
                pieces.append(check(array[start : start + rows]))
            except InputError as error:
                if error.row is None:
                    raise
                raise InputError(
                    row=error.row + start, column=error.column, expected=error.expected, got=error.got
                ) from None
        return np.concatenate(pieces)

    return await asyncio.to_thread(every)


def read_seed(seed: int | None, start: int, n: int) -> int:
    """The seed that was asked for, or one by chance, for n rows from ``start`` on.

    Raises:
        InputError: an address among theirs that is none.
    """
    if n < 1:
        raise InputError(column="n", expected="a whole number of 1 or more", got=str(n))
    chosen = secrets.randbelow(ADDRESS_LIMIT) if seed is None else seed
    for name, value in (("seed", chosen), ("start", start), ("start + n - 1", start + n - 1)):
        if not 0 <= value < ADDRESS_LIMIT:
            raise InputError(column=name, expected="a whole number from 0 to 2**53 - 1", got=str(value))
    return chosen
