"""Continuous batching over programs.

There are no timers: whenever the runtime is free it takes the rows that wait, up to a cost; while it is busy, rows
gather. Rows wait in a lane, one for each graph of a model, whichever request and capability they come from and
whichever step they are at. After each run they move to the lane of the graph that they need next, so a new request
joins at the next step and a finished one leaves at once. Lanes take turns by the time that they have used (start-time
fair queueing, Goyal et al. 1996).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contract.capabilities import Capability
from runtime.model import LoadedModel
from runtime.rows import Rows, environment, journey
from service.costs import CostModel
from service.errors import DeadlineExceeded, Draining, Overloaded
from service.lanes import Cohort, Env, Lane, Ticket, execute, join

__all__ = ["Limits", "RunObserver", "Scheduler"]


@dataclass(frozen=True)
class Limits:
    """Bounds of the scheduler.

    Attributes:
        rows: most rows in flight; a request is always admitted when nothing else is.
        run_seconds: rows of one run are capped so that it is predicted to take this long at most.
        inline_seconds: on the CPU, a run predicted to take at most this long runs in the event loop's own thread.
        tick_seconds: most time spent inline before the event loop gets its turn.
        threads: runs that may be under way in other threads.
    """

    rows: int = 2**17
    run_seconds: float = 0.005
    inline_seconds: float = 0.0005
    tick_seconds: float = 0.002
    threads: int = 1


class RunObserver(Protocol):
    """Told of every run."""

    def __call__(self, model: LoadedModel, graph: str, rows: int, seconds: float) -> None:
        """A run of ``graph`` over ``rows`` rows took ``seconds``."""


class Scheduler:
    """Runs programs for many callers at once.

    Args:
        limits: bounds.
        clock: seconds, monotonic; deadlines are read off it.
        observe: told of every run.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
        observe: RunObserver | None = None,
    ):
        self._limits = limits or Limits()
        self._clock = clock
        self._observe = observe
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._costs: dict[tuple[str, str], CostModel] = {}
        self._tickets: set[Ticket] = set()
        self._rows = 0
        self._backlog = 0.0
        self._virtual = 0.0
        self._free_threads = self._limits.threads
        self._draining = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._executor = ThreadPoolExecutor(self._limits.threads, thread_name_prefix="graph")
        self._task: asyncio.Task[None] | None = None

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start taking work; needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._serve(), name="scheduler")

    async def drain(self) -> None:
        """Refuse new work and wait until what was admitted is done."""
        self._draining = True
        await self._idle.wait()

    async def close(self) -> None:
        """Stop; work still under way is cancelled."""
        self._draining = True
        for ticket in list(self._tickets):
            ticket.future.cancel()
            self._end(ticket)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._executor.shutdown(wait=True, cancel_futures=True)

    # -- work ----------------------------------------------------------------------------------------------------

    @property
    def rows_in_flight(self) -> int:
        """Rows admitted and not yet answered."""
        return self._rows

    @property
    def backlog_seconds(self) -> float:
        """Predicted seconds of work admitted and not yet answered, over all threads."""
        return self._backlog / self._limits.threads

    def now(self) -> float:
        """The scheduler's clock, which deadlines are on."""
        return self._clock()

    def warm(self, model: LoadedModel, questions: Mapping[Capability, Env]) -> None:
        """Run every graph a few times, so that its cost is known and its memory touched; blocks.

        Args:
            model: the model, about to be served.
            questions: for every capability, program inputs [n, …] to try it with.
        """
        measured: dict[str, list[tuple[int, float]]] = {name: [] for name in model.graphs}
        for capability, inputs in questions.items():
            program = model.program(capability)
            for n in (1, 64):
                tiled = {name: np.resize(value, (n, *value.shape[1:])) for name, value in inputs.items()}
                rows = Rows(program, tiled)
                for _ in range(6):
                    if (graph := rows.graph) is None:
                        break
                    feeds = rows.feeds()
                    outputs = model.graphs[graph].run(feeds)
                    started = time.perf_counter()
                    model.graphs[graph].run(feeds)
                    measured[graph].append((n, time.perf_counter() - started))
                    rows.accept(outputs)
        for graph, pairs in measured.items():
            if pairs:
                sizes = {n for n, _ in pairs}
                self._costs[model.digest, graph] = CostModel([(n, min(s for m, s in pairs if m == n)) for n in sizes])

    def predicted_seconds(
        self, model: LoadedModel, capability: Capability, n: int, steps: ArrayLike | None = None
    ) -> float:
        """Predicted seconds of compute of a capability over n rows, alone on one thread; ``steps`` as for ``run``."""
        program = model.program(capability)
        mean_steps = program.steps.default if steps is None else float(np.asarray(steps).mean())
        total = self._cost(model, program.step).seconds(n) * mean_steps
        for graph in (program.init, program.final):
            if graph is not None:
                total += self._cost(model, graph).seconds(n)
        return total

    async def run(
        self,
        model: LoadedModel,
        capability: Capability,
        inputs: Mapping[str, NDArray[Any]],
        *,
        steps: ArrayLike | None = None,
        deadline: float | None = None,
    ) -> Env:
        """Run a capability over n rows, together with whatever else is there.

        Args:
            model: the model; it is held until the rows are done.
            capability: one that it has.
            inputs: program inputs, arrays [n, …] by name; parameters left out take their defaults.
            steps: number of steps, one for all or [n]; the program's default if None.
            deadline: on the scheduler's clock; rows that have not begun their next run by then are dropped.

        Returns:
            The program's outputs, arrays [n, …] by name.

        Raises:
            InputError: an input does not fit the program.
            Overloaded: too many rows are in flight.
            Draining: the service is stopping.
            DeadlineExceeded: the deadline came first.
            NotConvergedError: a row did not converge.
        """
        program = model.program(capability)
        n = len(next(iter(inputs.values())))
        return await self.submit(model, capability, environment(program, inputs, n), n, steps=steps, deadline=deadline)

    def submit(
        self,
        model: LoadedModel,
        capability: Capability,
        env: Env,
        n: int,
        *,
        steps: ArrayLike | None = None,
        deadline: float | None = None,
    ) -> asyncio.Future[Env]:
        """The same for inputs that ``runtime.rows.environment`` has made whole, as a future to await or to cancel.

        Raises:
            InputError: a number of steps is not allowed.
            Overloaded: too many rows are in flight.
            Draining: the service is stopping.
        """
        if self._draining:
            raise Draining(retry_after=5.0)
        if self._tickets and self._rows + n > self._limits.rows:
            raise Overloaded(retry_after=max(1.0, self.backlog_seconds))
        program = model.program(capability)
        cost = self.predicted_seconds(model, capability, n, steps)
        ticket = Ticket(model, self._loop.create_future(), deadline, n, cost)
        size = n
        if n > 1:
            size = min(self._cost(model, name).rows_within(self._limits.run_seconds) for name in program.graphs)
        if n <= size:
            ticket.cohorts.append(Cohort(journey(program, env, steps), ticket))
        else:
            each = None if steps is None else np.broadcast_to(np.asarray(steps), (n,))
            for start in range(0, n, size):
                part = slice(start, start + size)
                rows = {name: value[part] for name, value in env.items()}
                ticket.cohorts.append(Cohort(journey(program, rows, None if each is None else each[part]), ticket))
        # Only now, when every row has proved to fit, does anything change.
        ticket.open_cohorts = len(ticket.cohorts)
        self._tickets.add(ticket)
        self._idle.clear()
        self._rows += n
        self._backlog += cost
        for cohort in ticket.cohorts:
            self._enqueue(cohort)
        ticket.future.add_done_callback(lambda _: self._end(ticket))
        self._wake.set()
        return ticket.future

    def _end(self, ticket: Ticket) -> None:
        if ticket in self._tickets:
            self._tickets.discard(ticket)
            self._rows -= ticket.n
            self._backlog = self._backlog - ticket.cost if self._tickets else 0.0
            if not self._tickets:
                self._idle.set()

    # -- lanes ---------------------------------------------------------------------------------------------------

    def _cost(self, model: LoadedModel, graph: str) -> CostModel:
        key = (model.digest, graph)
        if key not in self._costs:
            # Never warmed: assume a millisecond a run, so that it goes to a thread and is measured there.
            self._costs[key] = CostModel([(1, 1e-3), (64, 2e-3)])
        return self._costs[key]

    def forget(self, model: LoadedModel) -> None:
        """Drop what is known of the costs of a model that is no longer served."""
        for graph in model.graphs:
            self._costs.pop((model.digest, graph), None)

    def _enqueue(self, cohort: Cohort) -> None:
        graph = cohort.rows.graph
        assert graph is not None
        model = cohort.ticket.model
        key = (model.digest, graph)
        lane = self._lanes.get(key)
        if lane is None:
            lane = Lane(model, graph, model.graphs[graph], self._cost(model, graph), self._virtual)
            self._lanes[key] = lane
        lane.waiting.append(cohort)
        lane.rows += cohort.rows.count

    def _choose(self, *, inline_only: bool) -> tuple[Lane, bool] | None:
        """The lane whose turn it is, and whether its next run is inline."""
        best: tuple[Lane, bool] | None = None
        for lane in self._lanes.values():
            if not lane.waiting or (best is not None and best[0].virtual <= lane.virtual):
                continue
            inline = self._is_inline(lane)
            if inline or (not inline_only and self._free_threads > 0):
                best = (lane, inline)
        return best

    def _is_inline(self, lane: Lane) -> bool:
        if "/cpu/" not in lane.model.profile:
            return False
        # One row too many for the loop's own thread: a thread then takes as many as a run may hold.
        return lane.cost.seconds(lane.rows) <= self._limits.inline_seconds

    def _take(self, lane: Lane) -> list[Cohort]:
        most = lane.cost.rows_within(self._limits.run_seconds)
        now = self._clock()
        batch: list[Cohort] = []
        rows = 0
        while lane.waiting and (not batch or rows + lane.waiting[0].rows.count <= most):
            cohort = lane.waiting.popleft()
            lane.rows -= cohort.rows.count
            ticket = cohort.ticket
            if ticket.future.done():
                continue  # answered, failed or its caller gone
            if ticket.deadline is not None and now >= ticket.deadline:
                ticket.future.set_exception(DeadlineExceeded())
                continue
            batch.append(cohort)
            rows += cohort.rows.count
        return batch

    # -- the loop ------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._tick():
                await asyncio.sleep(0)

    def _tick(self) -> bool:
        """Start what can be started; True if inline work is left for the next tick."""
        spent, ran = 0.0, False
        while (choice := self._choose(inline_only=False)) is not None:
            lane, inline = choice
            if inline and ran and spent >= self._limits.tick_seconds:
                return True
            self._virtual = max(self._virtual, lane.virtual)
            batch = self._take(lane)
            if not batch:
                self._retire(lane)
            elif inline:
                lane.running += 1
                ran = True
                spent += self._finish(lane, batch, *execute(lane.session, batch))
            else:
                lane.running += 1
                self._free_threads -= 1
                work = self._loop.run_in_executor(self._executor, execute, lane.session, batch)
                work.add_done_callback(partial(self._back, lane, batch))
        return False

    def _back(self, lane: Lane, batch: list[Cohort], done: asyncio.Future[tuple[float, Any]]) -> None:
        self._free_threads += 1
        if not done.cancelled():
            self._finish(lane, batch, *done.result())
        self._wake.set()

    def _finish(self, lane: Lane, batch: list[Cohort], seconds: float, outcome: Env | Exception) -> float:
        rows = sum(cohort.rows.count for cohort in batch)
        lane.running -= 1
        lane.virtual += seconds
        if self._observe is not None:
            self._observe(lane.model, lane.graph, rows, seconds)
        if isinstance(outcome, Exception):
            for cohort in batch:
                if not cohort.ticket.future.done():
                    cohort.ticket.future.set_exception(outcome)
        else:
            lane.cost.observe(rows, seconds)
            start = 0
            for cohort in batch:
                stop = start + cohort.rows.count
                part = outcome if len(batch) == 1 else {name: value[start:stop] for name, value in outcome.items()}
                self._advance(cohort, part)
                start = stop
        self._retire(lane)
        return seconds

    def _advance(self, cohort: Cohort, outputs: Env) -> None:
        ticket = cohort.ticket
        if ticket.future.done():
            return
        try:
            cohort.rows.accept(outputs)
        except Exception as error:  # a row that has not converged, or a graph that wrote what it should not
            ticket.future.set_exception(error)
            return
        if cohort.rows.graph is not None:
            self._enqueue(cohort)
            return
        ticket.open_cohorts -= 1
        if not ticket.open_cohorts:
            ticket.future.set_result(join([part.rows.result() for part in ticket.cohorts]))

    def _retire(self, lane: Lane) -> None:
        if not lane.waiting and not lane.running:
            self._lanes.pop((lane.model.digest, lane.graph), None)
