"""Disjoint folds by hash: which rows train, stop, fit the anomaly law, calibrate and test.

Rows are ranked by a keyed hash of their bytes, and the folds are cut from that order. So a row's fold depends on the
set of rows and on nothing else: not on their order in the file. Two equal rows never part, unless the recipe says that
repeats are draws like any other; where repeats are many, only the latter makes the folds exchangeable row by row.
Where rows come in groups that share data, such as overlapping windows of a series, whole groups are dealt, by a keyed
hash of their numbers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data import Dataset, Fold, row_hashes
from training.errors import FoldError
from training.recipe import FoldPlan

__all__ = ["CROSS_FITS", "Folds", "assign", "carve", "cross_fit_parts", "fold_sizes", "make_folds"]

Array = NDArray[Any]

CROSS_FITS = 5
"""Parts of the training fold when there is no reference fold."""

_WITH_REFERENCE = 400
"""Rows from which on a reference fold is set aside."""

_FOR_A_HUNDREDTH = 99
"""The least calibration rows that reach p = 0.01."""

_FOR_A_TWENTIETH = 19
"""... and p = 0.05."""


@dataclass(frozen=True)
class Folds:
    """Rows by fold, in the order of their hashes, with their labels where the model is conditional on them.

    Attributes:
        train: what the parameters are fitted on.
        validation: what early stopping looks at, carved from the training rows; None for closed forms.
        reference: what the anomaly law is fitted on; None with few rows, or without an anomaly section.
        calibration: what turns scores into p-values; None without an anomaly section.
        test: what is looked at once, after everything else.
    """

    train: Fold
    validation: Fold | None
    reference: Fold | None
    calibration: Fold | None
    test: Fold

    @property
    def fitted(self) -> Fold:
        """The rows that the fit looks at: to train on, and to stop by."""
        return self.train if self.validation is None else self.train + self.validation

    def named(self) -> dict[str, Fold]:
        """The folds that there are."""
        return {name: fold for name in self.__annotations__ if (fold := getattr(self, name)) is not None}

    def provenance(self) -> dict[str, dict[str, int | str]]:
        """Number of rows and SHA-256 of each fold, as the manifest has them."""
        return {name: {"n": len(fold), "sha256": _fold_digest(fold.rows)} for name, fold in self.named().items()}


def fold_sizes(
    n: int, plan: FoldPlan, *, official_test: bool, calibrated: bool, referenced: bool = True
) -> dict[str, int]:
    """How many of n rows go to test, calibration and reference; the rest train.

    n_cal = min(2000, max(99, n/4)), as 99 rows are the least that reach p = 0.01. Where those were more than half of
    the rows, that level is given up, and a quarter calibrates: at least the 19 that reach 0.05, at most half (record
    38). The reference fold is as large as the calibration fold, from 400 rows on, where one is wanted.
    """
    sizes = {"test": 0 if official_test else max(1, round(plan.test * n))}
    if calibrated:
        least = _FOR_A_HUNDREDTH if n >= 2 * _FOR_A_HUNDREDTH else _FOR_A_TWENTIETH
        sizes["calibration"] = min(2000, max(least, n // 4), n // 2)
        if referenced and n >= _WITH_REFERENCE:
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


def carve(fold: Fold, plan: FoldPlan) -> tuple[Fold, Fold]:
    """Set the validation rows aside: training rows -> (what remains, what is set aside).

    Raises:
        FoldError: nothing would remain, or nothing would be set aside.
    """
    size = max(1, round(plan.validation * len(fold)))
    # Another key: ranked by the plan's own, the training rows that come first are next to the other folds' last.
    dealt = assign(_hashes(fold, plan, 1), {"aside": size}, "remain")
    if not len(dealt["remain"]):
        distinct = len(np.unique(fold.rows, axis=0))
        raise FoldError(f"{len(fold)} rows, {distinct} of them distinct, are too few to split")
    return fold[dealt["remain"]], fold[dealt["aside"]]


def cross_fit_parts(fold: Fold, plan: FoldPlan, parts: int = CROSS_FITS) -> list[tuple[Fold, Fold]]:
    """Pairs (rows to fit on, rows held out); every row is held out exactly once.

    Raises:
        FoldError: fewer distinct rows than parts.
    """
    even = {str(part): len(fold) // parts + (part < len(fold) % parts) for part in range(parts - 1)}
    dealt = assign(_hashes(fold, plan, 2), even, str(parts - 1))
    if any(not len(positions) for positions in dealt.values()):
        raise FoldError(f"{len(fold)} training rows are too few, or too alike, for {parts} cross-fits")
    return [
        (fold[np.concatenate([other for name, other in dealt.items() if name != held])], fold[positions])
        for held, positions in dealt.items()
    ]


def make_folds(data: Dataset, plan: FoldPlan, *, calibrated: bool, validated: bool, referenced: bool = True) -> Folds:
    """Split a data set.

    Args:
        data: the data; an official test split stays the test fold, and other rows that equal one of it are dropped.
        plan: sizes and key.
        calibrated: whether calibration (and reference) rows are needed.
        referenced: whether the anomaly law has a fold of its own where there are rows enough.
        validated: whether early stopping needs a validation fold.

    Raises:
        FoldError: too few distinct rows for a fold that is needed.
    """
    rows, test = data.fold, data.test_fold
    if test is not None and plan.repeats == "together":
        rows = rows[~np.isin(row_hashes(rows.rows, plan.key), row_hashes(test.rows, plan.key))]
    hashes = _hashes(rows, plan, 0)
    sizes = fold_sizes(len(rows), plan, official_test=test is not None, calibrated=calibrated, referenced=referenced)
    dealt = assign(hashes, sizes, "train")
    empty = [name for name, positions in dealt.items() if not len(positions) and sizes.get(name) != 0]
    if empty:
        distinct = len(np.unique(hashes))
        raise FoldError(f"{len(rows)} rows, {distinct} of them distinct, leave the {empty[0]} fold empty")
    train: Fold = rows[dealt["train"]]
    validation: Fold | None = None
    if validated:
        train, validation = carve(train, plan)
    return Folds(
        train=train,
        validation=validation,
        reference=rows[dealt["reference"]] if "reference" in dealt else None,
        calibration=rows[dealt["calibration"]] if "calibration" in dealt else None,
        test=test if test is not None else rows[dealt["test"]],
    )


def _hashes(fold: Fold, plan: FoldPlan, purpose: int) -> NDArray[np.uint64]:
    key = (plan.key + purpose) % 2**53
    if fold.groups is not None:
        return row_hashes(fold.groups[:, None], key)
    return row_hashes(fold.rows, key, apart=plan.repeats == "apart", labels=fold.labels)


def _fold_digest(rows: Array) -> str:
    digests = sorted(hashlib.sha256(row.tobytes()).digest() for row in np.ascontiguousarray(rows))
    return hashlib.sha256(b"".join(digests)).hexdigest()
