"""Goldens: a few questions with the answers that the bundle gave when it was made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.bundle import GOLDENS, read_arrays, write_arrays
from contract.capabilities import CAPABILITIES, Capability
from contract.errors import BundleError, InputError
from contract.programs import KNOWN
from contract.randomness import Stream, uniform
from runtime.loop import run_program
from runtime.model import LoadedModel

__all__ = ["GoldenReport", "check_goldens", "golden_questions", "make_goldens", "mismatch", "some_known"]

_ADDRESSES = {
    "seed": np.array([42, 2**53 - 1, 42, 42, 0], dtype=np.int64),
    "row": np.array([7, 2**53 - 1, 0, 1, 0], dtype=np.int64),
}
_STEPS = 2000
"""Steps, over all rows, that a golden may take: every start of a service takes them again. One row it has at least."""


@dataclass(frozen=True)
class GoldenReport:
    """How a bundle's answers compare with its goldens here.

    Attributes:
        bit_equal: every answer has the same bits.
        worst: largest absolute difference.
        rows: golden rows compared.
    """

    bit_equal: bool
    worst: float
    rows: int


def make_goldens(model: LoadedModel, rows: NDArray[Any]) -> bytes:
    """Ask every capability a few questions and write questions and answers down.

    Args:
        model: the model.
        rows: data rows to ask about, [n, *shape] of the support's dtype; five of them are enough.

    Returns:
        Bytes of ``goldens.npz``; arrays are called ``CAPABILITY.in.NAME`` and ``CAPABILITY.out.NAME``.
    """
    arrays: dict[str, NDArray[Any]] = {}
    codes: NDArray[Any] | None = None
    for capability in CAPABILITIES:
        if capability not in model.manifest.capabilities:
            continue
        program = model.program(capability)
        inputs: dict[str, NDArray[Any]] = {}
        drawn = max(1, _STEPS // program.steps.default)
        asked = rows[: min(5, drawn)]
        for part in program.inputs:
            if part.source == "address" and program.data_input is None:
                inputs[part.name] = _ADDRESSES[part.name][:drawn]
            elif part.source == "data" and part.name == KNOWN:
                inputs[part.name] = some_known(len(asked), part.shape)
            elif part.source == "data":
                inputs[part.name] = asked if part.name == "x" else _codes(model, codes)
            elif part.vocabulary is not None:
                n = len(asked) if program.data_input is not None else len(_ADDRESSES["row"][:drawn])
                inputs[part.name] = np.arange(n) % len(part.vocabulary)
        outputs = run_program(model, capability, inputs)
        codes = outputs.get("z", codes)
        arrays |= {f"{capability}.in.{name}": value for name, value in inputs.items()}
        arrays |= {f"{capability}.out.{name}": value for name, value in outputs.items()}
    return write_arrays(arrays)


def some_known(n: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which coordinates of a row are known, for questions about a part of it: bool [n, *shape], half of them."""
    drawn = uniform(0, np.arange(n), Stream.PROBE, dims=math.prod(shape))
    return np.asarray(drawn < 0.5).reshape(n, *shape)


def golden_questions(model: LoadedModel) -> dict[Capability, dict[str, NDArray[Any]]]:
    """The questions alone: program inputs, arrays [n, …] by name, for every capability.

    Raises:
        BundleError: goldens are missing or unreadable, or leave a capability out.
    """
    return _questions(model, read_arrays(model.bundle.path(GOLDENS)))


def check_goldens(model: LoadedModel) -> GoldenReport:
    """Ask the golden questions again.

    Raises:
        BundleError: an answer is off by more than the manifest's tolerance, or goldens are missing or unreadable.
    """
    arrays = read_arrays(model.bundle.path(GOLDENS))
    worst, equal, compared = 0.0, True, 0
    for capability, inputs in _questions(model, arrays).items():
        try:
            answers = run_program(model, capability, inputs)
        except InputError as error:
            raise BundleError(f"{model.bundle.folder}: {GOLDENS}: {capability}: {error}") from None
        for name, answer in answers.items():
            golden = arrays.get(f"{capability}.out.{name}")
            if golden is None or golden.shape != answer.shape or golden.dtype != answer.dtype:
                raise BundleError(f"{model.bundle.folder}: {GOLDENS} has no fitting answer {name} of {capability}")
            difference = _compare(model, capability, name, answer, golden)
            worst = max(worst, difference)
            equal = equal and np.array_equal(answer, golden, equal_nan=golden.dtype.kind == "f")
            compared += len(golden)
    return GoldenReport(bit_equal=equal, worst=worst, rows=compared)


def mismatch(answer: NDArray[Any], wanted: NDArray[Any], *, rounded: bool) -> tuple[float, float]:
    """How far whole numbers are from what they should be.

    Args:
        answer: [n, …].
        wanted: [n, …].
        rounded: whether they are rounded from real numbers, so that a neighbouring level is no other answer.

    Returns:
        (share of rows that differ, share of the other rows' values that are a neighbouring level).
    """
    off = np.abs(answer.astype(np.float64) - wanted.astype(np.float64)).reshape(len(wanted), -1)
    differing = (off > float(rounded)).any(axis=1)
    alike = off[~differing]
    return float(differing.mean()), float((alike > 0).mean()) if alike.size else 0.0


def _questions(model: LoadedModel, arrays: dict[str, NDArray[Any]]) -> dict[Capability, dict[str, NDArray[Any]]]:
    questions: dict[Capability, dict[str, NDArray[Any]]] = {}
    for capability in model.manifest.capabilities:
        prefix = f"{capability}.in."
        questions[capability] = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        if not questions[capability]:
            raise BundleError(f"{model.bundle.folder}: {GOLDENS} has no question for {capability}")
    return questions


def _codes(model: LoadedModel, codes: NDArray[Any] | None) -> NDArray[Any]:
    if codes is not None:
        return codes
    return run_program(model, "latent", _ADDRESSES)["z"]


def _compare(
    model: LoadedModel, capability: Capability, name: str, answer: NDArray[Any], golden: NDArray[Any]
) -> float:
    parity = model.manifest.parity[capability]
    where = f"{model.bundle.folder}: {capability}: {name}"
    if golden.dtype.kind != "f":
        rows, values = mismatch(answer, golden, rounded=parity.max_rounded_mismatch > 0)
        if rows > parity.max_row_mismatch:
            raise BundleError(
                f"{where}: {rows:.0%} of {len(golden)} golden rows differ, "
                f"more than the share of {parity.max_row_mismatch:g} that the manifest allows"
            )
        if values > parity.max_rounded_mismatch:
            raise BundleError(
                f"{where}: {values:.2%} of the values are a level off their goldens, "
                f"more than the share of {parity.max_rounded_mismatch:g} that the manifest allows"
            )
        return float(np.abs(answer.astype(np.float64) - golden.astype(np.float64)).max(initial=0.0))
    if not np.allclose(answer, golden, rtol=parity.rtol, atol=parity.atol, equal_nan=True):
        with np.errstate(invalid="ignore"):
            off = float(np.nanmax(np.abs(answer - golden)))
        raise BundleError(f"{where}: off its golden by up to {off:.3g} (rtol {parity.rtol:g}, atol {parity.atol:g})")
    finite = np.isfinite(answer) & np.isfinite(golden)
    return float(np.abs(answer[finite] - golden[finite]).max(initial=0.0))
