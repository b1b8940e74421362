"""A sampler whose number of steps a request may choose, packed from ONNX files: what a step costs beside its graph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from benchmarks.tools.machine import ROOT
from tests.bundles import graph_bytes

__all__ = ["MOST_STEPS", "pack_chain", "raw_step"]

MOST_STEPS = 1000
WIDTH = 64

_SPECIFICATION = """
name: chain
title: This walk does not exist
support:
  shape: [{width}]
  columns: [{columns}]
graphs:
  start: {{file: start.onnx}}
  step: {{file: step.onnx}}
capabilities:
  sample:
    init: start
    step: step
    inputs:
      - {{name: seed, dtype: int64, source: address}}
      - {{name: row, dtype: int64, source: address}}
    state: [{{name: x, dtype: float32, shape: [{width}]}}]
    steps: {{default: 10, maximum: {most}}}
    outputs: [{{name: x, dtype: float32, shape: [{width}], kind: sample, units: data}}]
refusals: {{log_prob: the walk was made to be timed}}
"""


def pack_chain(folder: Path, bundles: Path) -> None:
    """Write the files of a chain of residual networks, 64-256-64, and make the bundle ``chain`` of them."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    single, integer = TensorProto.FLOAT, TensorProto.INT64
    start = graph_bytes(
        [
            helper.make_node("Mul", ["row", "many"], ["offset"]),
            helper.make_node("Add", ["seed", "offset"], ["address"]),
            helper.make_node("Mod", ["address", "period"], ["place"]),
            helper.make_node("Cast", ["place"], ["real"], to=single),
            helper.make_node("Unsqueeze", ["real", "axis"], ["column"]),
            helper.make_node("Mul", ["column", "frequencies"], ["phases"]),
            helper.make_node("Tanh", ["phases"], ["x"]),
        ],
        {"seed": (integer, ["n"]), "row": (integer, ["n"])},
        {"x": (single, ["n", WIDTH])},
        [
            numpy_helper.from_array(np.array([1]), "axis"),
            numpy_helper.from_array(np.array(31), "many"),
            numpy_helper.from_array(np.array(1009), "period"),
            numpy_helper.from_array((random.standard_normal((1, WIDTH)) / 1009).astype(np.float32), "frequencies"),
        ],
    )
    weights = {"up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH)}
    step = graph_bytes(
        [
            helper.make_node("MatMul", ["x", "up"], ["wide"]),
            helper.make_node("Relu", ["wide"], ["active"]),
            helper.make_node("MatMul", ["active", "down"], ["change"]),
            helper.make_node("Add", ["x", "change"], ["moved"]),
            helper.make_node("Tanh", ["moved"], ["next_x"]),
        ],
        {"x": (single, ["n", WIDTH])},
        {"next_x": (single, ["n", WIDTH])},
        [
            numpy_helper.from_array((random.standard_normal(shape) / shape[0] ** 0.5).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    (folder / "start.onnx").write_bytes(start)
    (folder / "step.onnx").write_bytes(step)
    columns = ", ".join(f"{{name: x{i}, kind: real, base_measure: lebesgue}}" for i in range(WIDTH))
    text = _SPECIFICATION.format(width=WIDTH, columns=columns, most=MOST_STEPS)
    (folder / "chain.yaml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "commands.main", "pack", str(folder / "chain.yaml"), "--out", str(bundles)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"nonesuch pack failed:\n{done.stderr}")


def raw_step(folder: Path) -> ort.InferenceSession:
    """The step by itself, on one thread: x float32 [n, 64] -> next_x."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(folder / "step.onnx"), options, providers=["CPUExecutionProvider"])
