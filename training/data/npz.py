"""Arrays in npz and npy files: tables [n, d], and pictures [n, height, width] or [n, height, width, 3]."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from contract.support import Column, Support
from training.data.columns import RawColumn
from training.data.dataset import Array, Dataset, Labels, picture_support
from training.data.tables import RawTable, findings_of, from_numbers, tabulate
from training.errors import DataError
from training.sections import NpzData

__all__ = ["array_names", "npz_arrays", "read_arrays"]


def npz_arrays(spec: NpzData, root: Path, ordinary: str | None) -> Dataset:
    """The rows of one or two files of arrays.

    Args:
        spec: the recipe's data section.
        root: data folder.
        ordinary: label of the ordinary rows, if the recipe names one; a column that they do not vary in is left out.

    Raises:
        DataError: a file is missing or damaged, a key is absent, or an array has not the shape or type that it needs.
    """
    path = root / spec.file
    keys = [spec.rows, spec.labels, *(key for key in (spec.label_names, spec.names) if isinstance(key, str))]
    arrays = read_arrays(path, keys)
    rows = _rows(path, arrays, spec)
    test_path = None if spec.test is None else root / spec.test
    test_arrays = {} if test_path is None else read_arrays(test_path, [spec.rows, spec.labels])
    test = None if test_path is None else _rows(test_path, test_arrays, spec)
    if test is not None and (test.shape[1:], test.dtype) != (rows.shape[1:], rows.dtype):
        raise DataError(f"{test_path}: rows of {_words(test)}, but those of {path} are {_words(rows)}")
    labels = test_labels = label_names = None
    if spec.labels is not None:
        named = _names(path, arrays, spec.label_names, "label_names")
        labels, label_names = _labels(path, arrays, spec, len(rows), named)
        if test is not None and test_path is not None:
            test_labels, _ = _labels(test_path, test_arrays, spec, len(test), label_names)
    left_out: dict[str, str] = {}
    if rows.ndim > 2:
        support = _pictures(path, rows, spec)
    else:
        mask = np.ones(len(rows), dtype=np.bool_)
        if labels is not None and label_names is not None and ordinary in label_names:
            mask = labels == label_names.index(ordinary)
        table = _table(path, rows, _names(path, arrays, spec.names, "names"), spec)
        findings = findings_of(table, spec.columns, spec.drop, None, mask)
        rows, support = tabulate(table, findings)
        if test is not None and test_path is not None:
            names = tuple(column.name for column in table.columns)
            test, _ = tabulate(_table(test_path, test, names, spec), [f for f in findings if f.column is not None])
        left_out = {finding.name: finding.remark for finding in findings if finding.column is None}
    return Dataset(
        rows=rows,
        support=support,
        description=spec.description,
        test=test,
        labels=labels,
        test_labels=test_labels,
        label_names=label_names,
        left_out=left_out,
    )


def read_arrays(path: Path, keys: Sequence[str | None]) -> dict[str | None, Array]:
    """Arrays of an npz file by their keys, or the one array of an npy file under None; nothing is unpickled.

    Raises:
        DataError: no such file, or not such a file, or no such key in it.
    """
    try:
        # Opened here: of a damaged archive NumPy leaves its own file open.
        with path.open("rb") as file:
            loaded: Any = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {None: loaded}
            with loaded:
                for key in keys:
                    if key is not None and key not in loaded.files:
                        raise DataError(f"{path}: no array {key!r}; there are {', '.join(map(repr, loaded.files))}")
                return {key: loaded[key] for key in keys if key is not None}
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; name the data folder with --data or NONESUCH_DATA") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None


def array_names(path: Path) -> tuple[str, ...]:
    """Keys of an npz file, in its order.

    Raises:
        DataError: no such file, or not such a file.
    """
    try:
        # Opened here: of a damaged archive NumPy leaves its own file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as loaded:
            return tuple(loaded.files)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None


def _rows(path: Path, arrays: dict[str | None, Array], spec: NpzData) -> Array:
    rows = arrays[spec.rows]
    if rows.dtype.kind not in "biuf" or rows.ndim not in (2, 3, 4) or 0 in rows.shape:
        raise DataError(
            f"{path}: rows: expected numbers [n, d], or pictures [n, height, width] or [n, height, width, 3], "
            f"got {_words(rows)}"
        )
    return rows


def _pictures(path: Path, rows: Array, spec: NpzData) -> Support:
    if rows.dtype != np.uint8 and rows.dtype != np.bool_:
        raise DataError(f"{path}: rows: expected pictures of unsigned bytes (or of booleans), got {_words(rows)}")
    if rows.ndim == 4 and rows.shape[3] != 3:
        raise DataError(f"{path}: rows: expected 3 channels, the last axis, got {_words(rows)}")
    if spec.columns or spec.drop or spec.names is not None:
        raise DataError(f"{path}: pictures have no columns to name or to drop")
    if rows.dtype == np.bool_:
        pixel = Column(name="pixel", kind="binary", base_measure="counting")
        return Support(shape=rows.shape[1:], element=pixel)
    return picture_support(rows.shape[1:], levels=256)


def _table(path: Path, rows: Array, names: tuple[str, ...] | None, spec: NpzData) -> RawTable:
    d = rows.shape[1]
    names = names if names is not None else tuple(f"x{index}" for index in range(d))
    if len(names) != d:
        raise DataError(f"{path}: names: {len(names)} names for {d} columns")
    columns = tuple(_column(name, rows[:, i].astype(np.float64), spec) for i, name in enumerate(names))
    return RawTable(path, columns, len(rows), lambda row: f"{path}: row {row + 1}")


def _column(name: str, values: Array, spec: NpzData) -> RawColumn:
    """A column of numbers; whole numbers from 0 stand for the categories that the recipe lists."""
    told = spec.columns.get(name)
    if name in spec.shift and told is not None:
        whole = told.kind not in ("real", "positive")
        step = 1.0 if whole else told.resolution
        values = values + spec.shift[name]
        values = np.round(np.round(values / step) * step, 9) + 0.0 if step is not None else values
    raw = from_numbers(name, values)
    if told is None or told.categories is None:
        return raw
    places = {str(place): category for place, category in enumerate(told.categories)}
    return replace(raw, words=tuple(places.get(word, word) for word in raw.words), type=None)


def _labels(
    path: Path, arrays: dict[str | None, Array], spec: NpzData, n: int, names: tuple[str, ...] | None
) -> tuple[Labels, tuple[str, ...]]:
    """Labels as numbers, and their names: those given, else the labels themselves as text."""
    given = arrays[spec.labels].squeeze()
    if given.shape != (n,) or given.dtype.kind not in "biufU":
        raise DataError(f"{path}: labels: expected a number or string for each of {n:,} rows, got {_words(given)}")
    if given.dtype.kind == "f" and not (given == np.floor(given)).all():
        raise DataError(f"{path}: labels: expected whole numbers, got {given[given != np.floor(given)][0]}")
    if given.dtype.kind == "U":
        known = names if names is not None else tuple(str(label) for label in np.unique(given))
        strange = next((str(label) for label in np.unique(given) if label not in known), None)
        if strange is not None:
            raise DataError(f"{path}: labels: expected one of {', '.join(map(repr, known))}, got {strange!r}")
        return np.array([known.index(str(label)) for label in given], dtype=np.int64), known
    numbers = given.astype(np.int64)
    if names is None:
        known = tuple(str(label) for label in np.unique(numbers))
        return np.searchsorted(np.unique(numbers), numbers).astype(np.int64), known
    if spec.label_names is None:  # names are the first file's own labels
        return _labels(path, {spec.labels: numbers.astype(str)}, spec, n, names)
    if numbers.min() < 0 or numbers.max() >= len(names):
        raise DataError(f"{path}: labels: from {numbers.min()} to {numbers.max()}, but there are {len(names)} names")
    return numbers, names


def _names(
    path: Path, arrays: dict[str | None, Array], given: str | tuple[str, ...] | None, what: str
) -> tuple[str, ...] | None:
    if given is None or isinstance(given, tuple):
        return given
    array = arrays[given]
    if array.ndim != 1 or array.dtype.kind != "U" or len(set(array.tolist())) != len(array):
        raise DataError(f"{path}: {what}: expected different strings, got {_words(array)}")
    return tuple(str(name) for name in array)


def _words(array: Array) -> str:
    return f"{array.dtype} {list(array.shape)}"
