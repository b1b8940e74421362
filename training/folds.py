"""Disjoint folds by hash: which rows train, stop, fit the anomaly law, calibrate and test.

Rows are ranked by a keyed hash of their bytes, and the folds are cut from that order. So a row's fold depends on the
set of rows and on nothing else: not on their order in the file. Two equal rows never part, unless the recipe says that
repeats are draws like any other; where repeats are many, only the latter makes the folds exchangeable row by row.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data import Dataset, row_hashes
from training.errors import FoldError
from training.recipe import FoldPlan

__all__ = ["CROSS_FITS", "Folds", "assign", "carve", "cross_fit_parts", "fold_sizes", "make_folds"]

Array = NDArray[Any]

CROSS_FITS = 5
"""Parts of the training fold when there is no reference fold."""

_WITH_REFERENCE = 400
"""Rows from which on a reference fold is set aside."""


@dataclass(frozen=True)
class Folds:
    """Rows by fold, each [n, *shape], in the order of their hashes.

    Attributes:
        train: what the parameters are fitted on.
        validation: what early stopping looks at, carved from the training rows; None for closed forms.
        reference: what the anomaly law is fitted on; None with few rows, or without an anomaly section.
        calibration: what turns scores into p-values; None without an anomaly section.
        test: what is looked at once, after everything else.
    """

    train: Array
    validation: Array | None
    reference: Array | None
    calibration: Array | None
    test: Array

    def named(self) -> dict[str, Array]:
        """The folds that there are."""
        return {name: rows for name in self.__annotations__ if (rows := getattr(self, name)) is not None}

    def provenance(self) -> dict[str, dict[str, int | str]]:
        """Number of rows and SHA-256 of each fold, as the manifest has them."""
        return {name: {"n": len(rows), "sha256": _fold_digest(rows)} for name, rows in self.named().items()}


def fold_sizes(n: int, plan: FoldPlan, *, official_test: bool, calibrated: bool) -> dict[str, int]:
    """How many of n rows go to test, calibration and reference; the rest train.

    n_cal = min(2000, max(99, n/4)), at most n/2: 99 is the least that reaches p = 0.01. The reference fold is as
    large as the calibration fold, from 400 rows on.
    """
    sizes = {"test": 0 if official_test else max(1, round(plan.test * n))}
    if calibrated:
        sizes["calibration"] = min(2000, max(99, n // 4), n // 2)
        if n >= _WITH_REFERENCE:
            sizes["reference"] = sizes["calibration"]
    return sizes


def assign(hashes: NDArray[np.uint64], sizes: dict[str, int], rest: str) -> dict[str, NDArray[np.int64]]:
    """Deal rows to folds in the order of their hashes.

    Args:
        hashes: uint64 [n]; rows of equal hash stay together, so a fold may exceed its size by what the last of its
            groups has too many.
        sizes: rows per fold, dealt in this order; a fold of size 0 gets none.
        rest: name of the fold that takes what is left.

    Returns:
        Positions by fold, int64, each sorted by hash.
    """
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    # ends[i]: how many rows are dealt once the group of the i-th ranked row is complete
    ends = np.searchsorted(ranked, ranked, side="right")
    dealt: dict[str, NDArray[np.int64]] = {}
    start = 0
    for name, size in sizes.items():
        wanted = min(start + size, len(order))
        end = int(ends[wanted - 1]) if wanted > start else start
        dealt[name] = order[start:end]
        start = end
    dealt[rest] = order[start:]
    return dealt


def carve(rows: Array, plan: FoldPlan) -> tuple[Array, Array]:
    """Set the validation rows aside: training rows [n, …] -> (what remains, what is set aside).

    Raises:
        FoldError: nothing would remain, or nothing would be set aside.
    """
    size = max(1, round(plan.validation * len(rows)))
    # Another key: ranked by the plan's own, the training rows that come first are next to the other folds' last.
    dealt = assign(row_hashes(rows, (plan.key + 1) % 2**53, apart=plan.repeats == "apart"), {"aside": size}, "remain")
    if not len(dealt["remain"]):
        raise FoldError(f"{len(rows)} rows, {len(np.unique(rows, axis=0))} of them distinct, are too few to split")
    return rows[dealt["remain"]], rows[dealt["aside"]]


def cross_fit_parts(rows: Array, plan: FoldPlan, parts: int = CROSS_FITS) -> list[tuple[Array, Array]]:
    """Pairs (rows to fit on, rows held out), [n, …] each; every row is held out exactly once.

    Raises:
        FoldError: fewer distinct rows than parts.
    """
    even = {str(part): len(rows) // parts + (part < len(rows) % parts) for part in range(parts - 1)}
    hashes = row_hashes(rows, (plan.key + 2) % 2**53, apart=plan.repeats == "apart")
    dealt = assign(hashes, even, str(parts - 1))
    if any(not len(positions) for positions in dealt.values()):
        raise FoldError(f"{len(rows)} training rows are too few, or too alike, for {parts} cross-fits")
    return [
        (rows[np.concatenate([other for name, other in dealt.items() if name != held])], rows[positions])
        for held, positions in dealt.items()
    ]


def make_folds(data: Dataset, plan: FoldPlan, *, calibrated: bool, validated: bool) -> Folds:
    """Split a data set.

    Args:
        data: the data; an official test split stays the test fold, and other rows that equal one of it are dropped.
        plan: sizes and key.
        calibrated: whether calibration (and reference) rows are needed.
        validated: whether early stopping needs a validation fold.

    Raises:
        FoldError: too few distinct rows for a fold that is needed.
    """
    rows = data.rows
    if data.test is not None and plan.repeats == "together":
        rows = rows[~np.isin(row_hashes(rows, plan.key), row_hashes(data.test, plan.key))]
    hashes = row_hashes(rows, plan.key, apart=plan.repeats == "apart")
    sizes = fold_sizes(len(rows), plan, official_test=data.test is not None, calibrated=calibrated)
    dealt = assign(hashes, sizes, "train")
    empty = [name for name, positions in dealt.items() if not len(positions) and sizes.get(name) != 0]
    if empty:
        distinct = len(np.unique(hashes))
        raise FoldError(f"{len(rows)} rows, {distinct} of them distinct, leave the {empty[0]} fold empty")
    train: Array = rows[dealt["train"]]
    validation: Array | None = None
    if validated:
        train, validation = carve(train, plan)
    return Folds(
        train=train,
        validation=validation,
        reference=rows[dealt["reference"]] if "reference" in dealt else None,
        calibration=rows[dealt["calibration"]] if "calibration" in dealt else None,
        test=data.test if data.test is not None else rows[dealt["test"]],
    )


def _fold_digest(rows: Array) -> str:
    digests = sorted(hashlib.sha256(row.tobytes()).digest() for row in np.ascontiguousarray(rows))
    return hashlib.sha256(b"".join(digests)).hexdigest()
