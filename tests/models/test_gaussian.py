"""The normal law against SciPy, and against the claim that it maximises the likelihood."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from contract.support import Column, Support
from models.gaussian import Gaussian
from tests.models.supports import pictures, table


def correlated(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """Rows whose columns have units from thousandths to thousands."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * 10.0 ** np.linspace(-3, 3, d)
    return torch.from_numpy(rows + rng.normal(size=d) * 100)


def fitted(rows: torch.Tensor) -> Gaussian:
    model = Gaussian(table(*["real"] * rows.shape[1]))
    model.fit(rows)
    return model


@pytest.mark.parametrize("d", [1, 2, 7])
def test_log_prob_is_scipy_s(d: int) -> None:
    rows = correlated(300, d)
    mean, covariance = rows.numpy().mean(axis=0), np.cov(rows.numpy().T, bias=True).reshape(d, d)
    x = torch.cat([rows[:50], rows[:5] + 1e4])
    # SciPy's eigenvalues lose what the units' spread takes; it is asked about columns in units of their deviation.
    unit = np.sqrt(np.diag(covariance))
    theirs = stats.multivariate_normal(mean / unit, covariance / np.outer(unit, unit)).logpdf(x.numpy() / unit)
    assert np.allclose(fitted(rows).log_prob(x).numpy(), theirs - np.log(unit).sum(), rtol=1e-8, atol=1e-8)


def test_no_other_mean_or_covariance_is_likelier() -> None:
    rows = correlated(200, 3)
    model = fitted(rows)
    best = model.log_prob(rows).sum()
    rng = torch.Generator().manual_seed(0)
    for _ in range(30):
        other = fitted(rows)
        scale = 0.01 * other.whiten.factor.diagonal()
        other.whiten.mean += scale * torch.randn(3, generator=rng, dtype=torch.float64)
        other.whiten.factor += torch.randn(3, 3, generator=rng, dtype=torch.float64).tril() * scale[:, None]
        other.whiten.inverse_factor.copy_(torch.linalg.inv(other.whiten.factor))
        other.whiten.log_det_factor.copy_(other.whiten.factor.diagonal().abs().log().sum())
        assert other.log_prob(rows).sum() < best


def test_codes_of_the_training_rows_are_white() -> None:
    rows = correlated(500, 4)
    z = fitted(rows).encode(rows)
    assert torch.allclose(z.mean(dim=0), torch.zeros(4).double(), atol=1e-9)
    assert torch.allclose(z.T @ z / 500, torch.eye(4).double(), atol=1e-9)


def test_temperature_scales_the_base_law() -> None:
    model = fitted(correlated(100, 3))
    seed, row = torch.full((50,), 42), torch.arange(50)
    plain = model.latent(seed, row, torch.ones(50).double())
    assert torch.equal(model.latent(seed, row, torch.full((50,), 0.5).double()), 0.5 * plain)
    assert plain.dtype == torch.float64


@pytest.mark.parametrize(
    ("support", "reason"),
    [
        (pictures(2, 2), "no columns"),
        (table("real", "positive"), "column 'b' is positive"),
        (Support(shape=(1,), columns=(Column(name="n", kind="count", base_measure="counting"),)), "'n' is count"),
        (
            Support(
                shape=(1,),
                columns=(Column(name="m", kind="real", base_measure="lebesgue", missing_allowed=True),),
            ),
            "'m' may be missing",
        ),
    ],
)
def test_refuses_what_has_no_density(support: Support, reason: str) -> None:
    assert reason in (Gaussian.accepts(support) or "")
    with pytest.raises(ValueError, match="Gaussian cannot model this support"):
        Gaussian(support)


def test_refuses_constant_redundant_and_coarse_columns() -> None:
    rows = correlated(100, 2)
    with pytest.raises(ValueError, match="column 1 is constant"):
        fitted(torch.stack([rows[:, 0], torch.ones(100)], dim=1))
    with pytest.raises(ValueError, match="linear combination"):
        fitted(torch.cat([rows, rows.sum(dim=1, keepdim=True)], dim=1))
    coarse = Gaussian(table("real", "real", resolution=0.5))
    with pytest.raises(ValueError, match=r"column 'a' is rounded to 0\.5, coarser than 0\.1 of its standard deviation"):
        coarse.fit((torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) * 2).round() / 2)
