"""What every drafted recipe is, and how it comes to lie in a folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.data.columns import Finding

__all__ = ["FEWEST_ROWS", "Draft", "Purpose", "place_of", "slug", "write_draft"]

Purpose = Literal["density", "anomaly"]
"""What a recipe is tuned for: log-probabilities and draws, or anomaly scores."""

FEWEST_ROWS = 60
"""Of fewer, a fold would hold a handful."""


@dataclass(frozen=True)
class Draft:
    """A recipe that nobody has written yet.

    Attributes:
        name: of the bundle.
        text: the recipe, as YAML.
        findings: what each column of a table is, and why; none of pictures.
        family: why the family is the one that it is.
        rows: number of rows.
        data: the data folder that its path is relative to.
        about: what the rows are, in words.
    """

    name: str
    text: str
    findings: tuple[Finding, ...]
    family: str
    rows: int
    data: Path
    about: str


def place_of(path: Path, data_root: Path) -> tuple[Path, str]:
    """The data folder of a path, and the path relative to it: ``data_root`` if the path lies in it, else its parent."""
    absolute, base = path.absolute(), data_root.absolute()  # a link stays what it is called
    inside = absolute.is_relative_to(base) and absolute != base
    root = data_root if inside else path.parent
    return root, str(absolute.relative_to(root.absolute()))


def slug(stem: str, otherwise: str) -> str:
    """A bundle's name made of a file's."""
    found = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:63].strip("-")
    return found or otherwise


def write_draft(draft: Draft, folder: Path) -> tuple[Path, str | None]:
    """Write a draft into a folder as ``NAME.yaml``, or under the next free name: no file is overwritten.

    Returns:
        Where it is, and what to say of another recipe that had the name, if one had. A recipe that says the same
        already is taken as it is, so that an interrupted run of it can go on.
    """
    first = folder / f"{draft.name}.yaml"
    number = 1
    while True:
        path = first if number == 1 else folder / f"{draft.name}-{number}.yaml"
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(draft.text)
            break
        except FileExistsError:
            if path.is_file() and path.read_bytes() == draft.text.encode():
                break
        number += 1
    return path, None if path == first else f"{first} is another recipe, and stays as it is"
