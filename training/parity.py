"""Does what was exported compute what the model computes, and does a row's answer ignore its neighbours?

Every program is run through the runtime at n = 1, 3 and 64 and compared with torch; every graph is run on parts of a
batch and compared with the whole, bit for bit. A mismatch is an error: nothing wrong is ever written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from contract.capabilities import CAPABILITIES, Capability
from contract.manifest import Graph, Parity
from contract.programs import KNOWN, Program, ProgramInput
from models.base import GenerativeModel
from models.protocols import HasStepDecoder
from runtime.goldens import mismatch, some_known
from runtime.invariance import ROWS, DependsOnBatchError, find_row_multiple
from runtime.rows import Rows
from runtime.session import GraphSession
from runtime.weights import SharedWeights
from training.export import Exported, ExportError
from training.graphs import GraphModule, model_graphs, score_graph
from training.onnx_files import WEIGHTS

__all__ = ["Verified", "graph_file", "verify_export"]

_BATCHES = {1: [7], 3: [7, 0, 63], ROWS: list(range(ROWS))}

# Largest difference, relative to the value and to the output's size: programs in double throughout, and others.
_DOUBLE, _SINGLE = 1e-9, 1e-4
# A score is steep in the log-probability.
_SCORE = 1e-3
# Rows of a discrete chain part ways for good where a uniform falls between two chances that differ in their last place.
_DISCRETE_ROWS = 0.05
_DISCRETE_GOLDENS = 0.2
# A value that is rounded to one of many levels is now and then rounded to its neighbour.
_ROUNDED_VALUES = 0.01

Env = dict[str, NDArray[Any]]


class _Runs(Protocol):
    def run(self, env: Mapping[str, NDArray[Any]]) -> Env: ...


@dataclass(frozen=True)
class Verified:
    """What an export was found to be.

    Attributes:
        graphs: entries of the manifest, by the graph's name, with the row multiple that was measured.
        parity: figures and tolerances of the manifest, by capability.
    """

    graphs: dict[str, Graph]
    parity: dict[Capability, Parity]


def graph_file(name: str) -> str:
    """Name of a graph's file in a bundle."""
    return f"{name}.onnx"


def verify_export(
    model: GenerativeModel, exported: Exported, rows: NDArray[Any], *, law: nn.Module | None = None
) -> Verified:
    """Compare an export with the model that it came from.

    Args:
        model: the model.
        exported: its export, with ``score`` if a law is given.
        rows: data rows to ask about, [n, *shape] of the support's dtype; 64 different ones are best.
        law: the module that ``export_score`` was given.

    Raises:
        ExportError: an answer is off, or a row's answer depends on its batch; names the capability or graph, n, and
            the largest difference.
    """
    model = model.eval()
    torch_graphs: dict[str, GraphModule] = model_graphs(model)
    if law is not None:
        torch_graphs["score"] = score_graph(law.eval())
    if set(torch_graphs) != set(exported.graphs):
        raise ExportError(f"exported {sorted(exported.graphs)}, but the model has {sorted(torch_graphs)}")
    with tempfile.TemporaryDirectory() as folder:
        sessions = _open(exported, Path(folder))
        truth: dict[Capability, Env] = {}
        asked: dict[Capability, Env] = {}
        seen: dict[str, list[Env]] = {name: [] for name in torch_graphs}
        codes: NDArray[Any] | None = None
        for capability in _in_order(exported):
            program = exported.programs[capability]
            asked[capability] = _questions(program, rows, codes)
            truth[capability] = _run(program, torch_graphs, asked[capability], seen)
            codes = truth[capability].get("z", codes)
        for name, session in sessions.items():
            session.row_multiple = _row_multiple(name, session, seen[name])
        parity = {
            capability: _parity(
                capability,
                program,
                sessions,
                asked[capability],
                truth[capability],
                exported,
                rounded=_rounded(model, capability, program),
            )
            for capability, program in exported.programs.items()
        }
    graphs = {name: Graph(file=graph_file(name), row_multiple=sessions[name].row_multiple) for name in sessions}
    return Verified(graphs=graphs, parity=parity)


def _open(exported: Exported, folder: Path) -> dict[str, GraphSession]:
    weights = None
    if exported.weights is not None:
        (folder / WEIGHTS).write_bytes(exported.weights)
        weights = SharedWeights(folder / WEIGHTS)
    sessions: dict[str, GraphSession] = {}
    for name, data in exported.graphs.items():
        path = folder / graph_file(name)
        path.write_bytes(data)
        sessions[name] = GraphSession(path, weights=weights)
    return sessions


def _in_order(exported: Exported) -> list[Capability]:
    """The capabilities; those that are asked about codes come after those that give codes."""
    present = [name for name in CAPABILITIES if name in exported.programs]
    asks = {name: exported.programs[name].data_input for name in present}
    return sorted(present, key=lambda name: (part := asks[name]) is not None and part.name == "z")


def _questions(program: Program, rows: NDArray[Any], codes: NDArray[Any] | None) -> Env:
    """64 rows of inputs: the data in turn, rows 0 ... 63 of a seed, parameters at two values each."""
    inputs: Env = {}
    for part in program.inputs:
        if part.source == "address":
            if program.data_input is None:
                inputs[part.name] = np.arange(ROWS) if part.name == "row" else np.full(ROWS, 42)
        elif part.source == "data" and part.name == KNOWN:
            inputs[part.name] = some_known(ROWS, part.shape)
        elif part.source == "data" and part.name == "x":
            inputs[part.name] = rows[np.arange(ROWS) % len(rows)]
        elif part.source == "data":
            assert codes is not None, "codes are asked for after latent or encode has given some"
            inputs[part.name] = codes
        elif part.source == "parameter":
            inputs[part.name] = _values(part)
        elif part.vocabulary is not None:
            inputs[part.name] = np.arange(ROWS) % (len(part.vocabulary) + (part.default is not None))
    return inputs


