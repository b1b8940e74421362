"""The process: a socket, uvicorn, signals, and what is printed once all is ready."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from types import FrameType

import structlog
import uvicorn

from service.api.health import refusals
from service.app import create_app
from service.parts import Parts
from service.settings import Settings, is_loopback
from service.telemetry import configure_logging
from service.web.samples import sample_curl

__all__ = ["ServeError", "Server", "banner", "open_socket", "run"]

log = structlog.get_logger("nonesuch.server")


class ServeError(Exception):
    """The service cannot start; the message says what to do about it."""


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


def run(settings: Settings) -> None:
    """Serve until told to stop.

    Raises:
        ServeError: the address is public without permission, or cannot be had.
    """
    if not is_loopback(settings.host) and not settings.allow_anonymous:
        raise ServeError(
            f"{settings.host} can be reached from other machines, and nobody would be asked for a key; "
            "listen on 127.0.0.1, or say --allow-anonymous (NONESUCH_ALLOW_ANONYMOUS=true) if that is meant"
        )
    configure_logging(settings.log_format, settings.log_level)
    listener = open_socket(settings.host, settings.port)
    port = listener.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        app = create_app(settings, on_ready=lambda parts: print(banner(parts, f"http://{host}:{port}"), flush=True))
    except (FileNotFoundError, ValueError) as error:  # no such folder of bundles, or a Redis URL that cannot be read
        listener.close()
        raise ServeError(str(error)) from None
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=settings.finish_seconds,
        backlog=2048,
    )
    Server(config, app.state.parts).run(sockets=[listener])


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket, opened before anything slow happens, so that a taken port is told at once.

    Raises:
        ServeError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ServeError(f"cannot listen on {host}: {error.strerror or error}") from None
    try:
        # A port that a stopped server left moments ago can be had again; one that is being listened on cannot.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"port {port} on {host} is taken; stop what listens there, or choose another: "
                f"nonesuch serve --port {port + 1} (make serve PORT={port + 1})"
            ) from None
        if error.errno == errno.EACCES:
            raise ServeError(f"port {port} needs more rights; choose one above 1023") from None
        raise ServeError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener


def banner(parts: Parts, url: str) -> str:
    """What is served where, and one command to try."""
    catalogue = parts.catalogue
    models = [catalogue.get(name, None) for name in catalogue.names()]
    lines = [f"\nNonesuch serves {url}", ""]
    width = max((len(model.manifest.name) for model in models), default=0)
    for model in models:
        manifest = model.manifest
        abilities = ", ".join(manifest.capabilities)
        lines.append(f"  {manifest.name:{width}}  version {manifest.version}, {manifest.family}: {abilities}")
    lines += [f"  refused: {reason}" for reason in refusals(parts).values()]
    if not models:
        lines.append(f"  no bundle is served from {parts.settings.bundles}; new ones are found as they appear")
    drawable = [model for model in models if "sample" in model.manifest.capabilities]
    if drawable:
        first = min(drawable, key=lambda model: model.manifest.support.size)
        lines += ["", "Try", "", *(f"  {line}" for line in sample_curl(url, first, n=3, seed=42).splitlines())]
    return "\n".join([*lines, "", "Ctrl-C stops it.", ""])
