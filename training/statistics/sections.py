"""The anomaly section of a recipe: which statistics make the score, each with its options and its direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from contract.programs import Direction
from training.sections import Part

__all__ = [
    "Anomaly",
    "BackgroundRatio",
    "Complexity",
    "LocalOutlierFactor",
    "LogProb",
    "Mixture",
    "Neighbours",
    "Reconstruction",
    "StatisticSection",
    "Typicality",
]

_DIRECTION = (
    "low: strange is a low value, high: a high one; the score is then monotone in the statistic. both: strange is "
    "what is rare, on either side."
)


class LogProb(Part):
    """The log-probability of a row under the model."""

    name: Literal["log_prob"]
    direction: Direction = Field(default="both", description=_DIRECTION)


class BackgroundRatio(Part):
    """The log-probability less that under a model of the same rows with noise in them."""

    name: Literal["background_ratio"]
    direction: Direction = Field(default="low", description=_DIRECTION)
    share: float = Field(default=0.1, gt=0, lt=1, description="Share of the values that are drawn anew.")


class Complexity(Part):
    """The entropy of what the median edge predictor does not foresee of a picture."""

    name: Literal["complexity"]
    direction: Direction = Field(default="both", description=_DIRECTION)


class Typicality(Part):
    """How far the squared length of a row's code lies from what it is for draws of the base law."""

    name: Literal["typicality"]
    direction: Direction = Field(default="high", description=_DIRECTION)


class Reconstruction(Part):
    """How far a row lies from the row that its code is decoded to."""

    name: Literal["reconstruction"]
    direction: Direction = Field(default="high", description=_DIRECTION)


class Neighbours(Part):
    """The distance of the k-th nearest of the training rows that are kept."""

    name: Literal["neighbours"]
    direction: Direction = Field(default="high", description=_DIRECTION)
    k: int = Field(default=5, ge=1, description="Which neighbour's distance counts.")
    space: Literal["code", "data"] | None = Field(
        default=None,
        description="Between codes, or between rows with each column scaled; None: codes where they can be decoded.",
    )
    rows: int = Field(default=4096, ge=2, description="At most so many training rows are kept, by lot.")


class LocalOutlierFactor(Part):
    """The distance of the k-th nearest training row over what it is for the k nearest rows themselves."""

    name: Literal["local_outlier_factor"]
    direction: Direction = Field(default="high", description=_DIRECTION)
    k: int = Field(default=10, ge=1, description="How many neighbours count.")
    space: Literal["code", "data"] | None = Field(default=None, description="As of neighbours.")
    rows: int = Field(default=4096, ge=2, description="At most so many training rows are kept, by lot.")


class Mixture(Part):
    """The log-density of a row, its columns scaled, under a mixture of normals."""

    name: Literal["mixture"]
    direction: Direction = Field(default="low", description=_DIRECTION)
    components: int | None = Field(
        default=None, ge=1, description="How many normals; None: the number under which rows held out are likeliest."
    )
    ridge: float = Field(default=0.01, gt=0, description="Added to each variance, in squared spreads of a column.")


StatisticSection = Annotated[
    LogProb | BackgroundRatio | Complexity | Typicality | Reconstruction | Neighbours | LocalOutlierFactor | Mixture,
    Field(discriminator="name"),
]


class Anomaly(Part):
    """How a row is scored as strange."""

    rows: Annotated[str, Field(min_length=1, description="Which rows count as ordinary, in words: 'benign tumours'.")]
    direction: Literal["law", "low"] = Field(
        default="law",
        description="Of the log-probability as the only statistic. law: strange is what is rare under its law, on "
        "either side; low: strange is a low log-probability alone. Listed statistics have each a direction of their "
        "own.",
    )
    statistics: tuple[StatisticSection, ...] | None = Field(
        default=None,
        min_length=1,
        description="What the score is made of: names, or mappings with a name and options; None: the log-probability.",
    )
    reference: Literal["fold", "cross-fit"] = Field(
        default="fold",
        description="fold: the law is fitted on rows set aside, from 400 rows on; cross-fit: on the training rows, "
        "each under statistics fitted without it, so that all of them train.",
    )

    by_label: bool = Field(
        default=False,
        description="Whether the calibration rows of each label are kept apart, too: questions that give a label then "
        "have p-values among the rows of that label, and alarms keep their rate for each by itself.",
    )

    @field_validator("statistics", mode="before")
    @classmethod
    def _names(cls, statistics: Any) -> Any:
        # `- complexity` says the same as `- name: complexity`.
        if not isinstance(statistics, list | tuple):
            return statistics
        return tuple({"name": part} if isinstance(part, str) else part for part in statistics)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.statistics is None:
            return self
        if self.direction != "law":
            raise ValueError("direction: say it of each statistic that is listed, such as {name: log_prob, …}")
        names = [part.name for part in self.statistics]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"statistics: {twice} is listed twice")
        return self

    @property
    def directions(self) -> Mapping[str, Direction]:
        """The direction of each statistic that is listed, by name."""
        return {part.name: part.direction for part in self.statistics or ()}
