"""Loaders: from a recipe's data section to rows in original units. Nothing is downloaded."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections import Counter
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.randomness import ADDRESS_LIMIT, Stream, uniform
from contract.support import Column, Support
from training.errors import DataError
from training.recipe import Binarise, IdxData, MoonsData, Recipe, SklearnData

__all__ = ["Dataset", "Fold", "binarise", "load_data", "read_idx", "row_hashes"]

Array = NDArray[Any]
Labels = NDArray[np.int64]

_BREAST_CANCER = (
    "Breast Cancer Wisconsin (Diagnostic): 569 tumours, 30 measurements of cell nuclei in a fine-needle aspirate "
    "(Street, Wolberg and Mangasarian 1993), as bundled with scikit-learn"
)
_DIGITS = (
    "Optical recognition of handwritten digits: 1,797 pictures of 8 × 8 pixels in 17 levels "
    "(Alpaydin and Kaynak 1998), as bundled with scikit-learn"
)
# Six columns are not above 0 everywhere: thirteen tumours have nuclei without any concave part, and their concavity is
# exactly 0. The other 24 measure lengths, areas and ratios of them, and cannot be 0.
_ZERO_ALLOWED = "concav"


@dataclass(frozen=True)
class Fold:
    """Some rows, with their labels where a model is conditional on them.

    Attributes:
        rows: [n, *shape] of the support's dtype.
        labels: positions in the data set's ``label_names``, int64 [n]; None for an unconditional model.
    """

    rows: Array
    labels: Labels | None = None

    def __post_init__(self) -> None:
        if self.labels is not None and self.labels.shape != (len(self.rows),):
            raise ValueError(f"{len(self.rows)} rows with labels of shape {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: slice | Array) -> Fold:
        """The rows at a slice, positions or a mask, with their labels."""
        return Fold(self.rows[which], None if self.labels is None else self.labels[which])

    def __add__(self, other: Fold) -> Fold:
        """These rows, then the other's; both have labels or neither has."""
        rows = np.concatenate([self.rows, other.rows])
        if self.labels is None or other.labels is None:
            if self.labels is not other.labels:
                raise ValueError("rows with labels and rows without")
            return Fold(rows)
        return Fold(rows, np.concatenate([self.labels, other.labels]))


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

    @property
    def fold(self) -> Fold:
        """The rows that are there to be dealt, with their labels."""
        return Fold(self.rows, self.labels)

    @property
    def test_fold(self) -> Fold | None:
        """The official test split with its labels, if there is one."""
        return None if self.test is None else Fold(self.test, self.test_labels)


def load_data(recipe: Recipe, root: Path) -> Dataset:
    """The data of a recipe, binarised where it says so.

    Args:
        recipe: the recipe.
        root: data folder that its paths are relative to.

    Raises:
        DataError: a file is missing or damaged, or the recipe names a label that the data lack.
    """
    match recipe.data:
        case SklearnData(set="breast_cancer"):
            data = _breast_cancer()
        case SklearnData():
            data = _digits(recipe.data.crop)
        case MoonsData():
            data = _moons(recipe.data)
        case IdxData():
            data = _idx(recipe.data, root)
    if recipe.ordinary is not None:
        data = _without_anomalies(data, recipe.ordinary)
    if recipe.condition is None:
        data = replace(data, labels=None, test_labels=None, label_names=None)
    elif data.labels is None:
        raise DataError(f"condition: {recipe.name}: these data have no labels")
    if recipe.binarise is not None:
        data = _binarised(data, recipe.binarise)
    for name, rows in {"rows": data.rows, "test": data.test, **data.anomalies}.items():
        if rows is not None:
            _check(data, name, rows)
    return replace(data, sha256=_digest(data))


# -- loaders -------------------------------------------------------------------------------------------------------


def _breast_cancer() -> Dataset:
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    values = np.ascontiguousarray(bunch.data, dtype=np.float64)
    columns = tuple(
        Column(
            name=str(name),
            kind="real" if _ZERO_ALLOWED in name else "positive",
            base_measure="lebesgue",
            resolution=_resolution(values[:, index]),
        )
        for index, name in enumerate(bunch.feature_names)
    )
    names = tuple(str(name) for name in bunch.target_names)
    support = Support(shape=(30,), columns=columns)
    return Dataset(values, support, _BREAST_CANCER, labels=bunch.target.astype(np.int64), label_names=names)


