"""A bundle's weights file, whose tensors its graphs share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from contract.errors import BundleError

__all__ = ["SharedWeights"]


class SharedWeights:
    """The tensors of a bundle's external-data file, each loaded once and given to every session that names it."""

    def __init__(self, path: Path):
        self._data = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, np.uint8)
        self._name = path.name
        self._values: dict[tuple[int, int, int, tuple[int, ...]], tuple[ort.OrtValue, NDArray[Any]]] = {}

    def of(self, graph: Path) -> Iterator[tuple[str, ort.OrtValue]]:
        """The tensors that a graph has in the file, by name.

        Raises:
            BundleError: a tensor points outside the file or to another one.
        """
        model = onnx.load(str(graph), load_external_data=False)
        for tensor in model.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                yield tensor.name, self._value(tensor)

    def _value(self, tensor: onnx.TensorProto) -> ort.OrtValue:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries.get("location") != self._name:
            raise BundleError(f"tensor {tensor.name!r} points to {entries.get('location')!r}, not to {self._name!r}")
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        shape = tuple(tensor.dims)
        if length != dtype.itemsize * int(np.prod(shape)) or not 0 <= offset <= offset + length <= self._data.size:
            raise BundleError(f"tensor {tensor.name!r} does not fit into {self._name!r}")
        key = (offset, length, tensor.data_type, shape)
        if key not in self._values:
            array = np.frombuffer(self._data[offset : offset + length].tobytes(), dtype=dtype).reshape(shape)
            # The array is kept beside the value, which may borrow its memory.
            self._values[key] = (ort.OrtValue.ortvalue_from_numpy(array), array)
        return self._values[key][0]
