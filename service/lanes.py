"""What waits in the scheduler: tickets, the cohorts of rows they travel in, and the lanes where they wait."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.model import LoadedModel
from runtime.rows import Journey
from runtime.session import GraphSession
from service.costs import CostModel

__all__ = ["Cohort", "Env", "Lane", "Ticket", "execute", "join"]

Env = dict[str, NDArray[Any]]


@dataclass(eq=False, slots=True)
class Ticket:
    """One call of ``run``: its cohorts, and the future that its caller waits on."""

    model: LoadedModel
    future: asyncio.Future[Env]
    deadline: float | None
    n: int
    cost: float
    cohorts: list[Cohort] = field(default_factory=list)
    open_cohorts: int = 0


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
    waiting: deque[Cohort] = field(default_factory=deque)
    rows: int = 0
    running: int = 0


def execute(session: GraphSession, batch: list[Cohort]) -> tuple[float, Env | Exception]:
    """One run over the rows of all cohorts -> seconds, and the outputs or what went wrong."""
    started = time.perf_counter()
    try:
        feeds = [cohort.rows.feeds() for cohort in batch]
        outputs = session.run(
            feeds[0]
            if len(feeds) == 1
            else {name: np.concatenate([feed[name] for feed in feeds]) for name in session.inputs}
        )
    except Exception as error:  # ONNX Runtime raises a family of its own; whatever it is, only this batch fails
        return time.perf_counter() - started, error
    return time.perf_counter() - started, outputs


def join(parts: list[Env]) -> Env:
    """The outputs of a ticket's cohorts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
