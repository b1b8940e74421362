"""``nonesuch pack``: ONNX files of any origin become bundles that a real server serves."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from commands.main import main
from contract.bundle import open_bundle
from contract.capabilities import CAPABILITIES
from runtime.loop import run_program
from runtime.model import load_model
from tests.bundles import graph_bytes
from tests.service.server_process import serving

FLOAT, DOUBLE, INTEGER = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: Any) -> Done:
    out, err = io.StringIO(), io.StringIO()
    command = ["pack", *map(str, arguments)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["nonesuch", *command])  # the bundle says which command made it
        with pytest.raises(SystemExit) as ended:
            main(command)
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def packed(*arguments: Any) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def refused(*arguments: Any) -> str:
    done = run(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def normal(kind: int, *, flat: bool = True, rows: Any = "n", extra: list[Any] | None = None) -> bytes:
    """log N(row; 0, I) over three columns; of shape [n], or [n, 1]."""
    dtype = {FLOAT: np.float32, DOUBLE: np.float64}[kind]
    constant = -1.5 * np.log(2 * np.pi)
    nodes = [
        helper.make_node("Mul", ["values", "values"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "axis"], ["sum"], keepdims=0 if flat else 1),
        helper.make_node("Mul", ["sum", "half"], ["exponent"]),
        helper.make_node("Add", ["exponent", "constant"], ["density"]),
        helper.make_node("Identity", ["sum"], ["distance"]),
        *(extra or []),
    ]
    constants = {"axis": np.array([1]), "half": np.array(-0.5, dtype), "constant": np.array(constant, dtype)}
    shape = [rows] if flat else [rows, 1]
    return graph_bytes(
        nodes,
        {"values": (kind, [rows, 3])},
        {"density": (kind, shape), "distance": (kind, shape)},
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )


ROWS = np.random.default_rng(0).normal(size=(200, 3))


@pytest.mark.parametrize(("kind", "flat"), [(FLOAT, True), (DOUBLE, True), (FLOAT, False)])
def test_a_file_becomes_a_bundle_with_the_file_s_own_numbers(tmp_path: Path, kind: int, flat: bool) -> None:
    source = tmp_path / "My_Normal.onnx"
    source.write_bytes(normal(kind, flat=flat))
    told = packed(source, "--kind", "exact", "--output", "density", "--columns", "a,b,c", "--out", tmp_path / "bundles")
    assert "distance" in told
    assert "dropped" in told
    bundle = open_bundle(tmp_path / "bundles" / "my-normal" / "1")
    assert [column.name for column in bundle.manifest.support.columns or ()] == ["a", "b", "c"]
    assert set(bundle.manifest.refusals) == set(CAPABILITIES) - {"log_prob"}
    assert "My_Normal.onnx --kind exact" in bundle.manifest.provenance.recipe
    ours = run_program(load_model(bundle), "log_prob", {"x": ROWS})["log_prob"]
    session = ort.InferenceSession(source)
    values = ROWS.astype(np.float32 if kind == FLOAT else np.float64)
    # A row at a time: in double, sums over rows round by where in memory a row lies, and the bundle knows.
    theirs = np.concatenate([session.run(["density"], {"values": row[None]})[0].reshape(-1) for row in values])
    assert bundle.manifest.graphs["log_prob"].alone == (kind == DOUBLE)
    assert ours.dtype == np.float64
    assert np.array_equal(ours, theirs.astype(np.float64))
    # Again is a new version.
    packed(source, "--kind", "exact", "--output", "density", "--out", tmp_path / "bundles")
    assert (tmp_path / "bundles" / "my-normal" / "2").is_dir()


def test_it_is_served_and_scores_by_the_rows_given(tmp_path: Path) -> None:
    source = tmp_path / "normal.onnx"
    source.write_bytes(normal(FLOAT))
    np.save(tmp_path / "ordinary.npy", ROWS)
    flags = ["--kind", "exact", "--output", "density", "--calibration", tmp_path / "ordinary.npy"]
    packed(source, *flags, "--ordinary", "standard normals", "--out", tmp_path / "bundles")
    with serving(tmp_path / "bundles") as server, server.client() as client:
        answer = client.post("/anomaly-score", json={"model": "normal", "rows": [[0, 0, 0], [9, 9, 9]]}).json()
        assert answer["is_anomaly"] == [False, True]
        assert answer["n_calibration"] == 200
        assert answer["ordinary_rows"] == "standard normals"
        assert answer["p_value"][1] == pytest.approx(1 / 201)
        refusal = client.post("/sample", json={"model": "normal"}).json()
        assert refusal["status"] == 409
        assert "packed from ONNX files" in refusal["detail"]


SAMPLER = """
name: steps
title: This walk does not exist
support:
  shape: [2]
  columns:
    - {name: a, kind: real, base_measure: lebesgue}
    - {name: b, kind: real, base_measure: lebesgue}
graphs:
  start: {file: start.onnx, outputs: {begin: x}}
  walk: {file: walk.onnx, inputs: {state: x}, outputs: {after: next_x}}
capabilities:
  sample:
    init: start
    step: walk
    inputs:
      - {name: seed, dtype: int64, source: address}
      - {name: row, dtype: int64, source: address}
    state: [{name: x, dtype: float64, shape: [2]}]
    steps: {default: 3, maximum: 10}
    outputs: [{name: x, dtype: float64, shape: [2], kind: sample, units: data}]
