"""MADE: masks that make it autoregressive, a law that sums to one, and a sampler that draws from that law."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor

from contract.randomness import Stream
from contract.support import Column, Support
from models.made import MADE
from models.nets.masked import MaskedLinear
from models.randomness import uniform
from tests.models.supports import pictures, table


def made(*shape: int, hidden: int = 10, direct: bool = True, seed: int = 0) -> MADE:
    """Random weights, those behind the masks included: a mask that is not applied shows."""
    torch.manual_seed(seed)
    model = MADE(pictures(*shape), hidden=hidden, direct=direct)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    return model.eval().requires_grad_(False)


def every_state(*shape: int) -> Tensor:
    d = prod(shape)
    return ((torch.arange(2**d)[:, None] >> torch.arange(d)) & 1).to(torch.uint8).reshape(-1, *shape)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize(("shape", "hidden"), [((9,), 5), ((3, 4), 40), ((1,), 3), ((2,), 1)])
def test_each_conditional_sees_earlier_coordinates_alone(shape: tuple[int, ...], hidden: int, direct: bool) -> None:
    model = made(*shape, hidden=hidden, direct=direct)
    assert model.to_hidden.bias is not None
    model.to_hidden.bias.fill_(30.0)  # every ReLU is on, so that every connection shows
    d = prod(shape)
    seen = torch.zeros(d, d)
    for x in torch.rand(5, d):
        seen += torch.autograd.functional.jacobian(lambda v: model._logits(v[None])[0], x).abs()
    assert (seen.triu() == 0).all()
    if direct or hidden >= d - 1 > 0:
        assert (seen.tril(-1).sum(dim=1)[1:] > 0).all()


@pytest.mark.parametrize("direct", [False, True])
def test_probabilities_sum_to_one(direct: bool) -> None:
    total = made(2, 5, direct=direct).log_prob(every_state(2, 5)).exp().sum()
    assert abs(total.item() - 1.0) < 1e-6


def test_log_prob_is_the_product_of_its_conditionals() -> None:
    model, x = made(7), every_state(7)[::5]
    logits = model._logits(x.float()).double()
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(x.double()).sum(dim=1)
    assert torch.allclose(model.log_prob(x), expected, atol=1e-9)
    assert model.log_prob(x).dtype == torch.float64


def test_log_prob_of_what_cannot_be_is_finite_and_exact() -> None:
    model = made(3)
    assert model.to_logits.bias is not None
    model.to_logits.bias.copy_(torch.tensor([-2000.0, 0.0, 0.0]))
    x = torch.tensor([[1, 0, 0], [0, 0, 0]], dtype=torch.uint8)
    off, on = model.log_prob(x).tolist()
    assert -2100 < off < -1990
    assert -20 < on <= 0


def step_by_step(model: MADE, seed: Tensor, row: Tensor, temperature: Tensor) -> Tensor:
    state = model.sample_init(seed, row)
    for t in range(model.sample_steps):
        state = model.sample_step(seed, row, torch.full_like(row, t), temperature, *state)
    return model.sample_final(*state)


@pytest.mark.parametrize("direct", [False, True])
def test_the_step_sampler_draws_from_the_conditionals(direct: bool) -> None:
    # Ancestral sampling, with the whole network run anew for every coordinate.
    model = made(3, 4, direct=direct)
    seed, row = torch.full((200,), 42), torch.arange(200)
    temperature = torch.linspace(0.3, 3.0, 200).double()
    x = torch.zeros(200, 12)
    for d in range(12):
        chance = torch.sigmoid(model._logits(x)[:, d] / temperature.float())
        x[:, d] = (uniform(seed, row, Stream.STEP, d, dims=1)[:, 0] < chance).float()
    drawn = step_by_step(model, seed, row, temperature)
    assert drawn.dtype == torch.uint8
    assert torch.equal(drawn, x.to(torch.uint8).reshape(200, 3, 4))


def test_rows_at_different_steps_share_a_batch() -> None:
    model = made(2, 3)
    seed, row, warm = torch.full((4,), 5), torch.arange(4), torch.ones(4).double()
    together = step_by_step(model, seed, row, warm)
    state = list(model.sample_init(seed, row))
    # Row i starts i rounds late; a row that is done or not yet begun keeps its state.
    for round_ in range(model.sample_steps + 3):
        t = round_ - row
        going = (t >= 0) & (t < model.sample_steps)
        after = model.sample_step(seed, row, t.clamp(0, model.sample_steps - 1), warm, *state)
        state = [
            torch.where(going.reshape(-1, *[1] * (old.ndim - 1)), new, old)
            for old, new in zip(state, after, strict=True)
        ]
    assert torch.equal(model.sample_final(*state), together)


def test_a_low_temperature_draws_the_likelier_value() -> None:
    model = made(8)
    cold = step_by_step(model, torch.full((64,), 1), torch.arange(64), torch.full((64,), 1e-6).double())
    assert len(cold.unique(dim=0)) == 1
    greedy = torch.zeros(1, 8)
    for d in range(8):
        greedy[0, d] = (model._logits(greedy)[0, d] > 0).float()
    assert torch.equal(cold[:1].float(), greedy)


def test_it_starts_from_the_independent_law_of_the_training_rows() -> None:
    x = torch.tensor([[0, 1, 1], [0, 1, 0], [0, 1, 1], [0, 1, 0]], dtype=torch.uint8)
    model = MADE(pictures(3), hidden=4)
    model.prepare(x)
    chances = torch.sigmoid(model.to_logits.bias)  # type: ignore[arg-type]
    assert torch.allclose(chances, torch.tensor([0.1, 0.9, 0.5]), atol=1e-6)


def test_baked_weights_give_the_same_answers() -> None:
    model = made(3, 4)
    x = every_state(3, 4)[::7]
    baked = model.baked()
    assert torch.equal(baked.log_prob(x), model.log_prob(x))
    assert (baked.to_logits.weight == 0).any()
    assert baked.to_logits.mask is None


@pytest.mark.parametrize("input_major", [False, True])
def test_a_masked_layer_computes_the_same_in_either_layout(input_major: bool) -> None:
    mask = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    layer = MaskedLinear(mask, input_major=input_major)
    weight = torch.arange(1.0, 7.0).reshape(2, 3)
    layer.weight.data.copy_(weight.T if input_major else weight)
    x = torch.tensor([[1.0, 10.0, 100.0]])
    assert layer(x).tolist() == [[301.0, 650.0]]
    without = MaskedLinear(mask, bias=False, input_major=input_major)
    assert without(torch.zeros(1, 3)).tolist() == [[0.0, 0.0]]


def test_binary_columns_are_given_as_doubles() -> None:
    columns = tuple(Column(name=name, kind="binary", base_measure="counting") for name in "abc")
    model = MADE(Support(shape=(3,), columns=columns), hidden=4)
    drawn = step_by_step(model, torch.zeros(5, dtype=torch.int64), torch.arange(5), torch.ones(5).double())
    assert drawn.dtype == torch.float64
    assert model.log_prob(drawn).shape == (5,)


def test_refuses_what_is_not_binary_or_may_be_missing() -> None:
    assert "'a' is real" in (MADE.accepts(table("real")) or "")
    grey = Column(name="pixel", kind="ordinal", base_measure="counting", levels=256)
    assert "'pixel' is ordinal" in (MADE.accepts(Support(shape=(2, 2), element=grey)) or "")
    hole = Column(name="pixel", kind="binary", base_measure="counting", missing_allowed=True)
    assert "may be missing" in (MADE.accepts(Support(shape=(2, 2), element=hole)) or "")


@pytest.mark.parametrize("shape", [(9,), (3, 4)])
def test_the_trace_is_what_each_coordinate_adds(shape: tuple[int, ...]) -> None:
    """A term is the difference of two log-probabilities: of the coordinates up to it, and up to the one before."""
    model = made(*shape)
    x = every_state(*shape)[:: 2 ** prod(shape) // 16 - 1]
    log_prob, trace = model.log_prob_and_trace(x)
    assert tuple(trace.shape[1:]) == model.trace_shape == shape
    assert torch.allclose(trace.flatten(1).sum(dim=1), log_prob, rtol=1e-12)
    changed = x.clone().flatten(1)
    changed[:, 5:] = 1 - changed[:, 5:]
    later = model.log_prob_and_trace(changed.reshape(x.shape))[1].flatten(1)
    assert torch.equal(later[:, :5], trace.flatten(1)[:, :5]), "what comes later is in no earlier term"
    flipped = x.clone().flatten(1)
    flipped[:, 4] = 1 - flipped[:, 4]
    other = model.log_prob_and_trace(flipped.reshape(x.shape))[1].flatten(1)[:, 4]
    assert torch.allclose(other.exp() + trace.flatten(1)[:, 4].exp(), torch.ones_like(other))
