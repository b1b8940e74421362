"""One ONNX Runtime session a graph, set up so that a row's bits do not depend on its batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from contract.errors import BundleError
from contract.programs import NEXT

__all__ = ["PROVIDERS", "GraphSession", "SharedWeights"]

PROVIDERS: dict[str, list[Any]] = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": [
        (
            "CUDAExecutionProvider",
            {
                "use_tf32": "0",  # densities need all 24 bits
                "cudnn_conv_algo_search": "HEURISTIC",  # the exhaustive search costs seconds per new shape
                "arena_extend_strategy": "kSameAsRequested",
            },
        ),
        "CPUExecutionProvider",
    ],
}
"""Providers by the name that the settings use."""

_DTYPES = {
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


class SharedWeights:
    """The tensors of a bundle's external-data file, each loaded once and given to every session that names it."""

    def __init__(self, path: Path):
        self._data = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, np.uint8)
        self._name = path.name
        self._values: dict[tuple[int, int, int, tuple[int, ...]], tuple[ort.OrtValue, NDArray[Any]]] = {}

    def value(self, tensor: onnx.TensorProto) -> ort.OrtValue:
        """The tensor's value.

        Raises:
            BundleError: the tensor points outside the file or to another one.
        """
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


class GraphSession:
    """A graph, ready to run over rows.

    Attributes:
        inputs: dtype by name of what the graph reads from a row's environment.
        outputs: names that it writes there, without the prefix of an updated state.
        row_multiple: rows are padded to a multiple of this.
        alone: rows run one at a time.
    """

    def __init__(
        self,
        path: Path,
        *,
        row_multiple: int = 1,
        alone: bool = False,
        weights: SharedWeights | None = None,
        provider: str = "cpu",
    ):
        options = ort.SessionOptions()
        # One thread: two split the work by batch size and so move the last place. Parallelism comes across batches.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False  # the arena never shrinks, and is no faster here
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        model = onnx.load(str(path), load_external_data=False)
        self._keep = weights
        for tensor in model.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                if weights is None:
                    raise BundleError(
                        f"{path.name}: tensor {tensor.name!r} is external, but the manifest has no weights"
                    )
                options.add_initializer(tensor.name, weights.value(tensor))
        if provider == "cuda":
            ort.preload_dlls(directory="")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=PROVIDERS[provider])
        except Exception as error:  # ONNX Runtime raises a family of its own without a common public base
            raise BundleError(f"{path.name}: ONNX Runtime cannot load it: {error}") from error
        wanted = PROVIDERS[provider][0]
        wanted = wanted if isinstance(wanted, str) else wanted[0]
        if self._session.get_providers()[0] != wanted:
            raise BundleError(f"{path.name}: asked for {wanted}, got {self._session.get_providers()[0]}")
        self.inputs: dict[str, np.dtype[Any]] = {}
        for node in self._session.get_inputs():
            if node.type not in _DTYPES:
                raise BundleError(f"{path.name}: input {node.name!r} has the unsupported type {node.type}")
            self.inputs[node.name] = np.dtype(_DTYPES[node.type])
        self._output_names = [node.name for node in self._session.get_outputs()]
        self.outputs = tuple(name.removeprefix(NEXT) for name in self._output_names)
        self.row_multiple = row_multiple
        self.alone = alone

    def run(self, env: Mapping[str, NDArray[Any]], options: ort.RunOptions | None = None) -> dict[str, NDArray[Any]]:
        """Run the graph over n rows.

        Args:
            env: arrays [n, …] by name; those that the graph does not read are passed over.
            options: of this run; setting their ``terminate`` from another thread ends it.

        Returns:
            Arrays [n, …] by name, an updated state under the state's own name.

        Raises:
            KeyError: the graph reads a name that env lacks.
            Exception: ONNX Runtime's own, where the run fails or was ended.
        """
        feeds = {name: np.ascontiguousarray(env[name], dtype=dtype) for name, dtype in self.inputs.items()}
        n = len(next(iter(feeds.values())))
        if self.alone and n > 1:
            parts = [self.run({name: array[i : i + 1] for name, array in feeds.items()}, options) for i in range(n)]
            return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}
        padding = -n % self.row_multiple
        if padding:
            feeds = {name: np.concatenate([a, np.repeat(a[-1:], padding, axis=0)]) for name, a in feeds.items()}
        values = self._session.run(self._output_names, feeds, options)
        if padding:
            values = [value[:n] for value in values]
        return dict(zip(self.outputs, values, strict=True))
