"""The two models that the servers are compared on, made from a fixed seed, as ONNX files and as packed bundles.

``tabular``  x float32 [n, 32] -> log_prob float32 [n]: eight affine couplings (RealNVP, arXiv:1605.08803), the scale
and shift of each from a network of two hidden layers of 128; 0.2 million multiply-adds a row.
``image``    x float32 [n, 784] -> log_prob float32 [n]: an autoencoder 784-512-256-32-256-512-784, minus the mean
squared error of each row; 1.1 million multiply-adds a row.

Their weights are random: what they answer is of no use, what they cost is that of a trained one.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.tools.machine import ROOT
from contract.bundle import open_bundle, write_bundle

__all__ = ["COLUMNS", "KINDS", "copies", "example", "make_models", "pack_models", "reference"]

COLUMNS = {"tabular": 32, "image": 784}
KINDS = {"tabular": "exact", "image": "unnormalised"}


class _Graph:
    """Nodes and weights as they are added."""

    def __init__(self, seed: int):
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(seed)
        self._names = 0

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind.lower()}_{self._names}"

    def constant(self, value: ArrayLike) -> str:
        name = self._name("constant")
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def several(self, kind: str, *inputs: str, n: int, **attributes: int) -> list[str]:
        outputs = [self._name(kind) for _ in range(n)]
        node = helper.make_node(kind, list(inputs), outputs)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self.nodes.append(node)
        return outputs

    def one(self, kind: str, *inputs: str, **attributes: int) -> str:
        return self.several(kind, *inputs, n=1, **attributes)[0]

    def dense(self, x: str, n_in: int, n_out: int, scale: float = 1.0) -> str:
        weight = self._random.standard_normal((n_in, n_out)) * scale / np.sqrt(n_in)
        bias = self._random.standard_normal(n_out) * 0.01
        return self.one("Gemm", x, self.constant(weight.astype(np.float32)), self.constant(bias.astype(np.float32)))

    def save(self, path: Path, columns: int, log_prob: str) -> None:
        self.nodes.append(helper.make_node("Identity", [log_prob], ["log_prob"]))
        taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", columns])
        given = helper.make_tensor_value_info("log_prob", TensorProto.FLOAT, ["n"])
        graph = helper.make_graph(self.nodes, path.stem, [taken], [given], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))


def _tabular(path: Path, hidden: int = 128, layers: int = 8) -> None:
    graph = _Graph(seed=0)
    columns = COLUMNS["tabular"]
    half = columns // 2
    axis = graph.constant([1])
    halves = graph.constant([half, half])
    x = "x"
    log_scales = []
    for _ in range(layers):
        kept, moved = graph.several("Split", x, halves, n=2, axis=1)
        h = graph.one("Relu", graph.dense(kept, half, hidden))
        h = graph.one("Relu", graph.dense(h, hidden, hidden))
        s, shift = graph.several("Split", graph.dense(h, hidden, columns, 0.3), halves, n=2, axis=1)
        s = graph.one("Tanh", s)
        moved = graph.one("Mul", graph.one("Sub", moved, shift), graph.one("Exp", graph.one("Neg", s)))
        log_scales.append(graph.one("ReduceSum", s, axis, keepdims=0))
        x = graph.one("Concat", moved, kept, axis=1)
    squares = graph.one("ReduceSum", graph.one("Mul", x, x), axis, keepdims=0)
    log_prob = graph.one("Mul", squares, graph.constant(np.float32(-0.5)))
    for log_scale in log_scales:
        log_prob = graph.one("Sub", log_prob, log_scale)
    normal = graph.constant(np.float32(-0.5 * columns * np.log(2.0 * np.pi)))
    graph.save(path, columns, graph.one("Add", log_prob, normal))


def _image(path: Path, widths: tuple[int, ...] = (784, 512, 256, 32, 256, 512, 784)) -> None:
    graph = _Graph(seed=1)
    axis = graph.constant([1])
    x = "x"
    for layer, (n_in, n_out) in enumerate(pairwise(widths)):
        x = graph.dense(x, n_in, n_out)
        if layer < len(widths) - 2:
            x = graph.one("Relu", x)
    error = graph.one("Sub", "x", x)
    mean = graph.one("ReduceMean", graph.one("Mul", error, error), axis, keepdims=0)
    graph.save(path, widths[0], graph.one("Neg", mean))


def make_models(folder: Path) -> None:
    """Write ``tabular.onnx`` and ``image.onnx``."""
    folder.mkdir(parents=True, exist_ok=True)
    _tabular(folder / "tabular.onnx")
    _image(folder / "image.onnx")


def pack_models(models: Path, bundles: Path) -> None:
    """Make bundles of both by ``nonesuch pack``, as a user would."""
    for name, kind in KINDS.items():
        source = str(models / f"{name}.onnx")
        command = [sys.executable, "-m", "commands.main", "pack", source, "--kind", kind, "--out", str(bundles)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"nonesuch pack {source} failed:\n{done.stderr}")


def copies(bundle: Path, root: Path, names: list[str], version: int | None = None) -> None:
    """Write a bundle again under other names, or as another version."""
    source = open_bundle(bundle)
    files = {name: source.path(name).read_bytes() for name in source.manifest.files}
    fields = source.manifest.model_dump(mode="json", exclude={"files"})
    for name in names:
        write_bundle(root, {**fields, "name": name, "version": version or source.manifest.version}, files)


def example(model: str, rows: int, seed: int) -> NDArray[np.float32]:
    """Rows to ask about: float32 [rows, columns] in [0, 1)."""
    return np.random.default_rng(seed).random((rows, COLUMNS[model]), dtype=np.float32)


def reference(models: Path, model: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """What ONNX Runtime answers in this process, [n, columns] -> [n]."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(models / f"{model}.onnx"), providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run(None, {"x": x})[0]
    return answer
