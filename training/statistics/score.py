"""The graph ``score``: a row and its log-probability in, its statistics and the score that they make out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from contract.programs import Direction, DType, Program, ProgramInput, State, score_program
from contract.support import Support
from training.statistics.base import Statistic
from training.statistics.law import JointLaw

__all__ = ["LOG_PROB", "AnomalyScore", "Statistics"]

LOG_PROB = "log_prob"


class Statistics(nn.Module):
    """Several statistics of a row.

    Args:
        names: in the order in which they are given; ``log_prob`` is passed on, every other one has a module.
        modules: by name.
    """

    def __init__(self, names: Sequence[str], modules: Mapping[str, Statistic]):
        super().__init__()
        self.names = tuple(names)
        self.parts = nn.ModuleDict(dict(modules))

    @property
    def reads_log_prob(self) -> bool:
        """Whether any of them is the log-probability, or is made of it."""
        return LOG_PROB in self.names or any(part.reads_log_prob for part in self._modules_in_order())

    @property
    def looks_at_model(self) -> bool:
        """Whether any of them depends on how the model was fitted."""
        return self.reads_log_prob or any(part.looks_at_model for part in self._modules_in_order())

    @property
    def reads_rows(self) -> bool:
        """Whether any of them looks at the row itself."""
        return len(self.parts) > 0

    @property
    def keeps_rows(self) -> bool:
        """Whether training rows are among their tensors."""
        return any(part.keeps_rows for part in self._modules_in_order())

    def forward(self, x: Tensor | None, log_prob: Tensor | None, *conditions: Tensor) -> dict[str, Tensor]:
        """x [n, *shape], log_prob float64 [n], conditions [n] -> float64 [n] each, by name."""
        values: dict[str, Tensor] = {}
        for name in self.names:
            if name == LOG_PROB:
                assert log_prob is not None
                values[name] = log_prob
            else:
                assert x is not None
                values[name] = self.parts[name](x, log_prob, *conditions)
        return values

    def _modules_in_order(self) -> list[Statistic]:
        return [cast(Statistic, part) for part in self.parts.values()]


class AnomalyScore(nn.Module):
    """Statistics and the law of them together.

    Args:
        statistics: fitted statistics.
        law: their joint law, its terms in the same order.
        support: what a row is.
        conditions: what the model can be conditioned on.
    """

    def __init__(self, statistics: Statistics, law: JointLaw, support: Support, conditions: Sequence[ProgramInput]):
        super().__init__()
        self.statistics, self.law = statistics, law
        self.support, self.conditions = support, tuple(conditions)

    @property
    def words(self) -> str:
        """What the score is, in words."""
        return self.law.words

    @property
    def ports(self) -> tuple[State, ...]:
        """What the graph takes, in order: what of the row, its log-probability and its conditions is read."""
        ports = []
        if self.statistics.reads_rows:
            ports.append(State(name="x", dtype=cast(DType, self.support.dtype), shape=self.support.shape))
        if self.statistics.reads_log_prob:
            ports.append(State(name=LOG_PROB, dtype="float64"))
        if self.statistics.reads_rows:
            ports += [State(name=part.name, dtype=part.dtype, shape=part.shape) for part in self.conditions]
        return tuple(ports)

    @property
    def names(self) -> tuple[str, ...]:
        """What the graph gives, in order."""
        return ("score", *(name for name in self.statistics.names if name != LOG_PROB))

    def forward(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        """Arguments [n, ...] in the order of ``ports`` -> float64 [n] each, in the order of ``names``."""
        given = {port.name: value for port, value in zip(self.ports, arguments, strict=True)}
        conditions = [given[part.name] for part in self.conditions if part.name in given]
        values = self.statistics(given.get("x"), given.get(LOG_PROB), *conditions)
        score = self.law([values[name] for name in self.statistics.names])
        return (score, *(values[name] for name in self.statistics.names if name != LOG_PROB))

    def program(self, log_prob: Program | None) -> Program:
        """The program of the score, given that of /log_prob where it is read."""
        outputs = []
        for name in self.statistics.names:
            direction: Direction = self.law.directions[name]
            if name == LOG_PROB:
                assert log_prob is not None
                own = log_prob.outputs[0]
                outputs.append(own.model_copy(update={"kind": "statistic", "error": None, "direction": direction}))
            else:
                outputs.append(cast(Statistic, self.statistics.parts[name]).output(direction))
        if self.statistics.reads_log_prob:
            return score_program(log_prob, outputs)
        data = ProgramInput(name="x", dtype=cast(DType, self.support.dtype), shape=self.support.shape, source="data")
        return score_program(None, outputs, inputs=(data, *self.conditions))
