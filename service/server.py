"""The process: uvicorn, signals, and what is printed once all is ready."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from contract.capabilities import CAPABILITIES
from service.allocator import share_one_heap
from service.api.fast import FastPath
from service.api.health import refusals
from service.api.plain import PlainQuestions
from service.api.wire import wire_protocol
from service.app import create_app
from service.listener import BACKLOG, ServeError, doors
from service.parts import Parts
from service.settings import Settings
from service.telemetry import configure_logging
from service.web.samples import sample_curl

__all__ = ["Server", "banner", "run"]

log = structlog.get_logger("nonesuch.server")


class Server(uvicorn.Server):
    """Uvicorn that drains: after SIGTERM it says that it is not ready, serves on for a while, then finishes.

    SIGINT (Ctrl-C) stops without the wait; a second signal of either kind cuts off what is still running.

    Args:
        config: uvicorn's.
        parts: the service's.
    """

    def __init__(self, config: uvicorn.Config, parts: Parts):
        super().__init__(config)
        self._parts = parts
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by the interpreter when a signal has come; the event loop is told, and does the rest."""
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._stop, sig)

    def _stop(self, sig: int) -> None:
        if self._stopping:
            self.force_exit = self.should_exit = True
            return
        self._stopping = True
        self._parts.draining = True
        wait = self._parts.settings.drain_seconds if sig == signal.SIGTERM else 0.0
        log.info("stopping", signal=signal.Signals(sig).name, serving_on_for_seconds=wait)
        assert self._loop is not None
        self._loop.call_later(wait, self._finish)

    def _finish(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop to listen, let requests finish or cut them off, and end the parts."""
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn then leaves everything as it lies
            running = list(self.server_state.tasks)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await self.lifespan.shutdown()
            await asyncio.gather(*self.server_state.tasks, return_exceptions=True)  # the last words to who still waited


def run(settings: Settings, listener: socket.socket, say: Callable[[str], None] | None = None) -> None:
    """Serve until told to stop, in this process.

    Args:
        settings: every knob.
        listener: where to listen.
        say: told once what is served where; printed if None.

    Raises:
        ServeError: no such folder of bundles, or a Redis URL that cannot be read.
    """
    share_one_heap()
    configure_logging(settings.log_format, settings.log_level)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    try:
        tell = say or (lambda text: print(text, flush=True))
        app = create_app(settings, on_ready=lambda parts: _settle(tell, banner(parts, url)))
    except (FileNotFoundError, ValueError) as error:
        raise ServeError(str(error)) from None
    served, protocol = _ways(app, app.state.parts)
    config = uvicorn.Config(
        served,
        http=protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=settings.finish_seconds,
        backlog=BACKLOG,
    )
    Server(config, app.state.parts).run(sockets=doors(listener))


def _ways(app: ASGIApp, parts: Parts) -> tuple[ASGIApp, Any]:
    """The application behind its fast path, and the protocol that is spoken to it."""
    settings = parts.settings
    if not settings.fast_path:
        return app, "auto"
    questions = PlainQuestions(parts)
    # Who must be asked for a key, found behind a proxy or written down in the log is known to the application alone.
    anyone = parts.guard is None and not settings.trusted_proxies and not settings.access_log
    protocol = wire_protocol(parts, questions, app) if anyone else "auto"
    return FastPath(app, parts, questions), protocol


def _settle(tell: Callable[[str], None], words: str) -> None:
    # What the start has made stays for good: the collector need not look at it again and again, which takes it longer
    # than many a request.
    gc.collect()
    gc.freeze()
    tell(words)


def banner(parts: Parts, url: str) -> str:
    """What is served where, and one command to try."""
    catalogue = parts.catalogue
    models = [catalogue.get(name, None) for name in catalogue.names()]
    lines = [f"\nNonesuch serves {url}", ""]
    width = max((len(model.manifest.name) for model in models), default=0)
    for model in models:
        manifest = model.manifest
        abilities = ", ".join(c for c in CAPABILITIES if c in manifest.capabilities)
        lines.append(f"  {manifest.name:{width}}  version {manifest.version}, {manifest.family}: {abilities}")
    lines += [f"  refused: {reason}" for reason in refusals(parts).values()]
    if not models:
        lines.append(f"  no bundle is served from {parts.settings.bundles}; new ones are found as they appear")
    drawable = [model for model in models if "sample" in model.manifest.capabilities]
    if drawable:
        first = min(drawable, key=lambda model: model.manifest.support.size)
        keyed = parts.guard is not None and parts.guard.keyring is not None
        curl = sample_curl(url, first, n=3, seed=42, keyed=keyed)
        lines += ["", "Try, with a key in $NONESUCH_KEY" if keyed else "Try", ""]
        lines += [f"  {line}" for line in curl.splitlines()]
    return "\n".join([*lines, "", "Ctrl-C stops it.", ""])
