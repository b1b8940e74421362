"""What every loader gives: rows, what a row is, and labels; and the hashes by which rows are told apart."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.support import Column, Support

__all__ = ["Array", "Dataset", "Fold", "Labels", "data_digest", "picture_support", "resolution_of", "row_hashes"]

Array = NDArray[Any]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Some rows, with their labels where a model is conditional on them.

    Attributes:
        rows: [n, *shape] of the support's dtype.
        labels: positions in the data set's ``label_names``, int64 [n]; None for an unconditional model.
        groups: rows of one number share a fold, int64 [n]; None where each row is dealt by its own bytes.
        chances: of a 1 at each place, float32 as ``rows``, where training draws binary rows anew; else None.
    """

    rows: Array
    labels: Labels | None = None
    groups: NDArray[np.int64] | None = None
    chances: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for name in ("labels", "groups"):
            given = getattr(self, name)
            if given is not None and given.shape != (len(self.rows),):
                raise ValueError(f"{len(self.rows)} rows with {name} of shape {given.shape}")
        if self.chances is not None and self.chances.shape != self.rows.shape:
            raise ValueError(f"rows of shape {self.rows.shape} with chances of shape {self.chances.shape}")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: slice | Array) -> Fold:
        """The rows at a slice, positions or a mask, with all that is known of them."""
        parts: list[Any] = [None if x is None else x[which] for x in (self.labels, self.groups, self.chances)]
        return Fold(self.rows[which], *parts)

    def __add__(self, other: Fold) -> Fold:
        """These rows, then the other's; both have labels, or groups, or chances, or neither has."""
        parts: list[Any] = []
        for name in ("labels", "groups", "chances"):
            one, two = getattr(self, name), getattr(other, name)
            if (one is None) != (two is None):
                raise ValueError(f"rows with {name} and rows without")
            parts.append(None if one is None else np.concatenate([one, two]))
        return Fold(np.concatenate([self.rows, other.rows]), *parts)


@dataclass(frozen=True)
class Dataset:
    """Rows to model, in original units.

    Attributes:
        rows: ordinary rows, [n, *shape] of the support's dtype.
        support: what a row is.
        description: the data in words, with their source.
        sha256: digest of all rows, those of test and anomalies too, and of labels, in the loader's order.
        test: rows of an official test split, if there is one.
        anomalies: labelled rows that are not ordinary, by label.
        labels: label of each row as a position in ``label_names``, int64 [n], where the recipe says that the model is
            conditional on it.
        test_labels: those of the official test split.
        label_names: what the labels are called, in the order of their numbers.
        left_out: columns of the file that are not modelled, and why.
        groups: number of each row's group, int64 [n], where rows of a group share data and so a fold.
        grouped_by: what the rows of a group have in common, in words.
        chances: as a fold's.
    """

    rows: Array
    support: Support
    description: str
    sha256: str = ""
    test: Array | None = None
    anomalies: dict[str, Array] = field(default_factory=dict)
    labels: Labels | None = None
    test_labels: Labels | None = None
    label_names: tuple[str, ...] | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    groups: NDArray[np.int64] | None = None
    grouped_by: str | None = None
    chances: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if (self.groups is None) != (self.grouped_by is None):
            raise ValueError("rows of a group have something in common, which is said in words")

    @property
    def fold(self) -> Fold:
        """The rows that are there to be dealt, with all that is known of them."""
        return Fold(self.rows, self.labels, self.groups, self.chances)

    @property
    def test_fold(self) -> Fold | None:
        """The official test split with its labels, if there is one."""
        return None if self.test is None else Fold(self.test, self.test_labels)


def row_hashes(rows: Array, key: int = 0, *, apart: bool = False, labels: Labels | None = None) -> NDArray[np.uint64]:
    """A 64-bit hash of each row's bytes: [n, …] -> uint64 [n]. Equal rows have equal hashes, unless ``apart``.

    Args:
        rows: array [n, …]; its dtype matters, its place in the array does not.
        key: integer in [0, 2**53); another key ranks the rows in another order.
        apart: whether the second, third … of equal rows is hashed together with its number.
        labels: int64 [n]; where equal rows are hashed apart, those of different labels are told apart by them first.
    """
    little = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
    secret = key.to_bytes(8, "little")
    seen: Counter[bytes] = Counter()
    digests = []
    for position, row in enumerate(little):
        data = row.tobytes()
        if apart:
            if labels is not None:
                data += int(labels[position]).to_bytes(8, "little")
            seen[data] += 1
            data += seen[data].to_bytes(8, "little")
        digests.append(hashlib.blake2b(data, digest_size=8, key=secret).digest())
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def picture_support(shape: tuple[int, ...], levels: int) -> Support:
    """Pictures of that shape in whole intensities 0 … levels − 1."""
    return Support(shape=shape, element=Column(name="pixel", kind="ordinal", base_measure="counting", levels=levels))


def resolution_of(values: NDArray[np.float64]) -> float | None:
    """The power of ten that every value is a multiple of, down to 1e-9; None where there is none."""
    for digits in range(10):
        with np.errstate(over="ignore"):  # beyond 1e299, rounding to a billionth is infinite, and so not close
            rounded = np.round(values, digits)
        if np.allclose(rounded, values, rtol=0.0, atol=1e-12):
            return float(f"1e-{digits}")
    return None


def data_digest(data: Dataset) -> str:
    """SHA-256 of all rows, and of labels where there are any."""
    total = hashlib.sha256()
    for name, rows in [("rows", data.rows), ("test", data.test), *sorted(data.anomalies.items())]:
        if rows is not None:
            little = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
            total.update(f"{name} {little.dtype.str} {little.shape}\n".encode())
            total.update(little.tobytes())
    for name, labels in (("labels", data.labels), ("test labels", data.test_labels)):
        if labels is not None:
            total.update(f"{name} {data.label_names}\n".encode())
            total.update(labels.astype("<i8").tobytes())
    return total.hexdigest()