refusals: {log_prob: "a walk has no density that anybody wrote down"}
"""


def sampler(folder: Path) -> Path:
    start = graph_bytes(
        [
            helper.make_node("Cast", ["seed"], ["s"], to=FLOAT),
            helper.make_node("Cast", ["row"], ["r"], to=FLOAT),
            helper.make_node("Unsqueeze", ["s", "one"], ["s1"]),
            helper.make_node("Unsqueeze", ["r", "one"], ["r1"]),
            helper.make_node("Concat", ["s1", "r1"], ["begin"], axis=1),
        ],
        {"seed": (INTEGER, ["n"]), "row": (INTEGER, ["n"])},
        {"begin": (FLOAT, ["n", 2])},
        [numpy_helper.from_array(np.array([1]), "one")],
    )
    walk = graph_bytes(
        [helper.make_node("Add", ["state", "half"], ["after"])],
        {"state": (FLOAT, ["n", 2])},
        {"after": (FLOAT, ["n", 2])},
        [numpy_helper.from_array(np.array(0.5, np.float32), "half")],
    )
    (folder / "start.onnx").write_bytes(start)
    (folder / "walk.onnx").write_bytes(walk)
    (folder / "spec.yaml").write_text(SAMPLER)
    return folder / "spec.yaml"


def test_a_yaml_describes_a_sampler_with_steps(tmp_path: Path) -> None:
    packed(sampler(tmp_path), "--out", tmp_path / "bundles")
    with serving(tmp_path / "bundles") as server, server.client() as client:
        body = {"model": "steps", "n": 2, "seed": 5, "parameters": {"steps": [1, 4]}}
        assert client.post("/sample", json=body).json()["rows"] == [[5.5, 0.5], [7.0, 3.0]]
        assert "nobody" in client.post("/sample", json={"model": "steps", "parameters": {"nobody": 1}}).text
        assert (
            "anybody wrote down" in client.post("/log_prob", json={"model": "steps", "rows": [[0, 0]]}).json()["detail"]
        )


def test_what_a_file_keeps_beside_it_is_taken_in(tmp_path: Path) -> None:
    model = onnx.load_from_string(normal(DOUBLE, extra=[helper.make_node("Add", ["sum", "many"], ["unused"])]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1), "many"))
    wide = numpy_helper.from_array(np.zeros((3000,)), "wide")
    model.graph.initializer.append(wide)
    onnx.save(model, tmp_path / "normal.onnx", save_as_external_data=True, location="normal.data", size_threshold=0)
    assert (tmp_path / "normal.data").exists()
    packed(tmp_path / "normal.onnx", "--kind", "exact", "--output", "density", "--out", tmp_path / "bundles")
    (tmp_path / "normal.data").unlink()
    bundle = open_bundle(tmp_path / "bundles" / "normal" / "1")
    assert np.isfinite(run_program(load_model(bundle), "log_prob", {"x": ROWS[:5]})["log_prob"]).all()


def test_what_cannot_be_packed_is_said_in_one_line(tmp_path: Path) -> None:
    out, source = ["--out", tmp_path / "bundles"], tmp_path / "model.onnx"
    assert "no such file" in refused(tmp_path / "nothing.onnx", "--kind", "exact", *out)
    source.write_bytes(b"not a model")
    assert "model.onnx" in refused(source, "--kind", "exact", *out)
    source.write_bytes(normal(FLOAT, rows=8))
    assert "the first dimension of 'values' is 8" in refused(source, "--kind", "exact", *out)
    source.write_bytes(normal(FLOAT))
    assert "--kind: say what the numbers are" in refused(source, "--output", "density", *out)
    assert "--output" in refused(source, "--kind", "exact", *out)
    assert "has no output 'nope'" in refused(source, "--kind", "exact", "--output", "nope", *out)
    assert "2 names, but rows have 3" in refused(
        source, "--kind", "exact", "--output", "density", "--columns", "a,b", *out
    )
    assert "kind" in refused(source, "--kind", "certain", "--output", "density", *out)
    noisy = [
        helper.make_node("RandomNormalLike", ["sum"], ["noise"]),
        helper.make_node("Add", ["sum", "noise"], ["off"]),
    ]
    source.write_bytes(normal(FLOAT, extra=noisy))
    assert "RandomNormalLike is forbidden" in refused(source, "--kind", "exact", "--output", "density", *out)
    mean = [
        helper.make_node("ReduceMean", ["sum"], ["m"], keepdims=0),
        helper.make_node("Add", ["density", "m"], ["mixed"]),
    ]
    model = onnx.load_from_string(normal(DOUBLE, extra=mean))
    model.graph.output.append(helper.make_tensor_value_info("mixed", DOUBLE, ["n"]))
    source.write_bytes(model.SerializeToString())
    assert "no row of it has an answer of its own" in refused(source, "--kind", "exact", "--output", "mixed", *out)
    (tmp_path / "rows.csv").write_text("x0,x1,x2\n1,2,three\n")
    flags = ["--kind", "exact", "--output", "density", "--rows", tmp_path / "rows.csv", *out]
    source.write_bytes(normal(FLOAT))
    assert "row 0, column 'x2'" in refused(source, *flags)
    spec = sampler(tmp_path)
    spec.write_text(SAMPLER.replace("inputs: {state: x}", "inputs: {stat: x}"))
    assert "walk.onnx has no 'stat'" in refused(spec, *out)
    spec.write_text(SAMPLER.replace("default: 3", "default: 30"))
    assert "steps" in refused(spec, *out)
    spec.write_text(SAMPLER + "\nmore: 1\n")
    assert "more" in refused(spec, *out)
    assert not (tmp_path / "bundles").exists()
