"""What a computation ran on, in words that name a kind of machine and none in particular."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from training import processes

__all__ = ["cpu_name", "hardware"]


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model as it calls itself; the machine's architecture where it does not say."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def hardware(*, gpu: bool = True) -> str:
    """Where a fit runs: on the GPU if there is one, else on the processor, with as many threads as torch takes.

    Args:
        gpu: whether it would use one; a closed form never does.
    """
    if gpu and torch.cuda.is_available():
        place = str(torch.cuda.get_device_name(0))
    else:
        threads = torch.get_num_threads()
        place = f"{cpu_name()}, {threads} thread{'s' * (threads > 1)}"
    return place if processes.count() == 1 else f"{processes.count()} processes, each {place}"
