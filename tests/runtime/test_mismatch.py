"""When whole numbers are the same: where they are rounded, neighbouring levels are; where they are drawn, none."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from runtime.goldens import mismatch

ROWS = arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 6)))


@given(ROWS)
def test_equal_rows_do_not_differ(rows: np.ndarray) -> None:
    assert mismatch(rows, rows.copy(), rounded=True) == mismatch(rows, rows.copy(), rounded=False) == (0.0, 0.0)


def test_a_neighbouring_level_is_another_row_only_where_values_are_drawn() -> None:
    wanted = np.array([[0, 10], [255, 3], [7, 7], [1, 1]], dtype=np.uint8)
    answer = np.array([[1, 10], [254, 3], [7, 9], [1, 1]], dtype=np.uint8)
    assert mismatch(answer, wanted, rounded=False) == (0.75, 0.0)
    # The third row is another one; of the six values of the rest, two are a level off.
    assert mismatch(answer, wanted, rounded=True) == (0.25, 2 / 6)


def test_unsigned_numbers_do_not_wrap() -> None:
    zero, last = np.zeros((1, 4), dtype=np.uint8), np.full((1, 4), 255, dtype=np.uint8)
    assert mismatch(zero, last, rounded=True) == (1.0, 0.0)


def test_where_every_row_is_another_no_value_is_left_to_compare() -> None:
    assert mismatch(np.array([[0], [9]]), np.array([[5], [5]]), rounded=True) == (1.0, 0.0)
