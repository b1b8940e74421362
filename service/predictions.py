"""What work will cost: seconds by graph, memory by row, and how long rows take that end early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contract.capabilities import Capability
from contract.programs import Program
from runtime.model import LoadedModel
from runtime.rows import Rows
from service.costs import CostModel

__all__ = ["Predictions"]

_BYTES_UNKNOWN = 4096  # a row of a program that was never warmed
_WARM_RUNS = 6  # of a chain of thousands, the first few tell what the others cost
_WARM_ROWS = 64
_WARM_SECONDS = 0.05  # of a run at most, or it is tried on fewer rows

Env = Mapping[str, NDArray[Any]]


class Predictions:
    """Costs of every graph and program that is served.

    Args:
        run_seconds: how long a full run is to take, on which shared costs are based.
    """

    def __init__(self, run_seconds: float):
        self._run_seconds = run_seconds
        self._costs: dict[tuple[str, str], CostModel] = {}
        self._row_bytes: dict[tuple[str, Capability], int] = {}
        self._early_ends: dict[tuple[str, Capability], float] = {}  # mean steps that rows took

    def warm(self, model: LoadedModel, questions: Mapping[Capability, Env]) -> None:
        """Run every graph a few times, so that its cost is known and its memory touched; blocks.

        Args:
            model: the model, about to be served.
            questions: for every capability, program inputs [n, …] to try it with.
        """
        measured: dict[str, list[tuple[int, float]]] = {name: [] for name in model.graphs}
        for capability, inputs in questions.items():
            program = model.program(capability)
            n = 1
            for _ in range(2):
                tiled = {name: np.resize(value, (n, *value.shape[1:])) for name, value in inputs.items()}
                rows, longest = Rows(program, tiled), 1e-6
                for _ in range(_WARM_RUNS):
                    if (graph := rows.graph) is None:
                        break
                    feeds = rows.feeds()
                    outputs = model.graphs[graph].run(feeds)
                    session = model.graphs[graph]
                    started = session.clock()
                    session.run(feeds)
                    seconds = session.clock() - started
                    measured[graph].append((n, seconds))
                    longest = max(longest, seconds)
                    rows.accept(outputs)
                self._row_bytes[model.digest, capability] = max(1, rows.nbytes // n)
                n = max(2, min(_WARM_ROWS, int(_WARM_SECONDS / longest)))
        for graph, pairs in measured.items():
            if pairs:
                sizes = {n for n, _ in pairs}
                self._costs[model.digest, graph] = CostModel([(n, min(s for m, s in pairs if m == n)) for n in sizes])

    def forget(self, model: LoadedModel) -> None:
        """Drop what is known of a model that is no longer served."""
        for graph in model.graphs:
            self._costs.pop((model.digest, graph), None)
        for capability in model.manifest.capabilities:
            self._row_bytes.pop((model.digest, capability), None)
            self._early_ends.pop((model.digest, capability), None)

    def cost(self, model: LoadedModel, graph: str) -> CostModel:
        """What a run of a graph costs."""
        key = (model.digest, graph)
        cost = self._costs.get(key)
        if cost is None:
            # Never warmed: assume a millisecond a run, so that it goes to a thread and is measured there.
            cost = self._costs[key] = CostModel([(1, 1e-3), (64, 2e-3)])
        return cost

    def row_bytes(self, model: LoadedModel, capability: Capability) -> int:
        """Memory of a row on its way, states between steps included."""
        return self._row_bytes.get((model.digest, capability), _BYTES_UNKNOWN)

    def alone_seconds(self, model: LoadedModel, capability: Capability, n: int, steps: ArrayLike | None) -> float:
        """Predicted seconds of compute over n rows with nobody else there; ``steps`` as for ``Scheduler.run``."""
        program = model.program(capability)
        if program.one_shot and steps is None:
            return self.cost(model, program.step).seconds(n)
        total = self.cost(model, program.step).seconds(n) * _mean(program, steps)
        for graph in (program.init, program.final):
            if graph is not None:
                total += self.cost(model, graph).seconds(n)
        return total

    def shared_seconds(self, model: LoadedModel, capability: Capability, n: int, steps: ArrayLike | None) -> float:
        """Predicted seconds of compute for n rows that share full runs with others."""
        program = model.program(capability)
        total = self.shared_row_seconds(model, program.step) * self._taken(model, capability, steps)
        for graph in (program.init, program.final):
            if graph is not None:
                total += self.shared_row_seconds(model, graph)
        return total * n

    def chain_seconds(
        self, model: LoadedModel, capability: Capability, together: int, ahead: int, steps: ArrayLike | None
    ) -> float:
        """Predicted seconds of compute until rows are done whose steps come one after the other.

        Args:
            model: the model.
            capability: what they are on the way through.
            together: rows that are, and share runs as far as these have room.
            ahead: of these, the rows that take each step before or with the last of those in question.
            steps: as for ``Scheduler.run``.
        """
        program = model.program(capability)
        total = self._round_seconds(model, program.step, together, ahead) * self._taken(model, capability, steps)
        for graph in (program.init, program.final):
            if graph is not None:
                total += self._round_seconds(model, graph, together, ahead)
        return total

    def _round_seconds(self, model: LoadedModel, graph: str, together: int, ahead: int) -> float:
        cost = self.cost(model, graph)
        run = cost.seconds(min(together, cost.rows_within(self._run_seconds)))
        return max(run, self.shared_row_seconds(model, graph) * ahead)

    def _taken(self, model: LoadedModel, capability: Capability, steps: ArrayLike | None) -> float:
        program = model.program(capability)
        taken = _mean(program, steps)
        if program.done is not None:
            # Until rows have shown when they end, a refusal for want of time would be a guess.
            taken = min(taken, self._early_ends.get((model.digest, capability), 1.0))
        return taken

    def shared_row_seconds(self, model: LoadedModel, graph: str) -> float:
        """Predicted seconds a row of a graph, in full runs."""
        return self.cost(model, graph).shared_row_seconds(self._run_seconds)

    def ended(self, model: LoadedModel, capability: Capability, runs: float) -> None:
        """Learn that rows are done, after so many runs each on average."""
        if model.program(capability).done is not None:
            key = (model.digest, capability)
            self._early_ends[key] = 0.9 * self._early_ends.get(key, runs) + 0.1 * runs


def _mean(program: Program, steps: ArrayLike | None) -> float:
    return program.steps.default if steps is None else float(np.asarray(steps).mean())
