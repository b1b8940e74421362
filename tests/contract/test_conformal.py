"""Conformal p-values: super-uniform with ties, and a realised rate that follows the beta law."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from contract.conformal import (
    CONFIDENCE,
    Guarantee,
    alarm_rank,
    calibration_needed,
    false_alarm_interval,
    p_values,
    ranks,
    rate_interval,
    smallest_p_value,
    tied_share,
    training_conditional_rank,
)

few_levels = st.lists(st.integers(0, 4), min_size=2, max_size=9)


@given(few_levels)
def test_p_values_are_super_uniform_with_ties(scores: list[int]) -> None:
    # Exchangeable scores: each of the n + 1 is equally likely to be the new one. So the mean over that choice is the
    # probability itself, not a simulation of it.
    n = len(scores) - 1
    p = []
    for i in range(n + 1):
        calibration = np.sort(np.array(scores[:i] + scores[i + 1 :], dtype=np.float64))
        p.append(p_values(calibration, float(scores[i])).item())
    for k in range(1, n + 2):
        alpha = k / (n + 1)
        assert sum(value <= alpha for value in p) <= k
    assert min(p) >= smallest_p_value(n)
    assert max(p) <= 1.0


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=9, unique=True))
def test_p_values_are_uniform_without_ties(scores: list[int]) -> None:
    n = len(scores) - 1
    p = [
        p_values(np.sort(np.array(scores[:i] + scores[i + 1 :], dtype=np.float64)), float(scores[i])).item()
        for i in range(n + 1)
    ]
    np.testing.assert_array_equal(np.sort(p), np.arange(1, n + 2) / (n + 1))


@given(few_levels, st.lists(st.integers(-1, 5), min_size=1, max_size=5))
def test_ranks_count_the_calibration_scores_at_or_above(calibration: list[int], scores: list[int]) -> None:
    sorted_scores = np.sort(np.array(calibration, dtype=np.float64))
    expected = [1 + sum(c >= s for c in calibration) for s in scores]
    np.testing.assert_array_equal(ranks(sorted_scores, scores), expected)
    np.testing.assert_array_equal(p_values(sorted_scores, scores), np.array(expected) / (len(calibration) + 1))


def test_infinite_scores_have_ranks() -> None:
    calibration = np.array([-np.inf, 0.0, np.inf])
    np.testing.assert_array_equal(ranks(calibration, [np.inf, -np.inf, 1.0]), [2, 4, 2])


def test_a_score_that_is_not_a_number_has_no_rank() -> None:
    with pytest.raises(ValueError, match="NaN"):
        p_values(np.array([0.0, 1.0]), [0.5, np.nan])


@pytest.mark.parametrize("n", [1, 9, 19, 99, 113, 499, 1999])
def test_the_alarm_rank_is_the_floor_of_the_exact_product(n: int) -> None:
    for thousandths in range(1, 1000):
        exact = Fraction(thousandths, 1000) * (n + 1)
        assert alarm_rank(n, thousandths / 1000) == exact.numerator // exact.denominator
    for k in range(1, n + 1):
        assert alarm_rank(n, k / (n + 1)) == k


@pytest.mark.parametrize("n", [9, 99, 113, 1999])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.29])
def test_a_rank_alarms_exactly_when_its_p_value_does(n: int, alpha: float) -> None:
    calibration = np.arange(n, dtype=np.float64)
    scores = np.arange(-1, n + 1) + 0.5
    by_rank = ranks(calibration, scores) <= alarm_rank(n, alpha)
    np.testing.assert_array_equal(by_rank, p_values(calibration, scores) <= alpha)


@pytest.mark.parametrize("n", [19, 99, 113, 500, 2000])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_the_false_alarm_interval_is_the_beta_law_s(n: int, alpha: float, level: float) -> None:
    interval = false_alarm_interval(n, alpha, level)
    k = alarm_rank(n, alpha)
    assert interval is not None
    expected = stats.beta(k, n + 1 - k).ppf([(1 - level) / 2, (1 + level) / 2])
    np.testing.assert_allclose(interval, expected, rtol=1e-9)


def test_an_alpha_that_n_cannot_reach_has_no_interval() -> None:
    assert alarm_rank(18, 0.05) == 0
    assert false_alarm_interval(18, 0.05) is None
    assert false_alarm_interval(19, 0.05) is not None


def test_an_alarm_at_every_rank_has_rate_one() -> None:
    assert false_alarm_interval(9, 0.9999999999999) == (1.0, 1.0)


def test_alarms_of_one_calibration_set_follow_the_beta_binomial_law() -> None:
    # 4,000 calibration sets of 39 scores, 25 ordinary rows each, at alpha 0.1: the counts of alarms have the law
    # beta-binomial(25, 4, 36), and by the luck of the calibration draw not binomial(25, 0.1).
    n, rows, alpha, repeats = 39, 25, 0.1, 4000
    rng = np.random.default_rng(20050901)
    k = alarm_rank(n, alpha)
    counts = np.empty(repeats, dtype=np.int64)
    for repeat in range(repeats):
        calibration = np.sort(rng.standard_normal(n))
        counts[repeat] = (p_values(calibration, rng.standard_normal(rows)) <= alpha).sum()

    def chi_square_p(law: stats.rv_discrete) -> float:
        top = 9  # the last cell holds this count and above, so that each cell expects more than five
        expected = np.append(law.pmf(np.arange(top)), law.sf(top - 1)) * repeats
        observed = np.bincount(np.minimum(counts, top), minlength=top + 1)
        return float(stats.chisquare(observed, expected).pvalue)

    assert chi_square_p(stats.betabinom(rows, k, n + 1 - k)) > 0.001
    assert chi_square_p(stats.binom(rows, alpha)) < 1e-6


def test_the_interval_is_the_beta_law_s_for_many_rows_too() -> None:
    n, alpha = 1_000_000, 0.001
    expected = stats.beta(1000, n - 999).ppf([0.025, 0.975])
    np.testing.assert_allclose(false_alarm_interval(n, alpha), expected, rtol=1e-8)


def test_tied_scores_are_counted() -> None:
    assert tied_share(np.array([0.0, 1.0, 2.0])) == 0.0
    assert tied_share(np.array([0.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0])) == 5 / 8


# -- training-conditional alarms -----------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.floats(1e-4, 0.9999))
def test_the_training_conditional_rank_is_the_largest_with_its_quantile_in_reach(n: int, alpha: float) -> None:
    k = training_conditional_rank(n, alpha)
    assert 0 <= k <= n
    if k:
        assert stats.beta(k, n + 1 - k).ppf(CONFIDENCE) <= alpha + 1e-9
    if k < n:
        assert stats.beta(k + 1, n - k).ppf(CONFIDENCE) > alpha - 1e-9
    assert k <= alarm_rank(n, alpha)


@given(st.integers(1, 2000), st.floats(1e-4, 0.9999), st.floats(1e-4, 0.9999))
def test_a_larger_rate_never_alarms_less(n: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert training_conditional_rank(n, low) <= training_conditional_rank(n, high)


@given(st.floats(5e-324, 0.999999))
def test_as_many_rows_as_are_needed_reach_a_rate_and_one_less_does_not(alpha: float) -> None:
    rules: dict[Guarantee, Callable[[int, float], int]] = {
        "marginal": alarm_rank,
        "training_conditional": training_conditional_rank,
    }
    for guarantee, rank in rules.items():
        needed = calibration_needed(alpha, guarantee)
        if needed is None:
            assert rank(10**9 - 1, alpha) == 0
        else:
            assert rank(needed, alpha) >= 1
            assert needed == 1 or rank(needed - 1, alpha) == 0


def test_59_rows_reach_a_training_conditional_rate_of_one_in_twenty() -> None:
    assert calibration_needed(0.05, "training_conditional") == 59  # 0.95 ** 59 < 0.05 < 0.95 ** 58
    assert training_conditional_rank(58, 0.05) == 0
    assert calibration_needed(0.05, "marginal") == 19


@pytest.mark.parametrize(("n", "alpha"), [(99, 0.05), (500, 0.05), (500, 0.1), (2000, 0.01)])
@pytest.mark.parametrize("step", [0.0, 0.05], ids=["without ties", "with ties"])
def test_a_training_conditional_rate_is_kept_by_19_calibration_sets_of_20(n: int, alpha: float, step: float) -> None:
    # Scores are uniform, or rounded down to steps: the realised rate above a threshold is then known exactly.
    splits = 4000
    rng = np.random.default_rng([2012, n])
    k = training_conditional_rank(n, alpha)
    scores = rng.random((splits, n))
    scores = np.floor(scores / step) * step if step else scores
    threshold = np.sort(scores, axis=1)[:, n - k]  # a row of rank k or less scores above the k-th largest
    rate = 1.0 - (threshold + step)
    kept = int((rate <= alpha + 1e-9).sum())
    assert stats.binomtest(kept, splits, CONFIDENCE, alternative="less").pvalue > 0.001


# -- contaminated calibration rows ---------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=9),
    st.lists(st.integers(-1, 5), max_size=4),
    st.integers(0, 2),
)
def test_p_values_are_super_uniform_whatever_contaminated_rows_score(
    ordinary: list[int], contaminated: list[int], more: int
) -> None:
    # Of the ordinary rows each is the new one in turn; as many contaminated ones as are allowed for, or fewer.
    n_0 = len(ordinary) - 1
    p = []
    for i in range(n_0 + 1):
        calibration = np.sort(np.array(ordinary[:i] + ordinary[i + 1 :] + contaminated, dtype=np.float64))
        p.append(p_values(calibration, float(ordinary[i]), min(len(contaminated) + more, len(calibration) - 1)).item())
    for k in range(1, n_0 + 2):
        assert sum(value <= k / (n_0 + 1) for value in p) <= k
    assert max(p) <= 1.0


def test_p_values_that_ignore_contamination_are_not() -> None:
    calibration = np.sort(np.concatenate([np.arange(10.0), np.full(10, -1.0)]))  # anomalies that score low
    assert p_values(calibration, 9.5) == 1 / 21
    assert p_values(calibration, 9.5, contaminated=10) == 1 / 11


@pytest.mark.parametrize("where", [-1.0, 2.0, 0.5])
def test_the_interval_of_a_contaminated_calibration_holds_the_rate(where: float) -> None:
    # Ordinary scores are uniform, the contaminated ones all below, above or amid them.
    n, c, alpha, splits = 400, 10, 0.1, 4000
    rng = np.random.default_rng(3)
    k = alarm_rank(n - c, alpha)
    interval = rate_interval(n, k, c)
    assert interval is not None
    scores = np.sort(np.concatenate([rng.random((splits, n - c)), np.full((splits, c), where)], axis=1), axis=1)
    rate = 1.0 - np.clip(scores[:, n - k], 0.0, 1.0)
    assert rate.mean() <= alpha + 3 * rate.std() / np.sqrt(splits)
    for outside in ((rate < interval[0]).sum(), (rate > interval[1]).sum()):
        assert stats.binomtest(int(outside), splits, 0.025, alternative="greater").pvalue > 0.001
    uncontaminated = rate_interval(n, k)
    assert uncontaminated is not None
    assert uncontaminated[1] < interval[1]
    assert rate_interval(n, c, c) == (0.0, pytest.approx(stats.beta(c, n - 2 * c + 1).ppf(0.975)))
