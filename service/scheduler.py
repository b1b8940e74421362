"""Continuous batching over programs.

There are no timers: whenever the runtime is free it takes the rows that wait, up to a cost; while it is busy, rows
gather. Rows wait in a lane, one for each graph of a model, whichever request and capability they come from and
whichever step they are at. After each run they move to the lane of the graph that they need next, so a new request
joins at the next step and a finished one leaves at once.

Whose turn it is, says ``service/turns.py``. What finds the runtime idle and is over at once takes no turn
(``service/bursts.py``).
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
from contract.programs import Program
from runtime.model import LoadedModel
from runtime.rows import environment, journey
from service.backlog import Backlog
from service.bursts import Bursts, Reply
from service.costs import CostModel
from service.errand import PLAIN, Errand
from service.errors import DeadlineExceeded, Draining, Overloaded
from service.lanes import Batch, Cohort, Env, Lane, Ticket, execute, join
from service.predictions import Predictions
from service.turns import Turns

__all__ = ["Limits", "RunObserver", "Scheduler"]


@dataclass(frozen=True)
class Limits:
    """Bounds of the scheduler.

    Attributes:
        rows: most rows in flight; a request is always admitted when nothing else is.
        bytes: most memory of the rows in flight, in the same way.
        run_seconds: rows of one run are capped so that it is predicted to take this long at most.
        inline_seconds: on the CPU, a run predicted to take at most this long runs in the event loop's own thread.
        soon_seconds: what is predicted to take at most this long takes no turn.
        tick_seconds: most time spent inline before the event loop gets its turn.
        threads: runs that may be under way in other threads, while one more waits for the first of them to end.
    """

    rows: int = 2**17
    bytes: int = 2**30
    run_seconds: float = 0.005
    inline_seconds: float = 0.001
    soon_seconds: float = 0.0005
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
        self._predictions = Predictions(self._limits.run_seconds)
        self._turns = Turns(self._predictions, self._limits.run_seconds)
        self._bursts = Bursts(
            self._predictions,
            min(self._limits.soon_seconds, self._limits.inline_seconds),
            self._limits.tick_seconds,
            self._limits.run_seconds,
            lambda: bool(self._tickets),
            clock,
            observe,
        )
        self._tickets: set[Ticket] = set()
        self._backlog = Backlog()
        # One run more than there are threads: it waits where a thread that is done finds it, for the event loop may be
        # busy just then.
        self._places = self._limits.threads + 1
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
        self._bursts.start(self._loop)
        self._task = self._loop.create_task(self._serve(), name="scheduler")

    async def drain(self) -> None:
        """Refuse new work and wait until what was admitted is done."""
        self._draining = True
        while self._bursts.rows:
            await asyncio.sleep(0)
        await self._idle.wait()

    async def close(self) -> None:
        """Stop; work still under way is cancelled."""
        self._draining = True
        self._bursts.cancel()
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
        return self._backlog.rows + self._bursts.rows

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
        self._predictions.warm(model, questions)

    def forget(self, model: LoadedModel) -> None:
        """Drop what is known of the costs of a model that is no longer served."""
        self._predictions.forget(model)

    def cost(self, model: LoadedModel, graph: str) -> CostModel:
        """What a run of a graph costs; it learns on as long as the model is served."""
        return self._predictions.cost(model, graph)

    def predicted_seconds(
        self, model: LoadedModel, capability: Capability, n: int, steps: ArrayLike | None = None
    ) -> float:
        """Predicted seconds of compute of a capability over n rows, alone on one thread; ``steps`` as for ``run``."""
        return self._predictions.alone_seconds(model, capability, n, steps)

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
        if steps is None and errand.watch is None:
            soon: asyncio.Future[Env] = self._loop.create_future()
            if self.answer_soon(model, program, env, n, errand.deadline, soon):
                return soon
        flow = self._turns.flow(errand.client)
        now = self._clock()
        ticket = Ticket(
            model,
            flow,
            errand,
            self._loop.create_future(),
            n,
            n * self._predictions.row_bytes(model, capability),
            self._predictions.shared_seconds(model, capability, n, steps),
            capability,
        )
        ticket.chain = self._predictions.chain_seconds(model, capability, *self._backlog.alike(ticket), steps)
        if self._tickets:
            self._refuse_too_much(ticket, now)
        size = n
        if n > 1:
            size = min(
                self._predictions.cost(model, name).rows_within(self._limits.run_seconds) for name in program.graphs
            )
        if n <= size:
            ticket.cohorts.append(Cohort(journey(program, env, steps), ticket))
        else:
            size = -(-n // -(-n // size))  # parts of one size, which threads that are free take at the same time
            each = None if steps is None else np.broadcast_to(np.asarray(steps), (n,))
            for start in range(0, n, size):
                part = slice(start, start + size)
                rows = {name: value[part] for name, value in env.items()}
                ticket.cohorts.append(Cohort(journey(program, rows, None if each is None else each[part]), ticket))
        # Only now, when every row has proved to fit, does anything change.
        ticket.open_cohorts = len(ticket.cohorts)
        self._tickets.add(ticket)
        self._idle.clear()
        self._turns.flows[flow.client] = flow
        self._backlog.add(ticket, now)
        for cohort in ticket.cohorts:
            self._turns.enqueue(cohort)
        ticket.future.add_done_callback(lambda _: self._end(ticket))
        self._wake.set()
        return ticket.future

    def answer_soon(
        self, model: LoadedModel, program: Program, env: Env, n: int, deadline: float | None, reply: Reply
    ) -> bool:
        """Run rows as soon as the event loop has its turn, if they are over at once.

        Args:
            model: the model.
            program: one of its.
            env: as for ``submit``.
            n: number of rows.
            deadline: on the scheduler's clock.
            reply: told of the outputs, in the event loop.

        Returns:
            Whether they will run; else nothing has happened, and ``submit`` is the way.
        """
        if self._draining or not program.one_shot or not model.on_cpu:
            return False
        return self._bursts.add(model, program, env, n, deadline, reply)

    def _refuse_too_much(self, ticket: Ticket, now: float) -> None:
        backlog, limits = self._backlog, self._limits
        over = max(
            (backlog.rows + ticket.n - limits.rows) / backlog.rows,
            (backlog.bytes + ticket.bytes - limits.bytes) / backlog.bytes,
        )
        if over > 0.0:
            raise Overloaded(retry_after=min(over, 1.0) * backlog.seconds)
        if ticket.errand.deadline is not None:
            late = now + backlog.seconds_until(ticket) - ticket.errand.deadline
            if late > 0.0:
                raise Overloaded(retry_after=late)

    def _end(self, ticket: Ticket) -> None:
        if ticket in self._tickets:
            self._tickets.discard(ticket)
            self._backlog.remove(ticket, self._clock())
            for batch in ticket.running:
                batch.stop_if_useless()
            if not ticket.flow.tickets:
                self._turns.drop(ticket.flow)
            if not self._tickets:
                self._turns.flows.clear()
                self._idle.set()

    # -- the next run --------------------------------------------------------------------------------------------

    def _can_run(self, lane: Lane) -> bool:
        return self._places > 0 or self._is_inline(lane)

    def _is_inline(self, lane: Lane) -> bool:
        # One row too many for the loop's own thread: a thread then takes as many as a run may hold.
        return lane.model.on_cpu and lane.cost.seconds(lane.rows) <= self._limits.inline_seconds

    def _is_wanted(self, ticket: Ticket) -> bool:
        """Whether anybody still waits for a ticket's rows, and will have them in time."""
        if ticket.future.done():
            return False  # answered, failed or its caller gone
        if ticket.errand.deadline is not None and self._clock() >= ticket.errand.deadline:
            ticket.future.set_exception(DeadlineExceeded())
            return False
        return True

    # -- the loop ------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._tick():
                await asyncio.sleep(0)

    def _tick(self) -> bool:
        """Start what can be started; True if inline work is left for the next tick."""
        self._bursts.run_if_due()
        started, ran = self._clock(), False
        while (choice := self._turns.choose(self._can_run)) is not None:
            flow, lane = choice
            inline = self._is_inline(lane)
            # By the clock: what rows do between two runs may take longer than the runs.
            if inline and ran and self._clock() - started >= self._limits.tick_seconds:
                return True
            cohorts = self._turns.take(flow, lane, self._is_wanted)
            if not cohorts:
                self._turns.retire(lane)
            elif inline:
                lane.running += 1
                ran = True
                self._finish(lane, cohorts, *execute(lane.session, cohorts))
            else:
                lane.running += 1
                self._places -= 1
                batch = Batch(cohorts)
                for cohort in cohorts:
                    cohort.ticket.running.append(batch)
                work = self._loop.run_in_executor(self._executor, execute, lane.session, cohorts, batch.options)
                work.add_done_callback(partial(self._back, lane, batch))
        return False

    def _back(self, lane: Lane, batch: Batch, done: asyncio.Future[tuple[float, Any]]) -> None:
        self._places += 1
        for cohort in batch.cohorts:
            cohort.ticket.running.remove(batch)
        if not done.cancelled():
            self._finish(lane, batch.cohorts, *done.result())
        self._wake.set()

    def _finish(self, lane: Lane, batch: list[Cohort], seconds: float, outcome: Env | Exception) -> None:
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
                self._turns.tidy()
        self._turns.retire(lane)

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
            self._turns.enqueue(cohort)
            return
        ticket.open_cohorts -= 1
        if not ticket.open_cohorts:
            self._predictions.ended(ticket.model, ticket.capability, ticket.row_runs / ticket.n)
            ticket.future.set_result(join([part.rows.result() for part in ticket.cohorts]))
