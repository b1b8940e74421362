"""WaveNet: no sample sees a later one, the network is the paper's, the trace adds up, and steps draw from the law."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from contract.randomness import Stream
from contract.support import Column, Support
from models.randomness import uniform
from models.wavenet import WaveNet
from tests.models.supports import levels, pictures, table

SMALL: dict[str, Any] = {"width": 5, "skip": 7, "layers": 3}


def wavenet(support: Support, *, seed: int = 0, **hyper: Any) -> WaveNet:
    """Random weights all over."""
    torch.manual_seed(seed)
    model = WaveNet(support, **{**SMALL, **hyper})
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


def some(support: Support, n: int) -> Tensor:
    assert support.element is not None
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, support.element.levels or 2, (n, support.size), dtype=torch.uint8, generator=generator)


def by_convolutions(model: WaveNet, x: Tensor, label: Tensor | None = None) -> Tensor:
    """Log-probabilities of all levels at all times, by dilated convolutions over the whole signal: [n, T, levels]."""
    one_hot = functional.one_hot(x.long(), model.levels).float()
    h = torch.cat([model.first.weight[-1].expand(len(x), 1, -1), one_hot[:, :-1] @ model.first.weight[:-1]], dim=1)
    h = h.transpose(1, 2)  # [n, width, T]
    total = torch.zeros(len(x), model.head.in_features, model.length)
    for layer in model.layers:
        kernel = torch.stack([layer.past.weight, layer.present.weight], dim=2)
        found = functional.conv1d(
            functional.pad(h, (layer.dilation, 0)), kernel, layer.present.bias, dilation=layer.dilation
        )
        if label is not None:
            found = found + layer.labels(label)[..., None]
        half = found.shape[1] // 2
        z = torch.tanh(found[:, :half]) / (1.0 + torch.exp(-found[:, half:]))
        total = total + functional.conv1d(z, layer.skip.weight[..., None], layer.skip.bias)
        if layer.residual is not None:
            h = h + functional.conv1d(z, layer.residual.weight[..., None], layer.residual.bias)
    out = torch.relu(model.head(torch.relu(total).transpose(1, 2)))
    return torch.log_softmax(model.to_levels(out).double(), dim=2)


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_the_law_is_that_of_dilated_convolutions_and_the_trace_has_its_terms(data: st.DataObject) -> None:
    layers = data.draw(st.integers(1, 4))
    length = data.draw(st.integers(2 ** (layers - 1) + 1, 20))
    support = levels(data.draw(st.sampled_from([2, 5, 256])), length)
    labels = data.draw(st.sampled_from([(), ("calm", "storm")]))
    model = wavenet(support, layers=layers, stacks=data.draw(st.integers(1, 2)), labels=labels)
    x = some(support, 3)
    label = (torch.tensor([0, 1, 2]),) if labels else ()
    log_prob, trace = model.log_prob_and_trace(x, *label)
    expected = by_convolutions(model, x, *label).gather(2, x.long()[..., None])[..., 0]
    assert log_prob.dtype == trace.dtype == torch.float64
    assert tuple(trace.shape[1:]) == model.trace_shape
    assert torch.allclose(trace, expected, atol=1e-5)
    assert torch.allclose(log_prob, expected.sum(dim=1), atol=1e-4)
    assert torch.equal(model.log_prob(x, *label), log_prob)


def test_a_sample_sees_as_far_back_as_the_dilations_reach_and_nothing_later() -> None:
    support = levels(4, 12)
    model = wavenet(support, layers=3)
    (x,) = some(support, 1)
    other = x.repeat(12, 1)
    other[torch.arange(12), torch.arange(12)] = (x + 1) % 4
    changed = (by_time(model, other) != by_time(model, x[None])).any(dim=2).T  # [time, whose level it sees]
    time = torch.arange(12)
    back = time[:, None] - time
    # 2^3 inputs, the present one being the level before.
    assert torch.equal(changed, (back >= 1) & (back <= 8))


def by_time(model: WaveNet, x: Tensor) -> Tensor:
    """Log-probabilities of all levels at each time, asked one level at a time: [n, T, levels]."""
    answers = []
    for t, level in product(range(model.length), range(model.levels)):
        asked = x.clone()
        asked[:, t] = level
        answers.append(model.log_prob_and_trace(asked)[1][:, t])
    return torch.stack(answers, dim=1).reshape(len(x), model.length, model.levels)


@pytest.mark.parametrize("support", [pictures(6), levels(3, 5), levels(8, 3)], ids=["binary", "three", "eight"])
def test_probabilities_of_all_signals_sum_to_one(support: Support) -> None:
    assert support.element is not None
    values = range(support.element.levels or 2)
    x = torch.tensor(list(product(values, repeat=support.size)), dtype=torch.uint8)
    assert abs(wavenet(support, layers=2).log_prob(x).exp().sum().item() - 1.0) < 1e-6


# -- draws -------------------------------------------------------------------------------------------------------------


def step_by_step(model: WaveNet, seed: Tensor, row: Tensor, temperature: Tensor, *label: Tensor) -> Tensor:
    state = model.sample_init(seed, row)
    for t in range(model.sample_steps):
        state = model.sample_step(seed, row, torch.full_like(row, t), temperature, *label, *state)
    return model.sample_final(*state)


@pytest.mark.parametrize("labels", [(), ("calm", "storm")], ids=["no labels", "labels"])
@pytest.mark.parametrize("stacks", [1, 2])
def test_the_steps_are_ancestral_sampling(labels: tuple[str, ...], stacks: int) -> None:
    # With the whole network run anew for every sample; longer than the rings, so that they come round.
    model, n = wavenet(levels(16, 20), labels=labels, stacks=stacks), 12
    seed, row = torch.full((n,), 42), torch.arange(n)
    temperature = torch.linspace(0.5, 2.0, n).double()
    label = (torch.arange(n) % 3,) if labels else ()
    x = torch.zeros(n, 20, dtype=torch.uint8)
    for t in range(20):
        chances = torch.softmax(by_convolutions(model, x, *label)[:, t] / temperature[:, None], dim=1)
        u = uniform(seed, row, Stream.STEP, t, dims=1).double()
        x[:, t] = (chances.cumsum(dim=1) <= u).sum(dim=1).clamp(max=15).to(torch.uint8)
    drawn = step_by_step(model, seed, row, temperature, *label)
    assert drawn.dtype == torch.uint8
    # A number on the edge of two levels may fall to either side; its row then goes another way.
    assert (drawn == x).all(dim=1).sum() >= n - 1
    assert len(drawn.unique(dim=0)) == n


def test_rows_at_different_samples_share_a_batch() -> None:
    model = wavenet(levels(8, 9))
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


def test_a_step_carries_rings_of_the_dilations_and_no_more() -> None:
    model = wavenet(levels(8, 300), layers=4, stacks=2)
    (rings,) = [part for part in model.sample_state if part.name == "rings"]
    assert rings.shape == (2 * (1 + 2 + 4 + 8), SMALL["width"])


# -- training ----------------------------------------------------------------------------------------------------------


def test_it_starts_near_the_shares_of_the_levels() -> None:
    torch.manual_seed(0)
    model = WaveNet(levels(4, 8), **SMALL)
    x = torch.tensor([[0, 1, 1, 1, 0, 1, 1, 1]], dtype=torch.uint8).expand(50, 8)
    model.prepare(x)
    assert torch.softmax(model.to_levels.bias, dim=0)[1].item() == pytest.approx(0.75, abs=0.01)
    assert model.log_prob(x[:1]).item() == pytest.approx(2 * np.log(0.25) + 6 * np.log(0.75), abs=0.6)


def test_a_few_steps_teach_it_what_happened_eight_samples_ago() -> None:
    # Periods of eight random levels: from the ninth sample on, nothing is left to chance.
    torch.manual_seed(0)
    model = WaveNet(levels(4, 16), width=16, skip=16, layers=4)
    x = torch.randint(0, 4, (256, 8), dtype=torch.uint8).repeat(1, 2)
    seed = torch.zeros(256, dtype=torch.int64)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimiser.zero_grad()
        model.losses(x, seed, seed).total["main"].backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    fresh = torch.randint(0, 4, (64, 8), dtype=torch.uint8).repeat(1, 2)
    trace = model.eval().log_prob_and_trace(fresh)[1].mean(dim=0)
    assert trace[8:].mean().item() > -0.3
    assert trace[:8].mean().item() < -1.2, "of four levels at random nothing can be learnt"


def test_training_withholds_the_label_of_some_rows() -> None:
    model = wavenet(levels(4, 5), labels=["calm", "storm"], label_dropout=0.25)
    seen: list[Tensor] = []
    model.layers[0].labels.register_forward_hook(lambda module, given, result: seen.append(given[0]))  # type: ignore[union-attr]
    n = 4000
    label, address = torch.arange(n) % 2, torch.arange(n)
    model.losses(torch.zeros(n, 5, dtype=torch.uint8), torch.zeros_like(address), address, label)
    withheld = seen[0] == 2
    assert torch.equal(seen[0][~withheld], label[~withheld])
    assert abs(float(withheld.double().mean()) - 0.25) < 4 * (0.25 * 0.75 / n) ** 0.5
    (condition,) = model.conditions
    assert (condition.vocabulary, condition.default) == (("calm", "storm"), 2)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("support", "words"),
    [
        (table("real", "real"), "a table"),
        (levels(256, 4, 4), "no signals"),
        (levels(300, 9), "2 to 256 levels"),
        (Support(shape=(9,), element=Column(name="p", kind="count", base_measure="counting")), "is count"),
    ],
)
def test_what_is_no_signal_is_refused(support: Support, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WaveNet(support)


@pytest.mark.parametrize(
    ("hyper", "words"),
    [
        ({"width": 0}, "width"),
        ({"stacks": 0}, "stacks"),
        ({"layers": 5}, "looks 16 steps back"),
        ({"label_dropout": 1.0}, "label"),
    ],
)
def test_what_makes_no_network_is_refused(hyper: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WaveNet(levels(8, 16), **{**SMALL, **hyper})
