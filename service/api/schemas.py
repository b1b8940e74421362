"""What requests and answers have in common, as pydantic models.

Requests are validated by them, but for the numbers inside ``rows``, ``records`` and ``codes``: those are
checked against the model's own support, all at once. Answers are only described by them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from contract.randomness import ADDRESS_LIMIT
from service.catalogue import Catalogue

__all__ = [
    "ADDRESS_LIMIT",
    "AnswerHead",
    "Asked",
    "AskedAbout",
    "Condition",
    "FillingName",
    "Knobs",
    "LawInWords",
    "Nested",
    "Number",
    "UsedCondition",
    "Values",
]

Number = float | Literal["NaN", "Infinity", "-Infinity"]
"""A JSON number, or the name of one that JSON lacks."""

_NESTED: dict[str, Any] = {"type": "array", "items": {"type": "array", "items": {}}}

Nested = Annotated[list[Any], WithJsonSchema(_NESTED)]
"""Rows or codes, one list each."""

Records = Annotated[
    list[Any], WithJsonSchema({"type": "array", "items": {"type": "object", "additionalProperties": {}}})
]

Values = Annotated[list[Number], Field(description="One number a row.")]

Knobs = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}}]},
        }
    ),
]

_LABEL: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}

Condition = Annotated[
    dict[str, Any],
    Field(
        default={},
        description="What to condition on, by name, for models that can: a label (or its index, or null for none), or "
        "a list of one a row; `/models/{model}` lists the labels.",
    ),
    WithJsonSchema(
        {"type": "object", "additionalProperties": {"anyOf": [*_LABEL["anyOf"], {"type": "array", "items": _LABEL}]}}
    ),
]

UsedCondition = Annotated[
    dict[str, Any] | None,
    Field(default=None, description="Every condition of the model with what was used; null is none."),
]


FillingName = Annotated[
    Literal["exact", "earlier", "chain"],
    Field(
        description="What draws of missing values are conditioned on: exact: everything that is known; earlier: what "
        "precedes them in the row; chain: everything that is known, in the limit of a long Markov chain."
    ),
]

LawInWords = Annotated[str, Field(description="The same in a sentence.")]


class Asked(BaseModel):
    """What every request names."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str = Field(min_length=1, max_length=63, description="Name of a model; GET /models lists them.")
    version: int | None = Field(default=None, ge=1, description="Version of the model; the highest when absent.")

    def size(self) -> int:
        """How many rows are asked for."""
        raise NotImplementedError

    def charged(self, catalogue: Catalogue, n: int) -> int:
        """How many rows a quota counts, of n that are asked for."""
        return n


class AskedAbout(Asked):
    """A request about data rows: exactly one of ``rows`` and ``records``."""

    rows: Nested | None = Field(
        default=None,
        description="Rows as lists of numbers, nested as the model's `support.shape` says, or flat. Categories are "
        'given by index or label, missing values as null; "NaN", "Infinity" and "-Infinity" name what JSON lacks.',
    )
    records: Records | None = Field(
        default=None, description="Rows as objects by column name, for models whose columns have names."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("rows", "records") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "exactly_one",
                "expected exactly one of 'rows' and 'records', got {got}",
                {"got": "both" if given else "neither"},
            )
        if not getattr(self, given[0]):
            raise PydanticCustomError(
                "no_rows", "expected at least one row in {name}, got none", {"name": repr(given[0])}
            )
        return self

    def size(self) -> int:
        """How many rows are asked about."""
        return len(self.rows if self.rows is not None else self.records or ())


class AnswerHead(BaseModel):
    """Which bundle answered, and in which numeric profile."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Version that answered.")
    digest: str = Field(description="Digest of the bundle that answered.")
    profile: str = Field(
        description="Numeric profile: ONNX Runtime version, provider, CPU feature level, threads. "
        "Within one profile the same question gets the same bits."
    )
