"""A recipe by inspection of pictures: a folder of them, an array of an npz or npy file, or an idx file.

Anomaly scores alone are drafted (record 40): a score of four statistics that are fitted in seconds, whatever the
pictures show. A density of pictures that is worth having takes hours, and choices that no inspection makes.
"""

from __future__ import annotations

from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from training.data.dataset import Dataset
from training.data.folder import picture_folder, picture_paths, picture_sizes
from training.data.idx import idx_pictures
from training.data.npz import array_names, npz_arrays, read_arrays
from training.draft_anomaly import anomaly_section
from training.drafts import FEWEST_ROWS, Draft, Purpose, place_of, slug
from training.errors import DataError, RecipeError
from training.recipe import parse_recipe
from training.sections import FolderData, IdxData, NpzData

__all__ = ["ENDINGS", "STATISTICS", "draft_pictures", "is_pictures", "picture_statistics"]

ENDINGS = (".npz", ".npy", "-ubyte", "-ubyte.gz", ".idx", ".idx.gz")
"""Endings of files of pictures that a recipe can be drafted for; a key may follow, as in ``FILE.npz:KEY``."""

STATISTICS = ("log_prob", "complexity", "neighbours", "local_outlier_factor")
"""What the score of a picture is made of."""

_MOST_PIXELS = 64 * 64  # of a picture, in each colour: the tables of probabilities and the kept rows grow with them
_KEPT_NUMBERS = 2**22  # of the rows that neighbours are looked for among, 32 MiB
_KEPT_ROWS = (256, 4096)  # at the least, at the most
_SHOWN = 8  # labels that are named
_FAMILY = "independent"
_WHY = "a table of levels for each pixel is fitted in seconds, and the score does not rest on it alone"


def is_pictures(path: Path) -> bool:
    """Whether a path is that of pictures to draft a recipe for, by what it is called, or because it is a folder."""
    return path.is_dir() or path.name.partition(":")[0].lower().endswith(ENDINGS)


