"""Laws of one number against SciPy's: their distribution, their quantiles, their fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import special, stats

from contract.randomness import Stream
from models.nets.inversion import LEAST, MOST, inside, invert_steps, open_uniform, uniform_log_prob
from models.nets.normal import normal_cdf, normal_quantile
from models.nets.univariate import NormalLaws, PoissonLaws, WeibullLaws, log_factorial

Reals = np.ndarray[Any, np.dtype[np.float64]]


def column(values: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values, dtype=np.float64))[:, None]


def probabilities() -> Reals:
    """Over the whole range, both tails as far as doubles have them."""
    return np.concatenate(
        [10.0 ** np.linspace(-290, -1, 500), np.linspace(0.05, 0.95, 500), 1 - 10.0 ** np.linspace(-15, -1, 200)]
    )


def test_the_normal_distribution_is_scipy_s_to_fourteen_digits() -> None:
    z = np.linspace(-37.0, 37.0, 20_001)
    assert np.allclose(normal_cdf(column(z))[:, 0].numpy(), special.ndtr(z), rtol=1e-13, atol=0.0)
    u = probabilities()
    assert np.allclose(normal_quantile(column(u))[:, 0].numpy(), special.ndtri(u), rtol=1e-13, atol=1e-15)


def test_the_normal_distribution_has_the_density_as_its_slope_and_never_falls() -> None:
    z = torch.linspace(-12.0, 12.0, 2401, dtype=torch.float64)  # 0 among them
    slope = torch.autograd.functional.jacobian(lambda v: normal_cdf(v[:, None]).sum(), z)
    assert np.allclose(slope.numpy(), stats.norm.pdf(z.numpy()), rtol=1e-9, atol=1e-16)
    assert (torch.diff(normal_cdf(torch.linspace(-60.0, 60.0, 100_001, dtype=torch.float64))) >= 0).all()


def test_the_logarithm_of_a_factorial_is_scipy_s() -> None:
    x = np.concatenate([np.arange(300.0), 10.0 ** np.arange(3, 16)])
    ours = log_factorial(column(x))[:, 0].numpy()
    assert np.allclose(ours, special.gammaln(x + 1), rtol=1e-14, atol=1e-13)


@pytest.mark.parametrize("shape", [0.4, 1.0, 3.7])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 4e5])
def test_the_weibull_law_is_scipy_s(shape: float, scale: float) -> None:
    law = WeibullLaws(1)
    law.shape.fill_(shape)
    law.log_scale.fill_(np.log(scale))
    theirs = stats.weibull_min(shape, scale=scale)
    u = probabilities()
    # SciPy raises log1p to a power; where that underflows, no positive number is left.
    x = theirs.ppf(u)
    u, x = u[x > 1e-250], x[x > 1e-250]
    assert np.allclose(law.quantile(column(u))[:, 0].numpy(), x, rtol=1e-9, atol=0.0)
    assert np.allclose(law.code(column(x))[:, 0].numpy(), theirs.cdf(x), rtol=1e-11, atol=0.0)
    assert np.allclose(law.log_prob(column(x))[:, 0].numpy(), theirs.logpdf(x), rtol=1e-9, atol=1e-9)
    assert law.log_prob(column([0.0, -1.0]))[:, 0].tolist() == [-np.inf, -np.inf]
    assert law.code(column([0.0, -1.0]))[:, 0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("shape", "scale"), [(0.5, 3.0), (1.7, 1e-4), (9.0, 2e6)])
def test_the_weibull_fit_is_scipy_s_and_no_neighbour_is_likelier(shape: float, scale: float) -> None:
    rows = stats.weibull_min(shape, scale=scale).rvs(size=400, random_state=1)
    law = WeibullLaws(1)
    law.fit(column(rows))
    k, b = float(law.shape), float(law.log_scale.exp())
    theirs = stats.weibull_min.fit(rows / scale, floc=0)  # its simplex search stops within a fixed distance
    assert np.allclose([k, b / scale], [theirs[0], theirs[2]], rtol=1e-3)
    best = stats.weibull_min(k, scale=b).logpdf(rows).sum()
    for other in [(k * 1.001, b), (k / 1.001, b), (k, b * 1.001), (k, b / 1.001)]:
        assert stats.weibull_min(other[0], scale=other[1]).logpdf(rows).sum() < best


def test_the_normal_fit_is_scipy_s() -> None:
    rows = stats.norm(3.0, 7.0).rvs(size=200, random_state=0)
    law = NormalLaws(1)
    law.fit(column(rows))
    theirs = stats.norm(*stats.norm.fit(rows))
    assert np.allclose(law.log_prob(column(rows))[:, 0].numpy(), theirs.logpdf(rows), rtol=1e-12)
    assert np.allclose(law.code(column(rows))[:, 0].numpy(), theirs.cdf(rows), rtol=1e-12)


@pytest.mark.parametrize("mean", [0.02, 3.0, 41.0, 5e3])
def test_the_poisson_law_is_scipy_s(mean: float) -> None:
    rows = stats.poisson(mean).rvs(size=500, random_state=2).astype(float)
    law = PoissonLaws(1)
    law.fit(column(rows))
    theirs = stats.poisson(rows.mean())
    x = np.unique(np.concatenate([rows, np.floor(theirs.ppf([1e-12, 1 - 1e-12])), [0.0]]))
    assert np.allclose(law.log_prob(column(x))[:, 0].numpy(), theirs.logpmf(x), rtol=1e-11, atol=1e-10)
    middle = (theirs.cdf(x - 1) + theirs.cdf(x)) / 2
    assert np.allclose(law.code(column(x))[:, 0].numpy(), middle, rtol=1e-9, atol=1e-18)
    seen = theirs.pmf(x) > 1e-14
    assert np.array_equal(law.quantile(law.code(column(x[seen])))[:, 0].numpy(), x[seen])
    u = np.linspace(1e-6, 1 - 1e-6, 997)
    assert np.array_equal(law.quantile(column(u))[:, 0].numpy(), theirs.ppf(u))


def test_poisson_columns_side_by_side_are_the_columns_by_themselves() -> None:
    rows = torch.cat([column(stats.poisson(m).rvs(size=300, random_state=3)) for m in (0.5, 30.0, 900.0)], dim=1)
    together = PoissonLaws(3)
    together.fit(rows)
    for i in range(3):
        alone = PoissonLaws(1)
        alone.fit(rows[:, i : i + 1])
        for method in ("log_prob", "code"):
            assert torch.equal(getattr(together, method)(rows)[:, i], getattr(alone, method)(rows[:, i : i + 1])[:, 0])


def test_counts_far_from_all_others_have_the_ends_as_codes() -> None:
    law = PoissonLaws(1)
    law.fit(column([900.0, 1100.0]))
    assert law.code(column([0.0, 1e6]))[:, 0].tolist() == [0.0, 1.0]
    assert bool(law.log_prob(column([1e6])).isfinite().all())
    with pytest.raises(ValueError, match=r"a mean of 2e\+06 is above 1e\+06"):
        PoissonLaws(1).fit(column([2e6, 2e6]))


def test_quantiles_of_steps_draw_each_value_by_its_probability() -> None:
    chances = torch.tensor([[0.1, 0.0, 0.6, 0.3], [1.0, 0.0, 0.0, 0.0]]).double()
    n = 20_000
    u = open_uniform(torch.full((n,), 1), torch.arange(n), Stream.LATENT, dims=2)
    values = invert_steps(chances.cumsum(dim=1), u)
    for i in range(2):
        shares = torch.bincount(values[:, i], minlength=4) / n
        assert torch.allclose(shares.double(), chances[i], atol=4 * 0.5 / n**0.5)
    assert (values[:, 0] != 1).all()
    # Each step has its lower end, and not its upper one.
    at_the_ends = invert_steps(torch.tensor([0.25, 0.25, 0.75, 1.0]), torch.tensor([0.0, 0.25, 0.75]))
    assert at_the_ends.tolist() == [0, 2, 3]
    # Probabilities that add up to less than 1 in the last place.
    assert int(invert_steps(torch.tensor([0.5, 1.0 - 1e-12]).double(), torch.tensor(1.0 - 1e-15).double())) == 1


def test_codes_outside_are_moved_to_the_ends() -> None:
    u = torch.tensor([[-3.0, 0.0, 0.5, 1.0, 7.0]]).double()
    assert inside(u)[0].tolist() == [LEAST, LEAST, 0.5, MOST, MOST]
    assert uniform_log_prob(u).tolist() == [-np.inf]
