"""ONNX Runtime by itself: what is left when there is no server at all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import onnxruntime as ort

from benchmarks.tools.machine import busy_seconds
from benchmarks.tools.models import example

__all__ = ["Rate", "RawRuntime"]


class Rate(NamedTuple):
    """Calls a second, and the cores that something else used meanwhile."""

    calls_per_second: float
    foreign: float


class RawRuntime:
    """A one-thread session for each of the two models, called from this process with arrays that are ready.

    Args:
        models: the folder of ``make_models``.
    """

    def __init__(self, models: Path):
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._sessions = {
            name: ort.InferenceSession(str(models / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
            for name in ("tabular", "image")
        }

    def measure(self, model: str, rows: int, seconds: float) -> Rate:
        """Calls of so many rows each, one after the other."""
        session, x = self._sessions[model], example(model, rows, seed=0)
        session.run(None, {"x": x})
        of_all, of_us = busy_seconds(), time.process_time()
        calls, started = 0, time.perf_counter()
        while (passed := time.perf_counter() - started) < seconds:
            session.run(None, {"x": x})
            calls += 1
        foreign = busy_seconds() - of_all - (time.process_time() - of_us)
        return Rate(calls / passed, max(0.0, foreign / passed))
