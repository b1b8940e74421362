"""The data section of a recipe: one class for each loader."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from contract.support import ColumnKind

__all__ = [
    "ColumnSpec",
    "CsvData",
    "Data",
    "FolderData",
    "IdxData",
    "MadeData",
    "MoonsData",
    "NpzData",
    "ParquetData",
    "Part",
    "SeriesData",
    "SklearnData",
    "TableData",
]

RelativePath = Annotated[str, Field(min_length=1, description="Path relative to the data folder.")]
Words = Annotated[str, Field(min_length=1, description="The data set in words, with its source.")]


class Part(BaseModel):
    """A part of a recipe: fixed once read, and without fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SklearnData(Part):
    """A data set that comes with scikit-learn."""

    loader: Literal["sklearn"]
    set: Literal["breast_cancer", "digits"]
    crop: tuple[int, int, int, int] | None = Field(
        default=None, description="Top, left, height and width of the window kept of each picture; digits only."
    )
    levels: int | None = Field(
        default=None, ge=2, le=17, description="Levels of a pixel, of which there are 17 as it comes; digits only."
    )
    signal: bool = Field(
        default=False, description="Pixels of the window, line by line, as a signal [T] rather than a picture."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.set != "digits" and (self.crop is not None or self.levels is not None or self.signal):
            raise ValueError("only the pictures of 'digits' have a crop, levels, and lines to make a signal of")
        if self.crop is None:
            return self
        top, left, height, width = self.crop
        if min(top, left) < 0 or min(height, width) < 1 or top + height > 8 or left + width > 8:
            raise ValueError("the crop (top, left, height, width) must lie within 8 × 8 pixels")
        return self

    @property
    def labelled(self) -> bool:
        """Whether rows come with labels."""
        return True

    @property
    def pictures(self) -> bool | None:
        """Whether rows are pictures; None where only the file says."""
        return self.set == "digits" and not self.signal


class MadeData(Part):
    """A table, of mixed columns with holes or of few, drawn from a law that is known."""

    loader: Literal["made"]
    table: Literal["visits", "people", "lamps", "waits"] = Field(
        description="visits: three columns; people: twenty; lamps: two that are independent; waits: one."
    )
    n: int = Field(ge=20, le=10**7)
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    @property
    def labelled(self) -> bool:
        """Whether rows come with labels."""
        return False

    @property
    def pictures(self) -> bool | None:
        """Whether rows are pictures."""
        return False


class MoonsData(Part):
    """Two interleaving half circles, made by scikit-learn."""

    loader: Literal["moons"]
    n: int = Field(ge=20, le=10**7)
    noise: float = Field(ge=0, description="Standard deviation of the Gaussian noise.")
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    @property
    def labelled(self) -> bool:
        """Whether rows come with labels: which moon a point was made on."""
        return True

    @property
    def pictures(self) -> bool | None:
        """Whether rows are pictures."""
        return False


class IdxData(Part):
    """Pictures in the idx format of MNIST, gzipped or not."""

    loader: Literal["idx"]
    train: RelativePath
    test: RelativePath | None = Field(default=None, description="Pictures of the official test split, if there is one.")
    train_labels: RelativePath | None = Field(default=None, description="Labels of the pictures, an idx file too.")
    test_labels: RelativePath | None = Field(default=None, description="Labels of the official test split.")
    label_names: tuple[str, ...] | None = Field(
        default=None, description="What labels 0, 1, 2 … are called; their numbers if absent."
    )
    description: Words

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.train_labels is not None and (self.test is None) != (self.test_labels is None):
            raise ValueError("test and test_labels come together where there are train_labels")
        if self.train_labels is None and (self.test_labels is not None or self.label_names is not None):
            raise ValueError("test_labels and label_names come with train_labels")
        _all_different("label_names", self.label_names)
        return self

    @property
    def labelled(self) -> bool:
        """Whether rows come with labels."""
        return self.train_labels is not None

    @property
    def pictures(self) -> bool | None:
        """Whether rows are pictures."""
        return True


class FolderData(Part):
    """A folder of PNG and JPEG pictures; each sub-folder, if there are any, is a label."""

    loader: Literal["folder"]
    folder: RelativePath
    test: RelativePath | None = Field(default=None, description="Folder of the official test split, if there is one.")
    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = Field(
        default=None, description="Height and width to resize every picture to; None: all have one size already."
    )
    colour: Literal["grey", "colour"] | None = Field(
        default=None, description="None: grey if every picture of the folder is, else colour."
    )
    description: Words

    @property
    def labelled(self) -> bool:
        """Whether rows come with labels; only the folder says whether there are sub-folders."""
        return True

    @property
    def pictures(self) -> bool | None:
        """Whether rows are pictures."""
        return True


# -- tables --------------------------------------------------------------------------------------------------------


class ColumnSpec(Part):
    """What a column is. What is left out is read off the data; a kind alone may stand for the whole."""

    kind: ColumnKind
    resolution: float | None = Field(default=None, gt=0, description="Spacing of the values where they are rounded.")
    levels: int | None = Field(default=None, ge=2, description="K of an ordinal column, values 0 … K − 1.")
    categories: tuple[str, ...] | None = Field(default=None, description="Labels of a categorical column, in order.")
    missing_allowed: bool | None = Field(default=None, description="None: allowed if a value of the file is missing.")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.levels is not None and self.kind != "ordinal":
            raise ValueError("levels belong to ordinal columns, and only to them")
        if self.categories is not None and self.kind != "categorical":
            raise ValueError("categories belong to categorical columns, and only to them")
        if self.resolution is not None and self.kind not in ("real", "positive"):
            raise ValueError("a resolution belongs to real and positive columns, and only to them")
        _all_different("categories", self.categories)
        if self.categories is not None and len(self.categories) < 2:
            raise ValueError("categories: at least two are needed")
        return self


class _Columns(Part):
    columns: dict[str, ColumnSpec] = Field(
        default={}, description="Kind of each column by name; one that is not named is inspected."
    )
    drop: tuple[str, ...] = Field(default=(), description="Columns to leave out.")
    description: Words

    @field_validator("columns", mode="before")
    @classmethod
    def _kinds_alone(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name in given:
            if isinstance(name, bool):
                raise ValueError(f"YAML reads a column's name as {name}; put the name in quotes")
        return {str(name): {"kind": spec} if isinstance(spec, str) else spec for name, spec in given.items()}

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        both = sorted(set(self.columns) & set(self.drop))
        if both:
            raise ValueError(f"column {both[0]!r} is both among columns and among drop")
        return self

    @property
    def pictures(self) -> bool | None:
        """Whether rows are pictures."""
        return False


class TableData(_Columns):
    """What files of named columns have in common."""

    file: RelativePath
    test: RelativePath | None = Field(default=None, description="File of the official test split, if there is one.")
    label: str | None = Field(default=None, description="Column that holds the label of each row; it is not modelled.")

    @model_validator(mode="after")
    def _label_apart(self) -> Self:
        if self.label is not None and (self.label in self.columns or self.label in self.drop):
            raise ValueError(f"column {self.label!r} is the label, and so neither among columns nor among drop")
        return self

    @property
    def labelled(self) -> bool:
        """Whether rows come with labels."""
        return self.label is not None


class CsvData(TableData):
    """A CSV file with a line of names, compressed or not. Numbers have a decimal point unless told otherwise."""

    loader: Literal["csv"]
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    decimal: Literal[".", ","] = "."
    encoding: str = "utf-8"
    missing: tuple[str, ...] = Field(
        default=(),
        description="Further spellings of a missing value, beside empty cells, NA, NaN, null and their like.",
    )

    @model_validator(mode="after")
    def _separable(self) -> Self:
        if self.delimiter == self.decimal:
            raise ValueError("decimal: the delimiter cannot be the decimal sign too")
        return self


class ParquetData(TableData):
    """A Parquet file."""

    loader: Literal["parquet"]


class NpzData(_Columns):
    """Arrays of an npz file, or the one array of an npy file: a table [n, d], or pictures [n, height, width(, 3)]."""

    loader: Literal["npz"]
    file: RelativePath
    test: RelativePath | None = Field(
        default=None, description="File of the official test split, with the same keys, if there is one."
    )
    rows: str | None = Field(default=None, description="Key of the rows; None for an npy file.")
    labels: str | None = Field(
        default=None, description="Key of the labels, whole numbers or strings, if there are any."
    )
    label_names: str | tuple[str, ...] | None = Field(
        default=None, description="What labels 0, 1, 2 … are called, or the key of an array that says so."
    )
    names: str | tuple[str, ...] | None = Field(
        default=None, description="Names of a table's columns, or the key of an array of them; x0, x1 … if absent."
    )
    shift: dict[str, float] = Field(
        default={},
        description="Added to a column that the source stores centred, by its name; the sum is rounded to the "
        "column's resolution, and to whole numbers where its kind asks for them.",
    )

    @model_validator(mode="after")
    def _keys(self) -> Self:
        npy = self.file.endswith(".npy")
        if npy and (self.rows is not None or self.labels is not None):
            raise ValueError("an npy file holds one array, and no keys")
        if not npy and self.rows is None:
            raise ValueError("rows: the key of the array that holds the rows")
        if self.label_names is not None and self.labels is None:
            raise ValueError("label_names come with labels")
        for name in self.shift:
            if name not in self.columns:
                raise ValueError(f"shift: the kind of {name!r} must be given among columns")
        for field in ("label_names", "names"):
            given = getattr(self, field)
            _all_different(field, given if isinstance(given, tuple) else None)
        return self

    @property
    def labelled(self) -> bool:
        """Whether rows come with labels."""
        return self.labels is not None

    @property
    def pictures(self) -> bool | None:
        """Whether rows are pictures: only the file says."""
        return None


class SeriesData(Part):
    """A series in time: a CSV file with a line of names, a column of times and one of values."""

    loader: Literal["series"]
    file: RelativePath
    timestamp: str = Field(default="timestamp", description="Column of times, in the form of ISO 8601.")
    value: str = Field(default="value", description="Column of values.")
    window: int = Field(ge=2, description="Samples of a row, T.")
    stride: int = Field(ge=1, description="Samples from the start of a row to that of the next.")
    block: int = Field(ge=2, description="Samples of a block; rows lie in one block, and folds are dealt by block.")
    levels: int = Field(ge=2, le=256, description="Levels of a sample, of equal width between low and high.")
    low: float = Field(description="The least value of the range; one beyond the range is an error.")
    high: float = Field(description="The largest value of the range.")
    description: Words

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError("low and high are finite, and low is the lower")
        if self.block < self.window:
            raise ValueError(f"a block of {self.block} samples holds no window of {self.window}")
        return self

    @property
    def labelled(self) -> bool:
        """Whether rows come with labels."""
        return False

    @property
    def pictures(self) -> bool | None:
        """Whether rows are pictures."""
        return False


Data = Annotated[
    SklearnData | MoonsData | MadeData | IdxData | FolderData | CsvData | ParquetData | NpzData | SeriesData,
    Field(discriminator="loader"),
]


def _all_different(field: str, names: tuple[str, ...] | None) -> None:
    if names is not None and len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{field}: {twice!r} is there twice")
