"""Folds: disjoint, of the stated sizes, stable under reordering, repeats kept together unless told otherwise."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from contract.support import Column, Support
from training.data import Dataset, Fold, row_hashes
from training.errors import FoldError
from training.folds import CROSS_FITS, Folds, assign, carve, cross_fit_parts, fold_sizes, make_folds
from training.recipe import FoldPlan

COLUMNS = tuple(Column(name=name, kind="real", base_measure="lebesgue") for name in "ab")


def dataset(rows: NDArray[np.float64], test: NDArray[np.float64] | None = None) -> Dataset:
    return Dataset(rows, Support(shape=(2,), columns=COLUMNS), "made up", test=test)


def rows_of(n: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n, 2))


def as_set(rows: NDArray[np.float64] | Fold) -> set[bytes]:
    return {row.tobytes() for row in (rows.rows if isinstance(rows, Fold) else rows)}


distinct_rows = st.builds(rows_of, st.integers(30, 900), st.integers(0, 10))
repeated_rows = st.lists(st.integers(0, 60), min_size=40, max_size=300).map(
    lambda values: np.array([[v, -v] for v in values], dtype=np.float64)
)
plans = st.builds(FoldPlan, key=st.integers(0, 2**53 - 1), test=st.floats(0.1, 0.3), validation=st.floats(0.05, 0.3))


def split(rows: NDArray[np.float64], plan: FoldPlan) -> Folds | None:
    try:
        return make_folds(dataset(rows), plan, calibrated=True, validated=True)
    except FoldError:
        return None


@given(distinct_rows, plans)
def test_every_row_is_in_exactly_one_fold(rows: NDArray[np.float64], plan: FoldPlan) -> None:
    folds = make_folds(dataset(rows), plan, calibrated=True, validated=True).named()
    assert sum(len(part) for part in folds.values()) == len(rows)
    assert set.union(*(as_set(part) for part in folds.values())) == as_set(rows)


@given(distinct_rows, plans)
def test_sizes_without_repeats(rows: NDArray[np.float64], plan: FoldPlan) -> None:
    n = len(rows)
    folds = make_folds(dataset(rows), plan, calibrated=True, validated=True)
    assert folds.calibration is not None
    assert folds.validation is not None
    assert len(folds.calibration) == min(2000, max(99 if n >= 198 else 19, n // 4), n // 2)
    assert len(folds.test) == max(1, round(plan.test * n))
    assert len(folds.validation) == max(1, round(plan.validation * (len(folds.train) + len(folds.validation))))
    assert (folds.reference is None) == (n < 400)
    assert folds.reference is None or len(folds.reference) == len(folds.calibration)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(30, 15), (60, 19), (100, 25), (197, 49), (198, 99), (357, 99), (400, 100), (8000, 2000), (60000, 2000)],
)
def test_calibration_size(n: int, expected: int) -> None:
    assert fold_sizes(n, FoldPlan(), official_test=False, calibrated=True)["calibration"] == expected


@given(repeated_rows, plans, st.randoms(use_true_random=False))
def test_equal_rows_share_a_fold(rows: NDArray[np.float64], plan: FoldPlan, random: object) -> None:
    folds = split(rows, plan)
    if folds is not None:
        parts = [as_set(part) for part in folds.named().values()]
        assert sum(len(part) for part in parts) == len(as_set(rows))


@given(repeated_rows, plans)
def test_repeats_apart_give_the_exact_sizes(rows: NDArray[np.float64], plan: FoldPlan) -> None:
    apart = plan.model_copy(update={"repeats": "apart"})
    folds = make_folds(dataset(rows), apart, calibrated=True, validated=False)
    sizes = fold_sizes(len(rows), plan, official_test=False, calibrated=True)
    assert {name: len(part) for name, part in folds.named().items() if name in sizes} == sizes


@given(repeated_rows, plans, st.sampled_from(["together", "apart"]), st.integers(0, 100))
def test_the_order_of_the_file_does_not_matter(
    rows: NDArray[np.float64], plan: FoldPlan, repeats: str, seed: int
) -> None:
    plan = plan.model_copy(update={"repeats": repeats})
    one = split(rows, plan)
    other = split(np.random.default_rng(seed).permutation(rows), plan)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert one.provenance() == other.provenance()
        for name, part in one.named().items():
            assert np.array_equal(part.rows, other.named()[name].rows)


def test_another_key_deals_anew() -> None:
    rows = rows_of(500)
    one, other = (make_folds(dataset(rows), FoldPlan(key=key), calibrated=True, validated=True) for key in (0, 1))
    assert one.provenance()["test"] != other.provenance()["test"]
    # Of 100 test rows about a fifth are test rows under the other key too.
    assert 5 <= len(as_set(one.test) & as_set(other.test)) <= 40


def test_folds_follow_no_trend_in_the_rows() -> None:
    rows = np.stack([np.arange(4000.0), np.zeros(4000)], axis=1)
    folds = make_folds(dataset(rows), FoldPlan(), calibrated=True, validated=True)
    for name, part in folds.named().items():  # a mean of m of the ranks has this standard deviation
        assert abs(part.rows[:, 0].mean() - 1999.5) < 4.5 * 4000 / np.sqrt(12 * len(part)), name


def test_an_official_test_split_stays_and_nothing_of_it_is_trained_on() -> None:
    rows = rows_of(600)
    official = np.concatenate([rows[:5], rows_of(50, seed=1)])
    folds = make_folds(dataset(rows, official), FoldPlan(), calibrated=True, validated=True)
    assert np.array_equal(folds.test.rows, official)
    others = [as_set(part) for name, part in folds.named().items() if name != "test"]
    assert not set.union(*others) & as_set(official)
    assert sum(map(len, others)) == 595


def test_without_an_anomaly_section_every_row_trains_or_tests() -> None:
    folds = make_folds(dataset(rows_of(500)), FoldPlan(), calibrated=False, validated=False)
    assert {name: len(part) for name, part in folds.named().items()} == {"train": 400, "test": 100}


def test_too_few_distinct_rows_are_refused() -> None:
    with pytest.raises(FoldError, match="500 rows, 1 of them distinct"):
        make_folds(dataset(np.ones((500, 2))), FoldPlan(), calibrated=True, validated=True)


@given(distinct_rows, plans)
def test_carving_sets_the_share_aside(rows: NDArray[np.float64], plan: FoldPlan) -> None:
    remain, aside = carve(Fold(rows), plan)
    assert len(aside) == max(1, round(plan.validation * len(rows)))
    assert as_set(remain) | as_set(aside) == as_set(rows)
    assert len(remain) + len(aside) == len(rows)


@given(repeated_rows, plans)
def test_cross_fits_hold_every_row_out_once(rows: NDArray[np.float64], plan: FoldPlan) -> None:
    try:
        parts = cross_fit_parts(Fold(rows), plan)
    except FoldError:
        return
    assert len(parts) == CROSS_FITS
    assert sum(len(held) for _, held in parts) == len(rows)
    for fitted, held in parts:
        assert len(fitted) + len(held) == len(rows)
        assert not as_set(fitted) & as_set(held)
    for one, other in pairwise(held for _, held in parts):
        assert not as_set(one) & as_set(other)


def test_a_fold_exceeds_its_size_by_no_more_than_one_group() -> None:
    hashes = np.array([5, 5, 5, 1, 2, 2, 9], dtype=np.uint64)
    dealt = assign(hashes, {"first": 2, "second": 2}, "rest")
    assert {name: sorted(hashes[at].tolist()) for name, at in dealt.items()} == {
        "first": [1, 2, 2],
        "second": [5, 5, 5],
        "rest": [9],
    }


def test_hashes_see_bytes_and_key_alone() -> None:
    rows = rows_of(5)
    assert np.array_equal(row_hashes(rows), row_hashes(np.asfortranarray(rows)))
    assert np.array_equal(row_hashes(rows)[::-1], row_hashes(rows[::-1]))
    assert not np.isin(row_hashes(rows), row_hashes(rows, key=1)).any()
    # Pinned: another hash would move every fold of every bundle.
    assert row_hashes(np.array([[0.0, 1.0]]))[0] == 5413829413592519456


# -- labels --------------------------------------------------------------------------------------------------------


def labelled(rows: NDArray[np.float64], test: NDArray[np.float64] | None = None) -> Dataset:
    """Rows whose label says whether their first column is even."""

    def label(part: NDArray[np.float64]) -> NDArray[np.int64]:
        return (part[:, 0] % 2 == 0).astype(np.int64)

    data = dataset(rows, test)
    test_labels = None if test is None else label(test)
    return replace(data, labels=label(rows), test_labels=test_labels, label_names=("odd", "even"))


@given(repeated_rows, plans, st.sampled_from(["together", "apart"]), st.booleans())
def test_labels_go_where_their_rows_go(rows: NDArray[np.float64], plan: FoldPlan, repeats: str, official: bool) -> None:
    plan = plan.model_copy(update={"repeats": repeats})
    data = labelled(rows[5:], rows[:5]) if official else labelled(rows)
    try:
        folds = make_folds(data, plan, calibrated=True, validated=True)
    except FoldError:
        return
    parts = [*folds.named().values(), folds.fitted]
    with suppress(FoldError):
        parts += [part for pair in cross_fit_parts(folds.fitted, plan) for part in pair]
    for part in parts:
        assert part.labels is not None
        assert np.array_equal(part.labels, part.rows[:, 0] % 2 == 0)


@given(plans, st.integers(0, 100))
def test_equal_rows_of_different_labels_are_dealt_the_same_in_any_order(plan: FoldPlan, seed: int) -> None:
    plan = plan.model_copy(update={"repeats": "apart"})
    rows = np.repeat(np.arange(50.0), 8)[:, None].repeat(2, axis=1)
    labels = np.tile(np.arange(4), 100)
    order = np.random.default_rng(seed).permutation(len(rows))
    one, other = (
        make_folds(replace(dataset(rows[at]), labels=labels[at]), plan, calibrated=True, validated=True).named()
        for at in (np.arange(len(rows)), order)
    )
    for name, part in one.items():
        assert np.array_equal(part.rows, other[name].rows)
        assert np.array_equal(part.labels, other[name].labels)


def test_labels_change_no_fold() -> None:
    rows = rows_of(500)
    plain, with_labels = (
        make_folds(data, FoldPlan(), calibrated=True, validated=True) for data in (dataset(rows), labelled(rows))
    )
    assert plain.provenance() == with_labels.provenance()
    assert plain.test.labels is None


def test_a_fold_holds_a_label_for_each_row() -> None:
    with pytest.raises(ValueError, match="3 rows with labels of shape"):
        Fold(np.zeros((3, 2)), np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match="rows with labels and rows without"):
        Fold(np.zeros((1, 2)), np.zeros(1, dtype=np.int64)) + Fold(np.zeros((1, 2)))
