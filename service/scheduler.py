"""Continuous batching over programs.

There are no timers: whenever the runtime is free it takes the rows that wait, up to a cost; while it is busy, rows
gather. Rows wait in a lane, one for each graph of a model, whichever request and capability they come from and
whichever step they are at. After each run they move to the lane of the graph that they need next, so a new request
joins at the next step and a finished one leaves at once.

Clients take turns by the time that they have used, and so do the lanes of each (start-time fair queueing, Goyal et al.
1996). The client whose turn it is chooses the lane; whoever waits there for the same graph may come along.
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
from service.backlog import Backlog
from service.costs import CostModel
from service.errand import PLAIN, Errand
from service.errors import DeadlineExceeded, Draining, Overloaded
from service.lanes import Batch, Cohort, Env, Flow, Lane, Ticket, execute, join

__all__ = ["Limits", "RunObserver", "Scheduler"]

_BYTES_UNKNOWN = 4096  # a row of a program that was never warmed


@dataclass(frozen=True)
class Limits:
    """Bounds of the scheduler.

    Attributes:
        rows: most rows in flight; a request is always admitted when nothing else is.
        bytes: most memory of the rows in flight, in the same way.
        run_seconds: rows of one run are capped so that it is predicted to take this long at most.
        inline_seconds: on the CPU, a run predicted to take at most this long runs in the event loop's own thread.
        tick_seconds: most time spent inline before the event loop gets its turn.
        threads: runs that may be under way in other threads.
    """

    rows: int = 2**17
    bytes: int = 2**30
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
        self._flows: dict[str, Flow] = {}
        self._costs: dict[tuple[str, str], CostModel] = {}
        self._row_bytes: dict[tuple[str, Capability], int] = {}
        self._tickets: set[Ticket] = set()
        self._backlog = Backlog()
        self._early_ends: dict[tuple[str, Capability], float] = {}  # mean steps that rows took
        self._virtual = 0.0  # where a client starts when there is no other
        self._lane_virtual = 0.0  # and a lane
        self._arrivals = 0
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
        return self._backlog.rows

    @property
    def backlog_seconds(self) -> float:
        """Seconds that the work admitted and not yet answered is expected to take."""
        return self._backlog.seconds

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
                self._row_bytes[model.digest, capability] = max(1, rows.nbytes // n)
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
        errand: Errand = PLAIN,
    ) -> Env:
        """Run a capability over n rows, together with whatever else is there.

        Args:
            model: the model; it is held until the rows are done.
            capability: one that it has.
            inputs: program inputs, arrays [n, …] by name; parameters left out take their defaults.
            steps: number of steps, one for all or [n]; the program's default if None.
            errand: who waits, and for how long.

        Returns:
            The program's outputs, arrays [n, …] by name.

        Raises:
            InputError: an input does not fit the program.
            Overloaded: too much is in flight, or it could not be done before the deadline.
            Draining: the service is stopping.
            DeadlineExceeded: the deadline came first.
            NotConvergedError: a row did not converge.
        """
        program = model.program(capability)
        n = len(next(iter(inputs.values())))
        return await self.submit(model, capability, environment(program, inputs, n), n, steps=steps, errand=errand)

    def submit(
        self,
        model: LoadedModel,
        capability: Capability,
        env: Env,
        n: int,
        *,
        steps: ArrayLike | None = None,
        errand: Errand = PLAIN,
    ) -> asyncio.Future[Env]:
        """The same for inputs that ``runtime.rows.environment`` has made whole, as a future to await or to cancel.

        Raises:
            InputError: a number of steps is not allowed.
            Overloaded: too much is in flight, or it could not be done before the deadline.
            Draining: the service is stopping.
        """
        if self._draining:
            raise Draining(retry_after=5.0)
        program = model.program(capability)
        flow = self._flow(errand.client)
        now = self._clock()
        ticket = Ticket(
            model,
            flow,
            errand,
            self._loop.create_future(),
            n,
            n * self._row_bytes.get((model.digest, capability), _BYTES_UNKNOWN),
            self._shared_seconds(model, capability, n, steps),
            capability,
        )
        if self._tickets:
            self._refuse_too_much(ticket, now)
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
        self._flows[flow.client] = flow
        self._backlog.add(ticket, now)
        for cohort in ticket.cohorts:
            self._enqueue(cohort)
        ticket.future.add_done_callback(lambda _: self._end(ticket))
        self._wake.set()
        return ticket.future

    def _refuse_too_much(self, ticket: Ticket, now: float) -> None:
        backlog, limits = self._backlog, self._limits
        over = max(
            (backlog.rows + ticket.n - limits.rows) / backlog.rows,
            (backlog.bytes + ticket.bytes - limits.bytes) / backlog.bytes,
        )
        if over > 0.0:
            raise Overloaded(retry_after=min(over, 1.0) * backlog.seconds)
        if ticket.errand.deadline is not None:
            late = now + backlog.seconds_until(ticket.flow, ticket.work) - ticket.errand.deadline
            if late > 0.0:
                raise Overloaded(retry_after=late)

    def _shared_seconds(self, model: LoadedModel, capability: Capability, n: int, steps: ArrayLike | None) -> float:
        """Predicted seconds of compute for n rows that share full runs with others."""
        program = model.program(capability)
        mean_steps = program.steps.default if steps is None else float(np.asarray(steps).mean())
        if program.done is not None:
            # Until rows have shown when they end, a refusal for want of time would be a guess.
            mean_steps = min(mean_steps, self._early_ends.get((model.digest, capability), 1.0))
        longest = self._limits.run_seconds
        total = self._cost(model, program.step).shared_row_seconds(longest) * mean_steps
        for graph in (program.init, program.final):
            if graph is not None:
                total += self._cost(model, graph).shared_row_seconds(longest)
        return total * n

    def _end(self, ticket: Ticket) -> None:
        if ticket in self._tickets:
            self._tickets.discard(ticket)
            self._backlog.remove(ticket)
            for batch in ticket.running:
                batch.stop_if_useless()
            if not ticket.flow.tickets:
                for lane in list(ticket.flow.waiting):
                    lane.drop(ticket.flow)
                    self._retire(lane)
            if not self._tickets:
                self._flows.clear()
                self._idle.set()

    # -- lanes and flows -----------------------------------------------------------------------------------------

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
        for capability in model.manifest.capabilities:
            self._row_bytes.pop((model.digest, capability), None)
            self._early_ends.pop((model.digest, capability), None)

    def _flow(self, client: str) -> Flow:
        """The client's flow; one that was idle starts at the present at the earliest: idling earns no credit."""
        flow = self._flows.get(client) or Flow(client, 0.0)
        if not flow.tickets:
            flow.virtual = max(flow.virtual, self._present())
        return flow

    def _present(self) -> float:
        """The virtual time of the client who has used least, of those who have work here."""
        return min((flow.virtual for flow in self._flows.values() if flow.tickets), default=self._virtual)

    def _enqueue(self, cohort: Cohort) -> None:
        graph = cohort.rows.graph
        assert graph is not None
        model = cohort.ticket.model
        key = (model.digest, graph)
        lane = self._lanes.get(key)
        if lane is None:
            virtual = min((lane.virtual for lane in self._lanes.values()), default=self._lane_virtual)
            lane = Lane(model, graph, model.graphs[graph], self._cost(model, graph), virtual)
            lane.on_cpu = "/cpu/" in model.profile
            self._lanes[key] = lane
        self._arrivals += 1
        lane.push(self._arrivals, cohort)

    def _choose(self) -> tuple[Flow, Lane, bool] | None:
        """Whose turn it is, for which graph, and whether that run is inline."""
        best: tuple[Flow, Lane, bool] | None = None
        for flow in self._flows.values():
            if not flow.waiting or (best is not None and best[0].virtual <= flow.virtual):
                continue
            first: tuple[int, float] | None = None
            for lane, heap in flow.waiting.items():
                rank = (heap[0][0], lane.virtual)
                if first is not None and first <= rank:
                    continue
                inline = self._is_inline(lane)
                if inline or self._free_threads > 0:
                    first = rank
                    best = (flow, lane, inline)
        return best

    def _is_inline(self, lane: Lane) -> bool:
        if not lane.on_cpu:
            return False
        # One row too many for the loop's own thread: a thread then takes as many as a run may hold.
        return lane.cost.seconds(lane.rows) <= self._limits.inline_seconds

    def _take(self, flow: Flow, lane: Lane) -> list[Cohort]:
        """Cohorts for the next run of a lane, the first of them the flow's."""
        most = lane.cost.rows_within(self._limits.run_seconds)
        row_seconds = lane.cost.seconds(min(lane.rows, most)) / min(lane.rows, most)
        self._virtual = max(self._virtual, flow.virtual)
        self._lane_virtual = max(self._lane_virtual, lane.virtual)
        now = self._clock()
        batch: list[Cohort] = []
        rows = 0
        while True:
            cohort = lane.pop(flow)
            ticket = cohort.ticket
            if ticket.future.done():
                pass  # answered, failed or its caller gone
            elif ticket.errand.deadline is not None and now >= ticket.errand.deadline:
                ticket.future.set_exception(DeadlineExceeded())
            else:
                count = cohort.rows.count
                batch.append(cohort)
                rows += count
                flow.virtual += count * row_seconds
            if not lane.flows:
                return batch
            if len(lane.flows) > 1 or flow not in lane.flows:
                flow = min(lane.flows, key=_virtual)
            if batch and rows + flow.waiting[lane][0][2].rows.count > most:
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
        while (choice := self._choose()) is not None:
            flow, lane, inline = choice
            if inline and ran and spent >= self._limits.tick_seconds:
                return True
            cohorts = self._take(flow, lane)
            if not cohorts:
                self._retire(lane)
            elif inline:
                lane.running += 1
                ran = True
                spent += self._finish(lane, cohorts, *execute(lane.session, cohorts))
            else:
                lane.running += 1
                self._free_threads -= 1
                batch = Batch(cohorts)
                for cohort in cohorts:
                    cohort.ticket.running.append(batch)
                work = self._loop.run_in_executor(self._executor, execute, lane.session, cohorts, batch.options)
                work.add_done_callback(partial(self._back, lane, batch))
        return False

    def _back(self, lane: Lane, batch: Batch, done: asyncio.Future[tuple[float, Any]]) -> None:
        self._free_threads += 1
        for cohort in batch.cohorts:
            cohort.ticket.running.remove(batch)
        if not done.cancelled():
            self._finish(lane, batch.cohorts, *done.result())
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
            predicted = lane.cost.seconds(rows)
            lane.cost.observe(rows, seconds)
            row_work = lane.cost.shared_row_seconds(self._limits.run_seconds)
            start = 0
            for cohort in batch:
                count = cohort.rows.count
                part = outcome
                if len(batch) > 1:
                    part = {name: value[start : start + count] for name, value in outcome.items()}
                self._backlog.done(cohort.ticket, count * row_work)
                cohort.ticket.row_runs += count
                self._advance(cohort, part)
                start += count
            if self._backlog.ran(predicted, self._clock()):
                # Who has nothing here and has used no more than others need not be remembered.
                present = self._present()
                for client, flow in list(self._flows.items()):
                    if not flow.tickets and flow.virtual <= present:
                        del self._flows[client]
        self._retire(lane)
        return seconds

    def _advance(self, cohort: Cohort, outputs: Env) -> None:
        ticket = cohort.ticket
        if ticket.future.done():
            return
        try:
            cohort.rows.accept(outputs)
            if ticket.errand.watch is not None:
                ticket.errand.watch(ticket.model, [part.rows for part in ticket.cohorts])
        except Exception as error:  # a row that has not converged, or a graph that wrote what it should not
            ticket.future.set_exception(error)
            return
        if cohort.rows.graph is not None:
            self._enqueue(cohort)
            return
        ticket.open_cohorts -= 1
        if not ticket.open_cohorts:
            if ticket.model.program(ticket.capability).done is not None:
                key, steps = (ticket.model.digest, ticket.capability), ticket.row_runs / ticket.n
                self._early_ends[key] = 0.9 * self._early_ends.get(key, steps) + 0.1 * steps
            ticket.future.set_result(join([part.rows.result() for part in ticket.cohorts]))

    def _retire(self, lane: Lane) -> None:
        if not lane.flows and not lane.running:
            self._lanes.pop((lane.model.digest, lane.graph), None)


def _virtual(flow: Flow) -> float:
    return flow.virtual
