"""Convergence rates: the searches against the plain formulas, the truth, and slopes that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from benchmarks.convergence_rates import HIGH, LOW, draw, slope, squared_error, truth
from benchmarks.tools.least_squares_cv import best_bandwidth, neighbour_distance
from models.base import registry


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.lists(st.floats(-9, 9), min_size=1, max_size=9), st.data()
)
def test_the_kth_neighbour_is_the_kth(rows: list[float], asked: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(rows)))
    ordered, x = np.sort(rows), np.array(asked)
    wanted = np.sort(np.abs(x[:, None] - ordered), axis=1)[:, k - 1]
    assert np.allclose(neighbour_distance(ordered, x, k), wanted, rtol=0, atol=1e-12)


def test_the_bandwidth_has_the_least_risk_by_the_plain_formula() -> None:
    rows = draw(200, 0)
    distances = rows[:, None] - rows

    def risk(h: float) -> float:
        others = norm.pdf(distances, scale=h).sum() - 200 * norm.pdf(0, scale=h)
        return float(norm.pdf(distances, scale=np.sqrt(2) * h).sum() / 200**2 - 2 * others / (200 * 199))

    chosen = best_bandwidth(rows)
    assert all(risk(chosen) <= risk(chosen * factor) + 1e-6 for factor in (0.5, 0.8, 0.9, 1.1, 1.25, 2.0))


def test_the_truth_is_the_law_that_rows_are_drawn_from() -> None:
    assert quad(lambda x: truth(np.array([x]))[0], LOW, HIGH, points=[-1.5, 1.5])[0] == pytest.approx(1, abs=1e-9)
    rows = draw(20_000, 0)
    for point in (-2.0, -1.0, 0.5, 2.0):
        share = quad(lambda x: truth(np.array([x]))[0], LOW, point)[0]
        assert np.mean(rows < point) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 20_000))


@pytest.mark.parametrize("name", ["mixture-of-gaussians", "kernel-density", "nearest-neighbours", "histogram"])
def test_an_estimate_of_many_rows_is_nearer_the_truth(name: str) -> None:
    if name not in registry():
        pytest.skip(f"this version has no family {name}")
    few, many = (np.mean([squared_error(name, draw(n, r))[0] for r in range(3)]) for n in (100, 2000))
    assert 0 < many < few < 0.1


def test_a_slope_that_is_known_is_found_and_lies_in_its_interval() -> None:
    generator = np.random.default_rng(0)
    errors = {n: list(n**-0.8 * generator.gamma(4, 0.25, 40)) for n in (100, 1000, 10_000)}
    found, low, high = slope(errors)
    assert low < -0.4 < high
    assert low < found < high
    assert high - low < 0.1
