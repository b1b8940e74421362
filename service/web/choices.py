"""What a link sets beside seed and row: labels and knobs, read from its query string and written back in one way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import numpy as np
import orjson

from contract.errors import InputError
from contract.programs import Program, ProgramInput
from contract.support import Support
from runtime.picture import is_picture
from runtime.rows import environment
from service.api.problems import ProblemError
from service.knobs import read_knobs

__all__ = ["NOISE", "NOTHING", "Chosen", "default_of", "own_noise", "read_choices", "tidy"]

NOISE = "observation_noise"
"""The knob for the noise of what is observed, given the code: 0 is the mean picture."""

_MOST_FIELDS = 50


@dataclass(frozen=True)
class Chosen:
    """What differs from the program's defaults, by name and in the order of names.

    Attributes:
        parameters: knobs, the number of steps among them.
        condition: labels.
    """

    parameters: tuple[tuple[str, float], ...] = ()
    condition: tuple[tuple[str, str], ...] = ()

    @property
    def query(self) -> str:
        """The query string that says so; the same choices always have the same."""
        pairs = [*self.condition, *((name, _written(value)) for name, value in self.parameters)]
        return urlencode(sorted(pairs))

    @property
    def suffix(self) -> str:
        """The query string with its question mark, or nothing."""
        return f"?{self.query}" if self.query else ""

    def knob(self, name: str, otherwise: float) -> float:
        """The value of a knob."""
        return dict(self.parameters).get(name, otherwise)

    def label(self, name: str) -> str | None:
        """The label that was chosen of a condition."""
        return dict(self.condition).get(name)

    def with_label(self, name: str, label: str | None) -> Chosen:
        """The same with another label, or with none."""
        return replace(self, condition=_with(self.condition, name, label))

    def with_knob(self, part: ProgramInput, value: float) -> Chosen:
        """The same with another value of a knob."""
        return replace(self, parameters=_with(self.parameters, part.name, None if value == part.default else value))


NOTHING = Chosen()


def _with(pairs: tuple[tuple[str, Any], ...], name: str, value: Any) -> tuple[tuple[str, Any], ...]:
    others = {key: part for key, part in pairs if key != name}
    return tuple(sorted((others if value is None else {**others, name: value}).items()))


def own_noise(program: Program, support: Support) -> ProgramInput | None:
    """The knob for the noise of a picture's pixels, where a program has one that can be turned to 0.

    Of a table or of points the means alone would be misleading: their noise is what makes them spread as the data do.
    """
    part = program.input(NOISE)
    if (
        part is None
        or not is_picture(support)
        or part.source != "parameter"
        or part.default is None
        or part.default == 0.0
    ):
        return None
    return part if part.minimum is None or part.minimum <= 0.0 else None


def default_of(program: Program, support: Support, asked: bytes = b"") -> Chosen:
    """What a page shows whose link does not say: the mean picture, and the first label where there must be one.

    Args:
        program: that samples.
        support: what it samples.
        asked: the query string; what it sets, it sets.

    Raises:
        ProblemError: as for ``read_choices``.
    """
    given = {name for name, _ in _pairs(asked)}
    extra: list[tuple[str, str]] = []
    noise = own_noise(program, support)
    if noise is not None and noise.name not in given:
        extra.append((noise.name, "0"))
    for part in program.inputs:
        if part.source == "condition" and part.default is None and part.name not in given and part.vocabulary:
            extra.append((part.name, part.vocabulary[0]))
    return _read(program, [*_pairs(asked), *extra])


def read_choices(program: Program, query: bytes) -> Chosen:
    """What a query string sets.

    Raises:
        ProblemError: 422 for a name that the program does not have, or a value that it does not allow.
    """
    return _read(program, _pairs(query))


def tidy(query: bytes) -> str:
    """A query string with its members in order: of a link that a page gave, the query of its choices."""
    return urlencode(sorted(_pairs(query)))


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise ProblemError("invalid-request", "the query string is not UTF-8, or has too many members") from None


def _read(program: Program, pairs: list[tuple[str, str]]) -> Chosen:
    conditions = {part.name: part for part in program.inputs if part.source == "condition"}
    defaults = {part.name: part.default for part in program.inputs if part.source == "parameter"}
    if not program.steps.fixed:
        defaults[program.steps.parameter] = program.steps.default
    parameters: dict[str, Any] = {}
    condition: dict[str, Any] = {}
    for name, text in pairs:
        if name in parameters or name in condition:
            raise _refused(name, "one value", "two")
        if name in conditions:
            none = text in ("", "null") and text not in (conditions[name].vocabulary or ())
            condition[name] = None if none else text
        elif name in defaults:
            parameters[name] = _number(text)
        else:
            have = ", ".join([*conditions, *defaults]) or "nothing beside the seed and the row"
            raise _refused(name, f"only what this model's samples take ({have})", "another name")
    try:
        knobs = read_knobs(program, 1, parameters=parameters, condition=condition)
        address = {part.name: np.zeros(1, dtype=np.int64) for part in program.inputs if part.source == "address"}
        environment(program, {**address, **knobs.inputs}, 1)  # for the bounds of each value
    except InputError as error:
        raise _refused(error.column or "", error.expected, error.got or "another value") from None
    return Chosen(
        tuple(sorted((name, value) for name, value in parameters.items() if value != defaults[name])),
        tuple(sorted((name, label) for name, label in condition.items() if label is not None)),
    )


def _refused(name: str, expected: str, got: str) -> ProblemError:
    detail = f"{name[:80]!r} in the query string: expected {expected}, got {got}"
    return ProblemError("invalid-request", detail, field=name[:80], expected=expected, got=got)


def _number(text: str) -> Any:
    """A number where one is meant, in the form in which it is written back; other text stays text."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return orjson.loads(_written(value)) if type(value) in (int, float) else text


def _written(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
