"""Closed-loop load by wrk: every connection asks its next question when the last one is answered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tools.machine import busy_seconds
from benchmarks.tools.processes import Server
from benchmarks.tools.questions import Question

__all__ = ["Window", "need_wrk", "wrk"]

_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Window:
    """What one measurement gave.

    Attributes:
        requests_per_second: answers of any status.
        p50: median latency, ms.
        p99: of a hundred requests the slowest but one, ms.
        errors: answers other than 2xx and 3xx, and broken connections.
        cpu_us: CPU time of the server a request, µs.
        foreign: cores that something other than server and wrk used meanwhile.
    """

    requests_per_second: float
    p50: float
    p99: float
    errors: int
    cpu_us: float
    foreign: float


def need_wrk() -> None:
    """End the script, and say what to do, where there is no wrk."""
    if shutil.which("wrk") is None:
        sys.exit(
            "This needs wrk, a load generator, on the PATH: `apt-get install wrk` on Debian and Ubuntu, "
            "`dnf install wrk` on Fedora, `brew install wrk` on macOS, or its source, https://github.com/wg/wrk."
        )


def wrk(server: Server, questions: list[Question], folder: Path, *, connections: int, seconds: float) -> Window:
    """Ask the questions in turn, over and over, all to the same path and with the same headers.

    Args:
        server: whom.
        questions: what.
        folder: where their bodies may be written.
        connections: how many at the same time.
        seconds: how long, in whole seconds.
    """
    files = []
    for number, question in enumerate(questions):
        files.append(str(folder / f"body-{number}"))
        Path(files[-1]).write_bytes(question.body)
    headers = "\n".join(f"{name}: {value}" for name, value in questions[0].headers.items())
    url = f"http://127.0.0.1:{server.port}{questions[0].path}"
    length = f"{max(1, round(seconds))}s"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{length}", "--timeout", "20s", "-s", str(_SCRIPT), url]
    of_server, of_all, of_wrk, started = server.cpu_seconds(), busy_seconds(), _children(), time.monotonic()
    done = subprocess.run(
        command, env={**os.environ, "BODIES": ",".join(files), "HEADERS": headers}, capture_output=True, text=True
    )
    wall = time.monotonic() - started
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise RuntimeError(f"wrk failed: {done.stdout[-300:]}{done.stderr[-300:]}")
    found = json.loads(line.removeprefix("RESULT "))
    of_server = server.cpu_seconds() - of_server
    foreign = busy_seconds() - of_all - of_server - (_children() - of_wrk)
    return Window(
        requests_per_second=found["requests"] / found["seconds"],
        p50=found["p50"] / 1e3,
        p99=found["p99"] / 1e3,
        errors=found["errors"],
        cpu_us=1e6 * of_server / max(1, found["requests"]),
        foreign=max(0.0, foreign / wall),
    )


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system
