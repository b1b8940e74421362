"""A capability is a program over a bundle's graphs.

An optional ``init`` graph runs once, the ``step`` graph T times, an optional ``final`` graph once; a one-shot
capability is T = 1 with neither. Everything is per row, so that rows at different steps share a batch.

Every row carries an environment of named arrays. It starts with the program's inputs. A graph reads the names of
its inputs from the environment and writes its outputs there; an output called ``next_S`` updates the state ``S``.
The step graph may also read ``t``, the row's step index (int64), and the columns of the program's schedule.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["NEXT", "DType", "Output", "OutputKind", "Program", "ProgramInput", "Source", "State", "Steps", "Units"]

NEXT = "next_"
"""Prefix of a graph's output that updates a state."""

DType = Literal["float64", "float32", "int64", "uint8", "bool"]
Source = Literal["data", "condition", "parameter", "schedule", "address"]
OutputKind = Literal["sample", "code", "exact", "lower_bound", "estimate", "unnormalised", "score", "statistic"]
Units = Literal["nats", "data", "code", "none"]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
Shape = tuple[Annotated[int, Field(ge=1)], ...]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProgramInput(_Part):
    """A per-row value that a program takes: array [n, *shape]."""

    name: Name
    dtype: DType
    shape: Shape = Field(default=(), description="Shape per row, without the batch.")
    source: Source = Field(
        description="data: the row or code asked about; address: seed and row; parameter: a knob of the request; "
        "condition: what to condition on; schedule: the step index t or a column of the schedule."
    )
    default: float | None = Field(default=None, description="Value of a parameter that the request leaves out.")
    minimum: float | None = None
    maximum: float | None = None


class State(_Part):
    """A per-row value that goes from one graph into the next: array [n, *shape]."""

    name: Name
    dtype: DType
    shape: Shape = ()


class Steps(_Part):
    """How often the step graph runs."""

    default: int = Field(ge=1)
    allowed: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.default not in self.allowed:
            raise ValueError(f"the default number of steps {self.default} is not among {list(self.allowed)}")
        return self


class Output(_Part):
    """A per-row answer: array [n, *shape]."""

    name: Name
    dtype: DType
    shape: Shape = ()
    kind: OutputKind
    units: Units
    description: str = Field(default="", description="What the numbers are, in words: 'whitened row, a bijection'.")


class Program(_Part):
    """The program of one capability; graphs are named as in the manifest's ``graphs``."""

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
        scheduled = {part.name for part in self.inputs if part.source == "schedule"} - {"t"}
        if scheduled and set(self.schedules) != set(self.steps.allowed):
            raise ValueError("a schedule is needed for each allowed number of steps, and for no other")
        for steps, table in self.schedules.items():
            if set(table) != scheduled or any(len(column) != steps for column in table.values()):
                raise ValueError(f"the schedule for {steps} steps must give {steps} values of each of {scheduled}")
        return self

    @property
    def graphs(self) -> tuple[str, ...]:
        """Names of the graphs, in the order they run."""
        return tuple(graph for graph in (self.init, self.step, self.final) if graph is not None)

    @property
    def one_shot(self) -> bool:
        """Whether the program is a single run of one graph."""
        return self.init is None and self.final is None and self.steps.allowed == (1,)

    def input(self, name: str) -> ProgramInput | None:
        """The input of that name, if there is one."""
        return next((part for part in self.inputs if part.name == name), None)

    @property
    def data_input(self) -> ProgramInput | None:
        """The input that carries the rows or codes asked about, if there is one."""
        return next((part for part in self.inputs if part.source == "data"), None)
