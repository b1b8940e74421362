"""POST /encode and POST /decode: rows to codes and back."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from service.api import examples
from service.api.calls import post
from service.api.schemas import AnswerHead, Asked, AskedAbout, Condition, Nested, UsedCondition
from service.errand import Errand
from service.operations import Answer, Operations

__all__ = ["DecodeAnswer", "DecodeRequest", "EncodeAnswer", "EncodeRequest", "router"]

router = APIRouter(tags=["questions"])


class EncodeRequest(AskedAbout):
    """Rows whose codes are asked for."""

    condition: Condition


class EncodeAnswer(AnswerHead):
    """Codes, and what they are."""

    kind: str = Field(description="What the codes are, in words.")
    condition: UsedCondition
    codes: list[list[Any]] = Field(description="One code a row.")
    scale: list[list[Any]] | None = Field(
        default=None,
        description="Standard deviation of each coordinate of the code, where the model has a law of codes given a "
        "row; the codes are then its mean.",
    )


class DecodeRequest(Asked):
    """Codes whose rows are asked for."""

    codes: Nested = Field(min_length=1, description="Codes as /encode gives them, one list each.")
    condition: Condition

    def size(self) -> int:
        """How many rows are asked for."""
        return len(self.codes)


class DecodeAnswer(AnswerHead):
    """Rows."""

    condition: UsedCondition
    columns: list[str] | None = Field(default=None, description="Names of the columns, for models that have them.")
    rows: list[list[Any]] = Field(description="One row a code, in the data's own units.")


@post(
    router,
    "/encode",
    capability="encode",
    takes=EncodeRequest,
    gives=EncodeAnswer,
    examples=examples.ENCODE,
    array_in="rows",
    array_out="codes",
)
async def encode(operations: Operations, asked: EncodeRequest, errand: Errand) -> Answer:
    """Give the codes of rows.

    What a code is depends on the family: a flow's is the point of its base law that the row is the image of.
    """
    return await operations.encode(
        asked.model,
        asked.version,
        rows=asked.rows,
        records=asked.records,
        condition=asked.condition,
        errand=errand,
    )


@post(
    router,
    "/decode",
    capability="decode",
    takes=DecodeRequest,
    gives=DecodeAnswer,
    examples=examples.DECODE,
    array_in="codes",
    array_out="rows",
)
async def decode(operations: Operations, asked: DecodeRequest, errand: Errand) -> Answer:
    """Give the rows of codes.

    Where codes are a bijection of rows, this undoes /encode, to rounding.
    """
    return await operations.decode(
        asked.model, asked.version, codes=asked.codes, condition=asked.condition, errand=errand
    )
