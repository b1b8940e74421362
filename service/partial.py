"""Rows of which a part is known: what programs take of them, and what answers say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from contract.errors import InputError
from contract.programs import KNOWN, Filling, Program
from contract.randomness import row_address
from contract.support import Support

__all__ = ["FILLING_WORDS", "Partial", "filling_of", "read_given", "summed_out"]

Array = NDArray[Any]

FILLING_WORDS: dict[Filling, str] = {
    "exact": "drawn from the model's law given everything that is known of the row",
    "earlier": "drawn one after another in row-major order, each given what precedes it in the row, known or drawn: "
    "the model's law given everything that is known where all of that precedes the first hole, and where something "
    "known comes later, a law that does not look ahead at it",
    "chain": "the last state of a Markov chain that leaves alone what is known: its law tends to the model's law given "
    "everything that is known as steps grow",
}


@dataclass(frozen=True)
class Partial:
    """Rows with holes.

    Attributes:
        x: rows [n, *shape], 1 in a hole.
        known: bool [n, *shape].
    """

    x: Array
    known: NDArray[np.bool_]

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Which rows have no hole, [n]."""
        return np.asarray(self.known.reshape(len(self.known), -1).all(axis=1))

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many coordinates are known, [n]."""
        return np.asarray(self.known.reshape(len(self.known), -1).sum(axis=1))

    def at(self, rows: NDArray[np.int64]) -> Self:
        """Some of the rows."""
        return type(self)(self.x[rows], self.known[rows])

    def inputs(self, program: Program) -> dict[str, Array]:
        """``x`` and ``known`` as a program takes them: where it knows a pixel whole or not at all, one flag a pixel.

        Raises:
            InputError: some channels of a pixel are known, and others are not.
        """
        part = program.input(KNOWN)
        assert part is not None
        known = self.known.reshape(len(self.known), *part.shape, -1)
        some, every = np.asarray(known.any(axis=-1)), np.asarray(known.all(axis=-1))
        if (some != every).any():
            row, *place = (int(i) for i in np.argwhere(some != every)[0])
            raise InputError(
                row=row,
                column="".join(f"[{i}]" for i in place),
                expected="all channels of the pixel or none",
                got="some of them",
            )
        return {"x": self.x, KNOWN: every}

    def addresses(self, n: int, seed: int, start: int) -> dict[str, NDArray[np.int64]]:
        """Addresses of n draws for each row, next to each other: a hash of what is known of the row, counted on.

        Draws of different rows are independent of each other, and a row's own depend on no other row.
        """
        held = np.where(self.known, self.x.astype(np.float64), np.nan)
        count = np.uint64(start) + np.arange(n, dtype=np.uint64)
        with np.errstate(over="ignore"):
            row = (row_address(held).astype(np.uint64)[:, None] + count) & np.uint64(2**63 - 1)
        return {"seed": np.full(len(held) * n, seed, dtype=np.int64), "row": row.reshape(-1).astype(np.int64)}

    def repeated(self, program: Program, n: int, seed: int, start: int) -> dict[str, Array]:
        """Inputs of n draws for each row."""
        held = {name: np.repeat(values, n, axis=0) for name, values in self.inputs(program).items()}
        return {**held, **self.addresses(n, seed, start)}

    def exact(self, filling: Filling | None) -> list[bool]:
        """Of each row, whether draws are from the law given everything that is known."""
        if filling == "earlier":
            known = self.known.reshape(len(self.known), -1)
            # Known for as long as the row began: nothing known comes after a hole.
            return [bool(flag) for flag in (known == np.logical_and.accumulate(known, axis=1)).all(axis=1)]
        return [filling == "exact"] * len(self.known)


def read_given(support: Support, given: Mapping[str, Any]) -> Partial:
    """Values of some columns by name -> one row with holes.

    Raises:
        InputError: a name or a value that the support does not allow, or columns without names.
    """
    try:
        return Partial(*support.holes(support.with_holes.records_to_array([given])))
    except InputError as error:
        if support.columns is None:
            raise InputError(
                column="given", expected="no columns by name, for this model's have none; ask /inpaint", got="some"
            ) from None
        raise InputError(column=error.column or "given", expected=error.expected, got=error.got) from None


def filling_of(program: Program, partial: Partial) -> dict[str, Any]:
    """What draws are conditioned on, in an answer."""
    words = FILLING_WORDS[program.filling] if program.filling is not None else None
    return {"filling": program.filling, "law": words, "exact": partial.exact(program.filling)}


def summed_out(support: Support, partial: Partial, log_prob: NDArray[np.float64]) -> dict[str, Any]:
    """What an answer adds where coordinates were summed out: which, row by row, and bits by those that are left."""
    flat = partial.known.reshape(len(partial.known), -1)
    body: dict[str, Any] = {"summed_out": [[support.label(int(i)) for i in np.flatnonzero(~row)] for row in flat]}
    if support.discrete:
        with np.errstate(invalid="ignore", divide="ignore"):
            body["bits_per_dimension"] = -log_prob / (log(2.0) * partial.counts)
    return body
