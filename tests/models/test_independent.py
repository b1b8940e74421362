"""Independent coordinates and naive Bayes against scikit-learn's counts, and against sums over all states."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.naive_bayes import BernoulliNB, CategoricalNB

from contract.support import Column, Support
from models.independent import Independent
from models.naive_bayes import NaiveBayes
from runtime.loop import run_program
from tests.families import trained
from tests.models.supports import levels, pictures, table

DIGITS = load_digits()
BITS = torch.from_numpy((DIGITS.images[:, 2:6, 2:6] > 7).astype(np.uint8))
LABELS = torch.from_numpy(DIGITS.target.astype(np.int64))
NAMES = [str(digit) for digit in range(10)]


def mixed() -> Support:
    """A binary, an ordinal and a categorical column."""
    return Support(
        shape=(3,),
        columns=(
            Column(name="smokes", kind="binary", base_measure="counting"),
            Column(name="stars", kind="ordinal", levels=4, base_measure="counting"),
            Column(name="ward", kind="categorical", categories=("n", "s", "w"), base_measure="counting"),
        ),
    )


def table_rows(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    x = np.stack([rng.random(n) < 0.2 + 0.5 * y, rng.binomial(3, 0.3 + 0.3 * y), rng.integers(0, 2 + y, n)], axis=1)
    return torch.from_numpy(x.astype(np.float64)), torch.from_numpy(y)


def naive_bayes(support: Support, x: torch.Tensor, y: torch.Tensor, **settings: Any) -> NaiveBayes:
    model = NaiveBayes(support, labels=[str(k) for k in range(int(y.max()) + 1)], **settings)
    model.fit(x, y)
    return model


def none(model: NaiveBayes, n: int) -> torch.Tensor:
    return torch.full((n,), len(model.labels))


@pytest.mark.parametrize("smoothing", [0.5, 1.0, 3.0])
def test_bits_are_scikit_learn_s_bernoulli_naive_bayes(smoothing: float) -> None:
    train, test = BITS[:1200], BITS[1200:]
    model = naive_bayes(pictures(4, 4), train, LABELS[:1200], smoothing=smoothing)
    theirs = BernoulliNB(alpha=smoothing).fit(train.flatten(1).numpy(), LABELS[:1200].numpy())
    flat = test.flatten(1).numpy()
    joint = theirs.predict_joint_log_proba(flat)
    assert np.allclose(model.log_prob(test, none(model, len(test))).numpy(), np.logaddexp.reduce(joint, axis=1))
    assert np.allclose(model.classify(test).numpy(), theirs.predict_log_proba(flat))
    assert np.allclose(model.encode(test, none(model, len(test))).numpy(), theirs.predict_proba(flat))
    given = model.log_prob(test, LABELS[1200:]).numpy()
    expected = (joint - theirs.class_log_prior_)[np.arange(len(test)), LABELS[1200:]]
    assert np.allclose(given, expected)


def test_values_are_scikit_learn_s_categorical_naive_bayes() -> None:
    x, y = table_rows(500)
    model = naive_bayes(mixed(), x, y, smoothing=0.5)
    theirs = CategoricalNB(alpha=0.5, min_categories=[2, 4, 3]).fit(x.numpy(), y.numpy())
    joint = theirs.predict_joint_log_proba(x.numpy())
    assert np.allclose(model.log_prob(x, none(model, 500)).numpy(), np.logaddexp.reduce(joint, axis=1))


def test_without_labels_it_is_one_class() -> None:
    model = Independent(pictures(4, 4), smoothing=0.5)
    model.fit(BITS)
    theirs = BernoulliNB(alpha=0.5).fit(BITS.flatten(1).numpy(), np.zeros(len(BITS)))
    assert np.allclose(model.log_prob(BITS).numpy(), theirs.predict_joint_log_proba(BITS.flatten(1).numpy())[:, 0])
    # A value of every coordinate costs its share of the rows, and nothing depends on another.
    flipped = BITS.clone()
    flipped[:, 1, 1] = 1 - flipped[:, 1, 1]
    change = (model.log_prob(flipped) - model.log_prob(BITS))[BITS[:, 1, 1] == 0]
    assert torch.allclose(change, change[0].expand(len(change)))


@pytest.mark.parametrize("support", [mixed(), levels(3, 1, 4), pictures(2, 3)])
def test_all_states_sum_to_one_without_a_label_and_with_each(support: Support) -> None:
    sizes = [len(c.categories or ()) or c.levels or 2 for c in (support.column_at(i) for i in range(support.size))]
    states = torch.tensor(list(product(*(range(size) for size in sizes)))).reshape(-1, *support.shape)
    states = states.to(torch.uint8 if support.dtype == "uint8" else torch.float64)
    y = torch.arange(len(states)) % 2
    model = naive_bayes(support, states[::3], y[::3])
    for label in (0, 1, 2):
        total = model.log_prob(states, torch.full((len(states),), label)).exp().sum()
        assert abs(float(total) - 1.0) < 1e-12
    alone = Independent(support)
    alone.fit(states[::3])
    assert abs(float(alone.log_prob(states).exp().sum()) - 1.0) < 1e-12


def test_draws_are_of_the_label_that_was_given_or_of_all() -> None:
    x, y = table_rows(2000)
    model = naive_bayes(mixed(), x, y)
    n = 40_000
    seed, row = torch.full((n,), 5), torch.arange(n)
    for label in (0, 1, 2):
        given = torch.full((n,), label)
        drawn = model.sample(seed, row, given)
        states, counts = torch.unique(drawn, dim=0, return_counts=True)
        expected = model.log_prob(states, given[: len(states)]).exp() * n
        assert expected.sum() > 0.99 * n
        assert float(((counts - expected).square() / expected).sum()) < len(states) + 6 * (2 * len(states)) ** 0.5


def test_values_that_a_column_has_not_are_never_drawn() -> None:
    x, _ = table_rows(300)
    model = Independent(mixed())
    model.fit(x)
    drawn = model.sample(torch.full((5000,), 1), torch.arange(5000)).numpy()
    assert np.array_equal(mixed().check(drawn), drawn)
    assert [int(drawn[:, i].max()) for i in range(3)] == [1, 3, 2]


def test_a_label_that_is_given_is_certain() -> None:
    x, y = table_rows(100)
    model = naive_bayes(mixed(), x, y)
    assert model.encode(x[:3], torch.tensor([0, 1, 1])).tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]


def test_the_served_graphs_take_labels() -> None:
    family = trained("naive-bayes")
    states = np.array(list(product((0, 1), repeat=9)), dtype=np.uint8).reshape(-1, 3, 3)
    model: Any = family.model
    mixture = np.zeros(len(states))
    for k in range(10):
        given = run_program(family.served, "log_prob", {"x": states, "label": np.full(len(states), k)})["log_prob"]
        assert abs(np.exp(given).sum() - 1.0) < 1e-9
        mixture += np.exp(given + float(model.log_shares[k]))
    whole = run_program(family.served, "log_prob", {"x": states})["log_prob"]
    assert np.allclose(np.log(mixture), whole)
    test = family.folds.test
    assert test.labels is not None
    codes = run_program(family.served, "encode", {"x": test.rows})["z"]
    assert (codes.argmax(axis=1) == test.labels).mean() > 0.3  # of ten labels, by nine pixels
    names = {metric.name for metric in family.served.manifest.metrics}
    assert {"test_log_prob", "test_log_prob_given_label"} <= names


def test_labels_are_needed_and_each_has_rows() -> None:
    with pytest.raises(ValueError, match="naive Bayes tells labels apart, two or more: say `condition: label`"):
        NaiveBayes(pictures(4, 4))
    with pytest.raises(ValueError, match="none of the 100 training rows has the label 'ten'"):
        NaiveBayes(pictures(4, 4), labels=[*NAMES, "ten"]).fit(BITS[:100], LABELS[:100])
    for cls, more in ((Independent, {}), (NaiveBayes, {"labels": NAMES})):
        with pytest.raises(ValueError, match="smoothing: a pseudo-count is a finite number above 0, not 0"):
            cls(pictures(2, 2), smoothing=0.0, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("support", "reason"),
    [
        (table("real"), "'a' is real, and a table of probabilities has finitely many values"),
        (
            Support(shape=(2,), element=Column(name="n", kind="binary", base_measure="counting", missing_allowed=True)),
            "'n' may be missing",
        ),
    ],
)
def test_other_supports_are_refused(support: Support, reason: str) -> None:
    assert reason in (Independent.accepts(support) or "")
    assert Independent.accepts(support) == NaiveBayes.accepts(support)
    with pytest.raises(ValueError, match="Independent cannot model this support"):
        Independent(support)
