"""What is over in one short run: nobody need take turns for it.

Most questions about rows are of this kind. They wait until the event loop has read what else has arrived, a fraction of
a millisecond, and run together in the loop's own thread; what is too much for one turn of the loop waits for the next.
While others have their turns (``service/turns.py``), these have half of the loop's time at most; of what would wait for
too long the rest takes turns too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from contract.programs import Program
from runtime.model import LoadedModel
from runtime.session import GraphSession
from service.costs import CostModel
from service.errors import DeadlineExceeded
from service.predictions import Predictions

__all__ = ["Bursts", "Reply"]

Env = dict[str, NDArray[Any]]

_BRIEF = 0.5e-3


class Reply(Protocol):
    """Who waits for rows: an ``asyncio.Future``, or something that costs less."""

    def done(self) -> bool:
        """Whether nobody waits any more."""
        ...

    def set_result(self, outputs: Env, /) -> None:
        """Take the outputs; it must not fail."""
        ...

    def set_exception(self, error: BaseException, /) -> None:
        """Learn why there are none; it must not fail."""
        ...

    def cancel(self) -> Any:
        """Learn that there will be none, for the service stops."""
        ...


class _Waiting(NamedTuple):
    reply: Reply
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

    def take(self, most: int) -> list[_Waiting]:
        """Those who have waited longest, with so many rows at most, or the first alone."""
        if self.rows <= most:
            taken, self.waiting, self.rows = self.waiting, [], 0
            return taken
        rows = count = 0
        for waiting in self.waiting:
            if count and rows + waiting.n > most:
                break
            rows += waiting.n
            count += 1
        taken = self.waiting[:count]
        del self.waiting[:count]
        self.rows -= rows
        return taken


class Bursts:
    """Questions that run together as soon as the event loop has its turn.

    Args:
        predictions: what runs cost.
        alone: most predicted time of a question by itself; what may take longer belongs in another thread.
        together: most time of what runs in one turn of the event loop.
        waiting: most predicted time of all that wait.
        is_busy: whether anybody takes turns now.
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
        waiting: float,
        is_busy: Callable[[], bool],
        clock: Callable[[], float],
        observe: Callable[[LoadedModel, str, int, float], None] | None,
    ):
        self._predictions = predictions
        self._alone = alone
        self._together = together
        self._waiting = waiting
        self._is_busy = is_busy
        self._clock = clock
        self._observe = observe
        self._groups: dict[tuple[str, str], _Group] = {}
        self._seconds = 0.0
        self._due = False
        self._not_before = 0.0
        self.rows = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use this event loop."""
        self._loop = loop

    def add(self, model: LoadedModel, program: Program, env: Env, n: int, deadline: float | None, reply: Reply) -> bool:
        """Let n rows of a one-shot program go along, unless that would take too long; says whether they do."""
        key = (model.digest, program.step)
        group = self._groups.get(key)
        if group is None:
            group = _Group(model, program.step, self._predictions.cost(model, program.step))
        alone = group.cost.seconds(n)
        more = group.cost.seconds(group.rows + n) - group.cost.seconds(group.rows) if group.rows else alone
        if alone > self._alone or self._seconds + more > self._waiting:
            return False
        self._call()
        self._groups[key] = group
        self._seconds += more
        self.rows += n
        group.rows += n
        group.waiting.append(_Waiting(reply, env, n, program, deadline))
        return True

    def cancel(self) -> None:
        """Give up what waits."""
        for group in self._groups.values():
            for waiting in group.waiting:
                waiting.reply.cancel()

    def run_if_due(self) -> None:
        """Run what waits for this turn of the event loop; for who is about to use the turn for something else."""
        if self._due and self._clock() >= self._not_before:
            self._run()

    def _run(self) -> None:
        if not self._due:
            return  # it has run already
        groups, self._due = self._groups, False
        started = now = self._clock()
        while groups:
            key, group = next(iter(groups.items()))
            del groups[key]
            taken = group.take(group.cost.rows_within(self._together))
            if group.waiting:
                groups[key] = group  # behind the others
            wanted = [waiting for waiting in taken if self._is_wanted(waiting)]
            if wanted:
                self._run_group(group, wanted)
                now = self._clock()
                if now >= started + self._together:
                    break
        self._seconds, self.rows = 0.0, 0
        for group in groups.values():
            self._seconds += group.cost.seconds(group.rows)
            self.rows += group.rows
        self._not_before = now + (now - started) if self._is_busy() else 0.0
        if groups:
            self._call()

    def _call(self) -> None:
        if not self._due:
            self._due = True
            wait = self._not_before - self._clock() if self._not_before else 0.0
            if wait > 0.0:
                self._loop.call_later(wait, self._run)
            else:
                self._loop.call_soon(self._run)

    def _is_wanted(self, waiting: _Waiting) -> bool:
        if waiting.reply.done():
            return False  # its caller is gone
        if waiting.deadline is not None and self._clock() >= waiting.deadline:
            waiting.reply.set_exception(DeadlineExceeded())
            return False
        return True

    def _run_group(self, group: _Group, wanted: list[_Waiting]) -> None:
        session = group.session
        feeds, rows = wanted[0].env, wanted[0].n
        if len(wanted) > 1:
            rows = sum([waiting.n for waiting in wanted])
        # A thread's own clock, which an interruption does not move, takes the system a good part of a brief run to
        # read; and a brief run is seldom interrupted.
        clock = self._clock if group.cost.seconds(rows) < _BRIEF else session.clock
        started = clock()
        try:
            if len(wanted) > 1:
                feeds = {name: np.concatenate([waiting.env[name] for waiting in wanted]) for name in session.inputs}
            outputs = session.run(feeds)
        except Exception as error:  # ONNX Runtime raises a family of its own; whatever it is, only this run fails
            for waiting in wanted:
                waiting.reply.set_exception(error)
            return
        seconds = clock() - started
        group.cost.observe(rows, seconds)
        if self._observe is not None:
            self._observe(group.model, group.graph, rows, seconds)
        start = 0
        for reply, _, n, program, _ in wanted:
            end = start + n
            reply.set_result({part.name: outputs[part.name][start:end] for part in program.outputs})
            start = end
