"""Pictures in the idx format of MNIST."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import Dataset, Labels, picture_support
from training.errors import DataError
from training.sections import IdxData

__all__ = ["idx_pictures", "read_idx"]


def idx_pictures(spec: IdxData, root: Path) -> Dataset:
    """Pictures of one or two idx files, with their labels where the recipe names files of them."""
    train = read_idx(root / spec.train)
    test = read_idx(root / spec.test) if spec.test is not None else None
    for path, pictures in ((spec.train, train), (spec.test, test)):
        if pictures is not None and pictures.ndim != 3:
            raise DataError(f"{root / str(path)}: expected pictures [n, height, width], got shape {pictures.shape}")
    if test is not None and test.shape[1:] != train.shape[1:]:
        raise DataError(f"{root / str(spec.test)}: its pictures are {test.shape[1:]}, the others {train.shape[1:]}")
    data = Dataset(train, picture_support(train.shape[1:], levels=256), spec.description, test=test)
    if spec.train_labels is None:
        return data
    labels = _idx_labels(root / spec.train_labels, len(train))
    test_labels = None
    if test is not None:
        assert spec.test_labels is not None  # the recipe has both or neither
        test_labels = _idx_labels(root / spec.test_labels, len(test))
    largest = max(int(part.max()) for part in (labels, test_labels) if part is not None)
    names = spec.label_names or tuple(str(number) for number in range(largest + 1))
    if largest >= len(names):
        raise DataError(f"{root / spec.train_labels}: label {largest}, but the recipe names {len(names)} labels")
    return replace(data, labels=labels, test_labels=test_labels, label_names=names)


def _idx_labels(path: Path, n: int) -> Labels:
    labels = read_idx(path)
    if labels.shape != (n,):
        raise DataError(f"{path}: expected a label for each of {n:,} pictures, got an array of shape {labels.shape}")
    return labels.astype(np.int64)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes, gzipped or not -> uint8 array of the shape in its header.

    Raises:
        DataError: no such file, or not such a file; says what was found.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; name the data folder with --data or NONESUCH_DATA") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    # Header: two zero bytes, the type (8 is unsigned byte), the number of axes, each axis as a big-endian int32.
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or not 1 <= data[3] <= 4:
        raise DataError(f"{path}: not an idx file of unsigned bytes: it starts with {data[:4].hex()!r}")
    start = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[at : at + 4], "big", signed=True) for at in range(4, start, 4))
    if min(shape) < 1 or len(data) - start != prod(shape):
        raise DataError(f"{path}: its header says shape {shape}, but {max(len(data) - start, 0)} bytes follow")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape).copy()
