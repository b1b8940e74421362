"""The mixture of normals against scikit-learn's, whose parameters it was given, and against what EM promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris, load_wine
from sklearn.mixture import GaussianMixture

from contract.support import Column, Support
from models.mixture_of_gaussians import MixtureOfGaussians
from tests.models.supports import pictures, table

SETS = {"iris": load_iris().data, "wine": load_wine().data}


def fitted(rows: torch.Tensor, **settings: float) -> MixtureOfGaussians:
    torch.manual_seed(0)
    model = MixtureOfGaussians(table(*["real"] * rows.shape[1]), **settings)  # type: ignore[arg-type]
    model.fit(rows)
    return model


def clumps(n: int) -> torch.Tensor:
    """Three clumps of very different sizes and units."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [9.0, 9000.0], [-9.0, 4000.0]])
    rows = centres[rng.choice(3, size=n, p=[0.6, 0.3, 0.1])] + rng.normal(size=(n, 2)) * [1.0, 500.0]
    return torch.from_numpy(rows)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("components", [1, 3])
def test_log_prob_is_scikit_learn_s_score_samples(name: str, components: int) -> None:
    """In the units of the data; sklearn's parameters are set from ours, so that nothing but the law counts."""
    rows = torch.from_numpy(SETS[name])
    model = fitted(rows, components=components, least_variance=1e-3)
    unit, shift = model.scaling.deviation.numpy(), model.scaling.mean.numpy()
    factors = unit[None, :, None] * model.factors.numpy()
    theirs = GaussianMixture(components, covariance_type="full")
    theirs.weights_ = model.weights.numpy()
    theirs.means_ = model.means.numpy() * unit + shift
    theirs.covariances_ = factors @ factors.transpose(0, 2, 1)
    theirs.precisions_cholesky_ = np.linalg.inv(factors).transpose(0, 2, 1)
    # On the rows, beside them, and far from all of them.
    x = torch.cat([rows, rows[:40] + 0.3 * torch.from_numpy(unit), rows[:5] * 20.0])
    assert np.allclose(model.log_prob(x).numpy(), theirs.score_samples(x.numpy()), rtol=1e-9, atol=1e-4)
    assert np.allclose(model.encode(x).numpy(), theirs.predict_proba(x.numpy()), atol=1e-6)


def test_no_component_near_by_is_likelier() -> None:
    rows = clumps(900)
    model = fitted(rows, components=3)
    best = model.log_prob(rows).sum()
    rng = torch.Generator().manual_seed(0)
    for _ in range(30):
        other = fitted(rows, components=3)
        covariances = model.factors @ model.factors.mT
        moved = model.means + 0.05 * torch.randn(3, 2, generator=rng, dtype=torch.float64)
        weights = model.weights + 0.02 * (torch.rand(3, generator=rng, dtype=torch.float64) - 0.5)
        other._set(weights / weights.sum(), moved, covariances)
        assert other.log_prob(rows).sum() < best


def test_em_finds_clumps_in_any_units() -> None:
    model = fitted(clumps(3000), components=3)
    unit, shift = model.scaling.deviation, model.scaling.mean
    means = (model.means * unit + shift)[model.weights.argsort()]
    assert torch.allclose(
        means, torch.tensor([[-9.0, 4000.0], [9.0, 9000.0], [0.0, 0.0]]).double(), atol=150.0, rtol=0.02
    )
    assert torch.allclose(model.weights.sort().values, torch.tensor([0.1, 0.3, 0.6]).double(), atol=0.03)


def test_draws_fall_to_each_component_by_its_weight() -> None:
    model = fitted(clumps(3000), components=3)
    n = 40_000
    x = model.sample(torch.full((n,), 7), torch.arange(n))
    shares = torch.bincount(model.encode(x).argmax(dim=1), minlength=3) / n
    assert torch.allclose(shares.double(), model.weights, atol=4 * 0.5 / n**0.5)


def test_the_same_torch_seed_gives_the_same_fit() -> None:
    rows = torch.from_numpy(SETS["wine"])
    assert torch.equal(fitted(rows, components=4).means, fitted(rows, components=4).means)


def test_em_that_does_not_converge_is_an_error() -> None:
    with pytest.raises(ValueError, match="EM has not converged after 2 iterations; allow more, or fewer parts"):
        fitted(torch.from_numpy(SETS["wine"]), components=4, max_iterations=2, starts=1)


def test_a_mixture_has_a_component() -> None:
    with pytest.raises(ValueError, match="components: a mixture has at least one, not 0"):
        MixtureOfGaussians(table("real"), components=0)


@pytest.mark.parametrize(
    ("support", "reason"),
    [
        (pictures(2, 2), "no columns"),
        (table("real", "positive"), "column 'b' is positive"),
        (Support(shape=(1,), columns=(Column(name="n", kind="count", base_measure="counting"),)), "'n' is count"),
    ],
)
def test_refuses_what_has_no_density(support: Support, reason: str) -> None:
    assert reason in (MixtureOfGaussians.accepts(support) or "")
    with pytest.raises(ValueError, match="MixtureOfGaussians cannot model this support"):
        MixtureOfGaussians(support)


def test_refuses_constant_and_coarse_columns() -> None:
    rows = clumps(100)
    with pytest.raises(ValueError, match="column 1 is constant"):
        fitted(torch.stack([rows[:, 0], torch.ones(100).double()], dim=1), components=1)
    coarse = MixtureOfGaussians(table("real", "real", resolution=5.0), components=1)
    with pytest.raises(ValueError, match="column 'a' is rounded to 5, coarser than"):
        coarse.fit((rows / 5).round() * 5)
