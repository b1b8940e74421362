"""Any ONNX graph under the contract's names, types and shapes.

A graph is wrapped, never changed: its inputs and outputs get the contract's names, a cast where it computes in another
precision than tables have, and a squeeze where it gives [n, 1] for [n].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, compose, helper

from contract.errors import BundleError

__all__ = ["Port", "ports", "wrap"]

_DTYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8",
    TensorProto.BOOL: "bool",
}
_TYPES: dict[str, int] = {name: number for number, name in _DTYPES.items()}


@dataclass(frozen=True)
class Port:
    """An input or output of a graph: its name, type, and shape per row."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def ports(path: Path) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs of an ONNX file.

    Raises:
        BundleError: no ONNX file, a type that the contract does not know, or a first dimension that is not free.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except FileNotFoundError:
        raise BundleError(f"{path}: no such file") from None
    except Exception as error:  # protobuf's DecodeError has no stable public home
        raise BundleError(f"{path}: not an ONNX file: {error}") from None
    inner = {tensor.name for tensor in model.graph.initializer}
    given = [_port(path, value) for value in model.graph.input if value.name not in inner]
    return given, [_port(path, value) for value in model.graph.output]


def _port(path: Path, value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    kind = _DTYPES.get(tensor.elem_type)
    if kind is None:
        name = TensorProto.DataType.Name(tensor.elem_type)
        raise BundleError(f"{path}: {value.name!r} is {name}; expected one of {', '.join(_TYPES)}")
    dims = list(tensor.shape.dim)
    if not dims or dims[0].HasField("dim_value"):
        size = dims[0].dim_value if dims else "none"
        raise BundleError(
            f"{path}: the first dimension of {value.name!r} is {size}; expected a free one, the number of rows: export "
            "the model with a dynamic batch"
        )
    for place, dim in enumerate(dims[1:], start=1):
        if not dim.HasField("dim_value") or dim.dim_value < 1:
            raise BundleError(f"{path}: dimension {place} of {value.name!r} is free; only the first one may be")
    return Port(value.name, kind, tuple(dim.dim_value for dim in dims[1:]))


def wrap(path: Path, inputs: Mapping[str, Port], outputs: Mapping[str, Port]) -> bytes:
    """A graph under the contract's names, types and shapes.

    Args:
        path: an ONNX file; what it keeps in files beside it is read from its folder and taken in.
        inputs: what the contract wants by the file's names; every input of the file.
        outputs: the same of the outputs that are kept.

    Returns:
        The bytes of an ONNX file.

    Raises:
        BundleError: a shape does not fit, or external data lie outside the file's folder.
    """
    taken, given = ports(path)
    try:
        inner = compose.add_prefix(onnx.load(str(path)), "inner/")
    except Exception as error:  # onnx's checkers raise errors of many kinds
        raise BundleError(f"{path}: cannot be read whole: {error}") from None
    before, after = [], []
    for port in taken:
        wanted = inputs[port.name]
        if wanted.shape != port.shape:
            raise BundleError(
                f"{path}: {port.name!r} takes rows of shape {list(port.shape)}, but {wanted.name!r} has "
                f"{list(wanted.shape)}"
            )
        before.append(helper.make_node("Cast", [wanted.name], [f"inner/{port.name}"], to=_TYPES[port.dtype]))
    for port in given:
        if port.name not in outputs:
            continue
        wanted, source = outputs[port.name], f"inner/{port.name}"
        if port.shape == (1,) and wanted.shape == ():
            after.append(helper.make_node("Squeeze", [source, "outer/axis"], [f"{source}/flat"]))
            source = f"{source}/flat"
        elif wanted.shape != port.shape:
            raise BundleError(
                f"{path}: {port.name!r} gives rows of shape {list(port.shape)}, but {wanted.name!r} has "
                f"{list(wanted.shape)}"
            )
        after.append(helper.make_node("Cast", [source], [wanted.name], to=_TYPES[wanted.dtype]))
    graph = inner.graph
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "outer/axis"))
    graph.input.extend(_value(inputs[port.name]) for port in taken)
    graph.output.extend(_value(wanted) for wanted in outputs.values())
    for opset in inner.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version < 13:
            raise BundleError(
                f"{path}: opset {opset.version}; expected 13 or later: convert it with onnx.version_converter"
            )
    data: bytes = inner.SerializeToString()
    return data


def _value(port: Port) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(port.name, _TYPES[port.dtype], ["n", *port.shape])
