"""POST /classify."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from service.api import examples
from service.api.calls import post
from service.api.schemas import AnswerHead, AskedAbout
from service.errand import Errand
from service.operations import Answer, Operations

__all__ = ["ClassifyAnswer", "ClassifyRequest", "router"]

router = APIRouter(tags=["questions"])


class ClassifyRequest(AskedAbout):
    """Rows whose labels are asked for."""


class ClassifyAnswer(AnswerHead):
    """The law of labels given each row."""

    kind: Literal["exact"] = Field(
        description="exact: Bayes' rule on exact log-probabilities; models that have bounds or estimates refuse."
    )
    labels: list[str] = Field(description="The labels, in the order of the probabilities.")
    prior: list[float] | None = Field(
        default=None, description="The probability of each label before a row is seen, which Bayes' rule starts from."
    )
    predicted: list[str] = Field(description="The most probable label of each row.")
    probabilities: list[list[float]] = Field(description="p(label given row): one list a row, of sum 1.")


@post(
    router,
    "/classify",
    capability="classify",
    takes=ClassifyRequest,
    gives=ClassifyAnswer,
    examples=examples.CLASSIFY,
    array_in="rows",
    array_example=False,
    array_out="probabilities",
)
async def classify(operations: Operations, asked: ClassifyRequest, errand: Errand) -> Answer:
    """Say which label a row has, and how sure that is.

    p(label given row) is p(row given label) p(label) over its sum, by Bayes' rule. Only a model with an exact law of
    rows given each label has it; every other refuses with 409.
    """
    return await operations.classify(asked.model, asked.version, rows=asked.rows, records=asked.records, errand=errand)
