"""One ONNX Runtime session a graph, set up so that a row's bits do not depend on its batch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from contract.errors import BundleError
from contract.programs import NEXT

if TYPE_CHECKING:  # it brings the onnx package along, which a bundle without such a file can do without
    from runtime.weights import SharedWeights

__all__ = ["PROVIDERS", "GraphSession"]

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


class GraphSession:
    """A graph, ready to run over rows.

    Attributes:
        inputs: dtype by name of what the graph reads from a row's environment.
        outputs: names that it writes there, without the prefix of an updated state.
        row_multiple: rows are padded to a multiple of this.
        alone: rows run one at a time.
        clock: what its runs are measured by, in seconds: on the CPU the time of the calling thread, which computes it
            all, so that what else the machine does makes no run look dear; on a device, what passes while one waits.
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
        self._keep = weights
        if weights is not None:
            for name, value in weights.of(path):
                options.add_initializer(name, value)
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
        # The session that the public one wraps. The wrapper asks at each run whether the inputs are all there, are not
        # of WebGPU, and belong to somebody, and turns to another provider if one fails: none of it is wanted here.
        self._run = getattr(self._session, "_sess", self._session).run
        self.inputs: dict[str, np.dtype[Any]] = {}
        for node in self._session.get_inputs():
            if node.type not in _DTYPES:
                raise BundleError(f"{path.name}: input {node.name!r} has the unsupported type {node.type}")
            self.inputs[node.name] = np.dtype(_DTYPES[node.type])
        self._output_names = [node.name for node in self._session.get_outputs()]
        self.outputs = tuple(name.removeprefix(NEXT) for name in self._output_names)
        self.row_multiple = row_multiple
        self.alone = alone
        self.clock = time.thread_time if provider == "cpu" else time.perf_counter

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
        values = self._run(self._output_names, feeds, options)
        if padding:
            values = [value[:n] for value in values]
        return dict(zip(self.outputs, values, strict=True))
