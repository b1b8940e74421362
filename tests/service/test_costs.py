"""What a batch is predicted to cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.costs import CostModel

ANCHORS = [(1, 1.1e-4), (64, 7.4e-4)]  # 100 us and 10 us a row


def test_the_anchors_alone_give_their_line():
    cost = CostModel(ANCHORS)
    assert cost.seconds(1) == pytest.approx(1.1e-4)
    assert cost.seconds(1000) == pytest.approx(1.01e-2, rel=1e-3)
    assert cost.rows_within(0.005) == pytest.approx(490, abs=1)


def test_it_follows_a_machine_that_became_slower():
    cost = CostModel(ANCHORS)
    for k in range(400):
        rows = (1, 8, 64)[k % 3]
        cost.observe(rows, 3 * (1e-4 + 1e-5 * rows))
    assert cost.seconds(64) == pytest.approx(3 * 7.4e-4, rel=0.1)


def test_one_interrupted_run_moves_it_little():
    cost = CostModel(ANCHORS)
    for _ in range(50):
        cost.observe(8, 1.8e-4)
    before = cost.seconds(8)
    cost.observe(8, 1.0)
    assert cost.seconds(8) < 1.2 * before


def test_two_sizes_are_needed():
    with pytest.raises(ValueError, match="two different numbers of rows"):
        CostModel([(1, 1e-4), (1, 2e-4)])


@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 10)), max_size=60))
def test_predictions_stay_positive_and_never_fall_with_rows(runs):
    cost = CostModel(ANCHORS)
    for rows, seconds in runs:
        cost.observe(rows, seconds)
    assert 0 < cost.seconds(1) <= cost.seconds(2) <= cost.seconds(10_000)
    assert cost.rows_within(0.005) >= 1