def _digits(crop: tuple[int, int, int, int] | None) -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    top, left, height, width = crop or (0, 0, 8, 8)
    pictures = bunch.images[:, top : top + height, left : left + width].astype(np.uint8)
    support = _grey((height, width), levels=17)
    words = _DIGITS if crop is None else f"{_DIGITS}; rows {top}–{top + height - 1}, columns {left}–{left + width - 1}"
    names = tuple(str(digit) for digit in range(10))
    rows = np.ascontiguousarray(pictures)
    return Dataset(rows, support, words, labels=bunch.target.astype(np.int64), label_names=names)


def _moons(spec: MoonsData) -> Dataset:
    from sklearn.datasets import make_moons

    values, moon = make_moons(n_samples=spec.n, noise=spec.noise, random_state=spec.seed)
    # Sines, cosines and logarithms differ in their last place between machines; rounded to a millionth, the rows are
    # the same everywhere, and so are their hashes and folds.
    rows = np.round(np.asarray(values, dtype=np.float64), 6) + 0.0
    columns = tuple(Column(name=name, kind="real", base_measure="lebesgue", resolution=1e-6) for name in ("x", "y"))
    words = f"two moons: {spec.n:,} points of scikit-learn's make_moons, noise {spec.noise:g}, seed {spec.seed}"
    names = ("upper", "lower")
    return Dataset(rows, Support(shape=(2,), columns=columns), words, labels=moon.astype(np.int64), label_names=names)


def _idx(spec: IdxData, root: Path) -> Dataset:
    train = read_idx(root / spec.train)
    test = read_idx(root / spec.test) if spec.test is not None else None
    for path, pictures in ((spec.train, train), (spec.test, test)):
        if pictures is not None and pictures.ndim != 3:
            raise DataError(f"{root / str(path)}: expected pictures [n, height, width], got shape {pictures.shape}")
    if test is not None and test.shape[1:] != train.shape[1:]:
        raise DataError(f"{root / str(spec.test)}: its pictures are {test.shape[1:]}, the others {train.shape[1:]}")
    data = Dataset(train, _grey(train.shape[1:], levels=256), spec.description, test=test)
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


# -- what the loaders share ----------------------------------------------------------------------------------------


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


def _binarised(data: Dataset, spec: Binarise) -> Dataset:
    element = data.support.element
    assert element is not None  # a recipe binarises pictures only
    assert element.levels is not None
    levels = element.levels
    return replace(
        data,
        rows=binarise(data.rows, levels, spec.seed),
        test=None if data.test is None else binarise(data.test, levels, spec.seed),
        anomalies={label: binarise(rows, levels, spec.seed) for label, rows in data.anomalies.items()},
        support=Support(shape=data.support.shape, element=Column(name="pixel", kind="binary", base_measure="counting")),
        description=f"{data.description}; each pixel drawn once, 1 with probability equal to its intensity",
    )


def _grey(shape: tuple[int, ...], levels: int) -> Support:
    return Support(shape=shape, element=Column(name="pixel", kind="ordinal", base_measure="counting", levels=levels))


def _without_anomalies(data: Dataset, ordinary: str) -> Dataset:
    """The rows of one label; the others become anomalies, those of the official test split alone if there is one."""
    if data.labels is None or data.label_names is None:
        raise DataError("ordinary: these data have no labels")
    named = np.asarray(data.label_names)[data.labels]
    known = [str(name) for name in np.unique(named)]
    if ordinary not in known:
        raise DataError(f"ordinary: these data have no label {ordinary!r}; they have {', '.join(known)}")
    test, pool, pool_names = None, data.rows, named
    if data.test is not None:
        assert data.test_labels is not None
        pool, pool_names = data.test, np.asarray(data.label_names)[data.test_labels]
        test = pool[pool_names == ordinary]
    return replace(
        data,
        rows=data.rows[named == ordinary],
        test=test,
        anomalies={str(name): pool[pool_names == name] for name in np.unique(pool_names) if name != ordinary},
        description=f"{data.description}; the {int((named == ordinary).sum())} rows labelled {ordinary!r}",
    )


def _resolution(values: NDArray[np.float64]) -> float | None:
    """The power of ten that every value is a multiple of, down to 1e-9; None where there is none."""
    for digits in range(10):
        if np.allclose(np.round(values, digits), values, rtol=0.0, atol=1e-12):
            return float(f"1e-{digits}")
    return None


def _check(data: Dataset, name: str, rows: Array) -> None:
    if not len(rows):
        raise DataError(f"{data.description}: no {name}")
    try:
        data.support.check(rows)
    except ValueError as error:
        raise DataError(f"{data.description}: {name}: {error}") from None


def _digest(data: Dataset) -> str:
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
