"""A server as processes: started, asked, its time and memory counted, stopped. Linux only."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.tools.machine import ROOT, TICKS

__all__ = ["Server", "naive", "nonesuch", "shipped"]

_TAG = "NONESUCH_BENCHMARK"


class Server:
    """A server on a free port of 127.0.0.1; a context manager that ends it.

    Args:
        command: what starts it, ``{port}`` standing for the port.
        environment: added to this process's, without whatever configures Nonesuch.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str]):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        # Children inherit the tag, whatever becomes of their parents.
        self._tag = uuid.uuid4().hex
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("NONESUCH_")}
        for name in ("PORT", "REDIS_URL"):
            inherited.pop(name, None)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [part.format(port=self.port) for part in command],
            cwd=ROOT,
            env={**inherited, **environment, _TAG: self._tag},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """One request over a connection of its own: status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def wait(self, until: Callable[[], bool] | None = None, patience: float = 120.0) -> float:
        """Wait until it answers as wanted (GET /readyz with 200 if not said); seconds since its start.

        Raises:
            RuntimeError: it ended, or took longer than ``patience`` seconds.
        """
        good = until or (lambda: self.ask("GET", "/readyz", {}, b"")[0] == 200)
        while True:
            with suppress(OSError, http.client.HTTPException):
                if good():
                    return time.monotonic() - self._started
            if self._process.poll() is not None or time.monotonic() > self._started + patience:
                raise RuntimeError(f"the server did not start:\n{self.log()}")
            time.sleep(0.02)

    def log(self) -> str:
        """What it has said."""
        return os.pread(self._log.fileno(), 2**20, 0).decode(errors="replace")

    def _pids(self) -> list[int]:
        wanted = f"{_TAG}={self._tag}".encode()
        found = []
        for file in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if wanted in file.read_bytes().split(b"\0"):
                    found.append(int(file.parent.name))
        return found

    def cpu_seconds(self) -> float:
        """CPU time of all its processes."""
        total = 0
        for pid in self._pids():
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                total += sum(int(field) for field in fields[11:15])
        return total / TICKS

    def memory(self) -> tuple[float, float]:
        """MiB: the sum of its processes' peak resident sizes, and their proportional size (PSS) now."""
        peak = now = 0
        for pid in self._pids():
            with suppress(OSError):
                peak += _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM:")
                now += _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")
        return peak / 1024, now / 1024

    def send(self, sig: signal.Signals) -> None:
        """Send a signal to the process that was started."""
        self._process.send_signal(sig)

    def exited(self, patience: float) -> float | None:
        """Wait for its end: the moment on ``time.perf_counter``'s clock; None if it goes on."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return None
        return time.perf_counter()

    def stop(self) -> None:
        """End all its processes."""
        for sig, patience in ((signal.SIGINT, 5.0), (signal.SIGKILL, 5.0)):
            for pid in self._pids() if sig == signal.SIGKILL else [self._process.pid]:
                with suppress(OSError):
                    os.kill(pid, sig)
            limit = time.monotonic() + patience
            while time.monotonic() < limit:
                if self._process.poll() is not None and not self._pids():
                    self._log.close()
                    return
                time.sleep(0.02)
        raise RuntimeError("a server's process does not end")


def _kilobytes(file: Path, field: str) -> int:
    return sum(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(field))


def nonesuch(bundles: Path, **settings: str) -> Server:
    """``nonesuch serve``, the memory cache off; settings are named without ``NONESUCH_``."""
    chosen = {"CACHE_BYTES": "0", "PICTURES": "", **settings}
    command = [sys.executable, "-m", "commands.main", "serve", "--port", "{port}", "--bundles", str(bundles)]
    return Server(command, {f"NONESUCH_{name}": value for name, value in chosen.items()})


@contextmanager
def shipped(*names: str, **settings: str) -> Iterator[Server]:
    """``nonesuch serve`` of some of the shipped bundles and no others, ready; all versions, or one as ``digits/1``."""
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            shutil.copytree(ROOT / "bundles" / name, Path(folder) / name)
        with nonesuch(Path(folder), **settings) as server:
            server.wait()
            yield server


def naive(models: Path) -> Server:
    """``benchmarks/servers/naive.py`` under uvicorn."""
    command = [sys.executable, "-m", "uvicorn", "benchmarks.servers.naive:app", "--host", "127.0.0.1", "--port"]
    return Server([*command, "{port}", "--no-access-log", "--log-level", "warning"], {"MODELS": str(models)})
