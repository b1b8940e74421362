"""ONNX Runtime by itself: what is left when there is no server at all."""

from __future__ import annotations

import time
from pathlib import Path

import onnxruntime as ort

from benchmarks.tools.models import example

__all__ = ["RawRuntime"]


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

    def calls_per_second(self, model: str, rows: int, seconds: float) -> float:
        """Calls a second of so many rows each, one after the other."""
        session, x = self._sessions[model], example(model, rows, seed=0)
        session.run(None, {"x": x})
        calls, started = 0, time.perf_counter()
        while (passed := time.perf_counter() - started) < seconds:
            session.run(None, {"x": x})
            calls += 1
        return calls / passed
