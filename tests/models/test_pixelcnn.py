"""PixelCNN and PixelCNN++: what a pixel sees, the papers' networks, and the same law from a window."""

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
from contract.support import Support
from models.nets.raster import RasterModel
from models.pixelcnn import PixelCNN
from models.pixelcnn_plus_plus import PixelCNNPlusPlus
from models.randomness import uniform
from tests.models.supports import levels, pictures, table

PLAIN: dict[str, Any] = {"width": 6, "blocks": 2, "reach": 2, "head": 8}
PLUS: dict[str, Any] = {"width": 6, "layers": 1, "components": 3}


def some(support: Support, n: int) -> Tensor:
    assert support.element is not None
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, support.element.levels or 2, (n, *support.shape), dtype=torch.uint8, generator=generator)


def shaken(model: Any, support: Support) -> Any:
    """Random weights all over."""
    model.prepare(some(support, 20))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.eval().requires_grad_(False)


def plain(support: Support, **hyper: Any) -> PixelCNN:
    torch.manual_seed(0)
    model: PixelCNN = shaken(PixelCNN(support, **{**PLAIN, **hyper}), support)
    return model


def plus(support: Support, **hyper: Any) -> PixelCNNPlusPlus:
    torch.manual_seed(0)
    model: PixelCNNPlusPlus = shaken(PixelCNNPlusPlus(support, **{**PLUS, **hyper}), support)
    return model


def seen_by(model: RasterModel) -> Tensor:
    """Which pixel's law changes with which pixel, in some picture: bool [H W, H W]."""
    size = model.sample_steps
    seen = torch.zeros(size, size, dtype=torch.bool)
    for x in model._pixels(some(model.support, 8)):
        whole, _ = model._whole(x.expand(size, -1, -1), ())
        other = x.expand(size, -1, -1).clone()
        other[torch.arange(size), torch.arange(size)] = (x + 1) % model.levels
        seen |= (model._whole(other, ())[0] != whole).any(dim=2).T
    return seen


# -- what a pixel sees -------------------------------------------------------------------------------------------------


def test_masks_leave_the_known_blind_spot_and_let_no_later_pixel_in() -> None:
    model = plain(pictures(7, 9), blocks=2, reach=1, width=16)
    seen = seen_by(model)
    row, column = torch.arange(63) // 9, torch.arange(63) % 9
    up, right = row[:, None] - row, column - column[:, None]
    # Three convolutions, each up to one row up and from there one column right: the blind spot is past the diagonal.
    expected = (up >= 0) & (up <= 3) & (right.abs() <= 3) & (right <= up) & ((up > 0) | (right < 0))
    assert torch.equal(seen, expected)


def test_two_streams_see_every_earlier_pixel_within_reach_and_no_later_one() -> None:
    model = plus(pictures(7, 9))
    seen = seen_by(model)
    row, column = torch.arange(63) // 9, torch.arange(63) % 9
    up, across = row[:, None] - row, (column[:, None] - column).abs()
    assert not seen.triu().any()
    assert seen[((up <= 2) & (across <= 2)).tril(-1)].all(), "no blind spot"
    assert not seen[(up > model.radius) | (across > model.radius)].any()


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_the_window_of_a_pixel_gives_the_law_that_the_whole_picture_gives(data: st.DataObject) -> None:
    height, width = (data.draw(st.integers(1, 7)) for _ in range(2))
    support = levels(data.draw(st.sampled_from([2, 5, 256])), height, width, *data.draw(st.sampled_from([(), (3,)])))
    depth = data.draw(st.integers(1, 3))
    labels = data.draw(st.sampled_from([(), ("cat", "dog")]))
    models: list[tuple[RasterModel, tuple[Tensor, ...]]] = [
        (plain(support, blocks=depth, reach=data.draw(st.integers(1, 3))), ()),
        (plus(support, layers=depth, labels=labels), (torch.tensor([0, 1, 2]),) if labels else ()),
    ]
    for model, label in models:
        pixels = model._pixels(some(support, 3))
        whole, _ = model._whole(pixels, label)
        for t in range(model.sample_steps):
            # What is drawn later is not there yet.
            code = model.law.code(pixels * (torch.arange(model.sample_steps) < t)[:, None])
            law, _ = model._at(torch.full((3,), t), code, model.law.place(code), label)
            assert torch.allclose(law[:, 0], whole[:, t], atol=1e-3, rtol=1e-3)


# -- the papers' networks, written anew --------------------------------------------------------------------------------


def masked(layer: Any, x: Tensor, *, itself: bool) -> Tensor:
    """A square kernel with its lower half, and its middle row from the middle on, set to zero."""
    r = layer.weight.shape[2] - 1
    kernel = torch.zeros(*layer.weight.shape[:2], 2 * r + 1, 2 * r + 1)
    kernel[:, :, : r + 1] = layer.weight
    kernel[:, :, r, r + itself :] = 0.0
    return functional.conv2d(x, kernel, layer.bias, padding=r)


def test_the_masked_stack_is_the_paper_s() -> None:
    network: Any = plain(pictures(6, 5)).network
    x = torch.randn(2, network.first.weight.shape[1], 6, 5, generator=torch.Generator().manual_seed(2))
    h = masked(network.first, x, itself=False)
    for block in network.blocks:
        h = h + block.up(torch.relu(masked(block.masked, torch.relu(block.down(torch.relu(h))), itself=True)))
    assert torch.allclose(network(x), h, atol=1e-5)
    # Baked for export, masks are in the weights.
    baked: Any = plain(pictures(6, 5)).baked().network
    assert torch.equal(baked(x), network(x))
    assert (baked.first.weight[:, :, -1, network.reach :] == 0).all()


