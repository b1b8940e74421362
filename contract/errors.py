"""The two ways in which something can break the contract: a bad input row, a bad bundle."""

from __future__ import annotations

__all__ = ["BundleError", "InputError"]


class InputError(ValueError):
    """A value that the support or a program does not allow.

    Attributes:
        row: position of the row in the request, from 0, or None when no single row is at fault.
        column: name of the column (or the index within a row, such as ``[3][14]``), or None.
        expected: what would have been accepted, in words.
        got: what was found, in words, or None.
    """

    def __init__(self, *, expected: str, row: int | None = None, column: str | None = None, got: str | None = None):
        self.row = row
        self.column = column
        self.expected = expected
        self.got = got
        where = ", ".join(
            part
            for part in (
                f"row {row}" if row is not None else "",
                f"column {column!r}" if column is not None else "",
            )
            if part
        )
        message = f"expected {expected}" + (f", got {got}" if got is not None else "")
        super().__init__(f"{where}: {message}" if where else message)


class BundleError(Exception):
    """A bundle that cannot be trusted or understood; the message names the file and the reason."""
