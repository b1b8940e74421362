"""The numeric profile: what must be equal for two machines to give the same bits."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import onnxruntime

__all__ = ["cpu_level", "numeric_profile"]

# ONNX Runtime's CPU kernels dispatch on these, widest first.
_LEVELS = ("avx512f", "avx2", "avx", "sse4_1")


@cache
def cpu_level() -> str:
    """Machine and widest vector instructions that ONNX Runtime may use, such as ``x86_64-avx512f``."""
    machine = platform.machine().lower() or "unknown"
    info = Path("/proc/cpuinfo")
    if info.exists():
        line = next(
            (x for x in info.read_text(errors="replace").splitlines() if x.startswith(("flags", "Features"))), ""
        )
        flags = set(line.partition(":")[2].split())
        level = next((flag for flag in _LEVELS if flag in flags), None)
        if level is not None:
            return f"{machine}-{level}"
    return machine


def numeric_profile(provider: str = "cpu") -> str:
    """ONNX Runtime version, provider, CPU feature level and threads: ``ort-1.31.1/cpu/x86_64-avx512f/1-thread``.

    Args:
        provider: ``cpu`` or ``cuda``.
    """
    return f"ort-{onnxruntime.__version__}/{provider}/{cpu_level()}/1-thread"
