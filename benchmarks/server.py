"""A server of its own for a benchmark: the real command, on a free port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

__all__ = ["running_server"]

ROOT = Path(__file__).parent.parent


@contextmanager
def running_server(**environment: str) -> Iterator[str]:
    """Serve the shipped bundles with these settings; yields the URL once ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "commands.main", "serve", "--port", str(port)]
    server = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        else:
            raise RuntimeError("the server was not ready within 30 s")
        yield url
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
