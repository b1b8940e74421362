"""ONNX graphs as files: without the exporter's noise, their large tensors in one shared file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["INLINE_BYTES", "WEIGHTS", "clean", "pack", "to_bytes"]

WEIGHTS = "weights.bin"
"""Name of the external-data file that a bundle's graphs share."""

INLINE_BYTES = 1024
"""Tensors of at most this size stay inside their graph."""

_ALIGNMENT = 64


def clean(model: onnx.ModelProto) -> None:
    """Strip, in place, what is not the graph: stack traces with paths, doc strings, names of origins, unused inputs."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.name = "graph"
    graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for parts in (graph.input, graph.initializer):
        kept = [part for part in parts if part.name in read]
        del parts[:]
        parts.extend(kept)


def pack(models: Mapping[str, onnx.ModelProto]) -> bytes:
    """Move the large tensors of all models, in place, into one file's bytes; equal tensors are stored once.

    Args:
        models: graphs by name; their order decides the file's layout.

    Returns:
        The bytes of ``WEIGHTS``; empty where no tensor is large.
    """
    blob = bytearray()
    offsets: dict[bytes, int] = {}
    for model in models.values():
        for tensor in model.graph.initializer:
            data = numpy_helper.to_array(tensor).astype(_little_endian(tensor), copy=False).tobytes()
            if len(data) <= INLINE_BYTES:
                continue
            key = hashlib.sha256(data).digest()
            if key not in offsets:
                blob.extend(bytes(-len(blob) % _ALIGNMENT))
                offsets[key] = len(blob)
                blob.extend(data)
            for field in ("raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data"):
                tensor.ClearField(field)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            del tensor.external_data[:]
            for name, value in (("location", WEIGHTS), ("offset", offsets[key]), ("length", len(data))):
                tensor.external_data.add(key=name, value=str(value))
    return bytes(blob)


def to_bytes(model: onnx.ModelProto) -> bytes:
    """The file's bytes; equal models give equal bytes."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _little_endian(tensor: onnx.TensorProto) -> np.dtype[np.generic]:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).newbyteorder("<")
