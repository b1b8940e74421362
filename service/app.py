"""Puts the parts together: the application, its start and its end."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from runtime.goldens import golden_questions
from service.api import anomaly_score, classify, drift, encode, health, inpaint, log_prob, models, openapi, sample
from service.api.codecs import dump
from service.api.edge import Edge, respond
from service.api.negotiation import JSON
from service.api.problems import ProblemError
from service.auth import Guard, Keyring
from service.cache import RowCache
from service.catalogue import Catalogue
from service.drift import Drift
from service.limits import ByteBudget
from service.operations import Operations
from service.parts import Parts
from service.quotas import Quotas
from service.scheduler import Limits, Scheduler
from service.settings import Settings
from service.telemetry import Metrics
from service.web import pages
from service.web.samples import Gallery

__all__ = ["build_parts", "create_app"]

log = structlog.get_logger("nonesuch")

DESCRIPTION = """Ask generative models: draw me some, how likely is this, what is its code, is this strange.

Every sample has an address, every number says what it is, and every alarm keeps its rate of false alarms.
Errors are problem documents (RFC 9457) whose `type` is a page that explains them."""


def create_app(settings: Settings | None = None, on_ready: Callable[[Parts], None] | None = None) -> FastAPI:
    """The application.

    Args:
        settings: every knob; from the environment when absent.
        on_ready: called once, when the bundles have been looked at for the first time.
    """
    parts = build_parts(settings or Settings())
    app = FastAPI(
        title="Nonesuch",
        version=_version(),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(parts, on_ready),
    )
    app.state.parts = parts
    app.state.gallery = Gallery(parts)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    for room in (sample, log_prob, encode, anomaly_score, classify, inpaint, models, drift, health, pages):
        app.include_router(room.router)
    app.add_api_route("/openapi.json", _openapi, methods=["GET"], include_in_schema=False)
    app.mount("/static", StaticFiles(directory=pages.STATIC), name="static")
    app.add_exception_handler(HTTPException, _framework_problem)
    app.add_middleware(Edge, parts=parts)
    return app


def build_parts(settings: Settings) -> Parts:
    """Everything that the routes need, not yet started."""
    metrics = Metrics()
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    cache = RowCache(
        memory_bytes=settings.cache_bytes,
        ttl_seconds=settings.cache_ttl_seconds,
        redis_url=redis_url,
        redis_timeout_seconds=settings.redis_timeout_ms / 1000.0,
        secret=settings.cache_key.get_secret_value().encode() if settings.cache_key else b"",
        observe=metrics.cache_event,
    )
    scheduler = Scheduler(
        Limits(rows=settings.max_rows_in_flight, bytes=settings.max_row_bytes_in_flight, threads=settings.threads),
        observe=lambda model, graph, rows, seconds: metrics.ran(model.manifest.name, rows, seconds),
    )
    catalogue = Catalogue(
        settings.bundles,
        provider=settings.provider,
        poll_seconds=settings.poll_seconds,
        warm=lambda model: scheduler.warm(model, golden_questions(model)),
        forget=scheduler.forget,
    )
    operations = Operations(catalogue, scheduler, cache, max_answer_bytes=settings.max_answer_bytes)
    parts = Parts(
        settings=settings,
        metrics=metrics,
        budget=ByteBudget(settings.max_bytes_in_flight),
        catalogue=catalogue,
        cache=cache,
        scheduler=scheduler,
        drift=Drift(catalogue, level=settings.drift_level, workers=settings.workers),
        operations=operations,
        guard=_guard(settings),
        quotas=Quotas(redis_url, timeout_seconds=settings.redis_timeout_ms / 1000.0, observe=metrics.cache_event),
    )
    metrics.gauge("nonesuch_rows_in_flight", "Rows admitted and not yet answered.", lambda: scheduler.rows_in_flight)
    metrics.gauge(
        "nonesuch_backlog_seconds", "Predicted seconds of work not yet answered.", lambda: scheduler.backlog_seconds
    )
    metrics.gauge("nonesuch_body_bytes_held", "Bytes of request bodies held.", lambda: parts.budget.held)
    metrics.gauge("nonesuch_cache_memory_bytes", "Bytes in the memory cache.", lambda: cache.memory_used)
    metrics.gauge("nonesuch_redis_up", "1 while Redis is in use.", lambda: float(cache.redis_state == "closed"), "min")
    parts.drift.tell(metrics)
    return parts


def _guard(settings: Settings) -> Guard | None:
    if settings.keys_file is None and settings.anonymous_rows_per_minute is None:
        return None
    return Guard(
        Keyring.read(settings.keys_file) if settings.keys_file is not None else None,
        rows_per_minute=settings.rows_per_minute,
        anonymous_rows_per_minute=settings.anonymous_rows_per_minute,
        public_pages=settings.public_pages,
    )


# -- start and end -----------------------------------------------------------------------------------------------


def _lifespan(parts: Parts, on_ready: Callable[[Parts], None] | None) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        parts.scheduler.start()
        # The probes are answered while the bundles are verified.
        start = asyncio.create_task(_start(parts, on_ready), name="start")
        tell = asyncio.create_task(_tell_the_other_workers(parts), name="tell")
        with _reload_on_hangup(parts):
            yield
        start.cancel()
        tell.cancel()
        await asyncio.gather(start, tell, return_exceptions=True)
        await parts.catalogue.stop()
        await parts.scheduler.close()
        await parts.cache.close()
        await parts.quotas.close()

    return lifespan


async def _tell_the_other_workers(parts: Parts) -> None:
    while parts.metrics.shared:
        parts.metrics.refresh()
        await asyncio.sleep(1.0)


async def _start(parts: Parts, on_ready: Callable[[Parts], None] | None) -> None:
    try:
        await parts.catalogue.start()
    except Exception:
        # The process stays up and says by /readyz that it is not ready; whoever runs it decides.
        log.exception("the bundles could not be looked at")
        return
    if on_ready is not None:
        on_ready(parts)


@contextmanager
def _reload_on_hangup(parts: Parts) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, _reload, parts)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _reload(parts: Parts) -> None:
    parts.catalogue.reload()
    if parts.guard is None or parts.settings.keys_file is None:
        return
    try:
        parts.guard.keyring = Keyring.read(parts.settings.keys_file)
    except ValueError as error:
        log.error("the keys stay as they were", reason=str(error))
    else:
        log.info("the keys were read again", keys=len(parts.guard.keyring))


# -- what the framework finds --------------------------------------------------------------------------------------


async def _openapi(request: Request) -> Response:
    return Response(dump(request.app.openapi()), media_type=JSON)


async def _framework_problem(request: Request, error: Exception) -> Response:
    """A wrong address or method, which routing finds before any of our code runs."""
    assert isinstance(error, HTTPException)
    path, headers = request.url.path[:200], dict(error.headers or {})
    if error.status_code == 405:
        allowed = headers.get("Allow", "another method")
        detail = f"{path} does not take {request.method}; it takes {allowed}"
        return respond(request, ProblemError("method-not-allowed", detail, headers=headers))
    if error.status_code == 404:
        return respond(request, ProblemError("not-found", f"there is nothing at {path}"))
    return respond(request, ProblemError("invalid-request", str(error.detail), status=error.status_code))


def _version() -> str:
    try:
        return version("nonesuch")
    except PackageNotFoundError:
        return "unknown"
