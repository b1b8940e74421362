"""Drift: the distance is SciPy's, the online p-values are uniform, and the martingale keeps its level and its power."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special, stats

from contract.drift import CHUNK, Martingale, OnlineRanks, _kolmogorov_tail, kolmogorov_smirnov

Numbers = NDArray[np.float64]
LEVEL = 0.001


def in_chunks(values: Numbers, see: Callable[[Numbers], Numbers], size: int = CHUNK) -> Numbers:
    return np.concatenate([see(values[i : i + size]) for i in range(0, len(values), size)])


def online(calibration: Numbers, scores: Numbers, seed: int, size: int = CHUNK) -> Numbers:
    return in_chunks(scores, OnlineRanks(np.sort(calibration), np.random.default_rng(seed)), size)


def wealth(p: Numbers, size: int = CHUNK) -> Numbers:
    """Logarithm of the martingale after each p-value."""
    return in_chunks(p, Martingale(), size)


def alarm_at(path: Numbers, level: float = LEVEL) -> int | None:
    above = np.flatnonzero(path >= -np.log(level))
    return int(above[0]) + 1 if len(above) else None


# -- the distance -------------------------------------------------------------------------------------------------

few_levels = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=12)


@given(few_levels, few_levels)
def test_the_statistic_is_scipy_s_with_ties(calibration: list[float], scores: list[float]) -> None:
    statistic, p_value = kolmogorov_smirnov(np.sort(np.array(calibration)), scores)
    assert statistic == pytest.approx(stats.ks_2samp(calibration, scores, method="asymp").statistic, abs=1e-15)
    assert 0.0 <= p_value <= 1.0


@pytest.mark.parametrize(("n", "m"), [(99, 64), (99, 1024), (500, 1024), (2000, 256), (2000, 1024)])
@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_the_p_value_is_close_to_the_exact_one(n: int, m: int, shift: float) -> None:
    random = np.random.default_rng(n + m)
    calibration, scores = np.sort(random.normal(size=n)), random.normal(size=m) + shift
    exact = stats.ks_2samp(calibration, scores, method="exact")
    statistic, p_value = kolmogorov_smirnov(calibration, scores)
    assert statistic == pytest.approx(exact.statistic, abs=1e-14)
    assert p_value == pytest.approx(exact.pvalue, rel=0.1, abs=1e-9)


def test_the_tail_is_kolmogorov_s() -> None:
    x = np.concatenate([[0.0, 1e-9, 0.0399, 0.04, 0.99999, 1.0], np.linspace(0.05, 6.0, 200)])
    assert [_kolmogorov_tail(value) for value in x] == pytest.approx(special.kolmogorov(x), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(("calibration", "scores"), [([], [1.0]), ([1.0], [])])
def test_an_empty_sample_has_no_distance(calibration: list[float], scores: list[float]) -> None:
    with pytest.raises(ValueError, match="empty"):
        kolmogorov_smirnov(np.array(calibration), scores)


# -- online p-values ----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.lists(st.integers(-1, 6), min_size=1, max_size=60))
def test_p_values_are_those_of_an_urn_kept_by_hand(calibration: list[int], scores: list[int]) -> None:
    known = np.sort(np.array(calibration, dtype=np.float64))
    got = online(known, np.array(scores, dtype=np.float64), seed=7, size=3)
    random = np.random.default_rng(7)
    # Equals are told apart by numbers of their own: of calibration scores at the start, of each other as it comes.
    coins = random.random(len(known))
    balls = sorted(zip(known, coins, strict=True))
    cells = [1] * (len(balls) + 1)
    for score, p in zip(scores, got, strict=True):
        u, coin = random.random(2)
        cell = sum(ball < (score, coin) for ball in balls)
        above, own = sum(cells[cell + 1 :]), cells[cell]
        assert p == pytest.approx((above + u * own) / sum(cells), abs=1e-12)
        cells[cell] += 1


def test_larger_scores_have_smaller_p_values() -> None:
    calibration = np.arange(99.0)
    p = np.array([online(calibration, np.array([score]), seed=3)[0] for score in (-5.0, 20.5, 50.5, 80.5, 500.0)])
    assert (np.diff(p) < 0.0).all()
    assert p[0] > 0.99
    assert p[-1] < 0.01


@pytest.mark.parametrize("levels", [None, 3], ids=["continuous", "tied"])
def test_p_values_are_uniform_and_independent(levels: int | None) -> None:
    """Over draws of a few calibration scores, beside which p-values among those alone would depend most."""
    random = np.random.default_rng(1)

    def draw(n: int) -> Numbers:
        return random.normal(size=n) if levels is None else random.integers(0, levels, size=n).astype(float)

    p = np.array([online(draw(4), draw(5), seed=i) for i in range(4000)])
    for t in range(5):
        assert stats.kstest(p[:, t], "uniform").pvalue > 1e-3
        for s in range(t):
            # The fractional part of a sum is uniform if one of the two is, given the other.
            assert stats.kstest((p[:, t] + p[:, s]) % 1.0, "uniform").pvalue > 1e-3
            assert abs(np.corrcoef(p[:, t], p[:, s])[0, 1]) < 4.0 / np.sqrt(len(p))


def test_p_values_among_the_calibration_scores_alone_are_not_independent() -> None:
    """What the module's words say, and why it is not done: here at the same size as above."""
    random = np.random.default_rng(1)
    p = np.array([(1 + (random.normal(size=4)[:, None] > random.normal(size=5)).sum(axis=0)) / 5 for _ in range(4000)])
    assert np.corrcoef(p[:, 0], p[:, 4])[0, 1] > 8.0 / np.sqrt(len(p))


