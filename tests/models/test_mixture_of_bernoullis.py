"""The mixture of bits against scikit-learn on equal parameters, against all states, and against what EM promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.naive_bayes import BernoulliNB

from contract.support import Column, Support
from models.mixture_of_bernoullis import MixtureOfBernoullis, expectation, maximisation, penalty
from tests.models.supports import pictures, table

BITS = torch.from_numpy((load_digits().images > 7).astype(np.uint8))


def fitted(x: torch.Tensor = BITS, seed: int = 0, **settings: Any) -> MixtureOfBernoullis:
    torch.manual_seed(seed)
    model = MixtureOfBernoullis(pictures(*x.shape[1:]), **settings)
    model.fit(x)
    return model


@pytest.fixture(scope="module")
def model() -> MixtureOfBernoullis:
    return fitted(components=12, max_passes=30)


def test_on_equal_parameters_it_is_scikit_learn_s_bernoulli_naive_bayes(model: MixtureOfBernoullis) -> None:
    """Whose labels are never seen here: the joint law of label and bits is the same."""
    theirs = BernoulliNB()
    theirs.classes_ = np.arange(12)
    theirs.feature_log_prob_ = torch.sigmoid(model.logits).log().numpy()
    weights = torch.diff(model.cumulative, prepend=torch.zeros(1))
    theirs.class_log_prior_ = weights.log().numpy()
    theirs.n_features_in_ = 64
    flat = BITS.flatten(1).numpy()
    joint = theirs.predict_joint_log_proba(flat)
    assert np.allclose(model.log_prob(BITS).numpy(), np.logaddexp.reduce(joint, axis=1), rtol=1e-9)
    assert np.allclose(model.encode(BITS).numpy(), theirs.predict_proba(flat), atol=1e-9)


def test_all_states_sum_to_one() -> None:
    corner = BITS[:, 2:5, 2:6]
    model = fitted(corner, components=5)
    states = torch.cartesian_prod(*[torch.arange(2, dtype=torch.uint8)] * 12).reshape(-1, 3, 4)
    assert abs(float(model.log_prob(states).exp().sum()) - 1.0) < 1e-9
    n = 40_000
    drawn = model.sample(torch.full((n,), 3), torch.arange(n)).flatten(1).long() @ (1 << torch.arange(11, -1, -1))
    counts, expected = torch.bincount(drawn, minlength=4096), model.log_prob(states).exp() * n
    often = expected > 5
    excess = ((counts - expected).square() / expected)[often]
    assert float(excess.sum()) < int(often.sum()) + 6 * (2 * int(often.sum())) ** 0.5


def test_no_pass_of_em_lowers_its_objective() -> None:
    rows = BITS.flatten(1)
    mean = (rows.double().sum(dim=0) + 0.5) / (len(rows) + 1)
    generator = torch.Generator().manual_seed(0)
    picked = rows[torch.randperm(len(rows), generator=generator)[:15]].double()
    for smoothing in (0.1, 3.0):
        weights, chances = torch.full((15,), 1 / 15).double(), 0.5 * picked + 0.5 * mean
        last = -np.inf
        for _ in range(25):
            total, sizes, sums = expectation(rows, weights, chances)
            objective = total + penalty(weights, chances, mean, smoothing)
            assert objective > last - 1e-2  # of a million, in single precision
            last = objective
            weights, chances = maximisation(sizes, sums, mean, smoothing)
        assert abs(float(weights.sum()) - 1.0) < 1e-12
        # And where it ends no neighbour is higher.
        total, sizes, sums = expectation(rows, weights, chances)
        at_its_best = total + penalty(weights, chances, mean, smoothing)
        for _ in range(5):
            moved = (chances.logit() + 0.2 * torch.randn(chances.shape, generator=generator)).sigmoid()
            assert expectation(rows, weights, moved)[0] + penalty(weights, moved, mean, smoothing) < at_its_best


def test_em_finds_the_prototypes_that_rows_were_drawn_from() -> None:
    rng = np.random.default_rng(0)
    chances = rng.choice([0.1, 0.9], size=(3, 30))
    of = rng.choice(3, size=3000, p=[0.6, 0.3, 0.1])
    x = torch.from_numpy((rng.random((3000, 30)) < chances[of]).astype(np.uint8)).reshape(-1, 5, 6)
    model = fitted(x, components=3, starts=4)
    order = torch.diff(model.cumulative, prepend=torch.zeros(1)).argsort(descending=True)
    assert np.allclose(torch.sigmoid(model.logits)[order].numpy(), chances, atol=0.09)
    assert np.allclose(model.cumulative.diff(prepend=torch.zeros(1))[order].numpy(), [0.6, 0.3, 0.1], atol=0.03)
    assert (model.encode(x).argmax(dim=1) == order[torch.from_numpy(of)]).double().mean() > 0.99


def test_what_no_row_of_a_component_has_is_not_impossible(model: MixtureOfBernoullis) -> None:
    assert bool(model.log_prob(1 - BITS).isfinite().all())
    blank = fitted(BITS * 0, components=2)
    assert bool(blank.log_prob(BITS).isfinite().all())


def test_more_starts_are_no_worse_for_the_rows_held_out_and_progress_is_told() -> None:
    told: list[tuple[int, str]] = []
    torch.manual_seed(0)
    model = MixtureOfBernoullis(pictures(8, 8), components=4, starts=2, max_passes=3)
    assert model.fit_passes == 6
    model.fit(BITS, progress=lambda done, note: told.append((done, note)))
    assert [done for done, _ in told] == [1, 2, 3, 4, 5, 6]
    # The best pass of all is kept: its likelihood of the rows held out is the highest told.
    torch.manual_seed(0)
    judges = BITS[torch.randperm(len(BITS))[: round(0.1 * len(BITS))]]
    highest = max(float(note.split()[-1]) for _, note in told)
    assert abs(float(model.log_prob(judges).mean()) - highest) < 2e-3


def test_climbing_ends_when_the_rows_held_out_gain_nothing() -> None:
    told: list[int] = []
    torch.manual_seed(0)
    noise = torch.randint(0, 2, (400, 8, 8), dtype=torch.uint8)  # nothing to be learnt beyond the mean
    model = MixtureOfBernoullis(pictures(8, 8), components=50, patience=2, smoothing=0.01)
    model.fit(noise, progress=lambda done, note: told.append(done))
    assert len(told) < 20
    assert torch.equal(fitted(components=4, seed=7).logits, fitted(components=4, seed=7).logits)


def test_what_cannot_be_fitted_is_an_error() -> None:
    with pytest.raises(ValueError, match="9 training rows are fewer than 12 components"):
        fitted(BITS[:10], components=12)
    with pytest.raises(ValueError, match="components, starts, patience and max_passes are 1 or more"):
        MixtureOfBernoullis(pictures(2, 2), components=0)
    with pytest.raises(ValueError, match="held_out lies between 0 and 1"):
        MixtureOfBernoullis(pictures(2, 2), held_out=1.0)
    missing = Column(name="n", kind="binary", base_measure="counting", missing_allowed=True)
    for support, reason in [(table("real"), "'a' is real"), (Support(shape=(2,), element=missing), "may be missing")]:
        assert reason in (MixtureOfBernoullis.accepts(support) or "")
        with pytest.raises(ValueError, match="MixtureOfBernoullis cannot model this support"):
            MixtureOfBernoullis(support)
