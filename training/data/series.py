"""A series in time as rows: windows of quantised samples, in blocks that share none.

A level l stands for the values from low + l w up to low + (l + 1) w, with w = (high - low) / levels; the last one holds
``high`` too. Rows are levels, and so is whatever a model of them says: its log-probability is of levels, not of values.

Windows that overlap share samples, so that a fold of its own for each of them would test what was trained on. The
series is therefore cut into blocks, no window leaves its block, and folds are dealt block by block
(``training/folds.py``).
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.support import Column, Support
from contract.words import parse_number
from training.data.dataset import Dataset
from training.errors import DataError
from training.sections import SeriesData

__all__ = ["quantised", "series_windows", "window_starts"]


def series_windows(spec: SeriesData, root: Path) -> Dataset:
    """Windows of the series in a CSV file, uint8 [n, T], and the block of each.

    Where a sample is missing, that is, where the next time is not one interval later, a block ends.

    Raises:
        DataError: no such file or column, a time or a value that is none, times that do not go forwards, or a value
            beyond the range; names line and column.
    """
    path = root / spec.file
    times, values, lines = _read(path, spec)
    levels = quantised(values, spec.low, spec.high, spec.levels)
    wrong = levels < 0
    if wrong.any():
        at = int(np.argmax(wrong))
        expected = f"a value from {spec.low:g} to {spec.high:g}, the range of the levels"
        raise DataError(f"{path}: line {lines[at]}, column {spec.value!r}: expected {expected}, got {values[at]:g}")
    starts, blocks = window_starts(_runs(path, spec, times, lines), spec.window, spec.stride, spec.block)
    if not len(starts):
        raise DataError(f"{path}: {len(values)} samples hold no window of {spec.window} without a gap")
    rows = levels.astype(np.uint8)[starts[:, None] + np.arange(spec.window)]
    element = Column(name="level", kind="ordinal", base_measure="counting", levels=spec.levels)
    width = (spec.high - spec.low) / spec.levels
    words = (
        f"{spec.description}; {len(rows):,} windows of {spec.window} samples, one every {spec.stride} in blocks of "
        f"{spec.block}; level l of {spec.levels} holds the values from {spec.low:g} + {width:g} l up to {width:g} more"
    )
    together = f"blocks of {spec.block} samples of the series"
    return Dataset(rows, Support(shape=(spec.window,), element=element), words, groups=blocks, grouped_by=together)


def quantised(values: NDArray[np.float64], low: float, high: float, levels: int) -> NDArray[np.int64]:
    """The level of each value, -1 beyond the range: float64 [n] -> int64 [n]; ``high`` itself is of the last level.

    Example:
        >>> quantised(np.array([0.0, 0.9, 1.0, 4.0, 4.1, -0.1]), 0.0, 4.0, 4).tolist()
        [0, 0, 1, 3, -1, -1]
    """
    place = np.floor((values - low) * (levels / (high - low))).astype(np.int64)
    return np.where((values >= low) & (values <= high), np.minimum(place, levels - 1), -1)


def window_starts(
    runs: Sequence[tuple[int, int]], window: int, stride: int, block: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where windows begin, and the block of each: int64 [n], [n].

    Args:
        runs: first sample, and the one after the last, of each stretch without a gap.
        window: samples of a window.
        stride: samples from the start of a window to that of the next.
        block: samples of a block, counted from the start of its run; windows lie in one block.

    Example:
        >>> [part.tolist() for part in window_starts([(0, 10), (12, 15)], window=3, stride=2, block=5)]
        [[0, 2, 5, 7, 12], [0, 0, 1, 1, 2]]
    """
    starts: list[int] = []
    blocks: list[int] = []
    count = 0
    for first, last in runs:
        for begin in range(first, last, block):
            found = range(begin, min(begin + block, last) - window + 1, stride)
            starts += found
            blocks += [count] * len(found)
            count += 1
    return np.array(starts, dtype=np.int64), np.array(blocks, dtype=np.int64)


def _runs(path: Path, spec: SeriesData, times: NDArray[np.float64], lines: list[int]) -> list[tuple[int, int]]:
    steps = np.diff(times)
    if (steps <= 0).any():
        at = int(np.argmax(steps <= 0)) + 1
        raise DataError(
            f"{path}: line {lines[at]}, column {spec.timestamp!r}: expected a later time than the line before"
        )
    if not len(steps):
        return [(0, len(times))]
    spacings, counts = np.unique(steps, return_counts=True)
    gaps = np.flatnonzero(steps != spacings[counts.argmax()]) + 1
    edges = [0, *gaps.tolist(), len(times)]
    return list(pairwise(edges))


def _read(path: Path, spec: SeriesData) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int]]:
    """Times in seconds, values, and the line of each sample."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; name the data folder with --data or NONESUCH_DATA") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    for name in (spec.timestamp, spec.value):
        if header.count(name) != 1:
            raise DataError(f"{path}: line 1: expected one column {name!r}, got {', '.join(map(repr, header))}")
    at, of = header.index(spec.timestamp), header.index(spec.value)
    times: list[float] = []
    values: list[float] = []
    lines: list[int] = []
    for record in filter(None, reader):
        where = f"{path}: line {reader.line_num}"
        if len(record) != len(header):
            raise DataError(f"{where}: expected {len(header)} values, as in the header, got {len(record)}")
        try:
            time = datetime.fromisoformat(record[at].strip())
        except ValueError:
            expected = "a time such as 2014-07-01 00:30:00"
            raise DataError(f"{where}, column {spec.timestamp!r}: expected {expected}, got {record[at]!r}") from None
        value = parse_number(record[of].strip())
        if np.isnan(value):
            raise DataError(f"{where}, column {spec.value!r}: expected a finite number, got {record[of]!r}")
        # Without a zone it is taken for a clock that is never put back.
        times.append((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
        values.append(value)
        lines.append(reader.line_num)
    if not values:
        raise DataError(f"{path}: no samples")
    return np.array(times), np.array(values), lines
