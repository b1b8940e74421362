"""Gated PixelCNN: no pixel sees a later one or misses an earlier one, laws sum to one, and steps draw from them."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from contract.randomness import Stream
from contract.support import Column, Support
from models.gated_pixelcnn import GatedPixelCNN
from models.nets.gated import GatedStacks
from models.nets.pixels import OUTSIDE, CopyMixture, LevelSoftmax
from models.randomness import uniform
from tests.models.supports import levels, pictures, table
from training.export import export_model
from training.parity import verify_export

SMALL: dict[str, Any] = {"width": 6, "layers": 2, "reach": 1, "head": 12, "copies": 2, "palette": 5, "components": 2}
SUPPORTS = [pictures(6, 7), levels(3, 6, 7, 3), levels(40, 7, 6), levels(256, 6, 7, 3)]
NAMES = ["binary", "few levels in colour", "grey", "colour"]


def some(support: Support, n: int, seed: int = 0) -> Tensor:
    """Pictures whose pixels often have the colour of another."""
    assert support.element is not None
    generator = torch.Generator().manual_seed(seed)
    count = support.element.levels or 2
    colours = torch.randint(0, count, (6, *support.shape[2:]), dtype=torch.uint8, generator=generator)
    return colours[torch.randint(0, 6, (n, *support.shape[:2]), generator=generator)]


def gated(support: Support, *, seed: int = 0, **hyper: Any) -> GatedPixelCNN:
    """Random weights all over."""
    torch.manual_seed(seed)
    model = GatedPixelCNN(support, **{**SMALL, **hyper})
    model.prepare(some(support, 20, seed))
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


# -- what a pixel sees -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("support", SUPPORTS, ids=NAMES)
def test_a_pixel_sees_no_later_one_and_every_earlier_one_within_reach(support: Support) -> None:
    model = gated(support)
    height, width = support.shape[:2]
    size, field = height * width, model.network.radius
    assert support.element is not None
    for x in some(support, 3, seed=1).float().reshape(3, size, -1):
        whole, around = model._whole(x.expand(size, -1, -1), ())
        # One picture for each pixel that is another one there, in all channels.
        other = x.expand(size, -1, -1).clone()
        other[torch.arange(size), torch.arange(size)] = ((support.element.levels or 2) - 1) - x
        changed, around_changed = model._whole(other, ())
        seen = ((changed != whole).any(dim=2) | (around_changed != around).any(dim=2)).T  # [pixel, whom it sees]
        assert not seen.triu().any()
        row, column = torch.arange(size) // width, torch.arange(size) % width
        near = ((row[:, None] - row) <= field) & ((column[:, None] - column).abs() <= field)
        moved = (other[torch.arange(size), torch.arange(size)] != x).any(dim=1)
        must = near.tril(-1) & moved
        assert seen[must].all(), "no blind spot"
        assert must.sum() > 3 * size
        reach = model.radius + 1
        far = ((row[:, None] - row) > reach) | ((column[:, None] - column).abs() > reach)
        assert not seen[far].any()
        assert far.any()


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_window_of_a_pixel_gives_the_law_that_the_whole_picture_gives(data: st.DataObject) -> None:
    height, width, count = (data.draw(st.integers(1, 6)) for _ in range(3))
    channels = data.draw(st.sampled_from([(), (3,)]))
    support = levels({1: 2, 2: 5, 3: 16, 4: 17}.get(count, 256), height, width, *channels)
    hyper = {"layers": data.draw(st.integers(1, 3)), "reach": data.draw(st.integers(1, 3))}
    labels = data.draw(st.sampled_from([(), ("cat", "dog")]))
    model = gated(support, **hyper, copies=data.draw(st.integers(0, 6)), labels=labels)
    pixels = model._pixels(some(support, 3))
    given_ = (torch.tensor([0, 1, 2]),) if labels else ()
    whole, around = model._whole(pixels, given_)
    for t in range(model.sample_steps):
        # What is drawn later is not there yet.
        so_far = pixels * (torch.arange(model.sample_steps) < t)[:, None]
        code = model.law.code(so_far)
        law, near = model._at(torch.full((3,), t), code, model.law.place(code), given_)
        assert torch.allclose(law[:, 0], whole[:, t], atol=1e-4)
        assert torch.equal(near[:, 0], around[:, t])


def test_the_stacks_work_on_any_window() -> None:
    torch.manual_seed(0)
    stacks = GatedStacks(2, width=4, layers=3, reach=2, labels=0, dropout=0.0)
    with pytest.raises(RuntimeError):  # not the window of one pixel
        stacks.at_last(torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 4, 4))
    assert stacks(torch.zeros(2, 2, 1, 1)).shape == (2, 4, 1, 1)


# -- laws that sum to one ----------------------------------------------------------------------------------------------


def every_state(support: Support) -> Tensor:
    assert support.element is not None
    values = range(support.element.levels or 2)
    return torch.tensor(list(product(values, repeat=support.size)), dtype=torch.uint8).reshape(-1, *support.shape)


@pytest.mark.parametrize(
    "support", [pictures(3, 3), levels(3, 2, 3), levels(3, 1, 2, 3), levels(17, 1, 2), levels(200, 2, 1)]
)
def test_probabilities_of_all_pictures_sum_to_one(support: Support) -> None:
    total = gated(support).log_prob(every_state(support)).exp().sum()
    assert abs(total.item() - 1.0) < 1e-5


def mixture(channels: int, count: int, *, radius: int = 1, palette: int = 4, components: int = 3) -> CopyMixture:
    torch.manual_seed(0)
    law = CopyMixture(channels, count, radius=radius, palette=palette, components=components)
    law.start(torch.randint(0, count, (50, channels)))
    return law


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_probabilities_of_all_colours_of_a_pixel_sum_to_one(data: st.DataObject) -> None:
    channels, count = data.draw(st.sampled_from([(1, 256), (1, 17), (2, 20), (3, 9)]))
    law = mixture(channels, count, palette=data.draw(st.integers(0, 6)))
    colours = torch.tensor(list(product(range(count), repeat=channels))).float()
    # Neighbours of one colour and of several, of the palette or not, and beyond the edge.
    which = data.draw(st.lists(st.integers(0, len(colours) - 1), min_size=4, max_size=4))
    around = law.code(colours)[torch.tensor(which)]
    around[: data.draw(st.integers(0, 4))] = OUTSIDE
    scale = data.draw(st.sampled_from([0.1, 1.0, 5.0]))
    raw = scale * torch.randn(law.outputs, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    m = len(colours)
    log_prob = law.log_prob(raw.expand(1, m, -1), colours[None], around.expand(1, m, -1))
    assert log_prob.dtype == torch.float64
    assert torch.isfinite(log_prob).all()
    assert abs(log_prob.exp().sum().item() - 1.0) < 1e-4


def test_a_mixture_by_hand() -> None:
    law = mixture(2, 50, radius=1, palette=1, components=1)
    law.palette.copy_(torch.tensor([[7.0, 9.0]]))
    raw = torch.zeros(law.outputs)
    raw[:6] = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.5, 0.0])  # copies, palette, logistic
    raw[6:] = torch.tensor([0.2, -0.4, 0.3, -0.3, 0.8])  # means, log-scales, what the first channel adds
    around = law.code(torch.tensor([[7.0, 9.0], [3.0, 3.0], [7.0, 9.0], [0.0, 49.0]]))
    around[1] = OUTSIDE
    low, high = np.log(0.1), np.log(25.0)
    scale = np.exp(low + (high - low) / (1.0 + np.exp([-0.3, 0.3])))
    weight = np.exp([1.0, -np.inf, 0.5, 3.0, 1.5, 0.0])
    for x in ([7, 9], [0, 49], [0, 0], [20, 31], [49, 3]):
        mean = np.array([0.2, -0.4 + 0.8 * (2.0 * x[0] / 49 - 1.0)])
        mean = (mean + 1.0) * 24.5
        upper = np.where(np.array(x) == 49, np.inf, np.array(x) + 0.5)
        lower = np.where(np.array(x) == 0, -np.inf, np.array(x) - 0.5)
        smooth = (stats.logistic.cdf(upper, mean, scale) - stats.logistic.cdf(lower, mean, scale)).prod()
        hits = [x == [7, 9], False, x == [7, 9], x == [0, 49], x == [7, 9], smooth]
        expected = np.log((weight * np.array(hits, dtype=float)).sum() / weight.sum())
        found = law.log_prob(raw[None, None], torch.tensor([[x]]).float(), around[None, None])
        assert found.item() == pytest.approx(expected, abs=1e-5)


def test_a_softmax_by_hand() -> None:
    law = LevelSoftmax(2, 3)
    nn.init.normal_(law.tables[0], generator=torch.Generator().manual_seed(0))
    raw = torch.tensor([0.5, -1.0, 0.2, 1.0, 0.0, -0.7])
    for x in product(range(3), repeat=2):
        first = torch.softmax(raw[:3], dim=0)[x[0]]
        second = torch.softmax(raw[3:] + law.tables[0][x[0]], dim=0)[x[1]]  # given the first channel
        found = law.log_prob(raw[None, None], torch.tensor([[x]]).float(), torch.zeros(1, 1, 0))
        assert found.item() == pytest.approx((first * second).log().item(), abs=1e-6)


def test_a_colour_that_nothing_explains_has_a_finite_log_probability() -> None:
    law = mixture(1, 256, palette=0)
    raw = torch.zeros(1, 1, law.outputs)
    raw[..., -2 * law.components :] = -60.0  # far and narrow
    found = law.log_prob(raw, torch.tensor([[[255.0]]]), torch.full((1, 1, 4), OUTSIDE))
    assert -1e6 < found.item() < -1e3


# -- draws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "law",
    [mixture(2, 5), mixture(1, 30, palette=0), LevelSoftmax(2, 4)],
    ids=["copies and palette", "copies alone", "softmax"],
)
def test_colours_are_drawn_as_often_as_the_law_says(law: Any) -> None:
    n = 40_000
    generator = torch.Generator().manual_seed(3)
    for table_ in getattr(law, "tables", []):
        nn.init.normal_(table_, generator=generator)
    raw = torch.randn(law.outputs, generator=generator)
    colours = torch.tensor(list(product(range(law.levels), repeat=law.channels))).float()
    code = sum(colours[:, c] * law.levels**c for c in range(law.channels))
    around = code[torch.tensor([1, 3, 3, 0])] if isinstance(law, CopyMixture) else torch.zeros(0)
    if len(around):
        around[3] = OUTSIDE
    m = len(colours)
    mass = law.log_prob(raw.expand(1, m, -1), colours[None], around.expand(1, m, -1))[0].exp().detach().numpy()
    u = uniform(torch.full((n,), 5), torch.arange(n), Stream.STEP, dims=law.uniforms)
    with torch.no_grad():
        drawn = law.draw(raw.expand(n, -1), around.expand(n, -1), u, torch.ones(n))
    assert torch.isin(drawn, torch.arange(law.levels).float()).all()
    place = (drawn[:, None] == colours).all(dim=2).long().argmax(dim=1)
    observed = np.bincount(place.numpy(), minlength=m)
    often = mass * n >= 5
    assert often.sum() > 10
    expected = np.append(mass[often], mass[~often].sum()) * n
    counts = np.append(observed[often], observed[~often].sum())
    keep = expected > 0.5
    assert counts[~keep].sum() <= 3
    assert stats.chisquare(counts[keep], expected[keep] * (counts[keep].sum() / expected[keep].sum())).pvalue > 1e-4


def step_by_step(model: GatedPixelCNN, seed: Tensor, row: Tensor, temperature: Tensor, *label: Tensor) -> Tensor:
    state = model.sample_init(seed, row)
    for t in range(model.sample_steps):
        state = model.sample_step(seed, row, torch.full_like(row, t), temperature, *label, *state)
    return model.sample_final(*state)


@pytest.mark.parametrize("support", [pictures(4, 5), levels(256, 4, 5, 3)], ids=["binary", "colour"])
@pytest.mark.parametrize("labels", [(), ("cat", "dog")], ids=["no labels", "labels"])
def test_the_steps_are_ancestral_sampling(support: Support, labels: tuple[str, ...]) -> None:
    # With the whole network run anew for every pixel.
    model, n = gated(support, labels=labels), 12
    seed, row = torch.full((n,), 42), torch.arange(n)
    temperature = torch.linspace(0.5, 2.0, n).double()
    label = (torch.arange(n) % 3,) if labels else ()
    x = torch.zeros(n, 20, model.channels)
    for t in range(20):
        raw, around = model._whole(x, label)
        u = uniform(seed, row, Stream.STEP, t, dims=model.law.uniforms)
        x[:, t] = model.law.draw(raw[:, t], around[:, t], u, temperature.float())
    drawn = step_by_step(model, seed, row, temperature, *label)
    assert drawn.dtype == torch.uint8
    # A value on the edge of two levels may fall to either side; its row then goes another way.
    same = (drawn == x.reshape(drawn.shape).to(torch.uint8)).reshape(n, -1).all(dim=1)
    assert same.sum() >= n - 1
    assert len(drawn.unique(dim=0)) > n // 2


def test_rows_at_different_pixels_share_a_batch() -> None:
    model = gated(levels(256, 3, 3, 3))
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


@pytest.mark.parametrize("support", [pictures(3, 3), levels(256, 3, 3, 3)], ids=["binary", "colour"])
def test_a_low_temperature_draws_the_likelier(support: Support) -> None:
    model = gated(support)
    seed, row = torch.full((64,), 1), torch.arange(64)
    cold, warm = (step_by_step(model, seed, row, torch.full((64,), t).double()) for t in (0.05, 1.0))
    assert len(cold.unique(dim=0)) < len(warm.unique(dim=0)) / 2
    assert model.log_prob(cold).mean() > model.log_prob(warm).mean()


# -- training ----------------------------------------------------------------------------------------------------------


def test_the_palette_is_of_the_most_frequent_colours() -> None:
    x = torch.tensor([[9, 9, 9]] * 5 + [[0, 1, 2]] * 3 + [[250, 0, 0]] * 2 + [[7, 7, 7]], dtype=torch.uint8)
    model = GatedPixelCNN(levels(256, 1, 11, 3), **{**SMALL, "palette": 2})
    model.prepare(x[None, None])
    assert isinstance(model.law, CopyMixture)
    assert model.law.palette.tolist() == [[9, 9, 9], [0, 1, 2]]
    # Where there are fewer colours than places, the rest is nobody's.
    wide = GatedPixelCNN(levels(256, 1, 11, 3), **{**SMALL, "palette": 8})
    wide.prepare(x[None, None])
    raw, around = wide._whole(wide._pixels(x[None, None]), ())
    logits = wide.law._parts(raw, around)[0]  # type: ignore[union-attr]
    chances = torch.softmax(logits, dim=2)[..., wide.law.copies : -2]  # type: ignore[union-attr]
    assert (chances[..., :4] > 0.01).all()
    assert (chances[..., 4:] == 0).all()


def test_it_starts_from_the_shares_of_the_levels() -> None:
    x = torch.tensor([[[0, 1], [1, 1]]], dtype=torch.uint8).expand(50, 2, 2)
    model = GatedPixelCNN(pictures(2, 2), **SMALL)
    model.prepare(x)
    assert model.to_law.bias is not None
    assert torch.softmax(model.to_law.bias, dim=0)[1].item() == pytest.approx(0.75, abs=0.01)
    assert model.log_prob(x[:1]).item() == pytest.approx(np.log(0.25) + 3 * np.log(0.75), abs=0.5)


def test_a_few_steps_teach_it_to_copy() -> None:
    # Pictures of one colour, each its own, none of them in the palette: only a copy can know it.
    torch.manual_seed(0)
    x = torch.randint(0, 256, (64, 1, 1, 3)).expand(-1, 4, 4, -1).to(torch.uint8)
    model = GatedPixelCNN(levels(256, 4, 4, 3), **{**SMALL, "palette": 0})
    model.prepare(x)
    seed = torch.zeros(64, dtype=torch.int64)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        model.losses(x, seed, seed).total["main"].backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    fresh = torch.randint(0, 256, (64, 1, 1, 3)).expand(-1, 4, 4, -1).to(torch.uint8)
    bits = -model.log_prob(fresh).mean().item() / np.log(2.0)
    assert bits < 3 * 8 + 8, "the first pixel of 24 bits, and little for the other fifteen"


class TestLabels:
    def model(self) -> GatedPixelCNN:
        return gated(pictures(3, 3), labels=["cat", "dog"], label_dropout=0.25)

    def test_each_label_has_a_law_and_none_is_the_default(self) -> None:
        model = self.model()
        (label,) = model.conditions
        assert (label.vocabulary, label.default) == (("cat", "dog"), 2)
        x = every_state(model.support)
        laws = [model.log_prob(x, torch.full((len(x),), i)).exp() for i in range(3)]
        for mass in laws:
            assert abs(mass.sum().item() - 1.0) < 1e-5
        assert (laws[0] / laws[1] - 1.0).abs().max() > 0.1
        assert (laws[0] / laws[2] - 1.0).abs().max() > 0.1

    def test_training_withholds_the_label_of_some_rows(self) -> None:
        model = self.model()
        seen: list[Tensor] = []
        assert model.network.first.labels is not None
        model.network.first.labels.register_forward_hook(lambda module, given, result: seen.append(given[0]))
        n = 4000
        label, address = torch.arange(n) % 2, torch.arange(n)
        model.losses(torch.zeros(n, 3, 3, dtype=torch.uint8), torch.zeros_like(address), address, label)
        assert torch.equal(seen[0], seen[1]), "both stacks"
        withheld = seen[0] == 2
        assert torch.equal(seen[0][~withheld], label[~withheld])
        assert abs(float(withheld.double().mean()) - 0.25) < 4 * (0.25 * 0.75 / n) ** 0.5


# -- what ships, and what is refused -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_export_of_a_colour_picture_is_the_model() -> None:
    model = gated(levels(256, 3, 4, 3), layers=1, labels=["cat", "dog"])
    verified = verify_export(model, export_model(model), some(model.support, 64).numpy())
    assert set(verified.graphs) == {
        "log_prob",
        "classify",
        "sample_init",
        "inpaint_init",
        "sample_step",
        "sample_final",
    }
    assert all(graph.row_multiple == 1 for graph in verified.graphs.values())


@pytest.mark.parametrize(
    ("support", "words"),
    [
        (table("real", "real"), "a table"),
        (levels(256, 4, 4, 2), "no pictures"),
        (levels(300, 4, 4), "2 to 256 levels"),
        (Support(shape=(2, 2), element=Column(name="p", kind="count", base_measure="counting")), "is count"),
    ],
)
def test_what_is_no_picture_is_refused(support: Support, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GatedPixelCNN(support)


@pytest.mark.parametrize(
    ("hyper", "words"),
    [
        ({"width": 0}, "width"),
        ({"reach": 0}, "reach"),
        ({"dropout": 1.0}, "dropout"),
        ({"label_dropout": -0.1}, "label_dropout"),
        ({"components": 0}, "components"),
        ({"copies": -1}, "copies"),
    ],
)
def test_what_makes_no_network_is_refused(hyper: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GatedPixelCNN(levels(256, 4, 4), **hyper)
