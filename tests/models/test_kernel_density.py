"""The kernel density estimate against scikit-learn's, and its bandwidth against leaving each row out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_iris, load_wine
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KernelDensity as Theirs

from models.kernel_density import KernelDensity, bandwidth_grid, leave_one_out
from tests.models.supports import pictures, table

SETS = {"iris": np.unique(load_iris().data, axis=0), "wine": load_wine().data}


def fitted(rows: torch.Tensor, bandwidth: float | None = None) -> KernelDensity:
    model = KernelDensity(table(*["real"] * rows.shape[1]), bandwidth=bandwidth)
    model.fit(rows)
    return model


def standardised(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in standard deviations of their columns, and those."""
    unit = rows.std(axis=0)
    return (rows - rows.mean(axis=0)) / unit, unit


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("bandwidth", [0.2, 0.7, None])
def test_log_prob_is_scikit_learn_s_score_samples(name: str, bandwidth: float | None) -> None:
    rows = SETS[name]
    model = fitted(torch.from_numpy(rows), bandwidth)
    y, unit = standardised(rows)
    # One leaf: across leaves, scikit-learn 1.9 loses mass far from all rows, whatever tolerance it is given.
    theirs = Theirs(bandwidth=float(model.bandwidth), rtol=0.0, atol=0.0, leaf_size=len(y)).fit(y)
    x = np.concatenate([rows, rows[:40] + 0.3 * unit, rows[:5] * 3.0])
    expected = theirs.score_samples((x - rows.mean(axis=0)) / unit) - np.log(unit).sum()
    assert np.allclose(model.log_prob(torch.from_numpy(x)).numpy(), expected, rtol=0.0, atol=1e-4)


def test_leaving_one_out_is_scikit_learn_s_cross_validation() -> None:
    y, _ = standardised(SETS["iris"][:60])
    widths = bandwidth_grid(*y.shape)[::13]
    by_hand = [
        cross_val_score(Theirs(bandwidth=float(h), rtol=0.0, leaf_size=60), y, cv=LeaveOneOut()).mean() for h in widths
    ]
    assert np.allclose(leave_one_out(torch.from_numpy(y), widths).numpy(), by_hand, atol=1e-6)


def test_the_bandwidth_is_the_likeliest_of_the_grid() -> None:
    rows = SETS["wine"]
    y, _ = standardised(rows)
    grid = bandwidth_grid(*y.shape)
    scores = leave_one_out(torch.from_numpy(y), grid)
    chosen = fitted(torch.from_numpy(rows)).bandwidth
    assert torch.isclose(chosen, grid[scores.argmax()])
    assert 0 < int(scores.argmax()) < len(grid) - 1


def test_on_a_normal_law_the_bandwidth_is_near_silverman_s() -> None:
    y = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reference = (4.0 / (4 * 2000)) ** (1 / 6)
    assert 0.6 * reference < float(fitted(y).bandwidth) < 1.5 * reference


def test_each_training_row_is_drawn_as_often() -> None:
    rows = torch.tensor([[0.0], [100.0], [200.0], [300.0]]).double()
    model = fitted(rows, bandwidth=0.01)
    n = 40_000
    x = model.sample(torch.full((n,), 3), torch.arange(n))[:, 0]
    nearest = (x[:, None] - rows[:, 0]).abs().argmin(dim=1)
    shares = torch.bincount(nearest, minlength=4) / n
    assert torch.allclose(shares, torch.full((4,), 0.25), atol=4 * 0.5 / n**0.5)
    spread = (x - rows[nearest, 0]).std() / rows.std(correction=0)
    assert torch.isclose(spread, torch.tensor(0.01).double(), rtol=0.02)


def test_rows_that_repeat_each_other_have_no_bandwidth() -> None:
    rows = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).repeat(2, 1)
    with pytest.raises(ValueError, match=r"no maximum between bandwidths .*: rows repeat each other"):
        fitted(rows)


def test_a_tail_too_heavy_for_one_width_is_an_error() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).standard_cauchy(size=(400, 1)))
    with pytest.raises(ValueError, match="the tails are heavier than one width can follow"):
        fitted(rows)


def test_a_width_is_above_zero() -> None:
    with pytest.raises(ValueError, match="bandwidth: a width is above 0, which 0 is not"):
        KernelDensity(table("real"), bandwidth=0.0)


def test_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="KernelDensity cannot model this support"):
        KernelDensity(pictures(2, 2))


def test_the_code_of_a_column_is_its_distribution_function() -> None:
    rows = SETS["wine"][:, :1]
    model = fitted(torch.from_numpy(rows))
    x = torch.linspace(float(rows.min()) - 1.0, float(rows.max()) + 1.0, 300, dtype=torch.float64)[:, None]
    width = float(model.bandwidth * model.scaling.deviation)
    expected = stats.norm.cdf((x.numpy() - rows[:, 0]) / width).mean(axis=1)
    assert np.allclose(model.encode(x)[:, 0].numpy(), expected, rtol=1e-10, atol=0.0)


def test_the_derivative_of_the_code_is_the_density() -> None:
    """du_d / dx_d is the density of x_d given the columns before it, and their product that of the row."""
    rows = torch.from_numpy(SETS["wine"][:, :3])
    model = fitted(rows)
    x = rows[:20] + 0.1
    jacobian = torch.autograd.functional.jacobian(lambda v: model.encode(v).sum(dim=0), x).transpose(0, 1)
    assert torch.allclose(jacobian.triu(1), torch.zeros_like(jacobian), atol=0.0)
    assert torch.allclose(jacobian.diagonal(dim1=1, dim2=2).log().sum(dim=1), model.log_prob(x), rtol=1e-8)


def test_codes_of_draws_are_independent_uniforms() -> None:
    model = fitted(torch.from_numpy(SETS["wine"][:, :2]))
    n = 4000
    u = model.encode(model.sample(torch.full((n,), 5), torch.arange(n))).numpy()
    for column in u.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(u.T)[0, 1]) < 4 / n**0.5