# -- the martingale -----------------------------------------------------------------------------------------------


def test_a_bet_on_a_uniform_p_value_is_fair() -> None:
    middles = (np.arange(400) + 0.5) / 400
    first = [np.exp(Martingale()(np.array([p]))[0]) for p in middles]
    assert np.mean(first) == pytest.approx(1.0, abs=1e-5)
    # Given whatever came before, the mean of what comes next is what there was.
    before = np.array([0.01, 0.02, 0.3, 0.9, 0.01])
    after = [np.exp(wealth(np.append(before, p))[-1]) for p in middles]
    assert np.mean(after) == pytest.approx(np.exp(wealth(before)[-1]), rel=1e-5)


@pytest.mark.parametrize("n", [9, 99, 1000])
@pytest.mark.parametrize("levels", [None, 6], ids=["continuous", "tied"])
def test_the_alarm_keeps_its_level(n: int, levels: int | None) -> None:
    """Ville's inequality: P(the wealth ever reaches 1 / level) <= level, here within 1024 rows, at every row."""
    random, times, level = np.random.default_rng(n), 500, 0.1

    def draw(k: int) -> Numbers:
        return random.normal(size=k) if levels is None else np.floor(random.gamma(2.0, size=k) * levels / 4)

    alarms = sum(alarm_at(wealth(online(draw(n), draw(1024), seed=i)), level) is not None for i in range(times))
    assert alarms <= stats.binom.ppf(0.999, times, level)


def test_bets_on_p_values_among_the_calibration_scores_alone_would_not_keep_it() -> None:
    """The same bets, the same rows, with a fixed set of 99 scores to rank among: nearly all of them alarm."""
    random, fixed, kept = np.random.default_rng(5), 0, 0
    for i in range(20):
        calibration, scores = np.sort(random.normal(size=99)), random.normal(size=20_000)
        ranks = np.searchsorted(-calibration[::-1], -scores)  # calibration scores above
        fixed += alarm_at(wealth((ranks + random.random(len(scores))) / 100)) is not None
        kept += alarm_at(wealth(online(calibration, scores, seed=i))) is not None
    assert fixed >= 15
    assert kept <= 1


SHIFTS: dict[str, Callable[[Numbers], Numbers]] = {
    "up": lambda z: z + 0.5,
    "down": lambda z: z - 0.5,
    "wider": lambda z: 1.5 * z,
    "narrower": lambda z: z / 1.5,
}
"""Changes of a standard normal law that are noticed within ``WITHIN`` rows."""
WITHIN = 400


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("before", [0, 2000, 50_000])
def test_a_shift_is_noticed_soon_whenever_it_comes(shift: str, before: int) -> None:
    for seed in range(5 if before < 10_000 else 2):
        random = np.random.default_rng(seed)
        rows = np.concatenate([random.normal(size=before), SHIFTS[shift](random.normal(size=WITHIN))])
        at = alarm_at(wealth(online(random.normal(size=2000), rows, seed)))
        assert at is not None
        assert at > before


def test_wealth_stays_finite_whatever_comes() -> None:
    martingale = Martingale()
    high = in_chunks(np.full(20_000, 1e-9), martingale)
    low = in_chunks(np.random.default_rng(0).random(100_000), martingale)
    assert np.isfinite(high).all()
    assert np.isfinite(low).all()
    assert high[-1] > 10_000.0
    assert low[-1] < high[-1]
    assert martingale.rows == 120_000
    # The cash that is left is never lost.
    assert low.min() > -np.log(1.0 + np.log(120_001.0)) - 1e-9


@given(st.lists(st.integers(1, CHUNK), min_size=1, max_size=20))
def test_it_makes_no_difference_how_rows_are_divided(sizes: list[int]) -> None:
    random = np.random.default_rng(11)
    calibration, scores = np.sort(random.normal(size=50).round(1)), random.normal(size=sum(sizes)).round(1)
    ranks, martingale = OnlineRanks(calibration, np.random.default_rng(2)), Martingale()
    parts = [ranks(part) for part in np.split(scores, np.cumsum(sizes)[:-1])]
    assert np.concatenate(parts).tolist() == online(calibration, scores, 2).tolist()
    path = np.concatenate([martingale(part) for part in parts])
    assert path == pytest.approx(wealth(np.concatenate(parts)), abs=1e-9)