def _values(part: ProgramInput) -> NDArray[Any]:
    assert part.default is not None
    other = part.default
    if part.minimum is not None and part.maximum is not None:
        other = (part.minimum * part.maximum) ** 0.5 if part.minimum > 0 else (part.minimum + part.maximum) / 2
    shape = (ROWS, *(1 for _ in part.shape))
    alternating = np.where(np.arange(ROWS) % 2, other, part.default).reshape(shape)
    return np.broadcast_to(alternating, (ROWS, *part.shape)).astype(part.dtype)


def _run(program: Program, graphs: Mapping[str, _Runs], inputs: Env, seen: dict[str, list[Env]] | None = None) -> Env:
    """Run a program, and note what each graph was fed: all of it, but of a chain the ends and the middle."""
    walk = Rows(program, inputs)
    noted = {0, program.steps.default // 2, program.steps.default - 1}
    t = 0
    while (graph := walk.graph) is not None:
        feeds = walk.feeds()
        if seen is not None and (graph != program.step or t in noted):
            seen[graph].append({name: array.copy() for name, array in feeds.items()})
        t += graph == program.step
        walk.accept(graphs[graph].run(feeds))
    return walk.result()


def _row_multiple(name: str, session: GraphSession, seen: list[Env]) -> int:
    try:
        return find_row_multiple(session, seen)
    except DependsOnBatchError as error:
        raise ExportError(f"graph {name}: {error}") from None


def _parity(
    capability: Capability,
    program: Program,
    sessions: Mapping[str, GraphSession],
    inputs: Env,
    truth: Env,
    exported: Exported,
    *,
    rounded: bool,
) -> Parity:
    rtol = _SCORE if capability == "score" else _SINGLE
    if not any(_in_single(exported.graphs[name]) for name in program.graphs):
        rtol = _DOUBLE
    atol = rtol * max(_size(value) for value in truth.values())
    worst, discrete = 0.0, False
    whole = _run(program, sessions, inputs)
    for n, rows in _BATCHES.items():
        answers = _run(program, sessions, {name: array[rows] for name, array in inputs.items()})
        for name, answer in answers.items():
            if answer.tobytes() != np.ascontiguousarray(whole[name][rows]).tobytes():
                raise ExportError(f"{capability}, n = {n}: {name} is not the same as among {ROWS} rows")
            wanted = truth[name][rows]
            if answer.shape != wanted.shape or answer.dtype != wanted.dtype:
                raise ExportError(
                    f"{capability}, n = {n}: {name} is {answer.dtype}{list(answer.shape)}, "
                    f"in torch {wanted.dtype}{list(wanted.shape)}"
                )
            with np.errstate(invalid="ignore"):
                difference = np.abs(answer.astype(np.float64) - wanted.astype(np.float64))
            # Equal infinities differ by NaN, and so do missing values: whether they are the same ones is asked below.
            most = float(np.nanmax(difference, initial=0.0))
            off = f"{capability}, n = {n}: {name} differs from torch by up to {most:.3g}"
            if answer.dtype.kind == "f":
                if not np.allclose(answer, wanted, rtol=rtol, atol=atol, equal_nan=True):
                    raise ExportError(f"{off} (rtol {rtol:g}, atol {atol:g})")
            elif n == ROWS:
                discrete = True
                share, values = mismatch(answer, wanted, rounded=rounded)
                if share > _DISCRETE_ROWS:
                    raise ExportError(f"{off}, in {share:.0%} of the rows")
                if rounded and values > _ROUNDED_VALUES:
                    raise ExportError(f"{off}, in {values:.1%} of the values")
            worst = max(worst, most)
    return Parity(
        max_abs_error=worst,
        rtol=rtol,
        atol=atol,
        max_row_mismatch=_DISCRETE_GOLDENS if discrete else 0.0,
        max_rounded_mismatch=_ROUNDED_VALUES if discrete and rounded else 0.0,
    )


def _rounded(model: GenerativeModel, capability: Capability, program: Program) -> bool:
    """Whether an answer in levels is rounded once, at the end, and not drawn level by level."""
    element = model.support.element
    decoded = isinstance(model, HasStepDecoder) and capability in ("decode", "sample")
    at_once = program.steps.allowed == (1,) or decoded
    return at_once and element is not None and (element.levels or 2) > 2


def _size(values: NDArray[Any]) -> float:
    """Root mean square of the output, coordinate by coordinate, over what is finite; the largest one."""
    finite = np.isfinite(values)
    squares = np.square(np.where(finite, values, 0).astype(np.float64)).sum(axis=0)
    return float(np.sqrt(squares / np.maximum(finite.sum(axis=0), 1)).max())


def _in_single(data: bytes) -> bool:
    """Whether a graph computes anything in single precision."""
    model = onnx.load_from_string(data)
    single = onnx.TensorProto.FLOAT
    casts = (a.i for node in model.graph.node if node.op_type == "Cast" for a in node.attribute if a.name == "to")
    ports = (port.type.tensor_type.elem_type for port in (*model.graph.input, *model.graph.output))
    return single in {*casts, *ports, *(tensor.data_type for tensor in model.graph.initializer)}
