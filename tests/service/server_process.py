"""The service as a process of its own, over a real socket: what a user starts, and nothing that only tests have."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

__all__ = ["ROOT", "START_SECONDS", "ServerProcess", "metric", "serving", "start"]

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
COMMAND = [sys.executable, "-W", "error", "-c", "from commands.main import main; main()", "serve"]


class ServerProcess:
    """``nonesuch serve`` and what it says.

    Attributes:
        url: where it serves, once it has said so.
    """

    def __init__(self, *flags: str, environment: dict[str, str] | None = None):
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("NONESUCH_", "REDIS_URL", "PORT"))
        }
        self.url = ""
        self._process = subprocess.Popen(
            [*COMMAND, *flags],
            cwd=ROOT,
            # The home folder's pictures are its owner's.
            env={**clean, "NONESUCH_PICTURES": "", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._out: list[str] = []
        self._err: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout, self._out, self._lines), daemon=True),
            threading.Thread(target=self._read, args=(self._process.stderr, self._err, None), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, lines: list[str], told: queue.SimpleQueue[str | None] | None) -> None:
        for line in stream:
            lines.append(line)
            if told is not None:
                told.put(line)
        if told is not None:
            told.put(None)
        stream.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def out(self) -> str:
        """Standard output so far."""
        return "".join(self._out)

    @property
    def err(self) -> str:
        """Standard error so far."""
        return "".join(self._err)

    def wait_until_ready(self) -> None:
        """Wait for the line that says where it serves, and for the last one of the message."""
        limit = time.monotonic() + START_SECONDS
        while "Ctrl-C stops it." not in self.out:
            try:
                line = self._lines.get(timeout=max(0.1, limit - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                self.kill()
                pytest.fail(f"the service did not start:\n{self.out}\n{self.err}", pytrace=False)
        found = re.search(r"serves (http://\S+)", self.out)
        assert found is not None
        self.url = found[1]

    def client(self, **options: Any) -> httpx.Client:
        """A client of this server."""
        return httpx.Client(base_url=self.url, timeout=30.0, **options)

    def send(self, sig: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(sig)

    def wait(self, seconds: float = START_SECONDS) -> int:
        """Wait for the end; the exit status."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        for reader in self._readers:
            reader.join()
        return status

    def running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self.wait()


def start(bundles: Path, *flags: str, **environment: str) -> ServerProcess:
    """A server on a free port, ready."""
    server = ServerProcess("--port", "0", "--bundles", str(bundles), *flags, environment=environment)
    server.wait_until_ready()
    return server


@contextmanager
def serving(bundles: Path, *flags: str, **environment: str) -> Iterator[ServerProcess]:
    """A server on a free port, ready, that is gone afterwards."""
    server = start(bundles, *flags, **environment)
    try:
        yield server
    finally:
        server.kill()


def metric(client: httpx.Client, name: str, **labels: str) -> float:
    """The value of a metric, 0 where it has none yet."""
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    for line in client.get("/metrics").text.splitlines():
        found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if found and found[1] == name and wanted <= set(re.findall(r'\w+="[^"]*"', found[2] or "")):
            return float(found[3])
    return 0.0
