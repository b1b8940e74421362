"""POST /sample."""

from __future__ import annotations

from typing import Annotated, Any, Self

from fastapi import APIRouter
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from service.api import examples
from service.api.calls import post
from service.api.schemas import (
    ADDRESS_LIMIT,
    AnswerHead,
    Asked,
    Condition,
    FillingName,
    Knobs,
    LawInWords,
    UsedCondition,
)
from service.errand import Errand
from service.operations import Answer, Operations

__all__ = ["SampleAnswer", "SampleRequest", "router"]

router = APIRouter(tags=["questions"])


class SampleRequest(Asked):
    """Which samples to draw."""

    n: int = Field(default=1, ge=1, lt=ADDRESS_LIMIT, description="How many rows.")
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=ADDRESS_LIMIT,
        description="Seed of the samples, in [0, 2**53); chosen at random and returned when absent.",
    )
    start: int = Field(
        default=0, ge=0, lt=ADDRESS_LIMIT, description="The first row; rows start ... start + n - 1 are returned."
    )
    condition: Condition
    parameters: Knobs = Field(
        default={},
        description="Knobs by name, such as `temperature`, or `steps` where a chain's length can be chosen: a number, "
        "or a list of one number a row.",
    )

    given: dict[str, Any] = Field(
        default={},
        description="Columns by name with the values that they have: the others are then drawn given these, for models "
        "that answer /inpaint. A draw's address is then what is given, the seed and its number.",
    )
    previews: list[Annotated[int, Field(ge=1)]] = Field(
        default=[],
        max_length=20,
        description="With `Accept: text/event-stream`: numbers of steps after which the rows are shown as they stand, "
        "for models that draw in steps.",
    )

    @model_validator(mode="after")
    def _addressable(self) -> Self:
        if self.start + self.n > ADDRESS_LIMIT:
            raise PydanticCustomError(
                "not_addressable",
                "expected start + n to be at most 2**53, got {got}",
                {"got": self.start + self.n},
            )
        return self

    def size(self) -> int:
        """How many rows are asked for."""
        return self.n


class SampleAnswer(AnswerHead):
    """Samples and their address."""

    seed: int = Field(description="The seed; with the row's number it is the address of a sample.")
    start: int = Field(description="Number of the first row.")
    n: int = Field(description="How many rows.")
    parameters: dict[str, Any] = Field(description="Every knob with the value that was used.")
    condition: UsedCondition
    given: dict[str, Any] | None = Field(default=None, description="What was given, where anything was.")
    filling: FillingName | None = Field(
        default=None, description="Of draws given some columns: what they are conditioned on, as in /inpaint."
    )
    law: LawInWords | None = Field(default=None, description="The same in a sentence.")
    exact: bool | None = Field(
        default=None, description="Of the same: whether they are of the model's law given everything that was given."
    )
    columns: list[str] | None = Field(default=None, description="Names of the columns, for models that have them.")
    rows: list[list[Any]] = Field(
        description="The samples, in the data's own units; each nested as the model's `support.shape` says. "
        'Numbers that JSON lacks are "NaN", "Infinity" and "-Infinity".'
    )


@post(
    router,
    "/sample",
    capability="sample",
    takes=SampleRequest,
    gives=SampleAnswer,
    examples=examples.SAMPLE,
    array_out="rows",
    picture_out=True,
    events_out=True,
)
async def sample(operations: Operations, asked: SampleRequest, errand: Errand) -> Answer:
    """Draw samples.

    Sample `row` of `seed` is the same whoever draws it, alone or among a thousand, today or next year: bit for bit
    within one numeric profile.
    """
    return await operations.sample(
        asked.model,
        asked.version,
        n=asked.n,
        seed=asked.seed,
        start=asked.start,
        condition=asked.condition,
        parameters=asked.parameters,
        given=asked.given,
        errand=errand,
    )
