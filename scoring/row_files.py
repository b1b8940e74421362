"""All rows of a file at once, for what needs them together: CSV and Parquet by column name, npy by position.

CSV and Parquet are read as ``nonesuch score`` reads them. Columns that a bundle does not know are passed over and
named, since a table for training has them too: keys, dates, labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import InputError
from contract.support import Support
from contract.words import MISSING
from scoring.rows import FileError, located

__all__ = ["RowFile", "read_rows_of"]


@dataclass(frozen=True)
class RowFile:
    """Rows and where they came from.

    Attributes:
        rows: [n, *shape] of the support's dtype.
        sha256: of the file.
        unused: columns of the file that the support lacks.
        labels: of the rows, [n], where a column of them was asked for.
        blocks: of each row what names its block, [n], where a column of that was asked for.
    """

    rows: NDArray[Any]
    sha256: str
    unused: tuple[str, ...] = ()
    labels: list[str] | None = None
    blocks: list[str] | None = None


def read_rows_of(
    path: Path,
    support: Support,
    *,
    missing: Collection[str] = (),
    label: str | None = None,
    block: str | None = None,
) -> RowFile:
    """The rows in a file: ``.npy``, or what ``nonesuch score`` reads.

    Args:
        path: the file.
        support: of the rows.
        missing: words for a missing value, beside the usual ones.
        label: a column of labels, one for each row.
        block: a column that says which block a row belongs to.

    Raises:
        InputError: a row holds what a column does not allow, has not as many values as the others, or no label or
            block.
        FileError: the file is damaged, lacks a column or has two of one name, or holds no rows.
        OSError: there is no such file.
        ModuleNotFoundError: PyArrow is not installed, which all but npy files need.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if path.suffix == ".npy":
        for name, what in ((label, "labels"), (block, "blocks")):
            if name is not None:
                raise FileError(
                    f"{path}: it has no column {name!r}: {what} need a table, such as a .csv or .parquet file"
                )
        found = RowFile(_array(path, support), digest)
    else:
        words = MISSING | {word.strip().lower() for word in missing}
        found = _table(path, support, words, {"a label": label, "a block": block}, digest)
    if not len(found.rows):
        raise FileError(f"{path}: no rows")
    return found


def _array(path: Path, support: Support) -> NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FileError(f"{path}: cannot be read as npy: {' '.join(str(error).split())}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise FileError(f"{path}: expected an array of numbers")
    try:
        return support.read(array)
    except InputError as error:
        if error.row is None:
            raise FileError(f"{path}: {error}") from None
        raise


def _table(path: Path, support: Support, missing: Set[str], asked: Mapping[str, str | None], digest: str) -> RowFile:
    """The rows of a table; ``asked`` are the columns that say something of each row, by what it is."""
    from scoring.batches import columns_of, names_in, rows_of  # with PyArrow
    from scoring.sources import open_source

    source = open_source(path)
    keep = tuple(dict.fromkeys(name for name in asked.values() if name is not None))
    columns = columns_of(source, support, keep)
    parts: list[NDArray[Any]] = []
    said: dict[str, list[str]] = {what: [] for what in asked}
    for piece in source.pieces(columns):
        rows, errors = rows_of(piece.batch, support, missing, keep)
        wrong = {int(piece.positions[row]): error for row, error in errors.items()} | piece.broken
        for what, name in asked.items():
            if name is None:
                continue
            found, errors = names_in(piece.batch, name, missing, what)
            for row, error in errors.items():
                wrong.setdefault(int(piece.positions[row]), error)
            said[what] += found
        if wrong:
            first = min(wrong)
            raise located(wrong[first], first)
        parts.append(rows)
    unused = tuple(name for name in source.names if name not in columns)
    rows = np.concatenate(parts) if parts else np.empty((0, *support.shape), support.dtype)
    labels, blocks = (said[what] if name is not None else None for what, name in asked.items())
    return RowFile(rows, digest, unused, labels, blocks)
