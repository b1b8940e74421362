"""The plain reference loop over a program: what every scheduler must agree with, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike, NDArray

from contract.capabilities import Capability
from runtime.model import LoadedModel
from runtime.rows import Rows

__all__ = ["run_program"]


def run_program(
    model: LoadedModel, capability: Capability, inputs: Mapping[str, NDArray[Any]], steps: ArrayLike | None = None
) -> dict[str, NDArray[Any]]:
    """Run a capability over n rows in one batch.

    Args:
        model: the model.
        capability: one that it has.
        inputs: arrays [n, …] by name; parameters left out take their defaults.
        steps: number of steps, one for all or [n]; the program's default if None.

    Returns:
        The program's outputs, arrays [n, …] by name.

    Raises:
        KeyError: the model lacks the capability.
        InputError: an input does not fit.
        NotConvergedError: a row has not converged when its steps are spent.
    """
    rows = Rows(model.program(capability), inputs, steps)
    while (graph := rows.graph) is not None:
        rows.accept(model.graphs[graph].run(rows.feeds()))
    return rows.result()
