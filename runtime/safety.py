"""What a graph may contain: checked on the file, before any session sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from contract.bundle import Bundle
from contract.errors import BundleError

__all__ = ["FORBIDDEN_OPS", "check_graphs"]

FORBIDDEN_OPS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
"""Ops that draw numbers of their own, so that an address would not name its sample."""

_DOMAINS = frozenset({"", "ai.onnx"})


def check_graphs(bundle: Bundle) -> None:
    """Check every graph of a bundle.

    Raises:
        BundleError: a file that is no ONNX model, a forbidden op (in a subgraph or a function too), an op of another
            domain than ONNX's own, or a tensor stored outside the bundle's weights file.
    """
    for name, entry in bundle.manifest.graphs.items():
        where = f"{bundle.folder}: graph {name} ({entry.file})"
        try:
            model = onnx.load(str(bundle.path(entry.file)), load_external_data=False)
        except Exception as error:  # protobuf's DecodeError has no stable public home
            raise BundleError(f"{where}: not an ONNX model: {error}") from None
        for node in _nodes(model):
            if node.op_type in FORBIDDEN_OPS:
                raise BundleError(f"{where}: the op {node.op_type} is forbidden: randomness must come from the address")
            if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
                raise BundleError(f"{where}: Dropout with a training mode is forbidden: it draws its own numbers")
            if node.domain not in _DOMAINS and not _is_local(model, node):
                raise BundleError(f"{where}: the op {node.domain}.{node.op_type} is not one of ONNX's own")
        for tensor in _tensors(model):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
                if location != bundle.manifest.weights:
                    raise BundleError(
                        f"{where}: the tensor {tensor.name!r} is stored in {location!r}, "
                        f"not in the bundle's weights file {bundle.manifest.weights!r}"
                    )


def _is_local(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    return any(function.domain == node.domain and function.name == node.op_type for function in model.functions)


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from _walk(model.graph.node)
    for function in model.functions:
        yield from _walk(function.node)


def _walk(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _walk(graph.node)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(model.graph)
    for node in _nodes(model):
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            yield attribute.sparse_tensor.values
            for graph in (attribute.g, *attribute.graphs):
                yield from _graph_tensors(graph)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
