"""Which ranks alarm, by every kind of calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.alarms import alarm_rule
from contract.conformal import Guarantee, p_values, ranks, rate_interval
from contract.manifest import Calibration

RNG = np.random.default_rng(7)


def calibration(n: int, **more: Any) -> Calibration:
    return Calibration(file="calibration.npz", n=n, statistics=("log_prob",), law="made", rows="made", **more)


@given(
    st.integers(1, 300),
    st.floats(0.0, 0.5),
    st.floats(0.001, 0.999),
    st.sampled_from(["marginal", "training_conditional"]),
)
def test_a_row_alarms_up_to_the_p_value_that_is_told(n: int, share: float, alpha: float, guarantee: Guarantee) -> None:
    about = calibration(n, contaminated=int(share * n))
    rule = alarm_rule(about, alpha, guarantee)
    scores = np.sort(RNG.normal(size=n))
    rank = ranks(scores, RNG.normal(size=200))
    p = rule.p_values(rank)
    np.testing.assert_array_equal(p, np.minimum(rank / (n - about.contaminated + 1), 1.0))
    flagged, highest = rule.flagged(rank), rule.largest_flagged_p_value
    if highest is None:
        assert flagged is None
        assert rule.interval is None
        # The strangest row of all would have to pass.
        assert guarantee == "training_conditional" or 1 / (about.ordinary + 1) > alpha
    else:
        assert flagged is not None
        np.testing.assert_array_equal(flagged, rank / (about.ordinary + 1) <= highest)
        assert highest <= alpha + 1e-9
        assert guarantee == "training_conditional" or highest + 1 / (about.ordinary + 1) > alpha


def test_a_row_at_the_line_alarms() -> None:
    rule = alarm_rule(calibration(99), 0.05, "marginal")
    flagged = rule.flagged(np.array([4, 5, 6]))
    assert flagged is not None
    assert flagged.tolist() == [True, True, False]
    assert rule.p_values(np.array([5])).tolist() == p_values(np.arange(99.0), [94.5]).tolist() == [0.05]


@pytest.mark.parametrize(("guarantee", "rank"), [("marginal", 50), ("training_conditional", 39)])
def test_a_guarantee_of_the_calibration_set_alarms_later(guarantee: Guarantee, rank: int) -> None:
    # By SciPy, beta.ppf(0.95, 39, 1000 - 39) = 0.0496 and beta.ppf(0.95, 40, 1000 - 40) = 0.0507.
    assert alarm_rule(calibration(999), 0.05, guarantee).rank == rank


def test_ties_take_the_low_end_of_the_interval() -> None:
    assert alarm_rule(calibration(999, tied=0.01), 0.05, "marginal").interval == rate_interval(999, 50)
    _, high = rate_interval(999, 50) or (0.0, 0.0)
    assert alarm_rule(calibration(999, tied=0.0101), 0.05, "marginal").interval == (0.0, high)
