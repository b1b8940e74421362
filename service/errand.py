"""What a piece of work has to do with the one who asked for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runtime.model import LoadedModel
from runtime.rows import Journey

__all__ = ["BACKGROUND", "PLAIN", "URGENCY", "Errand", "Watch"]

URGENCY = 3
"""How urgent work is that says nothing (RFC 9218, section 4.1)."""

BACKGROUND = 7
"""The least urgent."""

Watch = Callable[[LoadedModel, list[Journey]], None]
"""Told whenever rows have moved on: the model, and the journeys of all rows of the request, in order."""


@dataclass(frozen=True, slots=True)
class Errand:
    """Who waits, and for how long.

    Attributes:
        deadline: on the scheduler's clock; rows that have not begun their next run by then are dropped.
        client: whose work it is; clients share the runtime evenly.
        urgency: 0 (first) to 7 (last), among the work of the same client (RFC 9218).
        watch: told of progress, in the event loop; it must be quick.
    """

    deadline: float | None = None
    client: str = ""
    urgency: int = URGENCY
    watch: Watch | None = None


PLAIN = Errand()
"""No deadline, nobody in particular."""
