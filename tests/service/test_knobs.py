"""What a request sets beside its rows, as it reaches a program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contract.errors import InputError
from contract.programs import Output, Program, ProgramInput, Steps
from service.knobs import Knobs, read_knobs

TEMPERATURE = ProgramInput(
    name="temperature", dtype="float64", source="parameter", default=1.0, minimum=0.5, maximum=2.0
)
LABEL = ProgramInput(name="label", dtype="int64", source="condition", default=2, vocabulary=("cat", "dog"))
OUT = Output(name="x", dtype="float64", shape=(2,), kind="sample", units="data")
PROGRAM = Program(
    step="draw",
    inputs=(ProgramInput(name="seed", dtype="int64", source="address"), TEMPERATURE, LABEL),
    steps=Steps(default=10, maximum=100, parameter="samples"),
    outputs=(OUT,),
)
MUST = PROGRAM.model_copy(
    update={"inputs": (LABEL.model_copy(update={"default": None}),), "steps": Steps(default=1, allowed=(1,))}
)


def read(
    parameters: dict[str, Any] | None = None, condition: dict[str, Any] | None = None, program: Program = PROGRAM
) -> Knobs:
    return read_knobs(program, 3, parameters=parameters, condition=condition)


def test_nothing_asked_is_the_defaults() -> None:
    knobs = read()
    assert knobs.inputs == {}
    assert knobs.steps is not None
    assert knobs.steps.tolist() == [10, 10, 10]
    assert knobs.parameters == {"temperature": 1.0, "samples": 10}
    assert knobs.condition == {"label": None}


def test_one_value_is_for_all_rows_and_a_list_for_one_each() -> None:
    knobs = read({"temperature": 0.5, "samples": [1, 20, 3.0]}, {"label": ["dog", None, 0]})
    assert knobs.inputs["temperature"].tolist() == [0.5, 0.5, 0.5]
    assert knobs.inputs["label"].tolist() == [1, 2, 0]
    assert knobs.inputs["label"].dtype == np.int64
    assert knobs.steps is not None
    assert knobs.steps.tolist() == [1, 20, 3]
    assert knobs.parameters == {"temperature": 0.5, "samples": [1, 20, 3.0]}
    assert read({}, {"label": "cat"}).inputs["label"].tolist() == [0, 0, 0]


def test_a_program_of_fixed_length_takes_no_number_of_steps() -> None:
    fixed = PROGRAM.model_copy(update={"steps": Steps(default=784, allowed=(784,))})
    assert read(program=fixed).steps is None
    with pytest.raises(InputError, match=r"one of this model's parameters \(temperature\)"):
        read({"steps": 784}, program=fixed)


@pytest.mark.parametrize(
    ("parameters", "condition", "message"),
    [
        ({"heat": 1}, {}, r"'heat': expected one of this model's parameters \(temperature, samples\)"),
        ({"temperature": "hot"}, {}, "row 0, column 'temperature': expected a finite number, got 'hot'"),
        ({"temperature": True}, {}, "expected a finite number, got True"),
        ({"temperature": [1, 2]}, {}, "expected one number, or a list of 3, one a row, got 2"),
        ({"samples": 0}, {}, "'samples': expected a whole number from 1 to 100, got 0"),
        ({"samples": 2.5}, {}, "expected a whole number from 1 to 100, got 2.5"),
        ({"samples": [1, 1, 101]}, {}, "row 2, column 'samples': expected a whole number from 1 to 100, got 101"),
        ({"samples": True}, {}, "expected a whole number"),
        ({}, {"colour": 1}, r"'colour': expected one of this model's conditions \(label\)"),
        ({}, {"label": ["cat", "bird", "dog"]}, "row 1, column 'label': expected one of 'cat', 'dog', or null"),
        ({}, {"label": 2}, "expected one of 'cat', 'dog', or null for none, got 2"),
        ({}, {"label": True}, "expected one of 'cat', 'dog'"),
        ({}, {"label": ["cat"]}, "expected one label, or a list of 3, one a row, got 1"),
    ],
)
def test_what_does_not_fit_is_named(parameters: dict[str, Any], condition: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(parameters, condition)


def test_a_condition_without_a_null_value_must_be_given() -> None:
    assert read(condition={"label": "dog"}, program=MUST).inputs["label"].tolist() == [1, 1, 1]
    with pytest.raises(InputError, match="'label': expected one of 'cat', 'dog', got no condition"):
        read(program=MUST)
    with pytest.raises(InputError, match="expected one of 'cat', 'dog', got None"):
        read(condition={"label": None}, program=MUST)
