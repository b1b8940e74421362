"""Tables of rounded numbers, made fit for a density: what a column's resolution is, and noise of its width.

A number that was rounded to a multiple of r stands for a cell of width r. Where a density p is fitted to rows with
uniform noise u on (-r/2, r/2) added to each column, its mean log-density is a lower bound, by Jensen's inequality:

    E_u log p(x + u) <= log E_u p(x + u) = log( P(cell of x) / volume of the cell )

(L. Theis, A. van den Oord and M. Bethge, "A note on the evaluation of generative models", 2016, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SPLITS", "Table", "dequantised", "printed_step", "read_table", "resolution", "tidied"]

SPLITS = 10
SIGNIFICANT_DIGITS = 5
"""How the files' source prints its numbers."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Table:
    """A set of rows, rounded as its numbers are, and what was found about them.

    Attributes:
        name: the set's.
        rows: float64 [n, d], each column on a grid of its own resolution; the target of the regression is the last.
        resolutions: width of a cell in each column, float64 [d].
        test_mask: which rows are test rows of each split, bool [n, 10].
        constant: columns that were left out because they never vary.
        repeated: columns that were left out because they repeat another one.
        repeated_rows: rows that are equal to an earlier one.
    """

    name: str
    rows: NDArray[np.float64]
    resolutions: NDArray[np.float64]
    test_mask: NDArray[np.bool_]
    constant: int
    repeated: int
    repeated_rows: int


def read_table(path: Path) -> Table:
    """A set with its splits: an npz file with X [n, d], y [n] or [n, 1], and test_mask, bool [n, 10].

    Raises:
        ValueError: the file does not hold such arrays.
    """
    with np.load(path, allow_pickle=False) as arrays:
        missing = {"X", "y", "test_mask"} - set(arrays.files)
        if missing:
            raise ValueError(f"{path}: no array {sorted(missing)[0]!r}; expected X, y and test_mask")
        x, y, test_mask = arrays["X"], arrays["y"], arrays["test_mask"]
    n = len(x)
    if x.ndim != 2 or y.size != n or test_mask.shape != (n, SPLITS) or test_mask.dtype != np.bool_:
        raise ValueError(
            f"{path}: expected X [n, d], y [n] and test_mask bool [n, {SPLITS}], "
            f"got {list(x.shape)}, {list(y.shape)} and {test_mask.dtype} {list(test_mask.shape)}"
        )
    rows = np.column_stack([x.astype(np.float64), y.astype(np.float64).reshape(n)])
    if not np.isfinite(rows).all():
        raise ValueError(f"{path}: a value is not a finite number")
    columns = [tidied(column) for column in rows.T]
    varying = [column for column in columns if np.ptp(column) > 0]
    kept: list[Array] = []
    for column in varying:
        if not any(np.array_equal(column, other) for other in kept):
            kept.append(column)
    rows = np.column_stack(kept)
    return Table(
        name=path.stem,
        rows=rows,
        resolutions=np.array([resolution(column) for column in kept]),
        test_mask=test_mask,
        constant=len(columns) - len(varying),
        repeated=len(varying) - len(kept),
        repeated_rows=n - len(np.unique(rows, axis=0)),
    )


def printed_step(values: NDArray[np.float64]) -> float:
    """The last digit that a column's numbers have: that of the 99th percentile of their sizes, five digits down."""
    size = float(np.quantile(np.abs(values), 0.99))
    if size == 0.0:
        size = float(np.abs(values).max())
    return float(10.0 ** (np.floor(np.log10(size)) - (SIGNIFICANT_DIGITS - 1))) if size > 0 else 1.0


def tidied(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A column [n] rounded to its last digit: numbers near 0 are printed with more, which say nothing."""
    step = printed_step(values)
    return np.round(values / step) * step + 0.0


def resolution(values: NDArray[np.float64]) -> float:
    """The least distance between two different values of a tidied column [n]: cells of that width do not overlap."""
    step = printed_step(values)
    places = np.unique(np.round(values / step))
    if len(places) < 2:
        raise ValueError("a column that never varies has no resolution")
    return float(np.diff(places).min() * step)


def dequantised(
    rows: NDArray[np.float64], resolutions: NDArray[np.float64], draws: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Each row ``draws`` times, every time with other noise: [n, d], [d] -> [n draws, d], copies of a row together."""
    repeated = np.repeat(rows, draws, axis=0)
    return repeated + resolutions * generator.uniform(-0.5, 0.5, repeated.shape)
