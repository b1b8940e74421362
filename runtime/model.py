"""A bundle with its sessions open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from contract.bundle import Bundle
from contract.capabilities import Capability
from contract.digest import program_digest
from contract.errors import BundleError
from contract.manifest import Manifest
from contract.programs import Program
from runtime.profile import numeric_profile
from runtime.session import GraphSession

if TYPE_CHECKING:
    from runtime.weights import SharedWeights

__all__ = ["LoadedModel", "load_model"]


class LoadedModel:
    """A bundle, its graphs' sessions and its calibration scores.

    Attributes:
        bundle: the files.
        profile: numeric profile in which the sessions run.
        graphs: sessions by the graph's name in the manifest.
        on_cpu: whether it runs where the callers' own threads do.
        calibration_scores: sorted ascending, [n], or None.
        group_scores: those of the calibration rows of each label, where they have labels.
    """

    def __init__(self, bundle: Bundle, provider: str = "cpu"):
        self.bundle = bundle
        self.profile = numeric_profile(provider)
        self.on_cpu = provider == "cpu"
        weights = _weights_of(bundle)
        self.graphs = {
            name: GraphSession(
                bundle.path(graph.file),
                row_multiple=graph.row_multiple,
                alone=graph.alone,
                weights=weights,
                provider=provider,
            )
            for name, graph in self.manifest.graphs.items()
        }
        self.calibration_scores: NDArray[np.float64] | None = bundle.calibration_scores()
        self.group_scores = bundle.group_scores()
        self._program_digests = {name: program_digest(self.manifest, name) for name in self.manifest.capabilities}
        for name, program in self.manifest.capabilities.items():
            self._check_names(name, program)

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def digest(self) -> str:
        """The bundle's digest."""
        return self.bundle.digest

    def program(self, capability: Capability) -> Program:
        """The program of a capability.

        Raises:
            KeyError: the bundle lacks it.
        """
        return self.manifest.capabilities[capability]

    def program_digest(self, capability: Capability) -> str:
        """Digest of a capability's program, graphs and weights; what sample addresses are under.

        Raises:
            KeyError: the bundle lacks the capability.
        """
        return self._program_digests[capability]

    def _check_names(self, capability: Capability, program: Program) -> None:
        known: dict[str, Any] = {part.name: np.dtype(part.dtype) for part in program.inputs}
        states = {part.name: np.dtype(part.dtype) for part in program.state}
        for name in program.graphs:
            graph = self.graphs[name]
            readable = {**known, "t": np.dtype(np.int64)} if name == program.step else known
            for read, dtype in graph.inputs.items():
                if readable.get(read) != dtype:
                    have = readable.get(read)
                    raise BundleError(
                        f"{self.bundle.folder}: capability {capability}: graph {name} reads {read} as {dtype}, "
                        + (f"which is {have} by then" if have is not None else "which nothing has written by then")
                    )
            known |= {written: states[written] for written in graph.outputs if written in states}
        written = {output for name in program.graphs for output in self.graphs[name].outputs}
        for output in program.outputs:
            if output.name not in written:
                raise BundleError(f"{self.bundle.folder}: capability {capability}: no graph writes {output.name!r}")
        if program.done is not None and program.done not in self.graphs[program.step].outputs:
            raise BundleError(f"{self.bundle.folder}: capability {capability}: the step writes no {program.done!r}")


def _weights_of(bundle: Bundle) -> SharedWeights | None:
    if bundle.manifest.weights is None:
        return None
    from runtime.weights import SharedWeights  # with the onnx package, which nothing else needs that serves

    return SharedWeights(bundle.path(bundle.manifest.weights))


def load_model(bundle: Bundle, provider: str = "cpu") -> LoadedModel:
    """Open a bundle's sessions.

    Raises:
        BundleError: a graph cannot be loaded, or does not fit its program.
    """
    return LoadedModel(bundle, provider)
