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

__all__ = ["Dataset", "binarise", "load_data", "read_idx", "row_hashes"]

Array = NDArray[Any]

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
class Dataset:
    """Rows to model, in original units.

    Attributes:
        rows: ordinary rows, [n, *shape] of the support's dtype.
        support: what a row is.
        description: the data in words, with their source.
        sha256: digest of all rows, those of test and anomalies too, in the loader's order.
        test: rows of an official test split, if there is one.
        anomalies: labelled rows that are not ordinary, by label.
    """

    rows: Array
    support: Support
    description: str
    sha256: str = ""
    test: Array | None = None
    anomalies: dict[str, Array] = field(default_factory=dict)


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
            data = _breast_cancer(recipe.ordinary)
        case SklearnData():
            data = _digits(recipe.data.crop, recipe.ordinary)
        case MoonsData():
            data = _moons(recipe.data)
        case IdxData():
            data = _idx(recipe.data, root)
    if recipe.binarise is not None:
        data = _binarised(data, recipe.binarise)
    for name, rows in {"rows": data.rows, "test": data.test, **data.anomalies}.items():
        if rows is not None:
            _check(data, name, rows)
    return replace(data, sha256=_digest(data))


# -- loaders -------------------------------------------------------------------------------------------------------


def _breast_cancer(ordinary: str | None) -> Dataset:
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
    labels = np.asarray(bunch.target_names)[bunch.target]
    return _split_labels(Dataset(values, Support(shape=(30,), columns=columns), _BREAST_CANCER), labels, ordinary)


def _digits(crop: tuple[int, int, int, int] | None, ordinary: str | None) -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    top, left, height, width = crop or (0, 0, 8, 8)
    pictures = bunch.images[:, top : top + height, left : left + width].astype(np.uint8)
    support = _grey((height, width), levels=17)
    words = _DIGITS if crop is None else f"{_DIGITS}; rows {top}–{top + height - 1}, columns {left}–{left + width - 1}"
    return _split_labels(Dataset(np.ascontiguousarray(pictures), support, words), bunch.target.astype(str), ordinary)


def _moons(spec: MoonsData) -> Dataset:
    from sklearn.datasets import make_moons

    values, _ = make_moons(n_samples=spec.n, noise=spec.noise, random_state=spec.seed)
    # Sines, cosines and logarithms differ in their last place between machines; rounded to a millionth, the rows are
    # the same everywhere, and so are their hashes and folds.
    rows = np.round(np.asarray(values, dtype=np.float64), 6) + 0.0
    columns = tuple(Column(name=name, kind="real", base_measure="lebesgue", resolution=1e-6) for name in ("x", "y"))
    words = f"two moons: {spec.n:,} points of scikit-learn's make_moons, noise {spec.noise:g}, seed {spec.seed}"
    return Dataset(rows, Support(shape=(2,), columns=columns), words)


def _idx(spec: IdxData, root: Path) -> Dataset:
    train = read_idx(root / spec.train)
    test = read_idx(root / spec.test) if spec.test is not None else None
    for path, pictures in ((spec.train, train), (spec.test, test)):
        if pictures is not None and pictures.ndim != 3:
            raise DataError(f"{root / str(path)}: expected pictures [n, height, width], got shape {pictures.shape}")
    if test is not None and test.shape[1:] != train.shape[1:]:
        raise DataError(f"{root / str(spec.test)}: its pictures are {test.shape[1:]}, the others {train.shape[1:]}")
    return Dataset(train, _grey(train.shape[1:], levels=256), spec.description, test=test)


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


def row_hashes(rows: Array, key: int = 0, *, apart: bool = False) -> NDArray[np.uint64]:
    """A 64-bit hash of each row's bytes: [n, …] -> uint64 [n]. Equal rows have equal hashes, unless ``apart``.

    Args:
        rows: array [n, …]; its dtype matters, its place in the array does not.
        key: integer in [0, 2**53); another key ranks the rows in another order.
        apart: whether the second, third … of equal rows is hashed together with its number.
    """
    little = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
    secret = key.to_bytes(8, "little")
    seen: Counter[bytes] = Counter()
    digests = []
    for row in little:
        data = row.tobytes()
        if apart:
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


def _split_labels(data: Dataset, labels: Array, ordinary: str | None) -> Dataset:
    if ordinary is None:
        return data
    known = [str(label) for label in np.unique(labels)]
    if ordinary not in known:
        raise DataError(f"ordinary: these data have no label {ordinary!r}; they have {', '.join(known)}")
    anomalies = {label: data.rows[labels == label] for label in known if label != ordinary}
    words = f"{data.description}; the {int((labels == ordinary).sum())} rows labelled {ordinary!r}"
    return replace(data, rows=data.rows[labels == ordinary], anomalies=anomalies, description=words)


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
    return total.hexdigest()