def picture_statistics(size: int) -> list[Any]:
    """The section ``statistics`` of a recipe for pictures of so many numbers each."""
    rows = int(np.clip(_KEPT_NUMBERS // size, *_KEPT_ROWS))
    if rows == _KEPT_ROWS[1]:
        return list(STATISTICS)
    kept = ("neighbours", "local_outlier_factor")
    return [{"name": name, "rows": rows} if name in kept else name for name in STATISTICS]


def draft_pictures(
    path: Path, *, data_root: Path, label: str | None, ordinary: str | None, name: str | None, purpose: Purpose
) -> Draft:
    """Inspect pictures and write a recipe for them.

    Args:
        path: a folder, an idx file, or an npz or npy file; ``FILE.npz:KEY`` where several arrays are pictures.
        data_root: data folder; what holds the pictures takes its place where they are not in it.
        label: key of the labels, of an npz file.
        ordinary: which label the pictures to model have; of a folder, which sub-folder they are in.
        name: of the bundle; the file's name if absent.
        purpose: what it is tuned for.

    Raises:
        TrainingInputError: there are no such pictures, or they cannot be read, or nothing is drafted of them.
    """
    if path.is_dir():
        picture_paths(path)
    if purpose != "anomaly":
        raise RecipeError(
            f"{path}: taken for pictures, of which recipes are drafted for anomaly scores alone: say --for anomaly; "
            "for draws and log-probabilities write a recipe, with a family for pictures such as vae or pixelcnn"
        )
    if path.name in ("", ".."):
        path = path.resolve()
    file, _, key = path.name.partition(":")
    place = path if path.is_dir() else path.with_name(file)
    if not place.exists():
        raise DataError(f"{place}: no such file")
    root, relative = place_of(place, data_root)
    words = {"description": f"{place.name}, pictures"}
    try:
        if path.is_dir():
            data, section = _of_folder(place, root, {"folder": relative} | words, label)
        elif file.lower().endswith((".npz", ".npy")):
            data, section = _of_arrays(place, root, {"file": relative} | words, key, label, ordinary)
        else:
            data, section = _of_idx(place, root, {"train": relative} | words, label, ordinary)
    except ValidationError as error:
        raise RecipeError(f"{path}: {error.errors(include_url=False)[0]['msg']}") from None
    rows = data.rows if ordinary is None else data.rows[_those(path, data, ordinary)]
    if len(rows) < FEWEST_ROWS:
        raise DataError(
            f"{path}: {len(rows)} pictures to model; at least {FEWEST_ROWS} are needed to train and measure"
        )
    shape = data.support.shape
    if prod(shape[:2]) > _MOST_PIXELS:
        raise DataError(
            f"{path}: pictures of {shape[0]} × {shape[1]} pixels, and at most {_MOST_PIXELS:,} are drafted for: make "
            "them smaller, or give them as a folder of PNG files, which are resized"
        )
    about = _about(path, data)
    name = name if name is not None else slug(file.partition(".")[0], "pictures")
    which = f"pictures of {place.name}" + (f" whose label is {ordinary}" if ordinary is not None else "")
    recipe: dict[str, Any] = {
        "name": name,
        "title": f"This picture of {place.name.partition('.')[0]} is like no other",
        "description": f"Anomaly scores for {len(rows):,} {which}, by the log-probability of their pixels, which are "
        "taken for independent of each other, by how complex they are, and by the pictures that they resemble most. "
        "Its recipe was drafted by inspection.",
        "licence": "not stated: it follows from that of the data",
        "family": _FAMILY,
        "data": section | {"description": f"{place.name}: {about}"},
    }
    recipe |= {"ordinary": ordinary} if ordinary is not None else {}
    recipe |= anomaly_section(which, len(rows), picture_statistics(data.support.size)) | {"seed": 0}
    text = f"# Drafted from {place.name}; edit it and train it again.\n"
    text += yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=110)
    parse_recipe(text, f"the recipe drafted for {path}")
    return Draft(name, text, (), f"{_FAMILY}: {_WHY}", len(data.rows), root, about)


# -- what holds them -----------------------------------------------------------------------------------------------


def _of_folder(place: Path, root: Path, section: dict[str, Any], label: str | None) -> tuple[Dataset, dict[str, Any]]:
    if label is not None:
        raise RecipeError(f"{place}: the label of a picture is the sub-folder that it is in: give --ordinary alone")
    paths, _ = picture_paths(place)
    sizes = np.array(picture_sizes(paths))  # [n, 2], height and width
    section = {"loader": "folder"} | section
    if (sizes != sizes[0]).any() or prod(sizes[0].tolist()) > _MOST_PIXELS:
        height, width = np.median(sizes, axis=0).tolist()
        shrunk = min(1.0, sqrt(_MOST_PIXELS / (height * width)))
        section["size"] = [max(1, int(shrunk * side)) for side in (height, width)]
    return picture_folder(FolderData(**section), root), section


def _of_arrays(
    place: Path, root: Path, section: dict[str, Any], key: str, label: str | None, ordinary: str | None
) -> tuple[Dataset, dict[str, Any]]:
    _both(place, label, ordinary)
    section = {"loader": "npz"} | section
    if place.name.lower().endswith(".npz"):
        section |= {"rows": key or _only_pictures(place)} | ({"labels": label} if label is not None else {})
    elif key or label is not None:
        raise RecipeError(f"{place}: an npy file holds one array, and no keys")
    data = npz_arrays(NpzData(**section), root, ordinary)
    if data.support.element is None:
        raise DataError(f"{place}: a table; give it as a CSV or Parquet file, whose columns are looked at")
    return data, section


def _of_idx(
    place: Path, root: Path, section: dict[str, Any], label: str | None, ordinary: str | None
) -> tuple[Dataset, dict[str, Any]]:
    if label is not None or ordinary is not None:
        raise RecipeError(f"{place}: an idx file of pictures holds no labels: name theirs, train_labels, in a recipe")
    section = {"loader": "idx"} | section
    return idx_pictures(IdxData(**section), root), section


def _only_pictures(place: Path) -> str:
    """The one key of an npz file whose array is pictures."""
    found, others = [], []
    for key in array_names(place):
        try:
            array = read_arrays(place, [key])[key]
        except DataError:  # such as objects, which are not unpickled
            others.append(key)
            continue
        fits = array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3)
        if fits and array.dtype in (np.uint8, np.bool_):
            found.append(key)
        else:
            others.append(f"{key} ({array.dtype} {list(array.shape)})")
    if not found:
        raise DataError(
            f"{place}: no pictures, unsigned bytes [n, height, width] or [n, height, width, 3]; there are "
            f"{', '.join(others) or 'no arrays'}"
        )
    if len(found) > 1:
        raise RecipeError(f"{place}: {', '.join(map(repr, found))} are pictures: name one, as {place.name}:{found[0]}")
    return found[0]


# -- what is said of them ------------------------------------------------------------------------------------------


def _both(place: Path, label: str | None, ordinary: str | None) -> None:
    if (label is None) != (ordinary is None):
        missing = "--ordinary VALUE" if ordinary is None else "--label KEY"
        raise RecipeError(f"{place}: --label and --ordinary go together; name {missing} as well")


def _those(path: Path, data: Dataset, ordinary: str) -> Any:
    """Which pictures have a label: bool [n]."""
    if data.labels is None or data.label_names is None:
        raise DataError(f"{path}: --ordinary: these pictures have no labels")
    if ordinary not in data.label_names:
        known = ", ".join(data.label_names[:20])
        raise DataError(f"{path}: --ordinary: no label {ordinary!r}; there are {known}")
    return data.labels == data.label_names.index(ordinary)


def _about(path: Path, data: Dataset) -> str:
    """How many pictures there are, and of what size and kind."""
    element, shape = data.support.element, data.support.shape
    assert element is not None
    hue = "of black and white" if element.levels is None else f"in {element.levels} levels"
    hue += " of grey" if element.levels is not None and len(shape) == 2 else ""
    hue += " of three colours" if len(shape) == 3 else ""
    about = f"{len(data.rows):,} pictures of {shape[0]} × {shape[1]} pixels, {hue}"
    if data.label_names is None:
        return about
    names = ", ".join(data.label_names[:_SHOWN]) + (", …" if len(data.label_names) > _SHOWN else "")
    where = "in sub-folders" if path.is_dir() else "labelled"
    return f"{about}, {where} {names}"
