"""Statistics one by one, against what others compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from contract.support import Column, Support
from models.protocols import HasEncode, HasLogProb
from tests.families import trained
from training.data.dataset import picture_support
from training.statistics.background import BackgroundLikelihoodRatio, perturbed
from training.statistics.complexity import ResidualEntropy, median_edge_residuals
from training.statistics.mixture import MixtureDensity
from training.statistics.neighbours import KeptPoints, LocalOutlierFactor, NearestRows
from training.statistics.reconstruction import ReconstructionError
from training.statistics.scaled import ScaledSpace
from training.statistics.typicality import LatentTypicality

NAN = float("nan")
RNG = np.random.default_rng(5)


def real(name: str, **options: Any) -> Column:
    return Column(name=name, kind="real", base_measure="lebesgue", **options)


NUMBERS = Support(shape=(3,), columns=tuple(real(name) for name in "abc"))
ROWS = torch.from_numpy(RNG.normal(size=(300, 3)) * [1.0, 20.0, 0.1])
MIXED = Support(
    shape=(3,),
    columns=(
        real("size", missing_allowed=True),
        Column(name="kind", kind="categorical", base_measure="counting", categories=("x", "y", "z")),
        Column(name="visits", kind="count", base_measure="counting"),
    ),
)


def mixed_rows(n: int) -> Tensor:
    size = np.where(RNG.random(n) < 0.2, NAN, RNG.normal(5, 2, n))
    return torch.from_numpy(np.stack([size, RNG.integers(3, size=n), RNG.poisson(4, n)], axis=1).astype(float))


def points(rows: Tensor = ROWS, support: Support = NUMBERS) -> KeptPoints:
    space = ScaledSpace(support, rows)
    return KeptPoints(space, space(rows), where="in spreads of the columns")


# -- neighbours ----------------------------------------------------------------------------------------------------


def test_distances_are_those_of_scikit_learn_in_scaled_columns() -> None:
    asked = torch.from_numpy(RNG.normal(size=(50, 3)) * [2.0, 40.0, 0.5])
    scale = ROWS.numpy().std(axis=0)
    near = NearestNeighbors(n_neighbors=7).fit(ROWS.numpy() / scale)
    distances, places = near.kneighbors(asked.numpy() / scale)
    assert NearestRows(points(), k=7)(asked, None).numpy() == pytest.approx(distances[:, 6])
    # Of a row that is kept, the nearest other ones: never itself.
    theirs = near.kneighbors(n_neighbors=7)[0][:, 6]
    factor = LocalOutlierFactor(points(), k=7)(asked, None).numpy()
    assert factor == pytest.approx(distances[:, 6] / theirs[places].mean(axis=1), rel=0.01)


def test_a_row_that_is_kept_is_at_no_distance_from_itself_and_repeats_divide_nothing_by_nothing() -> None:
    assert NearestRows(points(), k=1)(ROWS[:20], None).tolist() == [0.0] * 20
    repeated = torch.cat([ROWS[:1].repeat(30, 1), ROWS])
    factor = LocalOutlierFactor(points(repeated), k=3)(repeated[:40], None)
    assert bool(factor.isfinite().all())
    with pytest.raises(ValueError, match="repeat each other"):
        LocalOutlierFactor(points(ROWS[:1].repeat(30, 1)), k=3)
    with pytest.raises(ValueError, match="none has a neighbour number 300"):
        NearestRows(points(), k=300)


def test_far_out_distances_stay_finite_and_in_order() -> None:
    far = torch.tensor([[1.0], [1e10], [1e50], [1e300]]).double() * torch.ones(3)
    got = NearestRows(points(), k=5)(far, None)
    assert bool(got.isfinite().all())
    assert bool((got[1:] >= got[:-1]).all())
    assert got[2] > got[1] > got[0]


def test_a_hole_is_near_a_hole_and_a_mismatch_of_categories_counts_one() -> None:
    rows = mixed_rows(200)
    space = ScaledSpace(MIXED, rows)
    a, b, c, d = space(torch.tensor([[5.0, 0, 4], [5.0, 2, 4], [NAN, 0, 4], [NAN, 2, 4]], dtype=torch.float64))
    assert float((a - b).square().sum()) == pytest.approx(1.0)
    assert float((c - d).square().sum()) == pytest.approx(1.0)
    assert float((a - c).square().sum()) >= 1.0
    assert bool(space(rows).isfinite().all())


def test_a_value_far_out_does_not_shrink_its_column_to_nothing() -> None:
    rows = ROWS.clone()
    rows[0, 0] = 1e6
    spread = ScaledSpace(NUMBERS, rows).spread
    assert 0.8 < float(spread[0]) < 1.2
    # ... but one that the quartiles foresee is what the standard deviation says.
    assert ScaledSpace(NUMBERS, ROWS).spread.numpy() == pytest.approx(ROWS.numpy().std(axis=0))


# -- mixture -------------------------------------------------------------------------------------------------------


def test_one_normal_is_scipy_s_with_a_ridge() -> None:
    space = ScaledSpace(NUMBERS, ROWS)
    statistic = MixtureDensity(space, ROWS, components=1, ridge=0.01, seed=0)
    y = space(ROWS).numpy()
    law = multivariate_normal(y.mean(axis=0), np.cov(y.T, bias=True) + 0.01 * np.eye(3))
    assert statistic(ROWS, None).numpy() == pytest.approx(law.logpdf(y))


def test_the_number_of_normals_is_what_rows_held_out_say() -> None:
    clusters = torch.from_numpy(np.concatenate([RNG.normal(m, 0.1, size=(200, 3)) for m in (-4, 0, 4, 9)]))
    clusters = clusters[torch.randperm(len(clusters), generator=torch.Generator().manual_seed(0))]
    space = ScaledSpace(NUMBERS, clusters)
    assert MixtureDensity(space, clusters, components=None, ridge=1e-4, seed=0).components >= 4
    assert MixtureDensity(ScaledSpace(NUMBERS, ROWS), ROWS, components=None, ridge=0.01, seed=0).components == 1
    one = MixtureDensity(space, clusters, components=1, ridge=1e-4, seed=0)
    several = MixtureDensity(space, clusters, components=None, ridge=1e-4, seed=0)
    between = torch.full((1, 3), 2.0).double()
    assert several(between, None) < several(clusters, None).min()
    assert one(between, None) > one(clusters, None).min()


# -- complexity ----------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.sampled_from([(5, 4), (4, 6, 3)]), st.sampled_from([2, 16, 256]))
def test_residuals_and_their_entropy_are_those_of_a_loop(seed: int, shape: tuple[int, ...], levels: int) -> None:
    x = np.random.default_rng(seed).integers(levels, size=(2, *shape))
    flat = x.reshape(2, shape[0], shape[1], -1)
    residuals = np.zeros_like(flat)
    for n, i, j, channel in np.ndindex(*flat.shape):
        a = flat[n, i, j - 1, channel] if j else 0
        b = flat[n, i - 1, j, channel] if i else 0
        c = flat[n, i - 1, j - 1, channel] if i and j else 0
        residuals[n, i, j, channel] = (flat[n, i, j, channel] - sorted([a, b, a + b - c])[1]) % levels
    assert median_edge_residuals(torch.from_numpy(x), levels).reshape(flat.shape).numpy().tolist() == residuals.tolist()
    shares = [np.unique(picture, return_counts=True)[1] / picture.size for picture in residuals]
    expected = [-(q * np.log2(q)).sum() for q in shares]
    given_out = ResidualEntropy(picture_support(shape, levels))(torch.from_numpy(x.astype(np.uint8)), None)
    assert given_out.numpy() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("support", "reason"),
    [
        (NUMBERS, "only a picture has neighbouring pixels"),
        (Support(shape=(4, 4), element=real("pixel")), "continuous have no entropy"),
        (picture_support((28, 28), 65536), "too many to count"),
    ],
)
def test_what_has_no_complexity(support: Support, reason: str) -> None:
    assert reason in (ResidualEntropy.why_not_of(support) or "")
    with pytest.raises(ValueError, match=reason):
        ResidualEntropy(support)


# -- those that look at a model --------------------------------------------------------------------------------------


def test_typicality_is_how_far_half_the_squared_length_of_the_code_lies_from_half_its_dimensions() -> None:
    family = trained("gaussian")
    rows = torch.from_numpy(family.folds.test.rows)
    assert isinstance(family.model, HasEncode)
    z = family.model.encode(rows)
    expected = (z.square().sum(dim=1) / 2 - z.shape[1] / 2).abs()
    got = LatentTypicality(family.model)(rows, None)
    assert got.numpy() == pytest.approx(expected.numpy(), abs=4 * np.sqrt(z.shape[1] / 2) / np.sqrt(20_000))


def test_the_ratio_is_the_difference_of_two_log_probabilities_and_nothing_is_as_strange_as_no_density() -> None:
    family = trained("gaussian")
    rows = torch.from_numpy(family.folds.test.rows[:30])
    other: Any = family.untrained()
    other.fit(torch.from_numpy(family.folds.train.rows) * 2.0)
    ratio = BackgroundLikelihoodRatio(other, share=0.1)
    assert isinstance(family.model, HasLogProb)
    log_prob = family.model.log_prob(rows)
    assert torch.equal(ratio(rows, log_prob), log_prob - other.log_prob(rows))
    vanished = torch.full_like(log_prob, -torch.inf)
    assert bool((ratio(rows, vanished) < ratio(rows, log_prob).min()).all())
    assert bool(ratio(rows, vanished).isfinite().all())


def test_noise_redraws_a_share_of_the_values_from_levels_or_from_their_column() -> None:
    pictures = np.zeros((200, 10, 10), dtype=np.uint8)
    noisy = perturbed(pictures, picture_support((10, 10), 4), 0.2, seed=1)
    assert noisy.dtype == np.uint8
    assert (noisy != 0).mean() == pytest.approx(0.2 * 3 / 4, abs=0.01)  # one redrawn pixel of four is the same again
    rows = np.stack([np.arange(500.0), np.arange(500.0) + 1000], axis=1)
    table = perturbed(rows, Support(shape=(2,), columns=(real("a"), real("b"))), 0.3, seed=1)
    assert set(table[:, 0]) <= set(rows[:, 0])
    assert (table != rows).mean() == pytest.approx(0.3, abs=0.05)
    assert (np.diff(table, axis=1) != 1000).mean() == pytest.approx(1 - 0.7**2, abs=0.07)


def test_reconstruction_is_the_root_mean_square_of_what_decoding_misses() -> None:
    family = trained("vae")
    rows = torch.from_numpy(family.folds.test.rows[:40])
    model: Any = family.model
    again = model.decode(model.encode(rows))
    expected = (rows.numpy().astype(float) - again.numpy()).reshape(40, -1)
    got = ReconstructionError(family.model)(rows, None).numpy()
    assert got == pytest.approx(np.sqrt(np.square(expected).mean(axis=1)))
    assert got.max() > 0


def test_words_say_which_neighbour() -> None:
    assert NearestRows(points(), k=1).words.startswith("distance of the 1st nearest of 300 training rows")
    assert [NearestRows(points(), k=k).words.split()[3] for k in (2, 3, 11, 21, 112)] == [
        "2nd",
        "3rd",
        "11th",
        "21st",
        "112th",
    ]