def celu(x: Tensor) -> Tensor:
    return functional.elu(torch.cat([x, -x], dim=1))


def shifted(layer: Any, x: Tensor, down: int, right: int) -> Tensor:
    """A convolution of the picture with zeros above and beside it, then moved down and right, zeros coming in."""
    high, wide = layer.weight.shape[2:]
    sides = (1, 1) if wide == 3 else (wide - 1, 0)
    padded = functional.pad(x, (*sides, high - 1, 0))
    padded = functional.pad(padded, (right, 0, down, 0))[:, :, : padded.shape[2], : padded.shape[3]]
    return functional.conv2d(padded, layer.weight, layer.bias)


def test_the_two_streams_are_the_paper_s() -> None:
    network: Any = plus(pictures(6, 5), layers=2).network
    x = torch.randn(2, network.above.weight.shape[1], 6, 5, generator=torch.Generator().manual_seed(2))
    u = shifted(network.above, x, 1, 0)
    h = shifted(network.row_above, x, 1, 0) + shifted(network.column_left, x, 0, 1)
    for vertical, horizontal in zip(network.vertical, network.horizontal, strict=True):
        a, b = shifted(vertical.second, celu(shifted(vertical.first, celu(u), 0, 0)), 0, 0).chunk(2, dim=1)
        u = u + a * torch.sigmoid(b)
        found = shifted(horizontal.first, celu(h), 0, 0) + horizontal.link(celu(u))
        a, b = shifted(horizontal.second, celu(found), 0, 0).chunk(2, dim=1)
        h = h + a * torch.sigmoid(b)
    assert torch.allclose(network(x), h, atol=1e-4)


# -- laws and draws ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [plain, plus], ids=["pixelcnn", "pixelcnn++"])
@pytest.mark.parametrize("support", [pictures(3, 3), levels(3, 2, 3), levels(3, 1, 2, 3), levels(40, 2, 1)])
def test_probabilities_of_all_pictures_sum_to_one(make: Any, support: Support) -> None:
    assert support.element is not None
    values = range(support.element.levels or 2)
    x = torch.tensor(list(product(values, repeat=support.size)), dtype=torch.uint8).reshape(-1, *support.shape)
    assert abs(make(support).log_prob(x).exp().sum().item() - 1.0) < 1e-5


@pytest.mark.parametrize("make", [plain, plus], ids=["pixelcnn", "pixelcnn++"])
def test_the_steps_are_ancestral_sampling(make: Any) -> None:
    # With the whole network run anew for every pixel.
    model, n = make(levels(12, 4, 4, 3)), 12
    seed, row, temperature = torch.full((n,), 42), torch.arange(n), torch.linspace(0.5, 2.0, n).double()
    x = torch.zeros(n, 16, 3)
    for t in range(16):
        raw, around = model._whole(x, ())
        u = uniform(seed, row, Stream.STEP, t, dims=model.law.uniforms)
        x[:, t] = model.law.draw(raw[:, t], around[:, t], u, temperature.float())
    state = model.sample_init(seed, row)
    for t in range(16):
        state = model.sample_step(seed, row, torch.full_like(row, t), temperature, *state)
    same = (model.sample_final(*state) == x.reshape(n, 4, 4, 3).to(torch.uint8)).reshape(n, -1).all(dim=1)
    # A value on the edge of two levels may fall to either side; its row then goes another way.
    assert same.sum() >= n - 1


def test_the_plus_plus_law_has_nothing_but_logistic_components() -> None:
    model = plus(levels(256, 4, 4, 3), components=5)
    # Weights, and of each component three means, three scales and three dependences between channels.
    assert model.law.outputs == 5 + 5 * (3 + 3 + 3)
    assert model.law.features == 3
    # Neighbouring levels are about as likely: a probability of 256 levels is smooth.
    raw, around = model._whole(model._pixels(some(model.support, 1)), ())
    grey = torch.arange(256).float()[:, None].expand(-1, 3)
    mass = model.law.log_prob(raw[:, :1].expand(1, 256, -1), grey[None], around[:, :1].expand(1, 256, -1))[0].detach()
    assert np.abs(np.diff(mass[1:-1].numpy())).max() < 0.5


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [PixelCNN, PixelCNNPlusPlus])
def test_what_is_no_picture_is_refused(family: Any) -> None:
    for support, words in [(table("real", "real"), "a table"), (levels(8, 4, 4, 2), "no pictures")]:
        with pytest.raises(ValueError, match=words):
            family(support)


@pytest.mark.parametrize(
    ("family", "hyper", "words"),
    [
        (PixelCNN, {"width": 7}, "even"),
        (PixelCNN, {"blocks": 0}, "blocks"),
        (PixelCNNPlusPlus, {"layers": 0}, "layers"),
        (PixelCNNPlusPlus, {"components": 0}, "components"),
        (PixelCNNPlusPlus, {"dropout": 1.0}, "dropout"),
        (PixelCNNPlusPlus, {"label_dropout": 1.0}, "label_dropout"),
    ],
)
def test_what_makes_no_network_is_refused(family: Any, hyper: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        family(levels(256, 4, 4), **hyper)
