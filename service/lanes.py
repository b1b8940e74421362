"""What waits in the scheduler: tickets, the cohorts of rows they travel in, the lanes where they wait, and whose."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from contract.capabilities import Capability
from runtime.model import LoadedModel
from runtime.rows import Journey
from runtime.session import GraphSession
from service.costs import CostModel
from service.errand import Errand

__all__ = ["Batch", "Cohort", "Env", "Flow", "Lane", "Ticket", "execute", "join"]

Env = dict[str, NDArray[Any]]


@dataclass(eq=False, slots=True)
class Flow:
    """A client's work.

    Attributes:
        client: whose.
        virtual: time used, on the scheduler's virtual clock.
        work: predicted seconds of its tickets that are still ahead.
        waiting: its cohorts by lane, as heaps by urgency, turn and arrival.
        tickets: how many are open.
        alike: rows of theirs, by the program that they are on the way through.
        clock: seconds that each of its tickets would have been served by now, were they served all at once.
    """

    client: str
    virtual: float
    work: float = 0.0
    clock: float = 0.0
    waiting: dict[Lane, list[tuple[int, float, int, Cohort]]] = field(default_factory=dict)
    tickets: int = 0
    alike: dict[tuple[str, Capability], int] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Ticket:
    """One call of ``run``: its cohorts, and the future that its caller waits on.

    Attributes:
        bytes: memory of its rows.
        work: predicted seconds that are still ahead of it, its rows sharing full runs with others.
        chain: predicted seconds of its steps, one after the other, each for all rows that are on the same way.
        turn: on the flow's clock, when it would be done if all of the client's tickets were served at once; it goes
            before those with later turns, so that what is short is not held up by what is long, and what came first
            is done first.
        admitted: when, on the scheduler's clock.
        expected: seconds from then on in which it was expected to be done.
        whole: ``work`` at that time.
        row_runs: runs so far, counted once for each of its rows in them.
        running: runs under way with rows of it, in other threads.
    """

    model: LoadedModel
    flow: Flow
    errand: Errand
    future: asyncio.Future[Env]
    n: int
    bytes: int
    work: float
    capability: Capability
    chain: float = 0.0
    turn: float = 0.0
    admitted: float = 0.0
    expected: float = 0.0
    whole: float = 0.0
    row_runs: int = 0
    cohorts: list[Cohort] = field(default_factory=list)
    open_cohorts: int = 0
    running: list[Batch] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Cohort:
    """Rows of one ticket that travel together."""

    rows: Journey
    ticket: Ticket


@dataclass(eq=False, slots=True)
class Lane:
    """Cohorts that wait for one graph, and how many rows they have."""

    model: LoadedModel
    graph: str
    session: GraphSession
    cost: CostModel
    virtual: float
    flows: set[Flow] = field(default_factory=set)
    rows: int = 0
    running: int = 0

    def push(self, order: int, cohort: Cohort) -> None:
        """Put a cohort in its flow's queue, behind what is as urgent and has an earlier turn."""
        flow = cohort.ticket.flow
        heap = flow.waiting.get(self)
        if heap is None:
            heap = flow.waiting[self] = []
            self.flows.add(flow)
        heappush(heap, (cohort.ticket.errand.urgency, cohort.ticket.turn, order, cohort))
        self.rows += cohort.rows.count

    def pop(self, flow: Flow) -> Cohort:
        """The first cohort of a flow."""
        heap = flow.waiting[self]
        cohort = heappop(heap)[-1]
        if not heap:
            del flow.waiting[self]
            self.flows.discard(flow)
        self.rows -= cohort.rows.count
        return cohort

    def drop(self, flow: Flow) -> None:
        """Forget a flow's cohorts, for which nobody waits any more."""
        self.rows -= sum(cohort.rows.count for *_, cohort in flow.waiting.pop(self))
        self.flows.discard(flow)


class Batch:
    """A run in another thread.

    Args:
        cohorts: whose rows run.
    """

    __slots__ = ("cohorts", "options")

    def __init__(self, cohorts: list[Cohort]):
        self.cohorts = cohorts
        self.options = ort.RunOptions()

    def stop_if_useless(self) -> None:
        """End the run if nobody waits for any of its rows any more."""
        if all(cohort.ticket.future.done() for cohort in self.cohorts):
            self.options.terminate = True


def execute(
    session: GraphSession,
    batch: list[Cohort],
    options: ort.RunOptions | None = None,
) -> tuple[float, Env | Exception]:
    """One run over the rows of all cohorts -> seconds by the session's clock, and the outputs or what went wrong."""
    started = session.clock()
    try:
        feeds = [cohort.rows.feeds() for cohort in batch]
        outputs = session.run(
            feeds[0]
            if len(feeds) == 1
            else {name: np.concatenate([feed[name] for feed in feeds]) for name in session.inputs},
            options,
        )
    except Exception as error:  # ONNX Runtime raises a family of its own; whatever it is, only this batch fails
        return session.clock() - started, error
    return session.clock() - started, outputs


def join(parts: list[Env]) -> Env:
    """The outputs of a ticket's cohorts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
