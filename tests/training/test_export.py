"""Export: the same bytes each time, nothing of this machine in them, and no mismatch gets out."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from contract.programs import State
from models.base import GenerativeModel
from models.gaussian import Gaussian
from models.nets.lanes import row_sum
from runtime.invariance import PADDED
from runtime.safety import FORBIDDEN_OPS
from runtime.session import GraphSession
from tests.families import trained
from tests.models.supports import table
from training.export import Exported, ExportError, export_graph, export_model, export_score
from training.graphs import GraphModule, model_graphs
from training.law import KernelLaw
from training.onnx_files import INLINE_BYTES, WEIGHTS
from training.parity import verify_export

ROWS = np.random.default_rng(0).normal(size=(64, 3)) * 3 + 1


def shipped(name: str) -> tuple[GenerativeModel, Exported]:
    """A trained family, and the export that its bundle holds, without the score."""
    family = trained(name)
    bundle = family.served.bundle
    exported = Exported(
        graphs={name: bundle.path(part.file).read_bytes() for name, part in bundle.manifest.graphs.items()},
        weights=bundle.path(WEIGHTS).read_bytes() if bundle.manifest.weights else None,
        programs=bundle.manifest.capabilities,
    )
    del exported.graphs["score"], exported.programs["score"]
    return family.model, exported


@pytest.fixture(scope="module")
def made() -> tuple[GenerativeModel, Exported]:
    return shipped("made")


@pytest.fixture(scope="module")
def gaussian() -> tuple[GenerativeModel, Exported]:
    return shipped("gaussian")


def graph(exported: Exported, name: str) -> onnx.ModelProto:
    return onnx.load_from_string(exported.graphs[name])


@pytest.mark.slow
def test_another_process_exports_the_same_bytes(gaussian: tuple[GenerativeModel, Exported], tmp_path: Path) -> None:
    script = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "from models.gaussian import Gaussian\n"
        "from tests.models.supports import table\n"
        "from training.export import export_graph\n"
        "from training.graphs import model_graphs\n"
        "from training.onnx_files import to_bytes\n"
        "graph = model_graphs(Gaussian(table('real', 'real')).baked())['latent']\n"
        "sys.stdout.buffer.write(to_bytes(export_graph('latent', graph)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(Path(__file__).parent.parent.parent)],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
    )
    assert done.stdout == gaussian[1].graphs["latent"]


def test_no_path_and_no_origin_is_in_a_graph(made: tuple[GenerativeModel, Exported]) -> None:
    for name in made[1].graphs:
        model = graph(made[1], name)
        data = made[1].graphs[name]
        for word in (str(Path.cwd()), sys.prefix, ".py", "site-packages"):
            assert word.encode() not in data
        assert not model.metadata_props
        for node in model.graph.node:
            assert not node.metadata_props
            assert not node.doc_string


def test_graphs_read_what_they_use_and_are_named_as_programs_name_them(made: tuple[GenerativeModel, Exported]) -> None:
    ports = {
        name: (
            [port.name for port in graph(made[1], name).graph.input],
            [port.name for port in graph(made[1], name).graph.output],
        )
        for name in made[1].graphs
    }
    assert ports == {
        "log_prob": (["x"], ["log_prob", "trace"]),
        "sample_init": (["seed", "row"], ["address", "h", "pixels", "held"]),
        "sample_step": (["t", "temperature", "address", "h", "pixels", "held"], ["next_h", "next_pixels"]),
        "sample_final": (["pixels"], ["x"]),
        "inpaint_init": (["x", "known", "seed", "row"], ["address", "h", "pixels", "held"]),
    }
    assert made[1].opset == 20


def test_no_graph_draws_for_itself_shifts_or_fails_on_cuda(made: tuple[GenerativeModel, Exported]) -> None:
    for name in made[1].graphs:
        used = {node.op_type for node in graph(made[1], name).graph.node}
        assert not used & FORBIDDEN_OPS
        assert not {op for op in used if op.startswith("Bit")}


def test_a_tensor_that_two_graphs_use_is_stored_once(made: tuple[GenerativeModel, Exported]) -> None:
    model, exported = made
    places: dict[str, set[tuple[str, str]]] = {}
    for name in exported.graphs:
        for tensor in graph(exported, name).graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                entries = {entry.key: entry.value for entry in tensor.external_data}
                assert entries["location"] == WEIGHTS
                places.setdefault(tensor.name, set()).add((entries["offset"], entries["length"]))
            else:
                assert len(numpy_helper.to_array(tensor).tobytes()) <= INLINE_BYTES
    layers = {"module.to_hidden.weight", "module.to_logits.weight"}
    assert {name: len(places[name]) for name in layers} == dict.fromkeys(layers, 1)
    large = sum(p.numel() * 4 for p in model.parameters() if p.numel() * 4 > INLINE_BYTES)
    assert exported.weights is not None
    assert large <= len(exported.weights) < large + 500  # alignment


def test_masks_are_baked_in(made: tuple[GenerativeModel, Exported]) -> None:
    for name in ("log_prob", "sample_step"):
        for tensor in graph(made[1], name).graph.initializer:
            assert "mask" not in tensor.name


def test_the_score_leaves_every_other_file_as_it_is(gaussian: tuple[GenerativeModel, Exported]) -> None:
    model, exported = gaussian
    rows = trained("gaussian").folds.test.rows
    law = KernelLaw(torch.linspace(-6, -1, 301, dtype=torch.float64))
    scored = export_score(law, exported)
    assert {name: data for name, data in scored.graphs.items() if name != "score"} == exported.graphs
    assert scored.weights == exported.weights
    assert all(t.data_location != TensorProto.EXTERNAL for t in graph(scored, "score").graph.initializer)
    program = scored.programs["score"]
    assert (program.step, program.final) == ("log_prob", "score")
    assert [(output.name, output.kind) for output in program.outputs] == [("score", "score"), ("log_prob", "statistic")]
    verified = verify_export(model, scored, rows, law=law)
    assert set(verified.parity) == set(scored.programs)
    assert set(verified.graphs) == set(scored.graphs)
    with pytest.raises(ExportError, match="no log_prob"):
        export_score(law, replace(exported, programs={}))


def test_doubles_keep_their_digits(gaussian: tuple[GenerativeModel, Exported]) -> None:
    model, exported = gaussian
    parity = verify_export(model, exported, trained("gaussian").folds.test.rows).parity
    assert parity["log_prob"].rtol == 1e-9
    assert parity["log_prob"].max_abs_error < 1e-12

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * math.pi).clamp(-1e300, 1e300)

    one = export_graph("pi", GraphModule(Constant(), "forward", [State(name="x", dtype="float64")], ["y"]))
    values = [numpy_helper.to_array(tensor).item() for tensor in one.graph.initializer]
    assert sorted(values) == [-1e300, math.pi, 1e300]


def test_made_needs_no_padding(made: tuple[GenerativeModel, Exported]) -> None:
    verified = verify_export(made[0], made[1], trained("made").folds.test.rows)
    assert {entry.row_multiple for entry in verified.graphs.values()} == {1}
    assert verified.parity["sample"].max_abs_error == 0


# -- what must not get out -------------------------------------------------------------------------------------------


class Wrong(Gaussian):
    """Answers otherwise after it was exported."""

    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x) + 0.01


def test_a_mismatch_is_named_with_its_size(gaussian: tuple[GenerativeModel, Exported]) -> None:
    wrong = Wrong(gaussian[0].support)
    wrong.load_state_dict(gaussian[0].state_dict())
    with pytest.raises(ExportError, match=r"log_prob, n = 1: log_prob differs from torch by up to 0\.01"):
        verify_export(wrong, gaussian[1], trained("gaussian").folds.test.rows)


def test_a_sampler_that_ignores_its_seed_is_a_mismatch(made: tuple[GenerativeModel, Exported]) -> None:
    model, exported = made
    step = graph(exported, "sample_init")
    for node in step.graph.node:
        for i, name in enumerate(node.input):
            if name == "seed":
                node.input[i] = "row"
    del step.graph.input[0]
    broken = replace(exported, graphs={**exported.graphs, "sample_init": step.SerializeToString()})
    with pytest.raises(ExportError, match=r"sample, n = 64: x differs from torch by up to 1, in \d+% of the rows"):
        verify_export(model, broken, trained("made").folds.test.rows)


def test_graphs_and_model_must_be_the_same_set(gaussian: tuple[GenerativeModel, Exported]) -> None:
    model, exported = gaussian
    fewer = replace(exported, graphs={name: data for name, data in exported.graphs.items() if name != "encode"})
    with pytest.raises(ExportError, match="but the model has"):
        verify_export(model, fewer, trained("gaussian").folds.test.rows)


class Statistic(GenerativeModel):
    """A log_prob whose kernels move the last place of some rows, unless rows come in whole vectors."""

    log_prob_kind = "unnormalised"

    @classmethod
    def accepts(cls, support: object) -> str | None:
        return None

    def log_prob(self, x: Tensor) -> Tensor:
        return row_sum(torch.log(x.square() + 1.0).sin())


class Unaligned(Statistic):
    """A log_prob that sums over rows which do not start on whole vectors: no padding of the batch can help."""

    def log_prob(self, x: Tensor) -> Tensor:
        return x.sum(dim=1)


class Neighbours(Statistic):
    """A log_prob that looks at the other rows of its batch."""

    def log_prob(self, x: Tensor) -> Tensor:
        return row_sum(x - x.mean(dim=0))


class FixedRows(Statistic):
    """A log_prob that takes the traced batch for the only one."""

    def log_prob(self, x: Tensor) -> Tensor:
        return row_sum(x) * torch.ones(len(x), dtype=torch.float64)


def test_rows_are_padded_where_a_kernel_s_tail_moves_the_last_place() -> None:
    model = Statistic(table("real", "real", "real"))
    verified = verify_export(model, export_model(model), ROWS)
    assert verified.graphs["log_prob"].row_multiple == PADDED


@pytest.mark.parametrize("family", [Neighbours, Unaligned])
def test_a_row_that_depends_on_its_batch_is_never_exported(family: type[Statistic]) -> None:
    model = family(table("real", "real", "real"))
    with pytest.raises(ExportError, match="graph log_prob: even with rows padded to a multiple of 16"):
        verify_export(model, export_model(model), ROWS)


def test_a_number_of_rows_taken_for_a_constant_is_named() -> None:
    with pytest.raises(ExportError, match="log_prob"):
        export_model(FixedRows(table("real", "real", "real")))


# -- the law ---------------------------------------------------------------------------------------------------------


def test_the_law_in_a_graph_is_the_law(tmp_path: Path) -> None:
    law = KernelLaw(torch.linspace(-60, -20, 77, dtype=torch.float64))
    ports = [State(name="log_prob", dtype="float64")]
    path = tmp_path / "score.onnx"
    path.write_bytes(export_graph("score", GraphModule(law, "forward", ports, ["score"])).SerializeToString())
    values = np.concatenate([np.linspace(-100, 20, 500), [-1e30, -1e6, 1e6, 1e30, -np.inf]])
    session = GraphSession(path)
    scores = session.run({"log_prob": values})["score"]
    assert np.allclose(scores, law(torch.from_numpy(values)).numpy(), rtol=1e-12, atol=1e-12)
    for n in (1, 3, 17):
        assert session.run({"log_prob": values[:n]})["score"].tobytes() == scores[:n].tobytes()


def test_every_graph_of_a_model_runs_in_torch_by_the_same_names(made: tuple[GenerativeModel, Exported]) -> None:
    model, exported = made
    assert set(model_graphs(model)) == set(exported.graphs)
    x = trained("made").folds.test.rows
    answer = model_graphs(model)["log_prob"].run({"x": x})["log_prob"]
    assert np.array_equal(answer, cast(Any, model).log_prob(torch.from_numpy(x)).numpy())
