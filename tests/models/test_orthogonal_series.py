"""The cosine series against NumPy's sums and quadrature, its terms against leaving each row out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from models.orthogonal_series import OrthogonalSeries, cosine_means, leave_one_out_risks
from tests.models.supports import pictures, table


def rows(n: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).beta(2.0, 5.0, size=(n, 1)))


def fitted(x: torch.Tensor, terms: int | None = None) -> OrthogonalSeries:
    model = OrthogonalSeries(table("real"), terms=terms)
    model.fit(x)
    return model


@pytest.mark.parametrize("terms", [0, 1, 6])
def test_between_the_ends_it_is_the_series_but_for_the_grid_and_the_shares(terms: int) -> None:
    x = rows(800)[:, 0].numpy()
    model = fitted(rows(800), terms)
    low, high = x.min(), x.max()
    at = np.linspace(low, high, 203)[1:-1]

    def series(places: np.ndarray) -> np.ndarray:
        y = (places - low) / (high - low)
        waves = [np.sqrt(2) * np.cos(k * np.pi * y) for k in range(1, terms + 1)]
        coefficients = [np.mean(np.sqrt(2) * np.cos(k * np.pi * (x - low) / (high - low))) for k in range(1, terms + 1)]
        return np.maximum(0.0, np.ones_like(y) + sum(c * w for c, w in zip(coefficients, waves, strict=True)))

    whole = integrate.trapezoid(series(np.linspace(low, high, 20_001)), dx=(high - low) / 20_000)
    density = model.log_prob(torch.from_numpy(at[:, None])).exp().numpy()
    share = 1 / 801
    wanted = (1 - 2 * share) * ((1 - share) * series(at) / whole + share / (high - low))
    np.testing.assert_allclose(density, wanted, atol=2e-4 * density.max())


def test_the_risk_is_that_of_leaving_each_row_out() -> None:
    """The integral of the squared density, minus twice the mean of each row's under the series of all others."""
    x = rows(30)[:, 0]
    y = (x - x.min()) / (x.max() - x.min())
    n, most = len(y), 5
    risks = leave_one_out_risks(*(means[:most] for means in cosine_means(y)), n)
    waves = np.sqrt(2) * np.cos(np.pi * np.arange(1, most + 1) * y.numpy()[:, None])  # [n, K]
    for terms in range(most + 1):
        mean = waves[:, :terms].mean(axis=0)
        squared = 1.0 + (mean**2).sum()  # the cosines are orthonormal
        left_out = [1.0 + np.delete(waves[:, :terms], i, axis=0).mean(axis=0) @ waves[i, :terms] for i in range(n)]
        assert np.isclose(float(risks[terms]), squared - 2 * np.mean(left_out) + 1.0, atol=1e-12)


def test_the_terms_have_the_least_risk() -> None:
    x = rows(600)
    y = (x[:, 0] - x.min()) / (x.max() - x.min())
    assert int(fitted(x).terms) == int(leave_one_out_risks(*cosine_means(y), 600).argmin())
    assert 1 <= int(fitted(x).terms) < 40


def test_it_integrates_to_one_and_codes_are_its_integral() -> None:
    model = fitted(rows(300))
    grid = torch.linspace(-4.0, 5.0, 900_001, dtype=torch.float64)[:, None]
    density = model.log_prob(grid).exp().numpy()
    assert abs(integrate.trapezoid(density, dx=1e-5) - 1.0) < 1e-4
    area = integrate.cumulative_trapezoid(density, dx=1e-5, initial=0.0)
    assert np.abs(model.encode(grid)[:, 0].numpy() - area).max() < 1e-4


def test_no_density_is_zero_where_the_series_is_negative() -> None:
    x = torch.cat([rows(200) * 0.05, rows(200) * 0.05 + 0.95])  # two far heaps: two cosines dip below zero between
    model = fitted(x, terms=2)
    grid = torch.linspace(float(x.min()), float(x.max()), 999, dtype=torch.float64)[:, None]
    density = model.log_prob(grid).exp()
    uniform = (1 - 2 / 401) / 401 / float(x.max() - x.min())  # all that is left there
    assert np.isclose(float(density.min()), uniform, rtol=1e-9)
    assert torch.allclose(model.decode(model.encode(grid)), grid, atol=1e-7)


def test_codes_have_an_inverse_far_into_the_tails() -> None:
    model = fitted(rows(300))
    u = torch.tensor([[1e-12], [1e-4], [1 / 301], [0.2], [0.7], [0.999], [1.0 - 1e-9]], dtype=torch.float64)
    x = model.decode(u)
    assert bool((x.diff(dim=0) > 0).all())
    assert torch.allclose(model.encode(x), u, rtol=1e-6, atol=0.0)
    assert bool(model.log_prob(torch.tensor([[-1e9], [1e9]]).double()).isfinite().all())


def test_draws_are_of_the_law_that_the_rows_are_of() -> None:
    model = fitted(rows(3000))
    n = 20_000
    x = model.decode(model.latent(torch.full((n,), 4), torch.arange(n)))
    assert stats.kstest(model.encode(x)[:, 0].numpy(), "uniform").pvalue > 1e-4
    assert stats.kstest(x[:, 0].numpy(), stats.beta(2.0, 5.0).cdf).statistic < 0.05


def test_what_has_no_series_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"the leave-one-out risk falls up to 2\d\d terms: rows repeat"):
        fitted(rows(7).repeat(40, 1))
    with pytest.raises(ValueError, match="column 'a' is constant"):
        fitted(torch.ones(10, 1))
    with pytest.raises(ValueError, match="terms: a series has 0 to 256 of them, not 257"):
        OrthogonalSeries(table("real"), terms=257)
    for support, reason in [(table("real", "real"), "it is for one column"), (pictures(2, 2), "no columns")]:
        assert reason in (OrthogonalSeries.accepts(support) or "")
