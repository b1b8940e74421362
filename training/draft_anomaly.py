"""What a drafted recipe for anomaly scoring says that one for a density does not (record 0033).

A score is made of three statistics that are fitted in seconds, whatever the columns: how far the nearest training rows
lie, how much farther than from each other, and how well the columns go together under a mixture of normals. The model
beside them, which answers about log-probabilities and draws, is a mixture of normals too where all columns are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.support import Column, Support
from training.data.columns import Finding
from training.data.dataset import resolution_of
from training.data.tables import RawTable

__all__ = ["STATISTICS", "anomaly_section", "choose_model", "taken_for_numbers"]

STATISTICS = ("neighbours", "local_outlier_factor", "mixture")
"""What the score of a table is made of."""

# Families refuse a column as continuous that is rounded to more than a tenth of its standard deviation among the rows
# that they are fitted to, and these may vary half as much as those of the whole file.
_COARSE = 0.05
_HARDLY_VARIES = 10  # rows that differ from all others, at most
_CROSS_FITTED = 4000  # rows below which none are set aside for the law alone
_CHEAP = 50_000  # numbers for which EM of several normals takes seconds
_TEST = 0.1


def taken_for_numbers(raw: RawTable, findings: Sequence[Finding]) -> list[Finding]:
    """The findings with every column of numbers taken for real: whatever number comes is then scored, not refused.

    A count below 0, or a level that no row had, is what an anomaly may look like.
    """
    numbers = []
    for finding in findings:
        column = finding.column
        if column is not None and column.categories is None:
            values = raw.column(column.name, "columns")
            if np.isfinite(values.numbers).all():
                seen = values.values[~np.isnan(values.values)]
                real = Column(
                    name=column.name,
                    kind="real",
                    base_measure="lebesgue",
                    resolution=resolution_of(seen),
                    missing_allowed=column.missing_allowed,
                )
                finding = replace(finding, column=real)
        numbers.append(finding)
    return numbers


def choose_model(support: Support, rows: NDArray[np.float64]) -> tuple[str, dict[str, Any], str]:
    """Family, hyper-parameters and the reason: rows float64 [n, d]."""
    columns = support.columns or ()
    other = [c.name for c in columns if c.base_measure == "counting" or c.missing_allowed]
    if other:
        model = {"hidden": [64, 64], "components": 5, "dropout": 0.2}
        return "tabular-made", model, f"column {other[0]!r} is not a number in every row"
    n, d = rows.shape
    spreads = rows.std(axis=0)
    coarse = any((column.resolution or 0.0) > _COARSE * spread for column, spread in zip(columns, spreads, strict=True))
    commonest = np.array([np.unique(values, return_counts=True)[1].max() for values in rows.T])
    model = {"components": 4 if n * d <= _CHEAP and n >= 50 * 4 else 1, "starts": 1, "least_variance": 0.01}
    if coarse or bool((n - commonest < _HARDLY_VARIES).any()):
        model["dequantise"] = True
    return "mixture-of-gaussians", model, "every column is a number, and normal laws are fitted in seconds"


def anomaly_section(rows: str, n: int, statistics: Sequence[Any]) -> dict[str, Any]:
    """The sections ``folds`` and ``anomaly`` of a recipe for n rows, which are called that, of such statistics."""
    reference = "cross-fit" if n < _CROSS_FITTED else "fold"
    return {
        # A row that comes may equal one that was trained on, as often as rows repeat: so may a calibration row, then.
        "folds": {"test": _TEST, "repeats": "apart"},
        "anomaly": {"rows": rows, "statistics": list(statistics), "reference": reference},
    }
