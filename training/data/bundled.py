"""Data sets that come with scikit-learn, or that it makes."""

from __future__ import annotations

import numpy as np

from contract.support import Column, Support
from training.data.dataset import Dataset, picture_support, resolution_of
from training.sections import MoonsData, SklearnData

__all__ = ["breast_cancer", "digits", "moons"]

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


def breast_cancer() -> Dataset:
    """Tumours, benign and malignant."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    values = np.ascontiguousarray(bunch.data, dtype=np.float64)
    columns = tuple(
        Column(
            name=str(name),
            kind="real" if _ZERO_ALLOWED in name else "positive",
            base_measure="lebesgue",
            resolution=resolution_of(values[:, index]),
        )
        for index, name in enumerate(bunch.feature_names)
    )
    names = tuple(str(name) for name in bunch.target_names)
    support = Support(shape=(30,), columns=columns)
    return Dataset(values, support, _BREAST_CANCER, labels=bunch.target.astype(np.int64), label_names=names)


def digits(spec: SklearnData) -> Dataset:
    """Grey pictures of handwritten digits, or the same window of each; in fewer levels, or as signals, if told so."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    top, left, height, width = spec.crop or (0, 0, 8, 8)
    pictures = bunch.images[:, top : top + height, left : left + width].astype(np.uint8)
    words = _DIGITS
    if spec.crop is not None:
        words += f"; rows {top}–{top + height - 1}, columns {left}–{left + width - 1}"
    levels = spec.levels or 17
    if levels < 17:
        pictures = (pictures.astype(np.int64) * levels // 17).astype(np.uint8)
        words += f"; level l of 17 becomes level floor({levels} l / 17) of {levels}"
    support = picture_support((height, width), levels=levels)
    if spec.signal:
        pictures = pictures.reshape(-1, height * width)
        words += "; line by line, as a signal"
        element = Column(name="level", kind="ordinal", base_measure="counting", levels=levels)
        support = Support(shape=(height * width,), element=element)
    names = tuple(str(digit) for digit in range(10))
    rows = np.ascontiguousarray(pictures)
    return Dataset(rows, support, words, labels=bunch.target.astype(np.int64), label_names=names)


def moons(spec: MoonsData) -> Dataset:
    """Points of the plane, near two half circles."""
    from sklearn.datasets import make_moons

    values, moon = make_moons(n_samples=spec.n, noise=spec.noise, random_state=spec.seed)
    # Sines, cosines and logarithms differ in their last place between machines; rounded to a millionth, the rows are
    # the same everywhere, and so are their hashes and folds.
    rows = np.round(np.asarray(values, dtype=np.float64), 6) + 0.0
    columns = tuple(Column(name=name, kind="real", base_measure="lebesgue", resolution=1e-6) for name in ("x", "y"))
    words = f"two moons: {spec.n:,} points of scikit-learn's make_moons, noise {spec.noise:g}, seed {spec.seed}"
    names = ("upper", "lower")
    return Dataset(rows, Support(shape=(2,), columns=columns), words, labels=moon.astype(np.int64), label_names=names)
