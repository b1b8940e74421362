"""What others report, from ``published.yaml``: values with their kinds and sources, by the test fold they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, TypeAdapter

from contract.capabilities import NumberKind
from training.sections import Part

__all__ = ["PUBLISHED", "PublishedSet", "PublishedValue", "published_sets"]

PUBLISHED = Path(__file__).with_name("published.yaml")

Words = Annotated[str, Field(min_length=1)]


class PublishedValue(Part):
    """A value that a paper reports."""

    model: Words
    family: str | None = Field(default=None, description="The family here that does the same, if there is one.")
    value: float
    kind: NumberKind
    source: Words


class PublishedSet(Part):
    """The values of one metric on one data set."""

    title: Words
    metric: Words
    units: Words
    test_folds: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...]
    remark: str | None = None
    values: tuple[PublishedValue, ...]


def published_sets(path: Path = PUBLISHED) -> tuple[PublishedSet, ...]:
    """The sets in a file.

    Raises:
        ValidationError: it is not such a file.
    """
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    return TypeAdapter(tuple[PublishedSet, ...]).validate_python(given)
