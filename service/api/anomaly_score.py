"""POST /anomaly-score."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from contract.capabilities import NumberKind
from contract.conformal import Guarantee
from service.answers import USUAL_ALARMS, Alarms
from service.api import examples
from service.api.calls import post
from service.api.schemas import AnswerHead, AskedAbout, Nested, Values
from service.catalogue import Catalogue
from service.errand import Errand
from service.explanations import Method, rows_worked
from service.operations import Answer, Operations

__all__ = ["AnomalyScoreAnswer", "AnomalyScoreRequest", "router"]

router = APIRouter(tags=["questions"])


class AnomalyScoreRequest(AskedAbout):
    """Rows that may be strange."""

    alpha: float = Field(
        default=USUAL_ALARMS.alpha,
        gt=0,
        lt=1,
        description="Rate of false alarms to keep: an ordinary row is flagged that often at most.",
    )
    guarantee: Guarantee = Field(
        default=USUAL_ALARMS.guarantee,
        description="How `is_anomaly` keeps `alpha`: marginal: on average over draws of the calibration rows; "
        "training_conditional: with 95 % probability over these draws, by this bundle's own calibration rows. Where "
        "the calibration rows depend on each other it is kept in neither way, and the second is refused.",
    )
    fdr: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Rate of false discoveries to keep over the rows of this request (Benjamini and Hochberg 1995): "
        "the answer then has `is_discovery`. Refused where the calibration rows depend on each other.",
    )
    label: str | None = Field(
        default=None,
        min_length=1,
        description="The label of all these rows, where a version was calibrated with labelled rows: p-values are then "
        "among the calibration rows of this label, and alarms keep their rate for it by itself (Mondrian).",
    )
    explain: bool = Field(
        default=False,
        description="Whether to say what about each row is unlikely: the contributions of its columns to its "
        "log-probability. Where a model does not know them as terms, each column of each row takes a run, and a quota "
        "counts it as a row.",
    )

    def charged(self, catalogue: Catalogue, n: int) -> int:
        """How many rows a quota counts, of n that are asked for: explanations take rows of their own."""
        if not self.explain:
            return n
        model = catalogue.get(self.model, self.version)
        return rows_worked(model, n) if "score" in model.manifest.capabilities else n


class Explanation(BaseModel):
    """What `contributions` are."""

    method: Method = Field(
        description="chain_rule: log p of each column given those that the model takes before it; conditional: given "
        "all others; replacement: log_prob less what it would be with the column's usual value."
    )
    exact: bool = Field(
        description="Whether each number is what `meaning` says, of the model's own law and to rounding: not by "
        "`replacement`, which is an approximation, nor where log_prob itself is a bound or an estimate."
    )
    kind: NumberKind = Field(description="Kind of the log-probability that is explained.")
    units: Literal["nats"] = Field(description="Natural logarithms, of densities in the data's own units.")
    meaning: str = Field(description="The same in words.")


class AnomalyScoreAnswer(AnswerHead):
    """Scores with conformal p-values, and what the alarms promise."""

    alpha: float = Field(description="The rate of false alarms that `is_anomaly` is to keep.")
    guarantee: Guarantee | None = Field(
        description="How it keeps it; `promise` says it in words. Null where nothing is promised, since the "
        "calibration rows depend on each other."
    )
    label: str | None = Field(default=None, description="The label whose calibration rows these are held against.")
    score: Values = Field(description="Anomaly score of each row; larger is stranger.")
    statistics: dict[str, Values] = Field(description="The statistics that the score is made of, by name.")
    p_value: Values = Field(
        description="Conformal p-value: (1 + calibration rows at least as strange) / (n_calibration + 1), whatever the "
        "`guarantee`; where there are `n_contaminated`, these are taken off the denominator, and 1 is the most."
    )
    is_anomaly: list[bool] | None = Field(
        description="Whether each row is flagged at `alpha`; null when so few calibration rows cannot reach it."
    )
    largest_flagged_p_value: float | None = Field(
        description="Rows with a p-value of at most this are flagged; null where none can be."
    )
    n_calibration: int = Field(description="Rows that the score was calibrated on.")
    n_contaminated: int | None = Field(
        default=None, ge=1, description="At most so many of them are anomalies themselves, where there may be any."
    )
    n_blocks: int | None = Field(
        default=None,
        ge=1,
        description="Blocks that they come in, where the rows of a block depend on each other, as windows of a series "
        "do. Nothing is promised then; the model's metrics `false_alarms_by_block_at_…` say how many rows of a block "
        "alarm by the scores of the others.",
    )
    ordinary_rows: str = Field(description="Which rows count as ordinary.")
    smallest_p_value: float = Field(description="The smallest p-value that so many calibration rows can give.")
    false_alarm_interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        description="95 % interval of this bundle's own rate of false alarms, over draws of its calibration rows; null "
        "where nothing can alarm, and where there are `n_blocks`: the beta law is that of independent rows."
    )
    promise: str = Field(description="What `is_anomaly` promises and what it does not.")
    fdr: float | None = Field(default=None, description="The rate of false discoveries that `is_discovery` keeps.")
    is_discovery: list[bool] | None = Field(
        default=None,
        description="Whether each row is among the discoveries at `fdr`, if that was asked for; null when so few "
        "calibration rows cannot reach it.",
    )
    fewest_discoveries: int | None = Field(
        default=None,
        ge=1,
        description="How many rows of so many can be discovered at the least: more than 1 where a lone anomaly among "
        "them cannot be, which needs n_calibration of at least rows/fdr − 1.",
    )
    fdr_promise: str | None = Field(default=None, description="What `is_discovery` promises and what it does not.")
    explanation: Explanation | None = Field(
        default=None, description="Where `explain` is asked for: what `contributions` are."
    )
    contributions: Nested | None = Field(
        default=None,
        description="Where `explain` is asked for: for each row a number for each column, in the order of `columns`, "
        'or for each pixel or sample. Low ones say what is unlikely about it; "NaN" is a difference of infinities.',
    )
    columns: list[str] | None = Field(
        default=None, description="Names of the columns, where `explain` is asked for and they have any."
    )


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
    draws of those rows, however good or bad the model is. With `fdr`, the answer also has discoveries: rows to look
    into, of which at most that share is expected to be ordinary. With `explain`, it says what is unlikely about a row.
    """
    alarms = Alarms(asked.alpha, asked.guarantee, asked.fdr, asked.label)
    return await operations.anomaly_score(
        asked.model,
        asked.version,
        rows=asked.rows,
        records=asked.records,
        alarms=alarms,
        explain=asked.explain,
        errand=errand,
    )
