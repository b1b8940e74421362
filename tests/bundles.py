"""Bundles small enough to check by hand, made of real ONNX graphs, for tests that need some model and no training.

``affine`` answers ``log_prob`` in one shot: a diagonal normal law, its weights inside the graph or beside it.
``slow`` answers ``log_prob`` too, and takes its time.
``counter`` answers ``sample`` in up to five steps: it counts up from (seed, row) and ends early, by the row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from contract.bundle import CARD, GOLDENS, MANIFEST, Bundle, write_arrays, write_bundle
from contract.digest import sha256

__all__ = ["SCALE", "affine", "counter", "graph_bytes", "log_prob_of", "overwrite", "sample_of", "slow", "write"]

SCALE = np.array([0.5, 2.0])
CAPABILITIES = ("sample", "latent", "decode", "encode", "log_prob", "score")
WEIGHTS = "weights.bin"

Parts = tuple[dict[str, Any], dict[str, bytes]]
"""A manifest's fields without ``files``, and the contents of every other file: what ``write_bundle`` takes."""


def log_prob_of(x: NDArray[np.float64], shift: float = 0.0) -> NDArray[np.float64]:
    """What ``affine`` answers, [n, 2] -> [n]: a normal law with mean (shift, shift) and standard deviations SCALE."""
    z = (x - shift) / SCALE
    return -0.5 * (z * z).sum(axis=1) - np.log(SCALE).sum() - np.log(2.0 * np.pi)


def sample_of(seed: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.float64]:
    """What ``counter`` answers, [n] and [n] -> [n, 2]: (seed, row) counted up by 1 + row mod 5."""
    x = np.stack([seed, row], axis=1).astype(np.float64)
    for t in range(5):
        x = np.where((t <= row % 5)[:, None], x + 1.0, x)
    return x


