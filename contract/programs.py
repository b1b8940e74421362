"""A capability is a program over a bundle's graphs.

An optional ``init`` graph runs once, the ``step`` graph T times, an optional ``final`` graph once; a one-shot
capability is T = 1 with neither. Everything is per row, so that rows at different steps share a batch.

Every row carries an environment of named arrays. It starts with the program's inputs. A graph reads the names of
its inputs from the environment and writes its outputs there; an output called ``next_S`` updates the state ``S``.
The step graph may also read ``t``, the row's step index (int64), and the columns of the program's schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from contract.part import Part

__all__ = [
    "KNOWN",
    "NEXT",
    "DType",
    "Direction",
    "Filling",
    "Output",
    "OutputError",
    "OutputKind",
    "Program",
    "ProgramInput",
    "Source",
    "State",
    "Steps",
    "Units",
    "score_program",
]

NEXT = "next_"
"""Prefix of a graph's output that updates a state."""

KNOWN = "known"
"""Name of the input that says which coordinates of ``x`` are known, bool [n, *shape]; what the others hold is 1."""

DType = Literal["float64", "float32", "int64", "uint8", "bool"]
Source = Literal["data", "condition", "parameter", "schedule", "address"]
OutputKind = Literal[
    "sample", "code", "exact", "lower_bound", "estimate", "unnormalised", "score", "statistic", "standard_error"
]
Units = Literal["nats", "data", "code", "none", "bits"]
Direction = Literal["both", "low", "high"]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
Shape = tuple[Annotated[int, Field(ge=1)], ...]


class ProgramInput(Part):
    """A per-row value that a program takes: array [n, *shape].

    Of a question about data, an address that is not given is seed 0 and a hash of the row's own bytes: what a
    stochastic answer draws depends on the row alone, and on none of its neighbours.
    """

    later: ClassVar[frozenset[str]] = frozenset({"vocabulary", "description"})

    name: Name
    dtype: DType
    shape: Shape = Field(default=(), description="Shape per row, without the batch.")
    source: Source = Field(
        description="data: the row or code asked about; address: seed and row; parameter: a knob of the request; "
        "condition: what to condition on; schedule: the step index t or a column of the schedule."
    )
    default: float | None = Field(
        default=None,
        description="Value of a parameter, or of a condition (its null value), that the request leaves out.",
    )
    minimum: float | None = None
    maximum: float | None = None
    vocabulary: tuple[str, ...] | None = Field(
        default=None, description="Labels of a condition that is a class; the value is a label's index."
    )
    description: str = Field(default="", description="What the value does, in words.")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.vocabulary is None:
            return self
        if self.source != "condition" or self.dtype != "int64" or self.shape:
            raise ValueError(f"{self.name!r}: a vocabulary belongs to a condition, one int64 a row")
        if not self.vocabulary or len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError(f"{self.name!r}: a vocabulary is a list of different labels")
        return self


class State(Part):
    """A per-row value that goes from one graph into the next: array [n, *shape]."""

    name: Name
    dtype: DType
    shape: Shape = ()


class Steps(Part):
    """How often the step graph runs, T; each row has a T of its own."""

    later: ClassVar[frozenset[str]] = frozenset({"maximum", "parameter"})

    default: int = Field(ge=1)
    allowed: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="The numbers that may be asked for; empty where any from 1 to ``maximum`` may be."
    )
    maximum: int | None = Field(default=None, ge=1, description="The largest T, where ``allowed`` lists none.")
    parameter: Name = Field(
        default="steps", description="What a request calls T: steps of a chain, or samples of an estimate."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if bool(self.allowed) == (self.maximum is not None):
            raise ValueError("steps are either listed in allowed, or bounded by maximum")
        if not self.allows(self.default):
            raise ValueError(f"the default number of steps {self.default} is not {self.expected}")
        return self

    @property
    def fixed(self) -> bool:
        """Whether there is only one T, so that no request chooses it."""
        return self.allowed == (self.default,)

    @property
    def expected(self) -> str:
        """What T may be, in words for an error message."""
        if self.maximum is not None:
            return f"a whole number from 1 to {self.maximum}"
        return "one of " + ", ".join(str(count) for count in self.allowed)

    def allows(self, count: int) -> bool:
        """Whether T may be ``count``."""
        return 1 <= count <= self.maximum if self.maximum is not None else count in self.allowed


class OutputError(Part):
    """The error of an estimate or a bound: one number a row, or one that all rows share."""

    scope: Literal["row", "shared"] = Field(
        description="row: each row has an error of its own, independent of the others'; shared: one draw, such as an "
        "estimate of the normalising constant, moves all rows together, and differences between rows are free of it."
    )
    output: Name | None = Field(default=None, description="The output with each row's standard error.")
    standard_error: float | None = Field(default=None, ge=0, description="The standard error that all rows share.")
    bias: str = Field(default="", description="In which direction the figure is off on average, in words.")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.scope == "row") != (self.output is not None) or (self.scope == "shared") != (
            self.standard_error is not None
        ):
            raise ValueError("an error by row names an output, a shared one is a number")
        return self


