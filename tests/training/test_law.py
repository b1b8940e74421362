"""The law of the anomaly statistic: a density, strictly monotone in its tails, and nothing breaks it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from training.law import DirectionLaw, KernelLaw, silverman_bandwidth

REFERENCE = torch.from_numpy(np.random.default_rng(0).normal(-40, 3, size=333))


def scores(law: KernelLaw | DirectionLaw, values: object) -> np.ndarray:
    return law(torch.as_tensor(values, dtype=torch.float64)).numpy()


def test_the_score_is_minus_the_log_of_scipy_s_density() -> None:
    law = KernelLaw(REFERENCE)
    density = stats.gaussian_kde(REFERENCE.numpy(), bw_method=law.bandwidth / REFERENCE.numpy().std(ddof=1))
    grid = np.linspace(-55, -25, 200)
    assert np.allclose(scores(law, grid), -density.logpdf(grid), atol=1e-9)


def test_the_density_integrates_to_one() -> None:
    law = KernelLaw(REFERENCE)
    grid = np.linspace(-80, 0, 20_001)
    assert abs(np.trapezoid(np.exp(-scores(law, grid)), grid) - 1) < 1e-9


def test_silverman_s_bandwidth() -> None:
    values = torch.arange(1.0, 11.0, dtype=torch.float64)
    spread, quartiles = np.std(np.arange(1, 11), ddof=1), np.subtract(*np.percentile(np.arange(1, 11), [75, 25]))
    assert silverman_bandwidth(values) == pytest.approx(0.9 * min(spread, quartiles / 1.34) * 10**-0.2)
    # More than half of the values are equal: the quartiles say nothing.
    tied = torch.tensor([0.0] * 9 + [1.0], dtype=torch.float64)
    assert silverman_bandwidth(tied) == pytest.approx(0.9 * tied.std().item() * 10**-0.2)


@given(st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=30))
def test_tails_are_strictly_monotone(values: list[float]) -> None:
    law = KernelLaw(REFERENCE)
    low, high = REFERENCE.min().item(), REFERENCE.max().item()
    below = sorted(({low - abs(value) - 0.01 for value in values}), reverse=True)
    above = sorted({high + abs(value) + 0.01 for value in values})
    for tail in (below, above):
        got = scores(law, tail)
        assert np.isfinite(got).all()
        apart = np.abs(np.diff(tail)) > 1e-12 * np.abs(tail[1:])  # nearer than that, the squares round together
        assert (np.diff(got)[apart] > 0).all()
        assert (np.diff(got) >= 0).all()


def test_the_strangest_values_stay_in_order() -> None:
    got = scores(KernelLaw(REFERENCE), [-50, -1e3, -1e30, -1e90])
    assert (np.diff(got) > 0).all()
    assert np.isfinite(scores(KernelLaw(REFERENCE), [-np.inf, np.inf, -1e308])).all()
    assert np.isnan(scores(KernelLaw(REFERENCE), [np.nan])[0])


def test_rare_on_either_side_is_strange_and_the_middle_is_not() -> None:
    low, middle, high = scores(KernelLaw(REFERENCE), [-60.0, -40.0, -20.0])
    assert middle < low
    assert middle < high
    assert scores(DirectionLaw(), [-60.0, -20.0]).tolist() == [60.0, 20.0]


@pytest.mark.parametrize("reference", [[1.0], [], [2.0, 2.0, 2.0]])
def test_a_reference_that_does_not_vary_has_no_law(reference: list[float]) -> None:
    with pytest.raises(ValueError, match=r"do not vary|\d reference values"):
        KernelLaw(torch.tensor(reference))


def test_a_reference_that_is_not_finite_has_no_law() -> None:
    with pytest.raises(ValueError, match="not finite"):
        KernelLaw(torch.tensor([0.0, -torch.inf, 1.0]))
