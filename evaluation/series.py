"""Labelled series in time, cut into windows: each window a row, strange where it touches a labelled stretch.

The form is that of the Numenta Anomaly Benchmark (A. Lavin and S. Ahmad 2015): a CSV file ``timestamp,value`` a series,
and ``combined_windows.json`` with the labelled stretches of each. Windows that overlap depend on each other, and so do
those that do not: nothing here is exchangeable, and no guarantee about alarms is claimed.
"""

from __future__ import annotations

import csv
import hashlib
import json
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.labelled import Labelled
from training.data.series import window_starts
from training.errors import DataError

__all__ = ["BLOCK", "STRIDE", "WINDOW", "read_series", "series_names"]

WINDOW, STRIDE, BLOCK = 16, 4, 64
"""Samples of a row, from the start of one to that of the next, and of a block whose windows are dealt together."""

_STRETCHES = "combined_windows.json"


def series_names(folder: Path) -> list[str]:
    """Names of the series of a folder, those without a labelled stretch left out: no rows to tell apart.

    Raises:
        DataError: no labels in the folder, or not of this form.
    """
    return [name for name, stretches in _stretches(folder).items() if stretches]


def read_series(folder: Path, name: str) -> Labelled:
    """Windows of one series, float64 [n, ``WINDOW``]; column t is its t-th sample.

    Samples are taken in the file's order, gaps and repeated times included, as the benchmark does.

    Raises:
        DataError: no such file, or a line that is not a time and a number; names the line.
    """
    path = folder / name
    times, values = _samples(path)
    inside = np.zeros(len(values), dtype=np.bool_)
    for start, end in _stretches(folder)[name]:
        inside |= (times >= _time(start)) & (times <= _time(end))
    starts, blocks = window_starts([(0, len(values))], WINDOW, STRIDE, BLOCK)
    if not len(starts):
        raise DataError(f"{path}: {len(values)} samples hold no window of {WINDOW}")
    places = starts[:, None] + np.arange(WINDOW)
    digest = hashlib.sha256(path.read_bytes() + (folder / _STRETCHES).read_bytes()).hexdigest()
    return Labelled(name, values[places], inside[places].any(axis=1), digest, groups=blocks)


def _stretches(folder: Path) -> dict[str, list[list[str]]]:
    path = folder / _STRETCHES
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): [[str(start), str(end)] for start, end in found[name]] for name in sorted(found)}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file: it says where the series' anomalies are") from None
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: expected lists of [start, end] by series: {error}") from None


def _samples(path: Path) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    times, values = [], []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for record in reader:
                try:
                    times.append(_time(record["timestamp"]))
                    values.append(float(record["value"]))
                except (KeyError, TypeError, ValueError):
                    expected = "columns timestamp and value, a time and a number"
                    raise DataError(f"{path}: line {reader.line_num}: expected {expected}") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    return np.array(times, dtype="datetime64[us]"), np.array(values)


def _time(text: str) -> np.datetime64:
    return np.datetime64(datetime.fromisoformat(text.strip()), "us")
