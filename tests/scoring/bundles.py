"""Bundles made by hand whose scores meet every kind of column, and rows that have none.

``table`` has columns of each kind, some of which may be missing; its score is the sum of a row's numbers, clipped
and weighted, with missing values as 0. ``few`` is the same with nine calibration rows, ``contaminated`` with some that
may be anomalies, ``labelled`` with labels, ``blocked`` with labels and in blocks. ``restless``
takes steps, and has rows that never converge and rows whose score is NaN. ``traced`` has a statistic of two numbers a
row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from contract.bundle import GOLDENS, write_arrays
from tests.bundles import Parts, _parts, graph_bytes, write

__all__ = ["CATEGORIES", "COLUMNS", "LABELLED", "WEIGHTS", "score_of", "table", "traced", "write_bundles"]

CATEGORIES = ("red", "blue", "7", "true")
COLUMNS: list[dict[str, Any]] = [
    {"name": "real", "kind": "real", "base_measure": "lebesgue"},
    {"name": "positive", "kind": "positive", "base_measure": "lebesgue", "missing_allowed": True},
    {"name": "binary", "kind": "binary", "base_measure": "counting"},
    {"name": "ordinal", "kind": "ordinal", "base_measure": "counting", "levels": 3, "missing_allowed": True},
    {"name": "count", "kind": "count", "base_measure": "counting"},
    {
        "name": "class",
        "kind": "categorical",
        "base_measure": "counting",
        "categories": list(CATEGORIES),
        "missing_allowed": True,
    },
]
WEIGHTS = np.array([0.1, 0.7, 1.3, 2.1, 0.3, 5.0])
"""Weights of the columns in the score; no sum of them is exact, so that bits show the order of additions."""

DOUBLE, INTEGER, BOOLEAN = TensorProto.DOUBLE, TensorProto.INT64, TensorProto.BOOL
_LIMIT = 1e6


def score_of(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """What ``table`` scores, up to rounding: [n, 6] -> [n]."""
    return np.clip(np.nan_to_num(x, nan=0.0), -_LIMIT, _LIMIT) @ WEIGHTS


def table(name: str = "table", version: int = 1, n: int = 199, contaminated: int = 0) -> Parts:
    """A bundle with a score alone, over columns of every kind."""
    nodes = [
        helper.make_node("IsNaN", ["x"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "x"], ["seen"]),
        helper.make_node("Clip", ["seen", "low", "high"], ["clipped"]),
        helper.make_node("Mul", ["clipped", "weights"], ["parts"]),
        helper.make_node("ReduceSum", ["parts", "axis"], ["sum"], keepdims=0),
        helper.make_node("Identity", ["sum"], ["score"]),
        helper.make_node("Neg", ["sum"], ["log_prob"]),
    ]
    constants = {"zero": np.array(0.0), "low": np.array(-_LIMIT), "high": np.array(_LIMIT), "axis": np.array([1])}
    # Row by row in columns of eight, whatever the batch: the last two weigh nothing.
    graph = graph_bytes(
        nodes,
        {"x": (DOUBLE, ["n", len(COLUMNS)])},
        {"score": (DOUBLE, ["n"]), "log_prob": (DOUBLE, ["n"])},
        [numpy_helper.from_array(value, key) for key, value in {**constants, "weights": WEIGHTS}.items()],
    )
    x = np.array([[0.5, 2.0, 1.0, 2.0, 3.0, 1.0], [-1.0, np.nan, 0.0, np.nan, 0.0, np.nan]])
    score = score_of(x)
    files = {
        "score.onnx": graph,
        GOLDENS: write_arrays({"score.in.x": x, "score.out.score": score, "score.out.log_prob": -score}),
        "calibration.npz": write_arrays({"scores": np.linspace(-5.0, 25.0, n)}),
    }
    fields, every = _parts(name, version, {"score": _program([len(COLUMNS)])}, ["score"], files)
    fields["graphs"]["score"]["alone"] = True  # such a sum moves the last place with the batch
    fields["support"] = {"shape": [len(COLUMNS)], "columns": COLUMNS}
    return {**fields, "calibration": {**_calibration(n), "contaminated": contaminated}}, every


LABELLED = {"day": np.linspace(-5.0, 12.0, 150), "few": np.linspace(0.0, 9.0, 9), "night": np.linspace(3.0, 25.0, 40)}
"""Calibration scores of ``labelled`` and ``blocked``, by label."""


def labelled(name: str = "labelled", version: int = 1, **calibration: Any) -> Parts:
    """``table`` with labels."""
    fields, files = table(name, version)
    every = np.sort(np.concatenate(list(LABELLED.values())))
    own = {f"scores.{i}": scores for i, scores in enumerate(LABELLED.values())}
    fields["calibration"] |= {
        "n": len(every),
        "labelled_by": "shift",
        "groups": [{"label": label, "n": len(scores)} for label, scores in LABELLED.items()],
    }
    return fields, {**files, "calibration.npz": write_arrays({"scores": every, **own})}


def blocked(name: str = "blocked", version: int = 1) -> Parts:
    """The same with rows in twenty blocks."""
    fields, files = labelled(name, version)
    fields["calibration"] |= {"blocks": 20, "blocked_by": "the column day"}
    for group, count in zip(fields["calibration"]["groups"], (20, 1, 12), strict=True):
        group["blocks"] = count
    return fields, files


def restless(name: str = "restless", version: int = 1) -> Parts:
    """The score is the square root of ``height``, after as many steps as ``width`` says, four at most."""
    graph = graph_bytes(
        [
            helper.make_node("Split", ["x"], ["width", "height"], axis=1, num_outputs=2),
            helper.make_node("Squeeze", ["width", "axis"], ["wanted"]),
            helper.make_node("Squeeze", ["height", "axis"], ["square"]),
            helper.make_node("Sqrt", ["square"], ["score"]),
            helper.make_node("Neg", ["score"], ["log_prob"]),
            helper.make_node("Cast", ["t"], ["steps"], to=DOUBLE),
            helper.make_node("GreaterOrEqual", ["steps", "wanted"], ["done"]),
        ],
        {"x": (DOUBLE, ["n", 2]), "t": (INTEGER, ["n"])},
        {"score": (DOUBLE, ["n"]), "log_prob": (DOUBLE, ["n"]), "done": (BOOLEAN, ["n"])},
        [numpy_helper.from_array(np.array([1]), "axis")],
    )
    program = {
        **_program([2]),
        "state": [{"name": part, "dtype": "float64"} for part in ("score", "log_prob")],
        "steps": {"default": 4, "allowed": [4]},
        "done": "done",
    }
    x = np.array([[0.0, 4.0], [3.0, 9.0]])
    score = np.array([2.0, 3.0])
    files = {
        "score.onnx": graph,
        GOLDENS: write_arrays({"score.in.x": x, "score.out.score": score, "score.out.log_prob": -score}),
        "calibration.npz": write_arrays({"scores": np.linspace(0.0, 10.0, 199)}),
    }
    fields, every = _parts(name, version, {"score": program}, ["score"], files)
    return {**fields, "calibration": _calibration(199)}, every


def traced(name: str = "traced", version: int = 1) -> Parts:
    """The score is the row's larger number; the row itself is a statistic."""
    graph = graph_bytes(
        [
            helper.make_node("ReduceMax", ["x", "axis"], ["score"], keepdims=0),
            helper.make_node("Identity", ["score"], ["log_prob"]),
            helper.make_node("Identity", ["x"], ["trace"]),
        ],
        {"x": (DOUBLE, ["n", 2])},
        {"score": (DOUBLE, ["n"]), "log_prob": (DOUBLE, ["n"]), "trace": (DOUBLE, ["n", 2])},
        [numpy_helper.from_array(np.array([1]), "axis")],
    )
    program = _program([2])
    trace = {"name": "trace", "dtype": "float64", "shape": [2], "kind": "statistic", "units": "nats"}
    program["outputs"] = [*program["outputs"], trace]
    x = np.array([[0.0, 4.0], [3.0, -9.0]])
    high = x.max(axis=1)
    outputs = {"score": high, "log_prob": high, "trace": x}
    files = {
        "score.onnx": graph,
        GOLDENS: write_arrays({"score.in.x": x, **{f"score.out.{name}": value for name, value in outputs.items()}}),
        "calibration.npz": write_arrays({"scores": np.linspace(0.0, 10.0, 199)}),
    }
    fields, every = _parts(name, version, {"score": program}, ["score"], files)
    fields["support"] = {
        "shape": [2],
        "element": {"name": "sample", "kind": "real", "base_measure": "lebesgue"},
    }
    return {**fields, "calibration": _calibration(199)}, every


def write_bundles(root: Path) -> None:
    """All of them in a folder."""
    for parts in (
        table(),
        table(version=2),
        table("few", n=9),
        table("contaminated", contaminated=10),
        labelled(),
        blocked(),
        restless(),
        traced(),
    ):
        write(root, parts)


def _program(shape: list[int]) -> dict[str, Any]:
    return {
        "step": "score",
        "inputs": [{"name": "x", "dtype": "float64", "shape": shape, "source": "data"}],
        "outputs": [
            {"name": "score", "dtype": "float64", "kind": "score", "units": "nats"},
            {"name": "log_prob", "dtype": "float64", "kind": "statistic", "units": "nats"},
        ],
    }


def _calibration(n: int) -> dict[str, Any]:
    return {
        "file": "calibration.npz",
        "n": n,
        "statistics": ["log_prob"],
        "law": "larger is stranger",
        "rows": "rows made by hand",
    }
