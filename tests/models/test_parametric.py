"""Columns with laws of their own against SciPy's, and the way to codes and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from contract.support import Column, Support
from models.parametric import Parametric
from tests.models.supports import pictures, table

LAWS = (stats.norm(-3.0, 2.0), stats.weibull_min(1.4, scale=50.0), stats.poisson(4.0), stats.norm(1e4, 0.1))


def support() -> Support:
    kinds = (("a", "real"), ("b", "positive"), ("c", "count"), ("d", "real"))
    measure = {"real": "lebesgue", "positive": "lebesgue", "count": "counting"}
    return Support(
        shape=(4,),
        columns=tuple(Column(name=n, kind=k, base_measure=measure[k]) for n, k in kinds),  # type: ignore[arg-type]
    )


def rows(n: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([law.rvs(size=n, random_state=rng) for law in LAWS], axis=1).astype(np.float64))


@pytest.fixture(scope="module")
def model() -> Parametric:
    model = Parametric(support())
    model.fit(rows(5000))
    return model


def test_log_prob_is_the_sum_of_scipy_s(model: Parametric) -> None:
    x = rows(300, seed=1)
    train = rows(5000).numpy()
    shape, _, scale = stats.weibull_min.fit(train[:, 1] / 50, floc=0)
    expected = (
        stats.norm(*stats.norm.fit(train[:, 0])).logpdf(x[:, 0])
        + stats.weibull_min(shape, scale=50 * scale).logpdf(x[:, 1])
        + stats.poisson(train[:, 2].mean()).logpmf(x[:, 2])
        + stats.norm(*stats.norm.fit(train[:, 3])).logpdf(x[:, 3])
    )
    assert np.allclose(model.log_prob(x).numpy(), expected, rtol=1e-3)  # as near as SciPy's search comes


def test_codes_decode_to_their_rows_and_are_uniform(model: Parametric) -> None:
    x = rows(2000, seed=2)
    u = model.encode(x)
    assert torch.allclose(model.decode(u), x, rtol=1e-9)
    assert torch.equal(model.decode(u)[:, 2], x[:, 2])
    for column in (0, 1, 3):
        assert stats.kstest(u[:, column].numpy(), "uniform").pvalue > 1e-4


def test_draws_are_of_the_columns_own_laws(model: Parametric) -> None:
    n = 20_000
    u = model.latent(torch.full((n,), 9), torch.arange(n))
    x = model.decode(u).numpy()
    fresh = rows(n, seed=3).numpy()
    for column in (0, 1, 3):
        assert stats.ks_2samp(x[:, column], fresh[:, column]).pvalue > 1e-4
    counts = [np.bincount(part[:, 2].astype(int), minlength=12)[:12] for part in (x, fresh)]
    assert stats.chi2_contingency(np.stack(counts)).pvalue > 1e-4
    assert np.abs(np.corrcoef(x.T) - np.eye(4)).max() < 5 / n**0.5


def test_the_code_s_slope_is_the_density_of_continuous_columns() -> None:
    x = rows(200)[:, [0, 1]]
    model = Parametric(Support(shape=(2,), columns=(support().columns or ())[:2]))
    model.fit(x)
    part = x[:20]
    jacobian = torch.autograd.functional.jacobian(lambda v: model.encode(v).sum(dim=0), part).transpose(0, 1)
    assert torch.allclose(torch.linalg.slogdet(jacobian).logabsdet, model.log_prob(part), rtol=1e-9)


def test_a_recipe_names_a_column_s_law() -> None:
    x = torch.from_numpy(stats.weibull_min(2.0, scale=3.0).rvs(size=(500, 2), random_state=0))
    usual, named = Parametric(table("real", "positive")), Parametric(table("real", "positive"), laws={"a": "weibull"})
    for model in (usual, named):
        model.fit(x)
    assert list(usual.laws) == ["gaussian", "weibull"]
    assert list(named.laws) == ["weibull"]
    assert named.log_prob(x).sum() > usual.log_prob(x).sum()
    assert named.log_prob(torch.tensor([[-1.0, 1.0]]).double()).item() == -np.inf
    with pytest.raises(ValueError, match="column 'a' is not above 0 everywhere, as a Weibull law's values are"):
        named.fit(x - 3.0)


def test_a_law_that_the_column_cannot_have_is_refused() -> None:
    with pytest.raises(ValueError, match="laws: 'b' is positive, of which the law may be weibull"):
        Parametric(table("real", "positive"), laws={"b": "gaussian"})
    with pytest.raises(ValueError, match="laws: there is no column 'z'"):
        Parametric(table("real"), laws={"z": "gaussian"})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (pictures(2, 2), "no columns"),
        (
            Support(shape=(1,), columns=(Column(name="n", kind="binary", base_measure="counting"),)),
            "'n' is binary, which is none of normal, Weibull and Poisson",
        ),
        (
            Support(
                shape=(1,), columns=(Column(name="n", kind="real", base_measure="lebesgue", missing_allowed=True),)
            ),
            "'n' may be missing",
        ),
    ],
)
def test_other_supports_are_refused(given: Support, reason: str) -> None:
    assert reason in (Parametric.accepts(given) or "")
    with pytest.raises(ValueError, match="Parametric cannot model this support"):
        Parametric(given)


def test_constant_and_coarse_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="column 'b' is constant"):
        Parametric(table("real", "real")).fit(torch.tensor([[1.0, 2.0], [2.0, 2.0]]))
    with pytest.raises(ValueError, match="column 'c' is 0 in every training row"):
        Parametric(support()).fit(rows(50) * torch.tensor([1.0, 1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="column 'a' is rounded to 5, coarser than"):
        Parametric(table("real", resolution=5.0)).fit((rows(50)[:, :1] / 5).round() * 5)
