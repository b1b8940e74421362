"""Rankings, alarms and discoveries as figures: by hand, and against laws that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.conformal import alarm_rank
from evaluation.alarms import alarm_cells, share_kept
from evaluation.figures import (
    alarm_figures,
    alarm_interval,
    false_discoveries,
    kept_by_chance,
    ranking_figures,
    simulated_discoveries,
    simulated_training_conditional,
)

SCORES = st.lists(st.integers(0, 6), min_size=1, max_size=12)


def test_figures_of_a_ranking_by_hand() -> None:
    found = ranking_figures(np.array([0.0, 2.0, 2.0]), np.array([1.0, 2.0]))
    assert found["auroc"] == pytest.approx((1 + 1 + 0.5 + 0.5) / 6)
    assert found["aupr"] == pytest.approx(0.5 * 1 / 3 + 0.5 * 2 / 4)  # three rows at 2, one strange; then one at 1


@settings(max_examples=50, deadline=None)
@given(SCORES, SCORES)
def test_a_ranking_looks_at_the_order_alone(ordinary: list[int], strange: list[int]) -> None:
    one, other = np.array(ordinary, dtype=float), np.array(strange, dtype=float)
    stretched = ranking_figures(np.exp(3 * one), np.exp(3 * other))
    assert ranking_figures(one, other) == pytest.approx(stretched)
    top = max(one.max(), other.max())
    far = [np.where(part == top, np.inf, part) for part in (one, other)]
    assert ranking_figures(*far) == pytest.approx(ranking_figures(one, other))


def test_alarms_are_counted_where_the_calibration_can_reach_the_rate() -> None:
    calibration = np.arange(1.0, 41.0)  # 40 rows reach 0.05 and 0.1, and not 0.01
    found = alarm_figures(calibration, np.array([0.0, 39.5, 40.5, 37.5]), np.array([50.0, np.inf, 2.0]))
    assert found["n_calibration"] == 40
    assert found["tied"] == 0.0
    assert found["marginal"] == {
        "0.05": {"rank": 2, "false_alarms": 2, "detected": 2},
        "0.1": {"rank": 4, "false_alarms": 3, "detected": 2},
    }
    assert set(found["training_conditional"]) == {"0.1"}  # 58 rows are needed for 0.05


@pytest.mark.parametrize(("n", "alpha"), [(99, 0.05), (400, 0.01)])
def test_alarms_of_exchangeable_rows_lie_in_the_interval(n: int, alpha: float) -> None:
    generator = np.random.default_rng(0)
    k, m, outside = alarm_rank(n, alpha), 300, 0
    low, high = alarm_interval(m, n, k, tied=0.0)
    for _ in range(2000):
        scores = generator.random(n + m)
        threshold = np.partition(scores[:n], n - k)[n - k]
        outside += not low <= (scores[n:] > threshold).sum() <= high
    assert outside / 2000 <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 2000)
    # Rows of another law are outside: that is what the interval is for.
    shifted = (generator.random(m) + 0.2 > 1 - alpha).sum()
    assert shifted > high


def test_ties_waive_the_lower_end_alone() -> None:
    low, high = alarm_interval(2000, 2000, 100, tied=0.0)
    assert low > 0
    assert alarm_interval(2000, 2000, 100, tied=0.011) == (0, high)


def test_what_few_held_out_rows_can_show() -> None:
    assert kept_by_chance(1, 99, 5, 0.05) == pytest.approx(0.95)  # one row, which alarms with probability 5/100


def test_a_training_conditional_promise_is_kept_by_95_of_100_calibration_sets() -> None:
    assert simulated_training_conditional(500, 0.05, 4000, 0) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 4000)


@pytest.mark.parametrize("rounded", [False, True])
def test_made_discoveries_keep_the_rate_and_find_something(rounded: bool) -> None:
    false, error, found = simulated_discoveries(499, 100, 10, rounded=rounded, repetitions=1000, seed=0)
    assert false - 3 * error <= 0.09
    assert found > 0.5


def test_discoveries_need_enough_rows() -> None:
    generator = np.random.default_rng(0)
    calibration, ordinary, strange = np.sort(generator.random(499)), generator.random(200), 2 + generator.random(20)
    found = false_discoveries(calibration, ordinary, strange, seed=0)
    assert found is not None
    assert found["found"] == 1.0
    assert 0 < found["false"] < 0.3
    assert found == false_discoveries(calibration, ordinary, strange, seed=0)
    assert false_discoveries(calibration, ordinary[:50], strange, seed=0) is None
    assert false_discoveries(calibration, ordinary, strange[:5], seed=0) is None
    assert false_discoveries(calibration[:5], ordinary, strange, seed=0) is None


def test_a_false_discovery_is_counted_among_the_discoveries() -> None:
    calibration = np.sort(np.random.default_rng(0).random(999))
    ordinary = np.concatenate([np.full(10, 2.0), np.full(80, -1.0)])
    found = false_discoveries(calibration, ordinary, np.full(10, 3.0), seed=0)
    assert found is not None
    assert (found["false"], found["found"]) == (0.5, 1.0)  # every request is of the same rows: twenty are discovered


def test_cells_outside_are_told_apart() -> None:
    def line(alarms: int, tied: float) -> dict[str, Any]:
        counts = {"0.1": {"rank": 200, "false_alarms": alarms, "detected": 3}}
        return {"n_calibration": 1999, "n_ordinary": 1000, "n_strange": 4, "tied": tied, "marginal": counts}

    lines = {"a": {0: line(100, 0.0), 1: line(160, 0.5)}, "b": {0: line(40, 0.0), 1: line(40, 0.5)}}
    (cells,) = alarm_cells(lines, "marginal").values()
    assert [(cell.above, cell.below, cell.waived) for cell in cells] == [
        (False, False, False),
        (True, False, True),
        (False, True, False),
        (False, False, True),
    ]
    assert [cell.kept for cell in cells] == [True, False, True, True]
    assert share_kept(cells).mean == 0.75
    assert {cell.detected for cell in cells} == {0.75}
    assert str(cells[1]).startswith("a, seed 1, α = 0.1: 160 of 1,000, not 0 to ")
    assert alarm_cells(lines, "training_conditional") == {}
