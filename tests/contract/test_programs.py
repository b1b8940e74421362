"""Programs: what holds together and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from contract.programs import Program, Steps

X = {"name": "x", "dtype": "float64", "shape": [2], "source": "data"}
Z = {"name": "z", "dtype": "float64", "shape": [2]}
SEED = {"name": "seed", "dtype": "int64", "source": "address"}
SIGMA = {"name": "sigma", "dtype": "float32", "source": "schedule"}
T = {"name": "t", "dtype": "int64", "source": "schedule"}
OUT = {"name": "x", "dtype": "float64", "shape": [2], "kind": "sample", "units": "data"}


def program(**fields: Any) -> Program:
    return Program.model_validate({"step": "denoise", "inputs": [SEED], "outputs": [OUT], **fields})


def test_graphs_are_named_in_the_order_they_run() -> None:
    assert program(init="start", final="finish").graphs == ("start", "denoise", "finish")
    assert program(final="finish").graphs == ("denoise", "finish")
    assert program().graphs == ("denoise",)


@pytest.mark.parametrize(
    ("fields", "one_shot"),
    [
        ({}, True),
        ({"init": "start"}, False),
        ({"final": "finish"}, False),
        ({"steps": {"default": 1, "allowed": [1, 2]}}, False),
        ({"steps": {"default": 2, "allowed": [2]}}, False),
    ],
)
def test_one_shot_is_one_run_of_one_graph(fields: dict[str, Any], one_shot: bool) -> None:
    assert program(**fields).one_shot is one_shot


def test_inputs_are_found_by_name_and_the_data_input_by_its_source() -> None:
    whole = program(inputs=[SEED, X])
    assert whole.input("seed") is whole.inputs[0]
    assert whole.input("z") is None
    assert whole.data_input is whole.inputs[1]
    assert program().data_input is None


def test_a_program_round_trips_through_json() -> None:
    whole = program(
        init="start",
        final="finish",
        inputs=[SEED, T, SIGMA, {**X, "default": 1.0, "minimum": 0.0, "maximum": 2.0, "source": "parameter"}],
        state=[Z],
        steps={"default": 2, "allowed": [2, 3]},
        schedules={2: {"sigma": [1.0, 0.5]}, 3: {"sigma": [1.0, 0.5, 1.0]}},
        done="done",
        preview="z",
    )
    assert Program.model_validate_json(whole.model_dump_json()) == whole


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": [X], "state": [{**Z, "name": "x"}]}, "same name"),
        ({"inputs": [X, X]}, "same name"),
        ({"state": [Z, Z]}, "same name"),
        ({"preview": "z"}, "preview 'z' is not a state"),
        ({"inputs": [SIGMA]}, "a schedule is needed"),
        (
            {
                "inputs": [SIGMA],
                "steps": {"default": 2, "allowed": [2, 3]},
                "schedules": {2: {"sigma": [1.0, 0.5]}},
            },
            "a schedule is needed",
        ),
        ({"inputs": [SIGMA], "schedules": {1: {"sigma": [1.0, 0.5]}}}, "must give 1 values"),
        ({"inputs": [SIGMA], "schedules": {1: {"time": [1.0]}}}, "must give 1 values"),
        ({"schedules": {1: {"sigma": [1.0]}}}, "must give 1 values"),
        ({"outputs": []}, "outputs"),
        ({"step": "de-noise"}, "step"),
        ({"inputs": [{**X, "shape": [0]}]}, "shape"),
        ({"inputs": [{**X, "dtype": "float16"}]}, "dtype"),
        ({"outputs": [{**OUT, "kind": "likelihood"}]}, "kind"),
        ({"surplus": 1}, "surplus"),
    ],
)
def test_an_incoherent_program_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        program(**fields)
    assert message in str(caught.value)


def test_the_step_index_needs_no_schedule() -> None:
    assert program(inputs=[SEED, T], steps={"default": 5, "allowed": [5]}).schedules == {}


@pytest.mark.parametrize("steps", [(2, (1, 3)), (0, (0,)), (1, ())])
def test_the_default_number_of_steps_is_one_that_is_allowed(steps: tuple[int, tuple[int, ...]]) -> None:
    with pytest.raises(ValidationError):
        Steps(default=steps[0], allowed=steps[1])


@pytest.mark.parametrize(
    "fields",
    [
        {"default": 5},
        {"default": 5, "allowed": [5], "maximum": 9},
        {"default": 10, "maximum": 9},
        {"default": 5, "maximum": 9, "parameter": "not a name"},
    ],
)
def test_steps_are_listed_or_bounded(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Steps.model_validate(fields)


def test_any_number_of_steps_up_to_a_bound_may_be_asked_for() -> None:
    steps = Steps(default=5, maximum=9, parameter="samples")
    assert [count for count in range(-1, 12) if steps.allows(count)] == list(range(1, 10))
    assert not steps.fixed
    assert steps.expected == "a whole number from 1 to 9"


def test_the_number_of_steps_and_an_input_do_not_share_a_name() -> None:
    knob = {"name": "samples", "dtype": "float64", "source": "parameter", "default": 1.0}
    with pytest.raises(ValidationError, match="samples"):
        program(inputs=[SEED, knob], steps={"default": 1, "maximum": 9, "parameter": "samples"})


LABEL = {"name": "label", "dtype": "int64", "source": "condition", "vocabulary": ["cat", "dog"]}


@pytest.mark.parametrize(
    "change",
    [{"source": "parameter"}, {"dtype": "float64"}, {"shape": [2]}, {"vocabulary": []}, {"vocabulary": ["a", "a"]}],
)
def test_a_vocabulary_is_a_list_of_labels_of_a_condition(change: dict[str, Any]) -> None:
    assert program(inputs=[SEED, LABEL]).input("label") is not None
    with pytest.raises(ValidationError):
        program(inputs=[SEED, {**LABEL, **change}])


BOUND = {"name": "log_prob", "dtype": "float64", "kind": "lower_bound", "units": "nats"}
ERROR = {"name": "standard_error", "dtype": "float64", "kind": "standard_error", "units": "nats"}


@pytest.mark.parametrize(
    ("error", "outputs"),
    [
        ({"scope": "row"}, [ERROR]),
        ({"scope": "shared"}, [ERROR]),
        ({"scope": "shared", "standard_error": 0.1, "output": "standard_error"}, [ERROR]),
        ({"scope": "row", "output": "standard_error"}, []),
        ({"scope": "row", "output": "log_prob"}, [ERROR]),
    ],
)
def test_an_error_is_an_output_by_row_or_one_shared_number(error: dict[str, Any], outputs: list[Any]) -> None:
    with pytest.raises(ValidationError):
        program(outputs=[{**BOUND, "error": error}, *outputs])


def test_what_came_later_is_left_out_where_it_says_nothing() -> None:
    # Else every bundle from before would get another digest, and its samples other addresses.
    plain = program().model_dump(mode="json")
    assert set(plain["steps"]) == {"default", "allowed"}
    assert {"vocabulary", "description"}.isdisjoint(plain["inputs"][0])
    assert "error" not in plain["outputs"][0]
    whole = program(
        inputs=[SEED, {**LABEL, "description": "what it shows"}],
        steps={"default": 5, "maximum": 9, "parameter": "samples"},
        outputs=[{**BOUND, "error": {"scope": "row", "output": "standard_error", "bias": "low"}}, ERROR],
    )
    assert Program.model_validate_json(whole.model_dump_json()) == whole
