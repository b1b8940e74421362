"""Folders of pictures, grey or in colour; each sub-folder, if there are any, is a label."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from training.data.dataset import Dataset, Labels, picture_support
from training.errors import DataError
from training.sections import FolderData

__all__ = ["picture_folder", "picture_paths", "picture_sizes", "read_picture"]

_ENDINGS = (".png", ".jpg", ".jpeg")
# Modes that Pillow gives to pictures of at most 8 bits a channel, and whether they are grey.
_GREY = {"1": True, "L": True, "LA": True, "P": False, "PA": False, "RGB": False, "RGBA": False, "CMYK": False}
_TRANSPARENT = ("LA", "PA", "RGBA")


def picture_folder(spec: FolderData, root: Path) -> Dataset:
    """The pictures of one or two folders, in the order of their names.

    Pictures of 8 bits a channel become uint8 [n, height, width] or, in colour, [n, height, width, 3]. Where something
    shines through, it is white.

    Raises:
        DataError: no such folder, no pictures in it, or a picture that cannot be read or has another size; names it.
    """
    paths, labels = picture_paths(root / spec.folder)
    names = tuple(sorted({path.parent.name for path in paths})) if labels is not None else None
    test_paths: list[Path] = []
    test_labels: Labels | None = None
    if spec.test is not None:
        test_paths, _ = picture_paths(root / spec.test)
        if names is not None:
            strange = next((path for path in test_paths if path.parent.name not in names), None)
            if strange is not None:
                folders = " or ".join(map(repr, names))
                raise DataError(f"{strange}: expected a folder called {folders}, as {root / spec.folder} has")

            test_labels = np.array([names.index(path.parent.name) for path in test_paths], dtype=np.int64)
    grey = spec.colour == "grey" if spec.colour is not None else all(_is_grey(path) for path in (*paths, *test_paths))
    first = None
    rows: list[list[NDArray[np.uint8]]] = [[], []]
    for part, some in enumerate((paths, test_paths)):
        for path in some:
            picture = read_picture(path, grey=grey, size=spec.size)
            if first is None:
                first = path, picture.shape
            if picture.shape != first[1]:
                height, width = picture.shape[:2]
                raise DataError(
                    f"{path}: expected {first[1][0]} × {first[1][1]} pixels (height × width), as {first[0].name} has, "
                    f"got {height} × {width}; to resize all pictures, name a size: [height, width]"
                )
            rows[part].append(picture)
    assert first is not None
    resized = f", resized to {spec.size[0]} × {spec.size[1]}" if spec.size is not None else ""
    return Dataset(
        np.stack(rows[0]),
        picture_support(first[1], levels=256),
        f"{spec.description}{resized}",
        test=np.stack(rows[1]) if spec.test is not None else None,
        labels=labels,
        test_labels=test_labels,
        label_names=names,
    )


def picture_paths(folder: Path) -> tuple[list[Path], Labels | None]:
    """Pictures of a folder in the order of their names; with labels, one for each sub-folder, if it has any.

    Raises:
        DataError: no such folder, no pictures in it, or pictures both beside and within sub-folders.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name the data folder with --data or NONESUCH_DATA")

    def pictures(place: Path) -> list[Path]:
        return sorted(path for path in place.iterdir() if path.suffix.lower() in _ENDINGS and path.is_file())

    within = {place.name: pictures(place) for place in sorted(folder.iterdir()) if place.is_dir()}
    within = {name: paths for name, paths in within.items() if paths}
    beside = pictures(folder)
    if beside and within:
        raise DataError(f"{beside[0]}: a picture beside the sub-folder {next(iter(within))!r}: which label has it?")
    if not beside and not within:
        raise DataError(f"{folder}: no pictures; they end in {', '.join(_ENDINGS)}")
    if beside:
        return beside, None
    labels = np.repeat(np.arange(len(within)), [len(paths) for paths in within.values()])
    return [path for paths in within.values() for path in paths], labels.astype(np.int64)


def read_picture(path: Path, *, grey: bool, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """A picture as uint8 [height, width], or [height, width, 3] in colour.

    Args:
        path: a PNG or JPEG file.
        grey: whether to give it without colour.
        size: height and width to resize it to, if any.

    Raises:
        DataError: it cannot be read, or has more than 8 bits a channel.
    """
    with _opened(path) as picture:
        if picture.mode not in _GREY:
            raise DataError(f"{path}: expected a picture of 8 bits a channel, got the mode {picture.mode!r}")
        found: Image.Image = picture
        if found.mode in _TRANSPARENT or "transparency" in found.info:
            above = found.convert("RGBA")
            found = Image.new("RGBA", above.size, "white")
            found.alpha_composite(above)
        found = found.convert("L" if grey else "RGB")
        if size is not None and found.size != (size[1], size[0]):
            found = found.resize((size[1], size[0]), Image.Resampling.LANCZOS)
        return np.asarray(found, dtype=np.uint8).copy()


def picture_sizes(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Height and width of each picture, by its header.

    Raises:
        DataError: one is no picture; names it.
    """
    sizes = []
    for path in paths:
        with _opened(path, whole=False) as picture:
            sizes.append((picture.height, picture.width))
    return sizes


def _is_grey(path: Path) -> bool:
    with _opened(path) as picture:
        return _GREY.get(picture.mode, False)


@contextmanager
def _opened(path: Path, *, whole: bool = True) -> Iterator[Image.Image]:
    """A picture, read as a whole or its header alone; what Pillow says of a damaged one becomes a line naming it."""
    with ExitStack() as files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                picture = files.enter_context(Image.open(path, formats=("PNG", "JPEG")))
                if whole:
                    picture.load()
        except UnidentifiedImageError:
            raise DataError(f"{path}: expected a PNG or JPEG picture, got something else") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Warning) as error:
            raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
        yield picture
