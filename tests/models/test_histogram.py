"""The histogram against NumPy's, its bins against leaving each row out by hand, and its tails."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from models.histogram import Histogram, bin_counts, leave_one_out_risk
from tests.models.supports import pictures, table


def rows(n: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).gamma(3.0, size=(n, 1)))


def fitted(x: torch.Tensor, bins: int | None = None, resolution: float | None = None) -> Histogram:
    model = Histogram(table("real", resolution=resolution), bins=bins)
    model.fit(x)
    return model


@pytest.mark.parametrize("bins", [1, 7, 64])
def test_counts_are_numpy_s(bins: int) -> None:
    x = rows(500).sort(dim=0).values[:, 0]
    expected, edges = np.histogram(x.numpy(), bins)
    assert np.array_equal(bin_counts(x, float(x[0]), float(x[-1] - x[0]) / bins, bins).numpy(), expected)
    model = fitted(x[:, None], bins)
    middle = torch.from_numpy((edges[1:] + edges[:-1])[:, None] / 2)
    n = len(x)
    density = (1 - 2 / (n + 1)) * (expected + 0.5) / (n + 0.5 * bins) / np.diff(edges)
    assert np.allclose(model.log_prob(middle).exp().numpy(), density, rtol=1e-9)


@pytest.mark.parametrize("bins", [1, 3, 10])
def test_the_risk_is_that_of_leaving_each_row_out(bins: int) -> None:
    """The integral of p^2, minus twice the mean density of each row under the histogram of all others."""
    x = rows(40).sort(dim=0).values[:, 0]
    start, width = float(x[0]), float(x[-1] - x[0]) / bins
    counts = bin_counts(x, start, width, bins).numpy()
    integral = np.square(counts / 40 / width).sum() * width
    at = np.minimum((x.numpy() - start) // width, bins - 1).astype(int)
    left_out = (counts[at] - 1) / 39 / width
    assert np.isclose(leave_one_out_risk(x, start, width, bins), integral - 2 * left_out.mean(), rtol=1e-12)


def test_the_bins_have_the_least_risk() -> None:
    x = rows(400)
    model = fitted(x)
    ordered = x.sort(dim=0).values[:, 0]
    span = float(ordered[-1] - ordered[0])
    risks = [leave_one_out_risk(ordered, float(ordered[0]), span / m, m) for m in range(1, 1601)]
    assert len(model.masses) == 1 + int(np.argmin(risks))
    assert 5 < len(model.masses) < 100


def test_more_rows_have_narrower_bins_as_their_cube_root() -> None:
    """Of a smooth density; a mean over sets, since the least risk of one set jumps."""
    widths = [
        np.mean([np.log(float(fitted(rows(n, seed)).width)) for seed in range(6)]) for n in (200, 1600)
    ]  # eight times the rows
    assert abs((widths[0] - widths[1]) / np.log(8) - 1 / 3) < 0.15


def test_it_integrates_to_one_and_codes_are_its_integral() -> None:
    model = fitted(rows(300))
    scale = float(model.tails.scales.max())
    grid = torch.linspace(float(model.start) - 40 * scale, 40 * scale, 200_001, dtype=torch.float64)[:, None]
    mass = model.log_prob(grid).exp() * (grid[1, 0] - grid[0, 0])
    assert abs(float(mass.sum()) - 1.0) < 1e-4
    assert torch.allclose(model.encode(grid)[::100, 0], mass.cumsum(dim=0)[::100], atol=1e-4)


def test_each_tail_has_the_mass_of_one_row_of_all_and_a_fresh_one() -> None:
    model = fitted(rows(300))
    end = model.start + model.width * len(model.masses)
    u = model.encode(torch.stack([model.start, end])[:, None])[:, 0]
    assert np.allclose(u.numpy(), [1 / 301, 300 / 301], rtol=1e-12)
    x = torch.stack([model.start - 2 * model.tails.scales[0], end + 3 * model.tails.scales[1]])[:, None]
    assert np.allclose(model.encode(x)[:, 0].numpy(), [np.exp(-2) / 301, 1 - np.exp(-3) / 301], rtol=1e-12)
    assert torch.allclose(model.decode(model.encode(x)), x, rtol=1e-9)
    assert bool(model.log_prob(torch.tensor([[-1e9], [1e9]]).double()).isfinite().all())


def test_draws_are_of_the_histogram() -> None:
    model = fitted(rows(2000))
    n = 20_000
    x = model.decode(model.latent(torch.full((n,), 4), torch.arange(n)))
    assert stats.kstest(model.encode(x)[:, 0].numpy(), "uniform").pvalue > 1e-4
    assert stats.ks_2samp(x[:, 0].numpy(), rows(n, seed=1)[:, 0].numpy()).statistic < 0.05


def test_edges_lie_between_rounded_values_as_many_in_each_bin() -> None:
    x = (rows(1000) * 4).round() / 4
    model = fitted(x, resolution=0.25)
    each = float(model.width) / 0.25
    assert each == round(each)
    places = (x[:, 0] - model.start) / model.width
    assert float((places - places.round()).abs().min()) > 0.1 / each
    # So a density is the probability of a cell, divided by its width: these are all the cells there are.
    cells = torch.arange(0, 400)[:, None] * 0.25 + x.min()
    inside = cells[cells[:, 0] < model.start + model.width * len(model.masses)]
    assert abs(float(model.log_prob(inside).exp().sum()) * 0.25 - (1 - 2 / 1001)) < 1e-9


def test_the_number_of_bins_is_restored_with_the_weights() -> None:
    model, other = fitted(rows(300)), Histogram(table("real"))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.log_prob(rows(50)), model.log_prob(rows(50)))


def test_what_has_no_histogram_is_an_error() -> None:
    with pytest.raises(ValueError, match="the leave-one-out risk has no minimum with up to 200 bins: rows repeat"):
        fitted(rows(5).repeat(10, 1))
    with pytest.raises(ValueError, match="column 'a' is constant"):
        fitted(torch.ones(10, 1))
    with pytest.raises(ValueError, match="bins: a histogram has at least one, not 0"):
        Histogram(table("real"), bins=0)
    for support, reason in [(table("real", "real"), "it is for one column"), (pictures(2, 2), "no columns")]:
        assert reason in (Histogram.accepts(support) or "")
        with pytest.raises(ValueError, match="Histogram cannot model this support"):
            Histogram(support)
