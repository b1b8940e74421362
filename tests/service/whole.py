"""Bundles made by hand that between them can do all that the service offers, and one that takes its time.

``normal`` answers every question about two numbers, with a knob and a calibration. ``dots`` draws pictures of 4 x 4
dots and knows their probability. ``sleeper`` samples in as many steps as the row's number says, up to two million.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from contract.bundle import GOLDENS, write_arrays
from tests.bundles import SCALE, Parts, _parts, graph_bytes, log_prob_of, write

__all__ = ["CALIBRATION", "DOT", "code_of", "dots", "dots_of", "normal", "normal_of", "sleeper", "write_all"]

DOUBLE, INTEGER, BYTE, BOOLEAN = TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL
ADDRESS = [{"name": part, "dtype": "int64", "source": "address"} for part in ("seed", "row")]
X = {"name": "x", "dtype": "float64", "shape": [2], "source": "data"}
Z = {"name": "z", "dtype": "float64", "shape": [2], "source": "data"}
TEMPERATURE = {
    "name": "temperature",
    "dtype": "float64",
    "source": "parameter",
    "default": 1.0,
    "minimum": 0.05,
    "maximum": 10.0,
}
CODE = {
    "name": "z",
    "dtype": "float64",
    "shape": [2],
    "kind": "code",
    "units": "code",
    "description": "the row, scaled",
}
ROW = {"name": "x", "dtype": "float64", "shape": [2], "kind": "sample", "units": "data"}

CALIBRATION = np.sort(-log_prob_of(np.stack([np.linspace(-1.0, 1.0, 199), np.linspace(2.0, -2.0, 199)], axis=1)))
"""Calibration scores of ``normal``."""

DOT = 0.4
"""Probability of a dot in ``dots``."""

Numbers = NDArray[Any]


def code_of(seed: Numbers, row: Numbers, temperature: float = 1.0) -> Numbers:
    """The code that ``normal`` draws at an address, [n] and [n] -> [n, 2]; no random numbers, but different ones."""
    first = np.mod(seed * 31 + row * 7, 1009) / 1009.0
    second = np.mod(seed * 17 + row * 13, 997) / 997.0
    return (np.stack([first, second], axis=1) - 0.5) * temperature


def normal_of(seed: Numbers, row: Numbers, temperature: float = 1.0) -> Numbers:
    """The row that ``normal`` draws at an address, [n] and [n] -> [n, 2]."""
    return code_of(seed, row, temperature) * SCALE


def dots_of(seed: Numbers, row: Numbers) -> Numbers:
    """The picture that ``dots`` draws at an address, [n] and [n] -> uint8 [n, 4, 4]."""
    place = np.arange(16)
    return (np.mod((seed + row * 3)[:, None] + place * place * 5, 7) < 3).astype(np.uint8).reshape(-1, 4, 4)


def _constant(name: str, value: Any) -> Any:
    return numpy_helper.from_array(np.array(value), name)


def _node(op: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), [output], **attributes)


def normal(name: str = "normal", version: int = 1) -> Parts:
    """Two independent normal numbers with everything: latent, sample, encode, decode, log_prob and score."""
    graphs = {
        "latent": graph_bytes(
            [
                *(
                    node
                    for part, of_seed, of_row, period in (("a", "c31", "c7", "c1009"), ("b", "c17", "c13", "c997"))
                    for node in (
                        _node("Mul", f"seed {of_seed}", f"{part}1"),
                        _node("Mul", f"row {of_row}", f"{part}2"),
                        _node("Add", f"{part}1 {part}2", f"{part}3"),
                        _node("Mod", f"{part}3 {period}", f"{part}4"),
                        _node("Cast", f"{part}4", f"{part}5", to=DOUBLE),
                        _node("Cast", period, f"{part}6", to=DOUBLE),
                        _node("Div", f"{part}5 {part}6", f"{part}7"),
                        _node("Unsqueeze", f"{part}7 axis", f"{part}8"),
                    )
                ),
                _node("Concat", "a8 b8", "both", axis=1),
                _node("Sub", "both half", "centred"),
                _node("Unsqueeze", "temperature axis", "column"),
                _node("Mul", "centred column", "z"),
            ],
            {"seed": (INTEGER, ["n"]), "row": (INTEGER, ["n"]), "temperature": (DOUBLE, ["n"])},
            {"z": (DOUBLE, ["n", 2])},
            [
                *(_constant(f"c{c}", c) for c in (31, 7, 1009, 17, 13, 997)),
                _constant("half", 0.5),
                _constant("axis", [1]),
            ],
        ),
        "decode": graph_bytes(
            [_node("Mul", "z scale", "x")],
            {"z": (DOUBLE, ["n", 2])},
            {"x": (DOUBLE, ["n", 2])},
            [_constant("scale", SCALE)],
        ),
        "encode": graph_bytes(
            [_node("Div", "x scale", "z")],
            {"x": (DOUBLE, ["n", 2])},
            {"z": (DOUBLE, ["n", 2])},
            [_constant("scale", SCALE)],
        ),
        "log_prob": graph_bytes(
            [
                _node("Div", "x scale", "z"),
                _node("Mul", "z z", "squares"),
                _node("ReduceSum", "squares axis", "sum", keepdims=0),
                _node("Mul", "sum half", "exponent"),
                _node("Sub", "exponent constant", "log_prob"),
            ],
            {"x": (DOUBLE, ["n", 2])},
            {"log_prob": (DOUBLE, ["n"])},
            [
                _constant("scale", SCALE),
                _constant("half", -0.5),
                _constant("constant", np.log(SCALE).sum() + np.log(2.0 * np.pi)),
                _constant("axis", [1]),
            ],
        ),
        "score": graph_bytes(
            [_node("Neg", "log_prob", "score")], {"log_prob": (DOUBLE, ["n"])}, {"score": (DOUBLE, ["n"])}
        ),
    }
    likely = {"name": "log_prob", "dtype": "float64", "kind": "exact", "units": "nats"}
    programs = {
        "latent": {"step": "latent", "inputs": [*ADDRESS, TEMPERATURE], "outputs": [CODE]},
        "sample": {
            "init": "latent",
            "step": "decode",
            "inputs": [*ADDRESS, TEMPERATURE],
            "state": [{"name": "z", "dtype": "float64", "shape": [2]}],
            "outputs": [ROW],
        },
        "decode": {"step": "decode", "inputs": [Z], "outputs": [ROW]},
        "encode": {"step": "encode", "inputs": [X], "outputs": [CODE]},
        "log_prob": {"step": "log_prob", "inputs": [X], "outputs": [likely]},
        "score": {
            "step": "log_prob",
            "final": "score",
            "inputs": [X],
            "state": [{"name": "log_prob", "dtype": "float64"}],
            "outputs": [
                {"name": "score", "dtype": "float64", "kind": "score", "units": "nats"},
                {**likely, "kind": "statistic"},
            ],
        },
    }
    seed, row = np.array([42, 42, 0, 7, 2**53 - 1]), np.array([0, 1, 2, 8, 2**53 - 1])
    x = np.array([[0.0, 0.0], [1.0, -1.0], [0.25, 3.5], [-2.0, 7.0], [100.0, -100.0]])
    code = code_of(seed, row)
    addresses = {"in.seed": seed, "in.row": row}
    goldens = {
        "latent": {**addresses, "out.z": code},
        "sample": {**addresses, "out.x": code * SCALE},
        "decode": {"in.z": x, "out.x": x * SCALE},
        "encode": {"in.x": x, "out.z": x / SCALE},
        "log_prob": {"in.x": x, "out.log_prob": log_prob_of(x)},
        "score": {"in.x": x, "out.score": -log_prob_of(x), "out.log_prob": log_prob_of(x)},
    }
    files = {f"{graph}.onnx": data for graph, data in graphs.items()}
    files[GOLDENS] = _goldens(goldens)
    files["calibration.npz"] = write_arrays({"scores": CALIBRATION})
    fields, every = _parts(name, version, programs, list(graphs), files)
    fields["calibration"] = {
        "file": "calibration.npz",
        "n": len(CALIBRATION),
        "statistics": ["log_prob"],
        "law": "larger is stranger: minus the log-probability",
        "rows": "points near the origin",
    }
    fields["metrics"] = [
        {"name": "test_log_prob", "value": -1.5, "kind": "exact", "units": "nats", "fold": "test", "n": 100}
    ]
    return fields, every


def dots(name: str = "dots", version: int = 1, threshold: int = 3) -> Parts:
    """Binary pictures [4, 4]; ``sample`` and ``log_prob``, and no names for the columns."""
    place = np.arange(16)
    sample = graph_bytes(
        [
            _node("Mul", "row three", "rows"),
            _node("Add", "seed rows", "address"),
            _node("Unsqueeze", "address axis", "column"),
            _node("Add", "column places", "every"),
            _node("Mod", "every seven", "rest"),
            _node("Less", "rest threshold", "dot"),
            _node("Cast", "dot", "flat", to=BYTE),
            _node("Reshape", "flat shape", "x"),
        ],
        {"seed": (INTEGER, ["n"]), "row": (INTEGER, ["n"])},
        {"x": (BYTE, ["n", 4, 4])},
        [
            _constant("three", 3),
            _constant("seven", 7),
            _constant("threshold", threshold),
            _constant("axis", [1]),
            _constant("places", place * place * 5),
            _constant("shape", [-1, 4, 4]),
        ],
    )
    log_prob = graph_bytes(
        [
            _node("Cast", "x", "numbers", to=DOUBLE),
            _node("ReduceSum", "numbers axes", "count", keepdims=0),
            _node("Mul", "count odds", "dots"),
            _node("Add", "dots empty", "log_prob"),
        ],
        {"x": (BYTE, ["n", 4, 4])},
        {"log_prob": (DOUBLE, ["n"])},
        [
            _constant("axes", [1, 2]),
            _constant("odds", np.log(DOT / (1 - DOT))),
            _constant("empty", 16 * np.log(1 - DOT)),
        ],
    )
    seed, row = np.array([42, 42, 0, 7, 2**53 - 1]), np.array([0, 1, 2, 8, 2**53 - 1])
    place_of = np.mod((seed + row * 3)[:, None] + place * place * 5, 7).reshape(-1, 4, 4)
    x = (place_of < threshold).astype(np.uint8)
    likely = 16 * np.log(1 - DOT) + x.sum(axis=(1, 2)) * np.log(DOT / (1 - DOT))
    goldens = {
        "sample": {"in.seed": seed, "in.row": row, "out.x": x},
        "log_prob": {"in.x": x, "out.log_prob": likely},
    }
    programs = {
        "sample": {
            "step": "sample",
            "inputs": ADDRESS,
            "outputs": [{"name": "x", "dtype": "uint8", "shape": [4, 4], "kind": "sample", "units": "data"}],
        },
        "log_prob": {
            "step": "log_prob",
            "inputs": [{"name": "x", "dtype": "uint8", "shape": [4, 4], "source": "data"}],
            "outputs": [{"name": "log_prob", "dtype": "float64", "kind": "exact", "units": "nats"}],
        },
    }
    files = {"sample.onnx": sample, "log_prob.onnx": log_prob, GOLDENS: _goldens(goldens)}
    fields, every = _parts(name, version, programs, ["sample", "log_prob"], files)
    fields["title"] = "These dots do not exist"
    fields["support"] = {"shape": [4, 4], "element": {"name": "dot", "kind": "binary", "base_measure": "counting"}}
    return fields, every


def sleeper(name: str = "sleeper", version: int = 1) -> Parts:
    """Row r takes r + 1 steps: a request for row 1,500,000 is still running whenever a test looks."""
    start = graph_bytes(
        [
            _node("Cast", "seed", "a", to=DOUBLE),
            _node("Unsqueeze", "a axis", "b"),
            _node("Concat", "b b", "x", axis=1),
        ],
        {"seed": (INTEGER, ["n"])},
        {"x": (DOUBLE, ["n", 2])},
        [_constant("axis", [1])],
    )
    step = graph_bytes(
        [_node("Add", "x one", "next_x"), _node("GreaterOrEqual", "t row", "done")],
        {"x": (DOUBLE, ["n", 2]), "row": (INTEGER, ["n"]), "t": (INTEGER, ["n"])},
        {"next_x": (DOUBLE, ["n", 2]), "done": (BOOLEAN, ["n"])},
        [_constant("one", 1.0)],
    )
    seed, row = np.array([1, 2, 3]), np.array([0, 1, 2])
    x = np.stack([seed, seed], axis=1) + (row + 1.0)[:, None]
    program = {
        "init": "start",
        "step": "step",
        "inputs": ADDRESS,
        "state": [{"name": "x", "dtype": "float64", "shape": [2]}],
        "steps": {"default": 2_000_000, "allowed": [2_000_000]},
        "done": "done",
        "outputs": [ROW],
    }
    goldens = {"sample": {"in.seed": seed, "in.row": row, "out.x": x}}
    files = {"start.onnx": start, "step.onnx": step, GOLDENS: _goldens(goldens)}
    return _parts(name, version, {"sample": program}, ["start", "step"], files)


def write_all(root: Path) -> None:
    """A folder of bundles: all three, two of them in two versions, and a corrupt one."""
    for parts in (normal(), dots(), dots(version=2, threshold=4), sleeper()):
        write(root, parts)
    bad = write(root, normal("broken"))
    (bad.folder / "decode.onnx").write_bytes(b"not what was exported")


def _goldens(by_capability: dict[str, dict[str, Numbers]]) -> bytes:
    return write_arrays(
        {f"{capability}.{name}": v for capability, part in by_capability.items() for name, v in part.items()}
    )
