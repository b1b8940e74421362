"""POST /log_prob."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field

from contract.capabilities import NumberKind
from service.api import examples
from service.api.calls import post
from service.api.schemas import (
    ADDRESS_LIMIT,
    AnswerHead,
    AskedAbout,
    Condition,
    Knobs,
    Nested,
    Number,
    UsedCondition,
    Values,
)
from service.errand import Errand
from service.operations import Answer, Operations

__all__ = ["LogProbAnswer", "LogProbRequest", "router"]

router = APIRouter(tags=["questions"])


class LogProbRequest(AskedAbout):
    """Rows whose log-probability is asked for."""

    seed: int | None = Field(
        default=None,
        ge=0,
        lt=ADDRESS_LIMIT,
        description="Seed of what a bound or an estimate draws, 0 when absent; the rest of the address is a hash of "
        "the row's own bytes, so that a row's answer depends on no neighbour. A model that draws nothing takes none.",
    )
    condition: Condition
    parameters: Knobs = Field(
        default={},
        description="Knobs by name, such as `samples`, the number of draws that a bound takes: a number, or a list of "
        "one number a row.",
    )
    trace: bool = Field(
        default=False,
        description="Whether to give the terms that each log-probability is the sum of, too: one for each column, "
        "pixel or sample given the earlier ones, where the model is autoregressive.",
    )


class LogProbAnswer(AnswerHead):
    """Log-probabilities, and what kind of number they are."""

    kind: NumberKind = Field(
        description="exact: the model's log-probability, to rounding; lower_bound: at most that; estimate: a random "
        "estimate of it; unnormalised: known up to a constant. Numbers of different kinds are never ranked together."
    )
    units: Literal["nats"] = Field(description="Natural logarithms, of densities in the data's own units.")
    parameters: dict[str, Any] | None = Field(
        default=None, description="Every knob with the value that was used, for models that have any."
    )
    condition: UsedCondition
    seed: int | None = Field(default=None, description="The seed that was used, where anything is drawn.")
    log_prob: Values = Field(description="One number a row.")
    standard_error: Values | Number | None = Field(
        default=None,
        description="Of a bound or an estimate: one number a row, or one that all rows share; "
        '"NaN" where it cannot be known, as after a single draw.',
    )
    error_scope: Literal["row", "shared"] | None = Field(
        default=None,
        description="row: rows err independently of each other; shared: all rows are off by the same, and their "
        "differences are free of it.",
    )
    bias: str | None = Field(default=None, description="In which direction the figure is off on average.")
    free_energy: Values | None = Field(
        default=None,
        description="Of a model that knows its log-probability as -free_energy - log Z: one number a row, in nats, "
        "exact also where log Z is an estimate.",
    )
    trace: Nested | None = Field(
        default=None,
        description="Where `trace` is asked for: for each row the terms, each the log-probability of a column, pixel "
        "or sample given the earlier ones, in nats; they add up to log_prob. Low ones say what is unlikely about it.",
    )
    bits_per_dimension: Values | None = Field(
        default=None,
        description="-log_prob / (dimensions * log 2); only for discrete data, where it means something. Of a row with "
        "values left out, by the dimensions that are left.",
    )
    summed_out: list[list[str]] | None = Field(
        default=None,
        description="Where values were left out (null, or NaN in an array) and the model knows the law of the others "
        "by themselves: the names of those that were summed or integrated out of each row, whose log_prob is then "
        "that of what is left.",
    )


@post(
    router,
    "/log_prob",
    capability="log_prob",
    takes=LogProbRequest,
    gives=LogProbAnswer,
    examples=examples.LOG_PROB,
    array_in="rows",
    array_out="log_prob",
    several_out=True,
)
async def log_prob(operations: Operations, asked: LogProbRequest, errand: Errand) -> Answer:
    """Say how likely rows are.

    The answer says what its numbers are: exact, a lower bound, an estimate, or unnormalised. A model that has no such
    number refuses with 409.
    """
    return await operations.log_prob(
        asked.model,
        asked.version,
        rows=asked.rows,
        records=asked.records,
        seed=asked.seed,
        condition=asked.condition,
        parameters=asked.parameters,
        trace=asked.trace,
        errand=errand,
    )
