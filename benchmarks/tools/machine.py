"""The machine that a benchmark runs on: what it is, and whether somebody else is using it. Linux only."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

__all__ = ["ROOT", "TICKS", "busy_seconds", "description", "wait_until_quiet"]

ROOT = Path(__file__).parents[2]
"""The root of the repository."""

TICKS = os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """Seconds of CPU time that all cores have spent on anything since they started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS  # all but idle and waiting for disks


def wait_until_quiet(cores: float = 0.15, patience: float = 20.0) -> float:
    """Wait, for a while, until the machine uses fewer than so many cores; the last reading, in cores.

    Idle servers may run meanwhile; nothing of the benchmark may be at work.
    """
    limit = time.monotonic() + patience
    while True:
        before, started = busy_seconds(), time.monotonic()
        time.sleep(0.5)
        used = (busy_seconds() - before) / (time.monotonic() - started)
        if used < cores or time.monotonic() > limit:
            return used


def description() -> str:
    """Processor, cores, memory and versions in one line."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().split("\n")
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "fastapi", "uvicorn"))
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, {memory:.0f} GiB; Python {platform.python_version()}, {packages}"
