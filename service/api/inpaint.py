"""POST /inpaint."""

from __future__ import annotations

from typing import Any, Self

from fastapi import APIRouter
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from service.api import examples
from service.api.calls import post
from service.api.schemas import (
    ADDRESS_LIMIT,
    AnswerHead,
    AskedAbout,
    Condition,
    FillingName,
    Knobs,
    LawInWords,
    UsedCondition,
)
from service.errand import Errand
from service.operations import Answer, Operations

__all__ = ["InpaintAnswer", "InpaintRequest", "router"]

router = APIRouter(tags=["questions"])


class InpaintRequest(AskedAbout):
    """Rows with holes: null in JSON, or a column left out of a record; NaN in an array."""

    n: int = Field(default=1, ge=1, lt=ADDRESS_LIMIT, description="How many draws of each row.")
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=ADDRESS_LIMIT,
        description="Seed of the draws, in [0, 2**53); chosen at random and returned when absent.",
    )
    start: int = Field(
        default=0, ge=0, lt=ADDRESS_LIMIT, description="The first draw; draws start ... start + n - 1 are returned."
    )
    condition: Condition
    parameters: Knobs = Field(
        default={},
        description="Knobs by name, such as `temperature`, or `steps` where a chain's length can be chosen: a number, "
        "or a list of one number for each row that is asked about.",
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
        """How many rows come back."""
        return super().size() * self.n


class InpaintAnswer(AnswerHead):
    """Rows with their holes filled."""

    seed: int = Field(description="The seed; with what is known of a row and a draw's number it is the draw's address.")
    start: int = Field(description="Number of the first draw.")
    n: int = Field(description="How many draws of each row.")
    parameters: dict[str, Any] = Field(description="Every knob with the value that was used.")
    condition: UsedCondition
    filling: FillingName
    law: LawInWords
    exact: list[bool] = Field(
        description="For each row that was asked about: whether its draws are of the model's law given everything that "
        "is known of it."
    )
    columns: list[str] | None = Field(default=None, description="Names of the columns, for models that have them.")
    rows: list[list[Any]] = Field(
        description="The draws, the n of a row next to each other, in the order of the rows; what was known stays."
    )


@post(
    router,
    "/inpaint",
    capability="inpaint",
    takes=InpaintRequest,
    gives=InpaintAnswer,
    examples=examples.INPAINT,
    array_in="rows",
    array_example=False,
    array_out="rows",
    picture_out=True,
)
async def inpaint(operations: Operations, asked: InpaintRequest, errand: Errand) -> Answer:
    """Draw what is missing of rows.

    The answer says what its draws are conditioned on. A draw depends on what is known of its row, the seed and its
    number, and on nothing else: different rows have independent draws, equal ones the same.
    """
    return await operations.inpaint(
        asked.model,
        asked.version,
        rows=asked.rows,
        records=asked.records,
        n=asked.n,
        seed=asked.seed,
        start=asked.start,
        condition=asked.condition,
        parameters=asked.parameters,
        errand=errand,
    )
