"""The row address of a question: a hash of the row's values, and of nothing else."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.randomness import row_address


@given(st.lists(st.tuples(st.floats(), st.floats()), min_size=1, max_size=8), st.randoms())
def test_it_is_the_row_s_own(rows: list[tuple[float, float]], order: Random) -> None:
    values = np.array(rows)
    whole = row_address(values)
    positions = list(range(len(rows)))
    order.shuffle(positions)
    assert np.array_equal(row_address(values[positions]), whole[positions])
    assert np.array_equal(row_address(values[:1]), whole[:1])
    assert (whole >= 0).all()


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "int64"])
def test_equal_values_have_one_address_and_others_another(dtype: str) -> None:
    rows = np.arange(4000).reshape(1000, 2, 2).astype(dtype)
    addresses = row_address(rows)
    distinct = len(np.unique(rows.reshape(1000, -1), axis=0))
    assert len(np.unique(addresses)) == distinct
    assert np.array_equal(row_address(np.asfortranarray(rows)), addresses)
    assert np.array_equal(row_address(rows.astype(rows.dtype.newbyteorder(">"))), addresses)


def test_zeros_and_missing_values_are_one_each() -> None:
    other = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)[0]
    zeros = row_address(np.array([[0.0], [-0.0]]))
    missing = row_address(np.array([[np.nan], [other], [-np.nan]]))
    assert zeros[0] == zeros[1]
    assert len(set(missing.tolist())) == 1
    assert zeros[0] != missing[0]


def test_it_is_the_published_hash() -> None:
    # Written down once: a change would move every stochastic answer that was ever cached or quoted.
    assert row_address(np.array([[1.0, 2.0]])).tolist() == [PUBLISHED]


PUBLISHED = 3707212061493262983
