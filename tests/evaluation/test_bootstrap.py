"""Means with intervals over sets and seeds, against variances worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.bootstrap import Interval, bootstrap, verdict

FIGURES = st.dictionaries(
    st.sampled_from("abcdefgh"), st.lists(st.floats(-1, 1), min_size=1, max_size=5), min_size=1, max_size=6
)


@settings(max_examples=25, deadline=None)
@given(FIGURES, st.floats(-1, 1))
def test_the_interval_holds_the_mean_over_sets_and_moves_with_the_figures(
    values: dict[str, list[float]], shift: float
) -> None:
    found = bootstrap(values)
    assert found.mean == pytest.approx(np.mean([np.mean(seeds) for seeds in values.values()]))
    low = min(min(seeds) for seeds in values.values())
    high = max(max(seeds) for seeds in values.values())
    assert low - 1e-12 <= found.low <= found.high <= high + 1e-12
    moved = bootstrap({name: [figure + shift for figure in seeds] for name, seeds in values.items()})
    assert moved.low == pytest.approx(found.low + shift, abs=1e-9)
    assert moved.high == pytest.approx(found.high + shift, abs=1e-9)


def test_figures_that_are_all_alike_leave_no_doubt() -> None:
    assert bootstrap({"a": [0.25] * 5, "b": [0.25]}) == Interval(0.25, 0.25, 0.25)


def test_the_width_is_that_of_the_variance_between_sets_and_within_them() -> None:
    generator = np.random.default_rng(1)
    figures = generator.normal(size=(40, 1)) + 2.0 * generator.normal(size=(40, 5))
    found = bootstrap({str(place): seeds.tolist() for place, seeds in enumerate(figures)})
    between, within = figures.mean(axis=1).var(), figures.var(axis=1).mean()
    width = 2 * 1.96 * np.sqrt(between / 40 + within / (40 * 5))
    assert found.high - found.low == pytest.approx(width, rel=0.05)


def test_sets_of_one_source_are_drawn_together() -> None:
    values = {"a": [0.0], "b": [1.0], "c": [0.5]}
    together = bootstrap(values, {"a": "one", "b": "one", "c": "other"})
    assert together == Interval(0.5, 0.5, 0.5)  # the means of both sources are 0.5, whichever are drawn
    apart = bootstrap(values)
    assert (apart.low, apart.high) == (0.0, 1.0)


def test_a_source_counts_by_its_sets() -> None:
    found = bootstrap({"a": [1.0], "b": [1.0], "c": [0.0]}, {"a": "one", "b": "one", "c": "other"})
    assert found.mean == pytest.approx(2 / 3)
    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.parametrize("values", [{}, {"a": [0.5], "b": []}])
def test_a_set_without_a_figure_is_refused(values: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="without a figure"):
        bootstrap(values)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.001, 0.02, "ours is better"),
        (-0.009, 0.02, "ours is not inferior"),
        (-0.011, 0.02, "not shown: the interval reaches below −0.01"),
        (-0.03, -0.011, "ours is inferior by more than a point"),
    ],
)
def test_what_an_interval_says(low: float, high: float, words: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high)) == words
