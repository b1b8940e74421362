"""What a request sets beside its rows: parameters, the number of steps, and what to condition on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from contract.errors import InputError
from contract.programs import Program, ProgramInput, Steps

__all__ = ["Knobs", "read_knobs"]


@dataclass(frozen=True)
class Knobs:
    """Checked values, one a row.

    Attributes:
        inputs: program inputs that the request set, arrays [n] by name.
        steps: the number of steps of each row, int64 [n]; None where the program's is fixed.
        parameters: every parameter with the value that was used, defaults included, as the answer repeats them.
        condition: every condition likewise; None is the null value, no condition.
    """

    inputs: dict[str, NDArray[Any]]
    steps: NDArray[np.int64] | None
    parameters: dict[str, Any]
    condition: dict[str, Any]

    def at(self, rows: NDArray[np.int64]) -> Self:
        """The values of some rows; a row may come more than once."""
        steps = None if self.steps is None else self.steps[rows]
        return replace(self, inputs={name: values[rows] for name, values in self.inputs.items()}, steps=steps)


def read_knobs(
    program: Program, n: int, *, parameters: Mapping[str, Any] | None, condition: Mapping[str, Any] | None
) -> Knobs:
    """Read what a request sets for n rows: each value one for all rows, or a list of n.

    Raises:
        InputError: an unknown name, a value of another type, a list of another length, an unknown label, or no value
            where there is no default; names it.
    """
    parameters, condition = dict(parameters or {}), dict(condition or {})
    knobs = {part.name: part for part in program.inputs if part.source == "parameter"}
    conditions = {part.name: part for part in program.inputs if part.source == "condition"}
    counted = None if program.steps.fixed else program.steps
    names = [*knobs, *([counted.parameter] if counted else [])]
    _refuse_unknown(parameters, names, "parameters")
    _refuse_unknown(condition, list(conditions), "conditions")
    inputs = {
        name: np.array(_numbers(name, parameters[name], n), dtype=part.dtype)
        for name, part in knobs.items()
        if name in parameters
    }
    for name, part in conditions.items():
        if name in condition:
            inputs[name] = _classes(part, condition[name], n)
        elif part.default is None:
            raise InputError(column=name, expected=_labels(part), got="no condition")
    echo: dict[str, Any] = {name: parameters.get(name, part.default) for name, part in knobs.items()}
    steps = None
    if counted is not None:
        asked = parameters.get(counted.parameter, counted.default)
        steps = _counts(counted, asked, n)
        echo[counted.parameter] = asked
    return Knobs(inputs, steps, echo, {name: condition.get(name) for name in conditions})


def _refuse_unknown(given: Mapping[str, Any], known: list[str], what: str) -> None:
    for name in given:
        if name not in known:
            have = ", ".join(known) or "none"
            raise InputError(column=name, expected=f"one of this model's {what} ({have})", got="another name")


def _rows_of(name: str, value: Any, n: int, what: str) -> list[Any]:
    if not isinstance(value, list):
        return [value] * n
    if len(value) != n:
        raise InputError(column=name, expected=f"one {what}, or a list of {n}, one a row", got=f"{len(value)}")
    return value


def _numbers(name: str, value: Any, n: int) -> list[Any]:
    for row, one in enumerate(value if isinstance(value, list) else [value]):
        if isinstance(one, bool) or not isinstance(one, int | float) or not np.isfinite(one):
            raise InputError(row=row, column=name, expected="a finite number", got=repr(one)[:40])
    return _rows_of(name, value, n, "number")


def _counts(steps: Steps, value: Any, n: int) -> NDArray[np.int64]:
    for row, one in enumerate(value if isinstance(value, list) else [value]):
        whole = isinstance(one, int) or (isinstance(one, float) and one.is_integer())
        if isinstance(one, bool) or not whole or not steps.allows(int(one)):
            raise InputError(row=row, column=steps.parameter, expected=steps.expected, got=repr(one)[:40])
    return np.array(_rows_of(steps.parameter, value, n, "number"), dtype=np.int64)


def _labels(part: ProgramInput) -> str:
    labels = part.vocabulary or ()
    shown = ", ".join(repr(label) for label in labels[:12])
    more = f" and {len(labels) - 12} more" if len(labels) > 12 else ""
    return f"one of {shown}{more}" + (", or null for none" if part.default is not None else "")


def _classes(part: ProgramInput, value: Any, n: int) -> NDArray[np.int64]:
    labels = part.vocabulary or ()
    index = {label: i for i, label in enumerate(labels)}
    found = []
    for row, one in enumerate(_rows_of(part.name, value, n, "label")):
        if one is None and part.default is not None:
            found.append(int(part.default))
        elif isinstance(one, str) and one in index:
            found.append(index[one])
        elif isinstance(one, int) and not isinstance(one, bool) and 0 <= one < len(labels):
            found.append(one)
        else:
            raise InputError(row=row, column=part.name, expected=_labels(part), got=repr(one)[:40])
    return np.array(found, dtype=np.int64)
