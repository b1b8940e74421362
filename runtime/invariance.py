"""Does a row's answer ignore its neighbours? Asked of a graph by running parts of a batch and comparing bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.session import GraphSession

__all__ = ["PADDED", "ROWS", "DependsOnBatchError", "find_row_multiple"]

PADDED = 16
"""The row multiple of a graph that is not invariant by itself: rows are then padded to whole vectors."""

ROWS = 64
"""Rows of the batch that parts are taken from."""

_PARTS = [[7], [7, 8], [5, 6, 7], [63, 7, 31, 0, 12], list(range(7)), list(range(7, 15)), list(range(47, 64))]
_PARTS += [list(range(3, 36))]

Env = dict[str, NDArray[Any]]


class DependsOnBatchError(ValueError):
    """Whatever it is padded to, a row's answer depends on the rows beside it; says which and by how much.

    Attributes:
        rounding: whether the answers differ in their last places alone, as by another order of summation.
    """

    def __init__(self, message: str, *, rounding: bool):
        self.rounding = rounding
        super().__init__(message)


def find_row_multiple(session: GraphSession, seen: Sequence[Env]) -> int:
    """The number of rows to whose multiples a graph's batches are padded, so that a row's bits ignore its batch.

    Args:
        session: the graph; its ``row_multiple`` is left at what was found.
        seen: inputs to try it with, arrays [64, …] by name.

    Raises:
        DependsOnBatchError: not even whole vectors help.
    """
    problem, rounding = "", True
    for multiple in (1, PADDED):
        session.row_multiple = multiple
        found = _depends_on_batch(session, seen)
        if found is None:
            return multiple
        problem, alike = found
        rounding = rounding and alike
    raise DependsOnBatchError(f"even with rows padded to a multiple of {PADDED}, {problem}", rounding=rounding)


def _depends_on_batch(session: GraphSession, seen: Sequence[Env]) -> tuple[str, bool] | None:
    """None if every row has the same bits in parts of a batch as in the whole, else how not, and if by rounding."""
    found: tuple[str, bool] | None = None
    for env in seen:
        whole = session.run(env)
        for part in _PARTS:
            answers = session.run({name: array[part] for name, array in env.items()})
            for name, answer in answers.items():
                wanted = np.ascontiguousarray(whole[name][part])
                if answer.tobytes() != wanted.tobytes():
                    worst = np.nanmax(np.abs(answer.astype(np.float64) - wanted.astype(np.float64)))
                    alike = answer.dtype.kind == "f" and np.allclose(
                        answer, wanted, rtol=1e-5, atol=1e-6, equal_nan=True
                    )
                    words = f"{name} of {len(part)} rows differs from the same rows among {ROWS} by up to {worst:.3g}"
                    if not alike:
                        return words, False
                    found = found or (words, True)
    return found
