"""The importance-weighted bound, on a model whose log-probability is known: a linear Gaussian latent variable.

    z ~ N(0, 1),    x given z ~ N(a z, s^2 I),    so that x ~ N(0, a a^T + s^2 I)

with a q(z given x) that is deliberately not the posterior.
"""

from __future__ import annotations

from math import log, pi
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from contract.programs import ProgramInput, State
from contract.randomness import Stream, row_address
from contract.support import Column, Support
from models.base import GenerativeModel, capabilities
from models.nets.lanes import row_sum
from models.randomness import normal
from training.export import export_model, export_score
from training.graphs import answers_in_torch
from training.law import DirectionLaw
from training.parity import verify_export

A, S = torch.tensor([1.0, -0.5], dtype=torch.float64), 0.7
Q_GAIN, Q_SCALE = 0.5, 0.8
LABEL = ProgramInput(name="label", dtype="int64", source="condition", default=2, vocabulary=("plain", "shifted"))


class Linear(GenerativeModel):
    """The model of the module's docstring; the class ``shifted`` adds 1 to x."""

    default_samples: ClassVar[int] = 8
    bound_state = (State(name="mean", dtype="float64"),)

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        return None

    @property
    def conditions(self) -> tuple[ProgramInput, ...]:
        return (LABEL,)

    def bound_init(self, x: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
        return (Q_GAIN * row_sum(self._plain(x, conditions[0]) * A),)

    def log_weight(self, x: Tensor, seed: Tensor, row: Tensor, t: Tensor, *rest: Tensor) -> Tensor:
        label, mean = rest
        e = normal(seed, row, Stream.LATENT, t, dims=1).double()[:, 0]
        z = mean + Q_SCALE * e
        residual = (self._plain(x, label) - z[:, None] * A) / S
        joint = -0.5 * (z.square() + row_sum(residual.square())) - 1.5 * log(2 * pi) - 2 * log(S)
        return joint + 0.5 * e.square() + 0.5 * log(2 * pi) + log(Q_SCALE)

    def _plain(self, x: Tensor, label: Tensor) -> Tensor:
        return x - (label == 1).double()[:, None]


def model() -> Linear:
    return Linear(
        Support(shape=(2,), columns=tuple(Column(name=n, kind="real", base_measure="lebesgue") for n in "ab"))
    )


ROWS = np.random.default_rng(0).normal(size=(64, 2))
TRUTH = stats.multivariate_normal(np.zeros(2), np.outer(A, A) + S**2 * np.eye(2))


def bound(rows: np.ndarray, samples: int, seed: int = 0, label: int = 2) -> dict[str, np.ndarray]:
    inputs = {"x": rows, "seed": np.full(len(rows), seed), "label": np.full(len(rows), label)}
    return answers_in_torch(model(), "log_prob", inputs, steps=samples)


def test_it_is_a_capability_with_a_kind_an_error_and_a_choice_of_samples() -> None:
    assert capabilities(Linear) == ("log_prob",)
    program = export_model(model()).programs["log_prob"]
    assert program.steps.parameter == "samples"
    assert program.steps.default == 8
    output = program.outputs[0]
    assert output.kind == "lower_bound"
    assert output.error is not None
    assert output.error.scope == "row"


def test_more_samples_are_tighter_in_expectation_and_none_passes_the_truth() -> None:
    rows = np.repeat(ROWS[:4], 500, axis=0)
    inputs = {"x": rows, "seed": np.tile(np.arange(500), 4)}
    means, errors = {}, {}
    for samples in (1, 10, 100):
        values = answers_in_torch(model(), "log_prob", inputs, steps=samples)["log_prob"].reshape(4, 500)
        means[samples], errors[samples] = values.mean(axis=1), values.std(axis=1, ddof=1) / 500**0.5
    truth = TRUTH.logpdf(ROWS[:4])
    assert (means[1] + 4 * errors[1] < means[10] - 4 * errors[10]).all()
    assert (means[10] - means[100] < 4 * np.hypot(errors[10], errors[100])).all()
    for samples in means:
        assert (means[samples] < truth + 4 * errors[samples]).all()
    assert np.allclose(means[100], truth, atol=0.05)


def test_the_standard_error_is_the_spread_over_seeds() -> None:
    rows = np.repeat(ROWS[:1], 2000, axis=0)
    answer = answers_in_torch(model(), "log_prob", {"x": rows, "seed": np.arange(2000)}, steps=200)
    assert np.allclose(answer["standard_error"].mean(), answer["log_prob"].std(ddof=1), rtol=0.1)


def test_one_draw_has_no_standard_error_and_is_the_elbo() -> None:
    answer = bound(ROWS, 1)
    assert np.isnan(answer["standard_error"]).all()
    m = model()
    x = torch.from_numpy(ROWS)
    seed, label = torch.zeros(64, dtype=torch.int64), torch.full((64,), 2)
    row = torch.from_numpy(row_address(ROWS))
    weight = m.log_weight(x, seed, row, torch.zeros_like(seed), label, *m.bound_init(x, label))
    assert np.allclose(answer["log_prob"], weight.numpy(), rtol=1e-12)


def test_draws_follow_the_row_and_not_its_place() -> None:
    whole = bound(ROWS, 5)
    order = np.random.default_rng(1).permutation(64)
    assert np.array_equal(bound(ROWS[order], 5)["log_prob"], whole["log_prob"][order])
    assert not np.array_equal(bound(ROWS, 5, seed=1)["log_prob"], whole["log_prob"])


def test_a_weight_of_nothing_is_no_bound_and_no_trouble() -> None:
    far = bound(np.array([[1e200, 0.0], [0.0, 0.0]]), 5)
    assert far["log_prob"][0] == -np.inf
    assert np.isfinite(far["log_prob"][1])


@pytest.mark.parametrize("label", [0, 1])
def test_the_condition_reaches_every_graph(label: int) -> None:
    near = bound(ROWS[:3] + label, 2000, label=label)["log_prob"]
    assert np.allclose(near, TRUTH.logpdf(ROWS[:3]), atol=0.1)


def test_the_export_is_the_bound_and_the_score_is_made_of_it() -> None:
    m, law = model(), DirectionLaw()
    exported = export_score(law, export_model(m))
    verified = verify_export(m, exported, ROWS, law=law)
    assert {"log_prob_init", "log_prob_step", "score"} <= set(verified.graphs)
    score: Any = exported.programs["score"]
    assert (score.init, score.step, score.final) == ("log_prob_init", "log_prob_step", "score")
    assert [part.kind for part in score.outputs] == ["score", "statistic", "standard_error"]
