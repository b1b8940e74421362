"""From a recipe to its data: the loader that it names, then what it asks of the rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from training.data.binarise import binarised
from training.data.bundled import breast_cancer, digits, moons
from training.data.dataset import Array, Dataset, data_digest
from training.data.folder import picture_folder
from training.data.idx import idx_pictures
from training.data.npz import npz_arrays
from training.data.series import series_windows
from training.data.tables import table
from training.errors import DataError
from training.recipe import Recipe
from training.sections import (
    CsvData,
    FolderData,
    IdxData,
    MadeData,
    MoonsData,
    NpzData,
    ParquetData,
    SeriesData,
    SklearnData,
)

__all__ = ["load_data"]


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
            data = breast_cancer()
        case SklearnData():
            data = digits(recipe.data)
        case MoonsData():
            data = moons(recipe.data)
        case MadeData():
            from training.data.made import made_table  # brings SciPy's distributions, which take a second to import

            data = made_table(recipe.data)
        case IdxData():
            data = idx_pictures(recipe.data, root)
        case FolderData():
            data = picture_folder(recipe.data, root)
        case CsvData() | ParquetData():
            data = table(recipe.data, root, recipe.ordinary)
        case SeriesData():
            data = series_windows(recipe.data, root)
        case NpzData():
            data = npz_arrays(recipe.data, root, recipe.ordinary)
    if recipe.ordinary is not None:
        data = _without_anomalies(data, recipe.ordinary)
    if recipe.condition is None:
        data = replace(data, labels=None, test_labels=None, label_names=None)
    elif data.labels is None:
        raise DataError(f"condition: {recipe.name}: these data have no labels")
    if recipe.binarise is not None:
        data = binarised(data, recipe.binarise.seed, redraw=recipe.binarise.redraw)
    for name, rows in {"rows": data.rows, "test": data.test, **data.anomalies}.items():
        if rows is not None:
            _check(data, name, rows)
    return replace(data, sha256=data_digest(data))


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


def _check(data: Dataset, name: str, rows: Array) -> None:
    if not len(rows):
        raise DataError(f"{data.description}: no {name}")
    try:
        data.support.check(rows)
    except ValueError as error:
        raise DataError(f"{data.description}: {name}: {error}") from None
