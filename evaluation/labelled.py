"""Sets of labelled rows, and how one is split into rows to train on and rows to look at.

Rows are dealt by the keyed hash of their bytes that folds are dealt by (``training/folds.py``), repeats one by one:
so any two ordinary rows are exchangeable, as the promise about false alarms asks. The seed of a split is its key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from training.data import row_hashes
from training.data.npz import read_arrays
from training.errors import DataError

__all__ = ["MOST_ROWS", "SETTINGS", "Labelled", "Setting", "Split", "deal", "read_labelled", "read_sets", "source_of"]

MOST_ROWS = 10_000
"""Of training rows, and of ordinary test rows: where there are more, a lot decides which are taken."""

_KEY = 2**20
"""Keys that no fold of a recipe has: of rows that one deal has taken for their small hashes, those that no other one
equals would be the first in another deal by the same key."""

Setting = Literal["A", "B"]
SETTINGS: dict[Setting, str] = {
    "A": "trained on ordinary rows alone",
    "B": "trained on contaminated rows: anomalies in their own share among them, labels unseen",
}

# Sets that were cut out of the same table are no independent evidence.
_SOURCES = {
    "statlog landsat": ("19_landsat", "30_satellite", "31_satimage-2"),
    "thyroid disease": ("2_annthyroid", "38_thyroid"),
    "cardiotocography": ("6_cardio", "7_Cardiotocography"),
    "breast cancer": ("4_breastw", "42_WBC"),
    "kdd cup 99": ("16_http", "34_smtp"),
}

Array = NDArray[Any]


@dataclass(frozen=True)
class Labelled:
    """Rows, and which of them are anomalies.

    Attributes:
        name: of the set.
        rows: float64 [n, d].
        strange: bool [n].
        sha256: of the file.
        groups: int64 [n]; rows of one number, such as overlapping windows, are dealt together. None: one by one.
    """

    name: str
    rows: NDArray[np.float64]
    strange: NDArray[np.bool_]
    sha256: str
    groups: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Split:
    """What a detector is trained on, and what it is then asked about.

    Attributes:
        train: float64 [n, d].
        contaminated: how many training rows are anomalies.
        ordinary: held-out ordinary rows, float64 [m, d].
        strange: held-out anomalies, float64 [m', d].
        seed: key of the lot.
    """

    train: NDArray[np.float64]
    contaminated: int
    ordinary: NDArray[np.float64]
    strange: NDArray[np.float64]
    seed: int

    @property
    def test(self) -> NDArray[np.float64]:
        """The ordinary rows, then the anomalies."""
        return np.concatenate([self.ordinary, self.strange])

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Which test rows are anomalies."""
        return np.arange(len(self.ordinary) + len(self.strange)) >= len(self.ordinary)


def read_sets(folder: Path, names: Sequence[str] | None = None) -> list[Path]:
    """The npz files of a folder in the order of their numbers, or those that are named.

    Raises:
        DataError: no such folder, or no such set in it.
    """
    found = sorted(folder.glob("*.npz"), key=lambda path: (_number(path.stem), path.stem))
    if not found:
        raise DataError(f"{folder}: no npz files of labelled rows; name their folder, or the data folder above it")
    known = {path.stem: path for path in found}
    for name in names or ():
        if name not in known:
            raise DataError(f"{folder}: no set {name!r}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else found


def read_labelled(path: Path) -> Labelled:
    """A set of ADBench's form: ``X`` [n, d] and ``y`` [n], 1 for an anomaly.

    Raises:
        DataError: no such file or array, or of another shape; names what was expected.
    """
    arrays = read_arrays(path, ["X", "y"])
    rows, labels = arrays["X"], arrays["y"]
    if rows.ndim != 2 or rows.dtype.kind not in "biuf":
        raise DataError(f"{path}: X: expected numbers [n, d], got {rows.dtype} {list(rows.shape)}")
    labels = labels.ravel() if labels.size == len(rows) else labels
    if labels.shape != (len(rows),) or not np.isin(labels, (0, 1)).all():
        raise DataError(f"{path}: y: expected 0 or 1 for each of {len(rows):,} rows")
    if not np.isfinite(rows).all():
        row, column = np.argwhere(~np.isfinite(rows))[0]
        raise DataError(f"{path}: X: row {row}, column {column}: expected a finite number, got {rows[row, column]}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Labelled(path.stem, rows.astype(np.float64), labels.astype(np.bool_), digest)


def source_of(name: str) -> str:
    """What table a set was cut out of: its own name, unless others were cut out of the same one."""
    return next((source for source, names in _SOURCES.items() if name in names), name)


def deal(table: Labelled, seed: int, setting: Setting, most: int = MOST_ROWS) -> Split:
    """Split a set by lot: the same split for every detector.

    In setting A half of the ordinary rows train, at most ``most``; the other ordinary rows and all anomalies are held
    out. In setting B half of all rows train, at most ``most``, as many anomalies among them as is their share of all
    rows; the rest is held out. Of held-out ordinary rows, at most ``most`` are looked at. Rows in groups are dealt by
    the group: half of the groups train, in setting A half of those that hold no anomaly.

    Raises:
        DataError: a part would be empty.
    """
    if table.groups is not None:
        return _deal_groups(table, seed, setting, most)
    keys = row_hashes(table.rows, _KEY + seed, apart=True)
    ordinary, strange = _ranked(keys, ~table.strange), _ranked(keys, table.strange)
    if setting == "A":
        few, many = 0, min(-(-len(ordinary) // 2), most)
    else:
        total = min(-(-len(table.rows) // 2), most)
        few = min(round(total * len(strange) / len(table.rows)), len(strange) - 1)
        many = total - few
    train = np.sort(np.concatenate([ordinary[:many], strange[:few]]))
    return _split(table, train, ordinary[many : many + most], strange[few:], seed)


def _deal_groups(table: Labelled, seed: int, setting: Setting, most: int) -> Split:
    """Whole groups train or are held out; in setting A those that hold an anomaly are held out."""
    assert table.groups is not None
    keys = row_hashes(table.groups[:, None], _KEY + seed)
    mixed = np.isin(table.groups, table.groups[table.strange])
    pool = ~mixed if setting == "A" else np.ones(len(table.rows), dtype=np.bool_)
    numbers = np.unique(keys[pool])
    chosen = np.isin(keys, numbers[: -(-len(numbers) // 2)]) & pool
    ordinary, strange = _ranked(keys, ~chosen & ~table.strange), _ranked(keys, ~chosen & table.strange)
    return _split(table, np.flatnonzero(chosen), ordinary[:most], strange, seed)


def _split(table: Labelled, train: Array, ordinary: Array, strange: Array, seed: int) -> Split:
    for part, positions in (("training rows", train), ("ordinary test rows", ordinary), ("anomalies", strange)):
        if not len(positions):
            raise DataError(f"{table.name}: {len(table.rows)} rows, {table.strange.sum()} anomalies, leave no {part}")
    rows = table.rows
    return Split(rows[train], int(table.strange[train].sum()), rows[ordinary], rows[strange], seed)


def _ranked(keys: NDArray[np.uint64], which: NDArray[np.bool_]) -> NDArray[np.int64]:
    positions = np.flatnonzero(which)
    return positions[np.argsort(keys[positions], kind="stable")]


def _number(stem: str) -> int:
    head = stem.partition("_")[0]
    return int(head) if head.isdecimal() else 0
