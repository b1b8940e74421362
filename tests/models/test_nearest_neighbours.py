"""The k-nearest-neighbour density against scikit-learn's distances, and against the density that it estimates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import gammaln
from sklearn.datasets import load_iris, load_wine
from sklearn.neighbors import NearestNeighbors as Theirs

from models.nearest_neighbours import NearestNeighbours
from tests.models.supports import pictures, table

SETS = {"iris": np.unique(load_iris().data, axis=0), "wine": load_wine().data}


def fitted(rows: torch.Tensor, k: int = 10) -> NearestNeighbours:
    model = NearestNeighbours(table(*["real"] * rows.shape[1]), k=k)
    model.fit(rows)
    return model


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("k", [2, 10])
def test_log_prob_follows_scikit_learn_s_distances(name: str, k: int) -> None:
    rows = SETS[name]
    m, d = rows.shape
    unit, shift = rows.std(axis=0), rows.mean(axis=0)
    x = np.concatenate([rows, rows[:40] + 0.3 * unit, rows[:5] * 20.0])
    distances, _ = Theirs(n_neighbors=k).fit((rows - shift) / unit).kneighbors((x - shift) / unit)
    ball = 0.5 * d * np.log(np.pi) - gammaln(0.5 * d + 1.0)
    expected = np.log(k) - np.log(m) - ball - d * np.log(distances[:, -1]) - np.log(unit).sum()
    assert np.allclose(fitted(torch.from_numpy(rows), k).log_prob(torch.from_numpy(x)).numpy(), expected, atol=1e-4)


def test_it_nears_the_density_that_rows_were_drawn_from() -> None:
    rng = np.random.default_rng(0)
    points = torch.tensor([[0.0, 0.0], [1.0, -1.0], [0.5, 1.5]]).double()
    truth = stats.multivariate_normal([0.0, 0.0]).logpdf(points.numpy())
    errors = []
    for m in (300, 30_000):
        model = fitted(torch.from_numpy(rng.normal(size=(m, 2))), k=int(m**0.5))
        errors.append(np.abs(model.log_prob(points).numpy() - truth).max())
    assert errors[1] < 0.15 < errors[0] + 0.15
    assert errors[1] < errors[0]


def test_a_distance_near_nothing_keeps_its_digits() -> None:
    """The product of matrices would lose a distance of 1e-6 beside rows at 1."""
    rows = torch.tensor([[1.0], [-1.0], [1.0 + 1e-6]], dtype=torch.float64)
    model = fitted(rows, k=2)
    near, far = model.log_prob(torch.tensor([[1.0], [-1.0]]).double())
    assert abs(float(near - far) - np.log(2.0 / 1e-6)) < 1e-5


def test_what_has_no_finite_density_is_refused() -> None:
    rows = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)).double()
    with pytest.raises(ValueError, match="9 rows have no neighbour number 10"):
        fitted(rows[:9])
    with pytest.raises(ValueError, match=r"occurs 3 times, and neighbour number 3 lies at\s+distance 0"):
        fitted(torch.cat([rows, rows[:1], rows[:1]]), k=3)
    with pytest.raises(ValueError, match="k: at least 2, since a training row is its own nearest, not 1"):
        NearestNeighbours(table("real"), k=1)
    with pytest.raises(ValueError, match="NearestNeighbours cannot model this support"):
        NearestNeighbours(pictures(2, 2))
