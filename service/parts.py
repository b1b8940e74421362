"""The parts of a running service, as the routes see them."""

from __future__ import annotations

from dataclasses import dataclass

from service.auth import Guard
from service.cache import RowCache
from service.catalogue import Catalogue
from service.drift import Drift
from service.limits import ByteBudget
from service.operations import Operations
from service.quotas import Quotas
from service.scheduler import Scheduler
from service.settings import Settings
from service.telemetry import Metrics

__all__ = ["Parts"]


@dataclass
class Parts:
    """What a request needs; one per application, in ``app.state.parts``.

    Attributes:
        guard: knows callers by their keys or addresses; None where everybody may ask as much as they like.
        draining: set when the process was told to stop; the service answers on, but says that it is not ready.
    """

    settings: Settings
    metrics: Metrics
    budget: ByteBudget
    catalogue: Catalogue
    cache: RowCache
    scheduler: Scheduler
    drift: Drift
    operations: Operations
    guard: Guard | None
    quotas: Quotas
    draining: bool = False