class Output(Part):
    """A per-row answer: array [n, *shape]."""

    later: ClassVar[frozenset[str]] = frozenset({"error", "vocabulary", "prior", "direction"})

    name: Name
    dtype: DType
    shape: Shape = ()
    kind: OutputKind
    units: Units
    description: str = Field(default="", description="What the numbers are, in words: 'whitened row, a bijection'.")
    error: OutputError | None = Field(default=None, description="Of an estimate or a bound.")
    vocabulary: tuple[str, ...] | None = Field(
        default=None, description="Labels of an output that has a number for each of them, in their order."
    )
    prior: tuple[float, ...] | None = Field(
        default=None, description="Of a law of labels given a row: the probability of each label before it is seen."
    )
    direction: Direction | None = Field(
        default=None,
        description="Of a statistic: in which direction rows are strange. low and high: the score is monotone in the "
        "statistic; both: strange is what is rare, on either side. Absent where the law of the score says it in words.",
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.direction is not None and self.kind != "statistic":
            raise ValueError(f"{self.name!r}: a direction belongs to a statistic, not to a {self.kind}")
        labels = self.vocabulary
        if labels is not None and (len(set(labels)) != len(labels) or self.shape != (len(labels),)):
            raise ValueError(f"{self.name!r}: a vocabulary is a list of different labels, one for each number")
        if self.prior is not None and (
            labels is None or len(self.prior) != len(labels) or min(self.prior) < 0 or abs(sum(self.prior) - 1) > 1e-6
        ):
            raise ValueError(f"{self.name!r}: a prior is a probability for each label of a vocabulary")
        return self


Filling = Literal["exact", "earlier", "chain"]
"""What draws of missing coordinates are conditioned on: all that is known, exactly; what is known earlier in the row,
of which an order of the coordinates decides; all that is known, in the limit of a long chain."""


class Program(Part):
    """The program of one capability; graphs are named as in the manifest's ``graphs``."""

    later: ClassVar[frozenset[str]] = frozenset({"filling"})

    init: Name | None = None
    step: Name
    final: Name | None = None
    inputs: tuple[ProgramInput, ...]
    state: tuple[State, ...] = ()
    steps: Steps = Steps(default=1, allowed=(1,))
    schedules: dict[int, dict[Name, tuple[float, ...]]] = Field(
        default={}, description="For an allowed number of steps T, columns of length T fed to the step graph by name."
    )
    done: Name | None = Field(default=None, description="Boolean step output: this row has converged and may leave.")
    preview: Name | None = Field(default=None, description="The state that is a picture of progress.")
    filling: Filling | None = Field(
        default=None,
        description="Of a program that fills in what is missing: exact: draws of the law given all that is known; "
        "earlier: of the law given what precedes each missing coordinate in row-major order; chain: of a Markov chain "
        "whose law tends to the one given all that is known.",
    )
    outputs: tuple[Output, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        inputs = [part.name for part in self.inputs]
        states = [part.name for part in self.state]
        names = inputs + states
        if len(set(names)) != len(names):
            raise ValueError("two inputs or states have the same name")
        if self.preview is not None and self.preview not in states:
            raise ValueError(f"preview {self.preview!r} is not a state")
        answers = {part.name: part.kind for part in self.outputs}
        for error in (part.error for part in self.outputs if part.error is not None):
            if error.output is not None and answers.get(error.output) != "standard_error":
                raise ValueError(f"{error.output!r} is no output that is a standard error")
        scheduled = {part.name for part in self.inputs if part.source == "schedule"} - {"t"}
        if scheduled and set(self.schedules) != set(self.steps.allowed):
            raise ValueError("a schedule is needed for each allowed number of steps, and for no other")
        if self.steps.parameter in inputs:
            raise ValueError(f"{self.steps.parameter!r} is both an input and the number of steps")
        for steps, table in self.schedules.items():
            if set(table) != scheduled or any(len(column) != steps for column in table.values()):
                raise ValueError(f"the schedule for {steps} steps must give {steps} values of each of {scheduled}")
        return self

    @property
    def graphs(self) -> tuple[str, ...]:
        """Names of the graphs, in the order they run."""
        return tuple(graph for graph in (self.init, self.step, self.final) if graph is not None)

    @cached_property
    def one_shot(self) -> bool:
        """Whether the program is a single run of one graph."""
        return self.init is None and self.final is None and self.steps.allowed == (1,)

    def input(self, name: str) -> ProgramInput | None:
        """The input of that name, if there is one."""
        return next((part for part in self.inputs if part.name == name), None)

    @cached_property
    def data_input(self) -> ProgramInput | None:
        """The input that carries the rows or codes asked about, if there is one."""
        return next((part for part in self.inputs if part.source == "data"), None)


def score_program(
    log_prob: Program | None, statistics: Sequence[Output] | None = None, *, inputs: Sequence[ProgramInput] = ()
) -> Program:
    """The program of anomaly scores: the graphs of /log_prob, so that rows of both share batches, then ``score``.

    Args:
        log_prob: the program of /log_prob; None where no statistic needs it: the score is then one run of one graph.
        statistics: the outputs that enter the score, of which the graph ``score`` gives all but log_prob; None for
            log_prob alone.
        inputs: what ``score`` takes where there is no log_prob: the row, and its conditions.
    """
    score = Output(name="score", dtype="float64", kind="score", units="nats", description="larger means stranger")
    if log_prob is None:
        return Program(step="score", inputs=tuple(inputs), outputs=(score, *(statistics or ())))
    own = log_prob.outputs[0].model_copy(update={"kind": "statistic", "error": None})
    taken = (own,) if statistics is None else tuple(statistics)
    return Program(
        init=log_prob.init,
        step=log_prob.step,
        final="score",
        inputs=log_prob.inputs,
        state=log_prob.state or (State(name="log_prob", dtype="float64"),),
        steps=log_prob.steps,
        outputs=(score, *taken, *(part for part in log_prob.outputs if part.kind == "standard_error")),
    )