def graph_bytes(
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, list[Any]]],
    outputs: Mapping[str, tuple[int, list[Any]]],
    initializers: list[onnx.TensorProto] | None = None,
) -> bytes:
    """An ONNX file; inputs and outputs are (element type, shape) by name."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        initializers or [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


def external(name: str, array: NDArray[Any], location: str) -> onnx.TensorProto:
    """A tensor of which the file says that its bytes are at the start of the file ``location``."""
    tensor = onnx.TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(array.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def affine(
    name: str = "affine",
    version: int = 1,
    *,
    shift: float = 0.0,
    weights_at: str | None = None,
    extra_nodes: list[onnx.NodeProto] | None = None,
    golden_offset: float = 0.0,
) -> Parts:
    """A diagonal normal law with ``log_prob`` and nothing else.

    Args:
        name: the bundle's name.
        version: its version.
        shift: the law's mean in both coordinates; makes bundles that differ.
        weights_at: where the graph says that its weights are, if not inside it; a plain file name is also written.
        extra_nodes: nodes that compute something nobody asked for.
        golden_offset: added to the golden answers; other than 0 they are wrong.
    """
    constant = -np.log(SCALE).sum() - np.log(2.0 * np.pi)
    mean = np.full(2, shift)
    initializers = [
        numpy_helper.from_array(mean, "mean") if weights_at is None else external("mean", mean, weights_at),
        numpy_helper.from_array(SCALE, "scale"),
        numpy_helper.from_array(np.array(-0.5), "half"),
        numpy_helper.from_array(np.array(constant), "constant"),
        numpy_helper.from_array(np.array([1]), "axis"),
    ]
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["z"]),
        helper.make_node("Mul", ["z", "z"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "axis"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "half"], ["exponent"]),
        helper.make_node("Add", ["exponent", "constant"], ["log_prob"]),
        *(extra_nodes or []),
    ]
    double = TensorProto.DOUBLE
    x = np.array([[0.0, 0.0], [1.0, -1.0], [0.25, 3.5], [-2.0, 7.0], [100.0, -100.0]])
    files = {
        "log_prob.onnx": graph_bytes(nodes, {"x": (double, ["n", 2])}, {"log_prob": (double, ["n"])}, initializers),
        GOLDENS: write_arrays({"log_prob.in.x": x, "log_prob.out.log_prob": log_prob_of(x, shift) + golden_offset}),
    }
    beside = weights_at is not None and "/" not in weights_at
    if beside:
        files[WEIGHTS] = mean.tobytes()
    program = {
        "step": "log_prob",
        "inputs": [{"name": "x", "dtype": "float64", "shape": [2], "source": "data"}],
        "outputs": [{"name": "log_prob", "dtype": "float64", "kind": "exact", "units": "nats"}],
    }
    return _parts(name, version, {"log_prob": program}, ["log_prob"], files, weights=WEIGHTS if beside else None)


def slow(name: str = "slow", version: int = 1, *, iterations: int = 2000) -> Parts:
    """``log_prob`` is the sum of a row, after some milliseconds an iteration that change nothing."""
    double = TensorProto.DOUBLE
    wide = np.array([2000, 2000])
    nodes = [
        helper.make_node("ConstantOfShape", ["wide"], ["zeros"], value=numpy_helper.from_array(np.zeros(1))),
        helper.make_node("EyeLike", ["zeros"], ["same"], dtype=double),
        helper.make_node("MatMul", ["x", "ones"], ["h0"]),
        *(helper.make_node("MatMul", [f"h{i}", "same"], [f"h{i + 1}"]) for i in range(iterations)),
        helper.make_node("ReduceMean", [f"h{iterations}", "axis"], ["log_prob"], keepdims=0),
    ]
    initializers = [
        numpy_helper.from_array(wide, "wide"),
        numpy_helper.from_array(np.ones((2, 2000)), "ones"),
        numpy_helper.from_array(np.array([1]), "axis"),
    ]
    x = np.array([[1.0, 2.0]])
    files = {
        "log_prob.onnx": graph_bytes(nodes, {"x": (double, ["n", 2])}, {"log_prob": (double, ["n"])}, initializers),
        GOLDENS: write_arrays({"log_prob.in.x": x, "log_prob.out.log_prob": x.sum(axis=1)}),
    }
    program = {
        "step": "log_prob",
        "inputs": [{"name": "x", "dtype": "float64", "shape": [2], "source": "data"}],
        "outputs": [{"name": "log_prob", "dtype": "float64", "kind": "exact", "units": "nats"}],
    }
    return _parts(name, version, {"log_prob": program}, ["log_prob"], files)


def counter(name: str = "counter", version: int = 1) -> Parts:
    """A step sampler with a state and an early end, and nothing else."""
    double, integer, boolean = TensorProto.DOUBLE, TensorProto.INT64, TensorProto.BOOL
    start = graph_bytes(
        [
            helper.make_node("Cast", ["seed"], ["seed_double"], to=double),
            helper.make_node("Cast", ["row"], ["row_double"], to=double),
            helper.make_node("Unsqueeze", ["seed_double", "axis"], ["seed_column"]),
            helper.make_node("Unsqueeze", ["row_double", "axis"], ["row_column"]),
            helper.make_node("Concat", ["seed_column", "row_column"], ["x"], axis=1),
        ],
        {"seed": (integer, ["n"]), "row": (integer, ["n"])},
        {"x": (double, ["n", 2])},
        [numpy_helper.from_array(np.array([1]), "axis")],
    )
    count = graph_bytes(
        [
            helper.make_node("Add", ["x", "one"], ["next_x"]),
            helper.make_node("Mod", ["row", "five"], ["last"]),
            helper.make_node("GreaterOrEqual", ["t", "last"], ["done"]),
        ],
        {"x": (double, ["n", 2]), "row": (integer, ["n"]), "t": (integer, ["n"])},
        {"next_x": (double, ["n", 2]), "done": (boolean, ["n"])},
        [numpy_helper.from_array(np.array(1.0), "one"), numpy_helper.from_array(np.array(5), "five")],
    )
    seed, row = np.array([42, 42, 0, 7, 7]), np.array([0, 1, 2, 8, 1000])
    goldens = {"sample.in.seed": seed, "sample.in.row": row, "sample.out.x": sample_of(seed, row)}
    program = {
        "init": "start",
        "step": "count",
        "inputs": [{"name": part, "dtype": "int64", "source": "address"} for part in ("seed", "row")],
        "state": [{"name": "x", "dtype": "float64", "shape": [2]}],
        "steps": {"default": 5, "allowed": [5]},
        "done": "done",
        "outputs": [{"name": "x", "dtype": "float64", "shape": [2], "kind": "sample", "units": "data"}],
    }
    files = {"start.onnx": start, "count.onnx": count, GOLDENS: write_arrays(goldens)}
    return _parts(name, version, {"sample": program}, ["start", "count"], files)


def write(root: Path, parts: Parts) -> Bundle:
    """Write a bundle as an export does."""
    return write_bundle(root, *parts)


def overwrite(root: Path, parts: Parts) -> Path:
    """Put a bundle's files where the same version lies already, as no export does; returns the folder."""
    fields, files = parts
    folder = root / fields["name"] / str(fields["version"])
    entries = {name: {"size": len(data), "sha256": sha256(data)} for name, data in files.items()}
    for old in folder.iterdir():
        old.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / MANIFEST).write_text(json.dumps({**fields, "files": entries}))
    return folder


def _parts(
    name: str,
    version: int,
    capabilities: dict[str, Any],
    graphs: list[str],
    files: dict[str, bytes],
    weights: str | None = None,
) -> Parts:
    columns = [{"name": column, "kind": "real", "base_measure": "lebesgue"} for column in ("width", "height")]
    fields = {
        "name": name,
        "version": version,
        "title": "These two numbers do not exist",
        "description": "Two numbers, for tests.",
        "family": "by-hand",
        "support": {"shape": [2], "columns": columns},
        "capabilities": capabilities,
        "refusals": dict.fromkeys((c for c in CAPABILITIES if c not in capabilities), "made by hand without it"),
        "graphs": {graph: {"file": f"{graph}.onnx"} for graph in graphs},
        "weights": weights,
        "opset": 20,
        "tools": {"onnx": onnx.__version__},
        "profile": "by hand",
        "parity": {c: {"max_abs_error": 0.0, "rtol": 1e-12, "atol": 1e-12} for c in capabilities},
        "provenance": {
            "recipe": "none",
            "data": "none",
            "data_sha256": sha256(b""),
            "folds": {},
            "commit": "unknown",
            "contains_training_rows": False,
        },
        "licence": "Apache-2.0",
    }
    return fields, {CARD: f"# {name}\n\nTwo numbers, for tests.\n".encode(), **files}
