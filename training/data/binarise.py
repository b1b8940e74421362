"""Binarised pictures: each pixel drawn once, from its intensity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from contract.randomness import ADDRESS_LIMIT, Stream, uniform
from contract.support import Column, Support
from training.data.dataset import Dataset, row_hashes
from training.errors import DataError

__all__ = ["binarise", "binarised"]


def binarise(rows: NDArray[np.uint8], levels: int, seed: int) -> NDArray[np.uint8]:
    """Draw each pixel once, 1 with probability intensity / (levels − 1).

    The address of a picture's draws is its own hash, so that a picture is binarised in the same way wherever it lies
    in whichever file.

    Args:
        rows: intensities 0 … levels − 1, [n, *shape].
        levels: number of intensities.
        seed: which binarisation.

    Returns:
        0 and 1, uint8 [n, *shape].
    """
    flat = rows.reshape(len(rows), -1)
    address = (row_hashes(rows) % ADDRESS_LIMIT).astype(np.int64)
    result = np.empty_like(flat)
    for start in range(0, len(flat), 4096):  # 4096 pictures of MNIST are 25 MB of doubles
        part = slice(start, start + 4096)
        drawn = uniform(seed, address[part], Stream.OBSERVATION, dims=flat.shape[1])
        result[part] = drawn < flat[part] / (levels - 1)
    return result.reshape(rows.shape)


def binarised(data: Dataset, seed: int, *, redraw: bool = False) -> Dataset:
    """Every picture of a data set, binarised.

    Args:
        data: pictures in whole intensities.
        seed: which binarisation.
        redraw: whether training is to draw its rows anew each time.

    Raises:
        DataError: its rows are no pictures in whole intensities.
    """
    element = data.support.element
    if element is None or element.levels is None:
        raise DataError(f"binarise: {data.description}: only pictures have intensities to binarise")
    levels = element.levels
    return replace(
        data,
        rows=binarise(data.rows, levels, seed),
        test=None if data.test is None else binarise(data.test, levels, seed),
        anomalies={label: binarise(rows, levels, seed) for label, rows in data.anomalies.items()},
        support=Support(shape=data.support.shape, element=Column(name="pixel", kind="binary", base_measure="counting")),
        description=f"{data.description}; each pixel drawn once, 1 with probability equal to its intensity"
        + (", and anew for each epoch in training" if redraw else ""),
        chances=data.rows.astype(np.float32) / np.float32(levels - 1) if redraw else None,
    )
