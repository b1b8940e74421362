"""Several worker processes behind one socket: started, watched, started again when one dies, and stopped together.

Each worker is a whole service with a catalogue, a scheduler and a memory cache of its own; they accept connections
from the same socket, and share metrics through files (Prometheus's multiprocess mode) and Redis, where there is one.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

import structlog

from service.settings import Settings
from service.telemetry import configure_logging

__all__ = ["Workers", "run_workers"]

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
RESTART_SECONDS = 1.0
"""A worker that died is started again after this long, so that one that cannot start does not spin."""

log = structlog.get_logger("nonesuch.workers")


def run_workers(settings: Settings, listener: socket.socket) -> None:
    """Serve with ``settings.workers`` processes until told to stop.

    Raises:
        ServeError: no worker could start; what was wrong has been said by the first of them.
    """
    configure_logging(settings.log_format, settings.log_level)
    folder = tempfile.mkdtemp(prefix="nonesuch-metrics-")
    # Read by prometheus_client when a worker imports it.
    os.environ[METRICS_FOLDER] = folder
    try:
        sys.exit(Workers(settings, listener).run())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Worker:
    """One process, and the pipe on which it says that it is ready."""

    def __init__(self, number: int, settings: Settings, listener: socket.socket):
        context = multiprocessing.get_context("spawn")
        self.ready, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(settings, listener, theirs), name=f"worker-{number}")
        self.number = number
        self.process.start()
        theirs.close()


class Workers:
    """The supervisor.

    Args:
        settings: every knob; ``workers`` says how many.
        listener: where to listen.
    """

    def __init__(self, settings: Settings, listener: socket.socket):
        self._settings = settings
        self._listener = listener
        self._workers: list[_Worker] = []
        self._stopping = False
        self._announced = False

    def run(self) -> int:
        """Serve until a signal; the exit status."""
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(sig, self._pass_on)
        self._workers = [_Worker(i, self._settings, self._listener) for i in range(self._settings.workers)]
        banners: dict[int, str] = {}
        while self._workers:
            watched: list[Any] = [worker.process.sentinel for worker in self._workers]
            watched += [worker.ready for worker in self._workers if not worker.ready.closed]
            wait(watched, timeout=1.0)
            for worker in list(self._workers):
                if not worker.ready.closed and worker.ready.poll():
                    banners |= _read(worker)
                if not worker.process.is_alive():
                    self._buried(worker)
            if not self._announced and len(banners) == self._settings.workers:
                self._announced = True
                print(banners[0], flush=True)
            if not self._workers and not self._stopping:
                return 1
        return 0

    def _buried(self, worker: _Worker) -> None:
        from prometheus_client import multiprocess

        worker.process.join()
        self._workers.remove(worker)
        if worker.process.pid is not None:
            multiprocess.mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call,unused-ignore]
        if self._stopping:
            return
        if not self._announced:
            # It never served: what is wrong is wrong for all of them, and the worker has said it.
            self._stopping = True
            for other in self._workers:
                other.process.terminate()
            if worker.process.exitcode:
                sys.exit(worker.process.exitcode)
            return
        log.warning("worker died, and is started again", worker=worker.number, status=worker.process.exitcode)
        time.sleep(RESTART_SECONDS)
        self._workers.append(_Worker(worker.number, self._settings, self._listener))

    def _pass_on(self, sig: int, frame: FrameType | None) -> None:
        if sig != signal.SIGHUP:
            self._stopping = True
        for worker in self._workers:
            if worker.process.pid is not None and worker.process.is_alive():
                os.kill(worker.process.pid, sig)


def _read(worker: _Worker) -> dict[int, str]:
    try:
        return {worker.number: worker.ready.recv()}
    except EOFError:
        return {}
    finally:
        worker.ready.close()


def _work(settings: Settings, listener: socket.socket, ready: Connection) -> None:
    """A worker's whole life."""
    # A group of its own: Ctrl-C in a terminal reaches the supervisor alone, which passes it on once.
    os.setpgrp()
    threading.Thread(target=_leave_with_the_supervisor, daemon=True).start()
    from service.listener import ServeError
    from service.server import run

    def say(banner: str) -> None:
        ready.send(banner)
        ready.close()

    try:
        run(settings, listener, say=say)
    except ServeError as error:
        sys.exit(f"nonesuch serve: {error}")


def _leave_with_the_supervisor() -> None:
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)
