"""POST /anomaly-score."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from service.api import examples
from service.api.calls import post
from service.api.schemas import AnswerHead, AskedAbout, Values
from service.errand import Errand
from service.operations import Answer, Operations

__all__ = ["AnomalyScoreAnswer", "AnomalyScoreRequest", "router"]

router = APIRouter(tags=["questions"])


class AnomalyScoreRequest(AskedAbout):
    """Rows that may be strange."""

    alpha: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="Rate of false alarms to keep: an ordinary row is flagged that often at most.",
    )


class AnomalyScoreAnswer(AnswerHead):
    """Scores with conformal p-values, and what the alarms promise."""

    alpha: float = Field(description="The rate of false alarms that `is_anomaly` keeps.")
    score: Values = Field(description="Anomaly score of each row; larger is stranger.")
    statistics: dict[str, Values] = Field(description="The statistics that the score is made of, by name.")
    p_value: Values = Field(
        description="Conformal p-value: (1 + calibration rows at least as strange) / (n_calibration + 1)."
    )
    is_anomaly: list[bool] | None = Field(
        description="Whether each row is flagged at `alpha`; null when so few calibration rows cannot reach it."
    )
    n_calibration: int = Field(description="Rows that the score was calibrated on.")
    ordinary_rows: str = Field(description="Which rows count as ordinary.")
    smallest_p_value: float = Field(description="The smallest p-value that so many calibration rows can give.")
    false_alarm_interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        description="95 % interval of this bundle's own rate of false alarms at `alpha`, over draws of its calibration."
    )
    guarantee: str = Field(description="What is promised and what is not.")


@post(
    router,
    "/anomaly-score",
    capability="score",
    takes=AnomalyScoreRequest,
    gives=AnomalyScoreAnswer,
    examples=examples.ANOMALY_SCORE,
    array_in="rows",
    several_out=True,
)
async def anomaly_score(operations: Operations, asked: AnomalyScoreRequest, errand: Errand) -> Answer:
    """Say how strange rows are, with an alarm that keeps its rate.

    The p-value is conformal: for rows exchangeable with the calibration rows, P(p <= alpha) <= alpha on average over
    draws of those rows, however good or bad the model is.
    """
    return await operations.anomaly_score(
        asked.model, asked.version, rows=asked.rows, records=asked.records, alpha=asked.alpha, errand=errand
    )
