"""Discoveries: Benjamini and Hochberg's own definition, and planted anomalies among which the rate is kept."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from contract.conformal import calibration_needed, discoveries, fewest_discoveries, p_values, ranks

# Levels that are whole thousandths, as people write them; the definition is then decided in exact arithmetic.
levels = st.integers(1, 999)


@st.composite
def ranked(draw: st.DrawFn) -> tuple[list[int], int]:
    """Ranks of some rows, and the number of calibration rows."""
    n = draw(st.integers(1, 300))
    few = st.integers(1, min(n + 1, 9)) | st.integers(1, n + 1)
    return draw(st.lists(few, min_size=1, max_size=12)), n


def by_definition(rank: list[int], n: int, fdr: Fraction) -> list[bool]:
    """Reject the hypotheses with the j smallest p-values, of the largest j for which p_(j) <= fdr j / m."""
    m = len(rank)
    p = [Fraction(each, n + 1) for each in rank]
    largest = max((j for j in range(1, m + 1) if sorted(p)[j - 1] <= fdr * j / m), default=0)
    return [each <= sorted(p)[largest - 1] for each in p] if largest else [False] * m


@given(ranked(), levels)
def test_discoveries_are_by_definition(case: tuple[list[int], int], thousandths: int) -> None:
    rank, n = case
    found = discoveries(np.array(rank), n, thousandths / 1000)
    assert found.tolist() == by_definition(rank, n, Fraction(thousandths, 1000))


@given(ranked(), st.floats(1e-3, 0.999))
def test_discoveries_are_scipy_s(case: tuple[list[int], int], fdr: float) -> None:
    rank, n = case
    adjusted = stats.false_discovery_control(np.array(rank) / (n + 1), method="bh")
    clear = np.abs(adjusted - fdr) > 1e-9
    found = discoveries(np.array(rank), n, fdr)
    np.testing.assert_array_equal(found[clear], (adjusted <= fdr)[clear])


@given(ranked(), levels, levels)
def test_a_larger_level_never_discovers_less(case: tuple[list[int], int], one: int, other: int) -> None:
    rank, n = case
    low, high = (discoveries(np.array(rank), n, level / 1000) for level in sorted((one, other)))
    assert not (low & ~high).any()


@given(ranked(), levels, st.randoms())
def test_discoveries_follow_their_rows(case: tuple[list[int], int], thousandths: int, random: Random) -> None:
    rank, n = case
    order = np.argsort(np.array([random.random() for _ in rank]))
    found = discoveries(np.array(rank), n, thousandths / 1000)
    np.testing.assert_array_equal(discoveries(np.array(rank)[order], n, thousandths / 1000), found[order])


@given(st.integers(1, 300), st.integers(1, 60), levels)
def test_as_many_rows_as_must_be_the_strangest_are_discovered_and_one_less_is_not(
    n: int, m: int, thousandths: int
) -> None:
    fdr = thousandths / 1000
    fewest = fewest_discoveries(n, m, fdr)

    def discovered(strangest: int) -> int:
        return int(discoveries(np.array([1] * strangest + [n + 1] * (m - strangest)), n, fdr).sum())

    if fewest is None:
        assert discovered(m) == 0
        return
    assert discovered(fewest) >= fewest
    assert fewest == 1 or discovered(fewest - 1) == 0
    needed = calibration_needed(fdr / m, "marginal")
    assert needed is not None
    assert (fewest == 1) == (n >= needed)
    assert (fewest == 1) == (n >= m / Fraction(thousandths, 1000) - 1)


def test_no_level_is_too_small_to_be_asked_for() -> None:
    assert not discoveries(np.array([1, 1]), 10, 5e-324).any()
    assert fewest_discoveries(10, 2, 5e-324) is None
    assert fewest_discoveries(10, 10**6, 0.999) == 91_001


# -- planted anomalies ---------------------------------------------------------------------------------------------


def false_discoveries(
    *, n: int, ordinary: int, planted: int, shift: float, fdr: float, step: float, splits: int, contaminated: int = 0
) -> tuple[NDArray[np.float64], float]:
    """False discovery proportions of many calibration sets and requests, and the share of anomalies found.

    Ordinary scores are standard normal, anomalies' are shifted, and both are rounded to steps where ties are wanted.
    Contaminated calibration rows score lower than all others.
    """
    rng = np.random.default_rng([2023, n, ordinary, planted])
    share, found_of = np.empty(splits), 0
    for split in range(splits):
        scores = rng.standard_normal(n + ordinary + planted)
        scores[n + ordinary :] += shift
        scores = np.round(scores / step) * step if step else scores
        scores[:contaminated] = -99.0
        found = discoveries(ranks(np.sort(scores[:n]), scores[n:]), n - contaminated, fdr)
        share[split] = found[:ordinary].sum() / max(1, found.sum())
        found_of += int(found[ordinary:].sum())
    return share, found_of / max(1, planted * splits)


@pytest.mark.parametrize("fdr", [0.1, 0.3])
@pytest.mark.parametrize("step", [0.0, 0.5], ids=["without ties", "with ties"])
@pytest.mark.parametrize(("n", "contaminated"), [(99, 0), (499, 0), (499, 50)])
def test_the_mean_share_of_false_discoveries_is_kept(fdr: float, step: float, n: int, contaminated: int) -> None:
    ordinary, planted, splits = 40, 10, 3000
    share, power = false_discoveries(
        n=n,
        ordinary=ordinary,
        planted=planted,
        shift=4.0,
        fdr=fdr,
        step=step,
        splits=splits,
        contaminated=contaminated,
    )
    error = share.std() / np.sqrt(splits)
    assert share.mean() <= fdr * ordinary / (ordinary + planted) + 3 * error
    assert power > 0.5, "something is discovered"
    if not step and not contaminated:  # and the bound is met, not merely kept
        assert share.mean() >= 0.8 * fdr * ordinary / (ordinary + planted)


def test_without_anomalies_a_discovery_is_as_rare_as_the_level() -> None:
    share, _ = false_discoveries(n=499, ordinary=30, planted=0, shift=0.0, fdr=0.2, step=0.0, splits=3000)
    assert share.mean() <= 0.2 + 3 * share.std() / np.sqrt(3000)
    assert share.mean() > 0.1


def test_alarms_without_the_procedure_would_not_keep_the_share() -> None:
    # The same rows flagged at p <= 0.1 each: of so many ordinary rows, more are flagged than the level says.
    rng = np.random.default_rng(0)
    share = []
    for _ in range(300):
        scores = rng.standard_normal(599)
        scores[589:] += 4.0
        flagged = p_values(np.sort(scores[:499]), scores[499:]) <= 0.1
        share.append(flagged[:90].sum() / max(1, flagged.sum()))
    assert np.mean(share) > 0.3
