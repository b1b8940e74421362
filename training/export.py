"""From a model to ONNX graphs and the programs over them.

``export_model`` writes one graph for each name of the interface (``log_prob``, ``encode``, ``decode``, ``latent``,
``sample_init``, ``sample_step``, ``sample_final``, and of what is decoded in steps ``decode_init``, ``decode_step``,
``decode_final``); ``export_score`` adds ``score``. Exporting a model twice gives the same bytes. What is exported is
not yet trusted: ``training/parity.py`` compares it with torch.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from onnxscript import opset20 as op
from torch import nn

from contract.capabilities import Capability
from contract.programs import Program, score_program
from contract.randomness import KEY
from models.base import GenerativeModel
from training.graphs import GraphModule, model_graphs, model_programs, score_graph
from training.onnx_files import WEIGHTS, clean, pack, to_bytes
from training.statistics.score import AnomalyScore

__all__ = ["OPSET", "WEIGHTS", "ExportError", "Exported", "export_graph", "export_model", "export_score"]

OPSET = 20
_TRACED_ROWS = 5  # a batch of one would be taken for a constant
_MOST_ROWS = 2**20


class ExportError(Exception):
    """A graph cannot be exported, or does not compute what the model computes."""


@dataclass(frozen=True)
class Exported:
    """A model as ONNX files, not yet verified.

    Attributes:
        graphs: bytes of each graph's file, by the graph's name.
        weights: bytes of the external-data file ``WEIGHTS`` that the graphs share, or None where none is needed.
        programs: the program of each capability.
        opset: version of the ONNX operators.
    """

    graphs: dict[str, bytes]
    weights: bytes | None
    programs: dict[Capability, Program]
    opset: int = OPSET


def export_model(model: GenerativeModel) -> Exported:
    """Export every capability that a model has by itself.

    Raises:
        ExportError: an operator has no translation, or tracing fails; names the graph.
    """
    baked = model.baked()
    graphs = {name: export_graph(name, graph) for name, graph in sorted(model_graphs(baked).items())}
    weights = pack(graphs)
    return Exported(
        graphs={name: to_bytes(graph) for name, graph in graphs.items()},
        weights=weights or None,
        programs=model_programs(model),
    )


def export_score(law: nn.Module, exported: Exported) -> Exported:
    """Add the graph and program of anomaly scores.

    The law's tensors stay inside its graph, so that a new calibration changes no other file, and moves no sample.

    Args:
        law: log_prob float64 [n] -> score float64 [n], larger means stranger; or statistics with their law.
        exported: an export, with a log_prob where it is read.

    Raises:
        ExportError: there is no log_prob, or the law cannot be exported.
    """
    log_prob = exported.programs.get("log_prob")
    listed = law if isinstance(law, AnomalyScore) else None
    if log_prob is None and (listed is None or listed.statistics.reads_log_prob):
        raise ExportError("score: the model has no log_prob to make a statistic of")
    graph = to_bytes(export_graph("score", score_graph(law.eval())))
    program = score_program(log_prob) if listed is None else listed.program(log_prob)
    return replace(
        exported,
        graphs={**exported.graphs, "score": graph},
        programs={**exported.programs, "score": program},
    )


def export_graph(name: str, graph: GraphModule) -> onnx.ModelProto:
    """Export one graph, its tensors inside it.

    Args:
        name: what to call it in errors.
        graph: the graph; every input and output has n rows.

    Raises:
        ExportError: an operator has no translation, or tracing fails, or n was taken for a constant.
    """
    rows = torch.export.Dim("n", min=1, max=_MOST_ROWS)
    try:
        with _quiet():
            program = torch.onnx.export(
                graph.eval(),
                graph.examples(_TRACED_ROWS),
                dynamo=True,
                opset_version=OPSET,
                input_names=[port.name for port in graph.ports],
                output_names=list(graph.names),
                dynamic_shapes=(tuple({0: rows} for _ in graph.ports),),
                custom_translation_table={
                    torch.ops.nonesuch.squares32.default: _squares32,
                    torch.ops.aten.scalar_tensor.default: _scalar_tensor,
                },
                verbose=False,
            )
    except Exception as error:  # the exporter wraps whatever went wrong in errors of many kinds
        raise ExportError(f"graph {name}: {error}") from error
    assert program is not None
    model = program.model_proto
    clean(model)
    for port in (*model.graph.input, *model.graph.output):
        if not port.type.tensor_type.shape.dim[0].dim_param:
            # Such as len(x) in place of x.shape[0], which makes the traced batch a constant.
            raise ExportError(f"graph {name}: the number of rows of {port.name!r} was taken for a constant")
    return model


def _squares32(counter: Any) -> Any:
    """ONNX translation of ``models.randomness.squares32``: int64 -> int64 in [0, 2**32), any shape.

    Rotation by 32 bits is a product by 2**32 plus a quotient by 2**32, and the last shift is a quotient, because the
    CUDA provider has neither shifts nor bitwise operators.
    """
    key, half = _constant(KEY), _constant(2**32)
    x = op.Mul(op.Cast(counter, to=TensorProto.UINT64), key)
    y = x
    z = op.Add(y, key)
    for add in (y, z, y):
        x = op.Add(op.Mul(x, x), add)
        x = op.Add(op.Mul(x, half), op.Div(x, half))
    x = op.Div(op.Add(op.Mul(x, x), z), half)
    return op.Cast(x, to=TensorProto.INT64)


def _scalar_tensor(s: Any, dtype: int = TensorProto.FLOAT, **_: Any) -> Any:
    """ONNX translation of a number in the model's code, in the precision that it is used in.

    The exporter's own goes through single precision: 2 pi would enter a computation in double with 24 bits.
    """
    if isinstance(s, bool | int | float):
        return _constant(s, onnx.helper.tensor_dtype_to_np_dtype(int(dtype)))
    return op.Cast(s, to=int(dtype))


def _constant(value: float, dtype: Any = np.uint64) -> Any:
    return op.Constant(value=numpy_helper.from_array(np.array(value, dtype=dtype)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's talk about itself: deprecations inside torch, packages that it would also know."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message="# The axis name: n will not be used", category=UserWarning)
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
