"""Export: the same bytes each time, nothing of this machine in them, and no mismatch gets out."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from contract.programs import State
from models.base import GenerativeModel
from models.gaussian import Gaussian
from models.made import MADE
from models.nets.lanes import row_sum
from runtime.safety import FORBIDDEN_OPS
from runtime.session import GraphSession
from tests.models.supports import pictures, table
from training.export import Exported, ExportError, export_graph, export_model, export_score
from training.graphs import GraphModule, model_graphs
from training.law import DirectionLaw, KernelLaw
from training.onnx_files import INLINE_BYTES, WEIGHTS, pack, to_bytes
from training.parity import PADDED, verify_export

ROWS = np.random.default_rng(0).normal(size=(64, 12)) * 3 + 1
PICTURES = (np.random.default_rng(0).random((64, 4, 5)) < 0.4).astype(np.uint8)


def gaussian() -> Gaussian:
    model = Gaussian(table(*["real"] * 12))
    model.fit(torch.from_numpy(ROWS))
    return model


def made() -> MADE:
    torch.manual_seed(0)
    model = MADE(pictures(4, 5), hidden=64)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module")
def made_export() -> tuple[MADE, Exported]:
    model = made()
    return model, export_model(model)


@pytest.fixture(scope="module")
def gaussian_export() -> tuple[Gaussian, Exported]:
    model = gaussian()
    return model, export_model(model)


def graph(exported: Exported, name: str) -> onnx.ModelProto:
    return onnx.load_from_string(exported.graphs[name])


def one_graph() -> dict[str, bytes]:
    """One graph of a model, packed."""
    model = export_graph("log_prob", model_graphs(gaussian().baked())["log_prob"])
    weights = pack({"log_prob": model})
    return {"log_prob": to_bytes(model), "weights": weights}


def test_another_process_exports_the_same_bytes(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "from tests.training.test_export import one_graph\n"
        "for name, data in one_graph().items():\n"
        "    open(f'{sys.argv[2]}/{name}', 'wb').write(data)\n"
    )
    root = Path(__file__).parent.parent.parent
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(root), str(tmp_path)],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == one_graph()


def test_no_path_and_no_origin_is_in_a_graph(made_export: tuple[MADE, Exported]) -> None:
    for name in made_export[1].graphs:
        model = graph(made_export[1], name)
        data = made_export[1].graphs[name]
        for word in (str(Path.cwd()), sys.prefix, ".py", "site-packages"):
            assert word.encode() not in data
        assert not model.metadata_props
        for node in model.graph.node:
            assert not node.metadata_props
            assert not node.doc_string


def test_graphs_read_what_they_use_and_are_named_as_programs_name_them(made_export: tuple[MADE, Exported]) -> None:
    ports = {
        name: (
            [port.name for port in graph(made_export[1], name).graph.input],
            [port.name for port in graph(made_export[1], name).graph.output],
        )
        for name in made_export[1].graphs
    }
    assert ports == {
        "log_prob": (["x"], ["log_prob"]),
        "sample_init": (["seed", "row"], ["address", "h", "pixels"]),
        "sample_step": (["t", "temperature", "address", "h", "pixels"], ["next_h", "next_pixels"]),
        "sample_final": (["pixels"], ["x"]),
    }
    assert made_export[1].opset == 20


def test_no_graph_draws_for_itself_shifts_or_fails_on_cuda(made_export: tuple[MADE, Exported]) -> None:
    for name in made_export[1].graphs:
        used = {node.op_type for node in graph(made_export[1], name).graph.node}
        assert not used & FORBIDDEN_OPS
        assert not {op for op in used if op.startswith("Bit")}


def test_a_tensor_that_two_graphs_use_is_stored_once(made_export: tuple[MADE, Exported]) -> None:
    model, exported = made_export
    places: dict[str, set[tuple[str, str]]] = {}
    for name in exported.graphs:
        for tensor in graph(exported, name).graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                entries = {entry.key: entry.value for entry in tensor.external_data}
                assert entries["location"] == WEIGHTS
                places.setdefault(tensor.name, set()).add((entries["offset"], entries["length"]))
            else:
                assert len(numpy_helper.to_array(tensor).tobytes()) <= INLINE_BYTES
    layers = {"module.to_hidden.weight", "module.to_logits.weight", "module.direct.weight"}
    assert {name: len(places[name]) for name in layers} == dict.fromkeys(layers, 1)
    large = sum(p.numel() * 4 for p in model.parameters() if p.numel() * 4 > INLINE_BYTES)
    assert exported.weights is not None
    assert large <= len(exported.weights) < large + 500  # alignment


def test_masks_are_baked_in(made_export: tuple[MADE, Exported]) -> None:
    for name in ("log_prob", "sample_step"):
        for tensor in graph(made_export[1], name).graph.initializer:
            assert "mask" not in tensor.name


def test_the_score_leaves_every_other_file_as_it_is(gaussian_export: tuple[Gaussian, Exported]) -> None:
    model, exported = gaussian_export
    law = KernelLaw(torch.linspace(-60, -20, 301, dtype=torch.float64))
    scored = export_score(law, exported)
    assert {name: data for name, data in scored.graphs.items() if name != "score"} == exported.graphs
    assert scored.weights == exported.weights
    assert all(t.data_location != TensorProto.EXTERNAL for t in graph(scored, "score").graph.initializer)
    program = scored.programs["score"]
    assert (program.step, program.final) == ("log_prob", "score")
    assert [(output.name, output.kind) for output in program.outputs] == [("score", "score"), ("log_prob", "statistic")]
    verified = verify_export(model, scored, ROWS, law=law)
    assert set(verified.parity) == set(scored.programs)
    assert set(verified.graphs) == set(scored.graphs)
    with pytest.raises(ExportError, match="no log_prob"):
        export_score(law, replace(exported, programs={}))


def test_exporting_again_gives_the_same_bytes(gaussian_export: tuple[Gaussian, Exported]) -> None:
    name = "latent"
    again = to_bytes(export_graph(name, model_graphs(gaussian().baked())[name]))
    assert again == gaussian_export[1].graphs[name]


def test_doubles_keep_their_digits(gaussian_export: tuple[Gaussian, Exported]) -> None:
    model, exported = gaussian_export
    parity = verify_export(model, exported, ROWS).parity
    assert parity["log_prob"].rtol == 1e-9
    assert parity["log_prob"].max_abs_error < 1e-12

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * math.pi).clamp(-1e300, 1e300)

    one = export_graph("pi", GraphModule(Constant(), "forward", [State(name="x", dtype="float64")], ["y"]))
    values = [numpy_helper.to_array(tensor).item() for tensor in one.graph.initializer]
    assert sorted(values) == [-1e300, math.pi, 1e300]


def test_made_needs_no_padding(made_export: tuple[MADE, Exported]) -> None:
    verified = verify_export(made_export[0], made_export[1], PICTURES)
    assert {entry.row_multiple for entry in verified.graphs.values()} == {1}
    assert verified.parity["sample"].max_abs_error == 0


# -- what must not get out -------------------------------------------------------------------------------------------


class Wrong(Gaussian):
    """Answers otherwise after it was exported."""

    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x) + 0.01


def test_a_mismatch_is_named_with_its_size(gaussian_export: tuple[Gaussian, Exported]) -> None:
    wrong = Wrong(table(*["real"] * 12))
    wrong.fit(torch.from_numpy(ROWS))
    with pytest.raises(ExportError, match=r"log_prob, n = 1: log_prob differs from torch by up to 0\.01"):
        verify_export(wrong, gaussian_export[1], ROWS)


def test_a_sampler_that_ignores_its_seed_is_a_mismatch(made_export: tuple[MADE, Exported]) -> None:
    model, exported = made_export
    step = graph(exported, "sample_init")
    for node in step.graph.node:
        for i, name in enumerate(node.input):
            if name == "seed":
                node.input[i] = "row"
    del step.graph.input[0]
    broken = replace(exported, graphs={**exported.graphs, "sample_init": step.SerializeToString()})
    with pytest.raises(ExportError, match=r"sample, n = 64: x differs from torch by up to 1, in \d+% of the rows"):
        verify_export(model, broken, PICTURES)


def test_graphs_and_model_must_be_the_same_set(gaussian_export: tuple[Gaussian, Exported]) -> None:
    model, exported = gaussian_export
    fewer = replace(exported, graphs={name: data for name, data in exported.graphs.items() if name != "encode"})
    with pytest.raises(ExportError, match="but the model has"):
        verify_export(model, fewer, ROWS)


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
    verified = verify_export(model, export_model(model), ROWS[:, :3])
    assert verified.graphs["log_prob"].row_multiple == PADDED


@pytest.mark.parametrize("family", [Neighbours, Unaligned])
def test_a_row_that_depends_on_its_batch_is_never_exported(family: type[Statistic]) -> None:
    model = family(table("real", "real", "real"))
    with pytest.raises(ExportError, match="graph log_prob: even with rows padded to a multiple of 16"):
        verify_export(model, export_model(model), ROWS[:, :3])


def test_a_number_of_rows_taken_for_a_constant_is_named() -> None:
    with pytest.raises(ExportError, match="log_prob"):
        export_model(FixedRows(table("real", "real", "real")))


# -- the law ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "law", [KernelLaw(torch.linspace(-60, -20, 77, dtype=torch.float64)), DirectionLaw()], ids=["kernel", "direction"]
)
def test_the_law_in_a_graph_is_the_law(law: nn.Module, tmp_path: Path) -> None:
    ports = [State(name="log_prob", dtype="float64")]
    path = tmp_path / "score.onnx"
    path.write_bytes(export_graph("score", GraphModule(law, "forward", ports, ["score"])).SerializeToString())
    values = np.concatenate([np.linspace(-100, 20, 500), [-1e30, -1e6, 1e6, 1e30, -np.inf]])
    session = GraphSession(path)
    scores = session.run({"log_prob": values})["score"]
    assert np.allclose(scores, law(torch.from_numpy(values)).numpy(), rtol=1e-12, atol=1e-12)
    for n in (1, 3, 17):
        assert session.run({"log_prob": values[:n]})["score"].tobytes() == scores[:n].tobytes()


def test_every_graph_of_a_model_runs_in_torch_by_the_same_names(made_export: tuple[MADE, Exported]) -> None:
    model, exported = made_export
    assert set(model_graphs(model)) == set(exported.graphs)
    answer = model_graphs(model)["log_prob"].run({"x": PICTURES})["log_prob"]
    assert np.array_equal(answer, model.log_prob(torch.from_numpy(PICTURES)).detach().numpy())
