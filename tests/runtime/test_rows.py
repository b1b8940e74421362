"""Rows advance the same whatever batch they are in; the graphs here are plain numpy functions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import InputError
from contract.programs import Output, Program, ProgramInput, State, Steps
from runtime.rows import NotConvergedError, Rows

ADDRESS = ProgramInput(name="seed", dtype="int64", source="address")
OUTPUT = Output(name="total", dtype="float64", kind="sample", units="data")


def summing(**changes) -> Program:
    """Adds the scheduled sigma at each step to a total that starts at the seed; ends with twice the total."""
    fields = {
        "init": "begin",
        "step": "add",
        "final": "double",
        "inputs": (ADDRESS, ProgramInput(name="sigma", dtype="float64", source="schedule")),
        "state": (State(name="total", dtype="float64"),),
        "steps": Steps(default=3, allowed=(1, 3, 5)),
        "schedules": {1: {"sigma": (10.0,)}, 3: {"sigma": (1.0, 2.0, 4.0)}, 5: {"sigma": (1.0, 1.0, 1.0, 1.0, 1.0)}},
        "outputs": (OUTPUT,),
    }
    return Program(**(fields | changes))


GRAPHS = {
    "begin": lambda e: {"total": e["seed"].astype(np.float64)},
    "add": lambda e: {"total": e["total"] + e["sigma"]},
    "double": lambda e: {"total": 2.0 * e["total"]},
}


def run(rows: Rows, graphs=GRAPHS) -> np.ndarray:
    while (graph := rows.graph) is not None:
        feeds = rows.feeds()
        assert all(len(value) == rows.count for value in feeds.values())
        rows.accept(graphs[graph](feeds))
    return rows.result()["total"]


def test_default_steps_follow_their_schedule():
    assert run(Rows(summing(), {"seed": np.array([0, 100])})).tolist() == [14.0, 214.0]


@given(st.lists(st.tuples(st.integers(0, 1000), st.sampled_from([1, 3, 5])), min_size=1, max_size=8))
def test_each_row_has_its_own_number_of_steps(rows):
    seeds, steps = (np.array(column) for column in zip(*rows, strict=True))
    together = run(Rows(summing(), {"seed": seeds}, steps))
    expected = 2.0 * (seeds + np.select([steps == 1, steps == 3, steps == 5], [10.0, 7.0, 5.0]))
    np.testing.assert_array_equal(together, expected)


def test_runs_left_counts_down_to_zero():
    rows = Rows(summing(), {"seed": np.arange(2)}, [1, 5])
    seen = []
    while (graph := rows.graph) is not None:
        seen.append(rows.runs_left)
        rows.accept(GRAPHS[graph](rows.feeds()))
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    assert rows.runs_left == 0


def halving(steps: int) -> tuple[Program, dict]:
    """Halves until below one; says when it is done."""
    program = Program(
        step="halve",
        inputs=(ProgramInput(name="total", dtype="float64", source="data"),),
        steps=Steps(default=steps, allowed=(steps,)),
        done="small",
        outputs=(OUTPUT,),
    )
    return program, {"halve": lambda e: {"total": e["total"] / 2, "small": e["total"] / 2 < 1}}


def test_a_row_that_is_done_leaves_early_and_changes_no_more():
    program, graphs = halving(10)
    given_rows = np.array([1.0, 8.0, 1000.0])
    assert run(Rows(program, {"total": given_rows}), graphs).tolist() == [0.5, 0.5, 1000 / 1024]
    assert given_rows.tolist() == [1.0, 8.0, 1000.0], "the caller's array was written to"


def test_a_row_that_does_not_converge_is_an_error_that_names_it():
    program, graphs = halving(4)
    with pytest.raises(NotConvergedError, match="row 2 has not converged after 4 steps"):
        run(Rows(program, {"total": np.array([1.0, 8.0, 1000.0])}), graphs)


@pytest.mark.parametrize(
    ("inputs", "steps", "message"),
    [
        ({"seed": np.arange(2)}, [3, 2], "row 1, column 'steps': expected one of 1, 3, 5, got 2"),
        ({"other": np.arange(2)}, None, "column 'seed': expected an array"),
        ({"seed": np.zeros((2, 2), dtype=int)}, None, "column 'seed': expected an array of shape"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs, steps, message):
    with pytest.raises(InputError, match=message.replace("(", "\\(")):
        Rows(summing(), inputs, steps)


def test_parameters_have_defaults_and_limits():
    knob = ProgramInput(name="eta", dtype="float64", source="parameter", default=0.5, minimum=0.0, maximum=1.0)
    program = summing(inputs=(ADDRESS, knob), schedules={})
    assert Rows(program, {"seed": np.arange(2)}).feeds()["eta"].tolist() == [0.5, 0.5]
    with pytest.raises(InputError, match="row 1, column 'eta': expected at most 1, got 2"):
        Rows(program, {"seed": np.arange(2), "eta": np.array([1.0, 2.0])})
    with pytest.raises(InputError, match="row 0, column 'eta': expected at least 0, got nan"):
        Rows(program, {"seed": np.arange(1), "eta": np.array([np.nan])})
