"""Rows with holes, before they reach a program: addresses, pixels that are known by half, and what is summed out."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from contract.errors import InputError
from contract.programs import Program
from contract.support import Column, Support
from service.partial import Partial, read_given, summed_out

TABLE = Support(
    shape=(3,),
    columns=tuple(Column(name=name, kind="real", base_measure="lebesgue") for name in ("width", "height", "depth")),
)
PICTURE = Support(shape=(2, 2, 3), element=Column(name="pixel", kind="ordinal", levels=4, base_measure="counting"))
NAN = float("nan")


def rows(*values: list[float]) -> Partial:
    return Partial(*TABLE.holes(np.array(values)))


def inpainting(shape: tuple[int, ...], known: tuple[int, ...]) -> Program:
    return Program.model_validate(
        {
            "step": "inpaint",
            "inputs": [
                {"name": "x", "dtype": "uint8", "shape": shape, "source": "data"},
                {"name": "known", "dtype": "bool", "shape": known, "source": "data"},
            ],
            "filling": "exact",
            "outputs": [{"name": "filled", "dtype": "uint8", "shape": shape, "kind": "sample", "units": "data"}],
        }
    )


def test_a_hole_holds_one_and_is_not_known() -> None:
    partial = rows([1.0, NAN, 3.0], [4.0, 5.0, 6.0])
    assert partial.x.tolist() == [[1.0, 1.0, 3.0], [4.0, 5.0, 6.0]]
    assert partial.known.tolist() == [[True, False, True], [True, True, True]]
    assert partial.whole.tolist() == [False, True]
    assert partial.counts.tolist() == [2, 3]


@settings(deadline=None)
@given(arrays(np.float64, (4, 3), elements=st.sampled_from([NAN, 0.0, 1.0, 2.5])), st.integers(0, 2**53 - 10))
def test_an_address_is_of_what_is_known_and_of_the_draws_number(values: Any, start: int) -> None:
    partial = Partial(*TABLE.holes(values))
    row = partial.addresses(3, 7, start)["row"].reshape(4, 3)
    assert (row >= 0).all()
    assert (np.diff(row, axis=1) == 1).all()
    same = [[bool(np.array_equal(a, b, equal_nan=True)) for b in values] for a in values]
    assert (row[:, None, 0] == row[None, :, 0]).tolist() == same
    # A row's own addresses are those that it has alone, and draws that are asked for later go on where these end.
    alone = partial.at(np.array([2])).addresses(1, 7, start + 2)
    assert (alone["row"].tolist(), alone["seed"].tolist()) == ([row[2, 2]], [7])


def test_a_one_in_place_of_a_hole_is_another_row() -> None:
    row = rows([1.0, NAN, 3.0], [1.0, 1.0, 3.0]).addresses(1, 0, 0)["row"]
    assert row[0] != row[1]


def test_what_looks_ahead_is_not_exact() -> None:
    partial = rows([1.0, NAN, NAN], [NAN, 2.0, 3.0], [1.0, NAN, 3.0], [1.0, 2.0, 3.0], [NAN, NAN, NAN])
    assert partial.exact("earlier") == [True, False, False, True, True]
    assert partial.exact("exact") == [True] * 5
    assert partial.exact("chain") == [False] * 5


def test_a_pixel_is_known_whole_or_not_at_all() -> None:
    values = np.zeros((2, 2, 2, 3))
    values[1, 0, 1] = NAN
    partial = Partial(*PICTURE.holes(values))
    known = partial.inputs(inpainting((2, 2, 3), (2, 2)))["known"]
    assert known.tolist() == [[[True, True], [True, True]], [[True, False], [True, True]]]
    assert partial.inputs(inpainting((2, 2, 3), (2, 2, 3)))["known"].shape == (2, 2, 2, 3)
    values[1, 0, 1, 2] = 3
    with pytest.raises(InputError) as caught:
        Partial(*PICTURE.holes(values)).inputs(inpainting((2, 2, 3), (2, 2)))
    assert (caught.value.row, caught.value.column) == (1, "[0][1]")
    assert caught.value.expected == "all channels of the pixel or none"


def test_columns_are_given_by_name() -> None:
    partial = read_given(TABLE, {"depth": 2.5, "width": None})
    assert partial.x.tolist() == [[1.0, 1.0, 2.5]]
    assert partial.known.tolist() == [[False, False, True]]
    for values, column in (({"weight": 1.0}, "weight"), ({"depth": "deep"}, "depth")):
        with pytest.raises(InputError) as caught:
            read_given(TABLE, values)
        assert (caught.value.row, caught.value.column) == (None, column)
    with pytest.raises(InputError, match="have none; ask /inpaint"):
        read_given(PICTURE, {"pixel": 1})


def test_what_is_summed_out_is_named_and_bits_are_of_what_is_left() -> None:
    partial = rows([1.0, NAN, 3.0], [NAN, NAN, NAN], [1.0, 2.0, 3.0])
    said = summed_out(TABLE, partial, np.array([-1.0, 0.0, -3.0]))
    assert said == {"summed_out": [["height"], ["width", "height", "depth"], []]}
    values = np.zeros((1, 2, 2, 3))
    values[0, 1, 0] = NAN
    said = summed_out(PICTURE, Partial(*PICTURE.holes(values)), np.array([-9.0 * log(2.0)]))
    assert said["summed_out"] == [["[1][0][0]", "[1][0][1]", "[1][0][2]"]]
    assert said["bits_per_dimension"] == pytest.approx([1.0])
