"""POST /log_prob."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field

from contract.capabilities import NumberKind
from service.api import examples
from service.api.calls import post
from service.api.schemas import AnswerHead, AskedAbout, Knobs, Values
from service.operations import Answer, Operations

__all__ = ["LogProbAnswer", "LogProbRequest", "router"]

router = APIRouter(tags=["questions"])


class LogProbRequest(AskedAbout):
    """Rows whose log-probability is asked for."""

    condition: dict[str, Any] = Field(default={}, description="What to condition on, by name; see the model's card.")
    parameters: Knobs = Field(default={}, description="Knobs by name: a number, or a list of one number a row.")


class LogProbAnswer(AnswerHead):
    """Log-probabilities, and what kind of number they are."""

    kind: NumberKind = Field(
        description="exact: the model's log-probability, to rounding; lower_bound: at most that; estimate: a random "
        "estimate of it; unnormalised: known up to a constant. Numbers of different kinds are never ranked together."
    )
    units: Literal["nats"] = Field(description="Natural logarithms, of densities in the data's own units.")
    log_prob: Values = Field(description="One number a row.")
    bits_per_dimension: Values | None = Field(
        default=None, description="-log_prob / (dimensions * log 2); only for discrete data, where it means something."
    )


@post(router, "/log_prob", capability="log_prob", takes=LogProbRequest, gives=LogProbAnswer, examples=examples.LOG_PROB)
async def log_prob(operations: Operations, asked: LogProbRequest, deadline: float) -> Answer:
    """Say how likely rows are.

    The answer says what its numbers are: exact, a lower bound, an estimate, or unnormalised. A model that has no such
    number refuses with 409.
    """
    return await operations.log_prob(
        asked.model,
        asked.version,
        rows=asked.rows,
        records=asked.records,
        condition=asked.condition,
        parameters=asked.parameters,
        deadline=deadline,
    )
