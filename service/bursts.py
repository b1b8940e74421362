"""What comes to an idle runtime and is over in one short run: there is no queue, and nobody to take turns with.

Most questions about rows are of this kind. They wait until the event loop has read what else has arrived, a fraction of
a millisecond, and run together in the loop's own thread. As soon as anything waits or runs for longer, new questions
queue like all others (``service/turns.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.programs import Program
from runtime.model import LoadedModel
from runtime.session import GraphSession
from service.costs import CostModel
from service.errors import DeadlineExceeded
from service.predictions import Predictions

__all__ = ["Bursts"]

Env = dict[str, NDArray[Any]]


class _Waiting(NamedTuple):
    future: asyncio.Future[Env]
    env: Env
    n: int
    program: Program
    deadline: float | None


class _Group:
    """Questions to one graph."""

    __slots__ = ("cost", "graph", "model", "rows", "session", "waiting")

    def __init__(self, model: LoadedModel, graph: str, cost: CostModel):
        self.model = model
        self.graph = graph
        self.session: GraphSession = model.graphs[graph]
        self.cost = cost
        self.rows = 0
        self.waiting: list[_Waiting] = []


class Bursts:
    """Questions that run together as soon as the event loop has its turn.

    Args:
        predictions: what runs cost.
        alone: most predicted time of a question by itself; what may take longer belongs in another thread.
        together: most predicted time of all that run at once.
        clock: the scheduler's, which deadlines are on.
        observe: told of every run: model, graph, rows and seconds.

    Attributes:
        rows: rows that wait.
    """

    def __init__(
        self,
        predictions: Predictions,
        alone: float,
        together: float,
        clock: Callable[[], float],
        observe: Callable[[LoadedModel, str, int, float], None] | None,
    ):
        self._predictions = predictions
        self._alone = alone
        self._together = together
        self._clock = clock
        self._observe = observe
        self._groups: dict[tuple[str, str], _Group] = {}
        self._seconds = 0.0
        self.rows = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use this event loop."""
        self._loop = loop

    def add(
        self, model: LoadedModel, program: Program, env: Env, n: int, deadline: float | None
    ) -> asyncio.Future[Env] | None:
        """Let n rows of a one-shot program go along, or None where that would take too long."""
        key = (model.digest, program.step)
        group = self._groups.get(key)
        if group is None:
            group = _Group(model, program.step, self._predictions.cost(model, program.step))
        alone = group.cost.seconds(n)
        more = group.cost.seconds(group.rows + n) - group.cost.seconds(group.rows) if group.rows else alone
        if alone > self._alone or self._seconds + more > self._together:
            return None
        if not self._groups:
            self._loop.call_soon(self._run)
        self._groups[key] = group
        self._seconds += more
        self.rows += n
        group.rows += n
        future: asyncio.Future[Env] = self._loop.create_future()
        group.waiting.append(_Waiting(future, env, n, program, deadline))
        return future

    def cancel(self) -> None:
        """Give up what waits."""
        for group in self._groups.values():
            for waiting in group.waiting:
                waiting.future.cancel()

    def _run(self) -> None:
        groups, self._groups, self._seconds, self.rows = self._groups, {}, 0.0, 0
        for group in groups.values():
            wanted = [waiting for waiting in group.waiting if self._is_wanted(waiting)]
            if wanted:
                self._run_group(group, wanted)

    def _is_wanted(self, waiting: _Waiting) -> bool:
        if waiting.future.done():
            return False  # its caller is gone
        if waiting.deadline is not None and self._clock() >= waiting.deadline:
            waiting.future.set_exception(DeadlineExceeded())
            return False
        return True

    def _run_group(self, group: _Group, wanted: list[_Waiting]) -> None:
        session = group.session
        feeds = wanted[0].env
        started = self._clock()
        try:
            if len(wanted) > 1:
                feeds = {name: np.concatenate([waiting.env[name] for waiting in wanted]) for name in session.inputs}
            outputs = session.run(feeds)
        except Exception as error:  # ONNX Runtime raises a family of its own; whatever it is, only this run fails
            for waiting in wanted:
                waiting.future.set_exception(error)
            return
        seconds = self._clock() - started
        rows = sum(waiting.n for waiting in wanted)
        group.cost.observe(rows, seconds)
        if self._observe is not None:
            self._observe(group.model, group.graph, rows, seconds)
        start = 0
        for future, _, n, program, _ in wanted:
            end = start + n
            future.set_result({part.name: outputs[part.name][start:end] for part in program.outputs})
            start = end
