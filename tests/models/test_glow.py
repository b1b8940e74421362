"""Glow: layers that are their own inverses' inverses, a start from the data, and a bound that meets the law."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from contract.support import Support
from models.glow import ActNorm, Glow, InvertibleConvolution
from tests.models.picture_flows import check_decode_undoes_encode, check_weight
from tests.models.supports import levels, pictures, table
from training.export import export_model
from training.graphs import answers_in_torch
from training.parity import verify_export

SMALL: dict[str, Any] = {"scales": 2, "steps": 2, "width": 6}


def stir(module: nn.Module, spread: float = 0.15) -> None:
    """Weights moved at random, so that no coupling is the identity and no mixing a rotation."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(spread * torch.randn(parameter.shape))


def flow(support: Support, spread: float = 0.15, **others: Any) -> Glow:
    torch.manual_seed(1)
    model = Glow(support, **{**SMALL, **others})
    stir(model, spread)
    return model.eval().requires_grad_(False)


def some(support: Support, n: int = 40) -> Tensor:
    count = (support.element.levels or 2) if support.element else 0
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, count, (n, *support.shape), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("kind", [ActNorm, InvertibleConvolution])
class TestLayer:
    def test_it_is_undone_by_its_inverse_and_its_determinant_is_autodiff_s(self, kind: Any) -> None:
        layer, x = kind(4), torch.randn(3, 4, 2, 3)
        stir(layer)
        y, log_det = layer.forward_and_log_det(x)
        back, back_log_det = layer.inverse_and_log_det(y)
        assert torch.allclose(back, x, atol=1e-5)
        assert torch.allclose(log_det, -back_log_det, atol=1e-6)
        jacobian = torch.autograd.functional.jacobian(lambda v: layer.forward_and_log_det(v)[0], x[:1])
        expected = torch.linalg.slogdet(jacobian.reshape(24, 24)).logabsdet
        assert log_det.tolist() == pytest.approx([expected.item()] * 3, abs=1e-4)

    def test_every_pixel_is_treated_alike(self, kind: Any) -> None:
        layer, pixel = kind(4), torch.randn(1, 4, 1, 1)
        stir(layer)
        y, _ = layer.forward_and_log_det(pixel.expand(1, 4, 2, 3))
        assert torch.allclose(y, layer.forward_and_log_det(pixel)[0].expand(1, 4, 2, 3), atol=1e-6)


def test_the_convolution_starts_as_a_rotation_and_bakes_to_what_it_was() -> None:
    layer, x = InvertibleConvolution(6), torch.randn(2, 6, 3, 3)
    y, log_det = layer.forward_and_log_det(x)
    assert torch.allclose(y.square().sum(dim=1), x.square().sum(dim=1), atol=1e-4)
    assert torch.allclose(log_det, torch.zeros(2).double(), atol=1e-5)
    stir(layer)
    y, log_det = layer.forward_and_log_det(x)
    back, _ = layer.inverse_and_log_det(y)
    layer.bake()
    assert torch.equal(layer.forward_and_log_det(x)[0], y)
    assert torch.equal(layer.forward_and_log_det(x)[1], log_det)
    assert torch.equal(layer.inverse_and_log_det(y)[0], back)


def test_to_begin_with_the_channels_of_the_rows_have_mean_0_and_deviation_1() -> None:
    support = levels(256, 8, 8, 3)
    torch.manual_seed(0)
    model = Glow(support, **SMALL)
    x = (some(support, 700) // 3 + 40).to(torch.uint8)
    model.prepare(x)
    assert not any(module.waits for module in model.modules() if isinstance(module, ActNorm))
    # Every actnorm by itself: what it gives, of rows that it was not started with.
    seen: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, ActNorm):
            module.forward_and_log_det = _listening(module.forward_and_log_det, seen)  # type: ignore[method-assign]
    model.encode(x)
    assert len(seen) == 4
    for y in seen:
        assert torch.allclose(y.mean(dim=(0, 2, 3)), torch.zeros(y.shape[1]), atol=0.05)
        assert torch.allclose(y.std(dim=(0, 2, 3)), torch.ones(y.shape[1]), atol=0.05)


def _listening(forward: Any, seen: list[Tensor]) -> Any:
    def listen(x: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det = forward(x)
        seen.append(y.detach())
        return y, log_det

    return listen


@pytest.mark.parametrize("preprocess", ["logit", "affine"])
@pytest.mark.parametrize(
    "support", [levels(17, 4, 8), levels(256, 4, 4, 3), pictures(4, 4)], ids=["grey", "colour", "binary"]
)
class TestFlow:
    def test_decode_undoes_encode(self, support: Support, preprocess: Any) -> None:
        check_decode_undoes_encode(flow(support, preprocess=preprocess), some(support))

    def test_the_weight_is_the_base_law_and_autodiff_s_determinant(self, support: Support, preprocess: Any) -> None:
        check_weight(flow(support, preprocess=preprocess), some(support, 3))


def test_half_of_the_channels_leave_at_each_scale() -> None:
    # 8 x 8 x 3 -> 12 channels of 4 x 4, half of them to the code -> 24 of 2 x 2, half -> 48 of one pixel.
    model = Glow(levels(256, 8, 8, 3), scales=3, steps=1, width=4)
    assert model.flow.shapes == [(12, 4, 4), (24, 2, 2), (48, 1, 1)]
    assert model.top.embedding_dim == 96
    z = model.encode(some(model.support, 2))
    assert z.shape == (2, 6 * 16 + 12 * 4 + 48)


def test_what_leaves_has_a_law_that_depends_on_what_stays_and_on_nothing_else_of_the_flow() -> None:
    # Of one scale's outcome, moving the second half of the channels moves the law of the first.
    model = flow(levels(256, 4, 4, 3))
    law: Any = model.flow.scales[0][-1]  # type: ignore[index]
    x = torch.randn(1, 12, 2, 2)
    kept, moved = x[:, 6:], x[:, :6]
    y, _ = law.forward_and_log_det(x)
    raw, shift = law.network(kept).chunk(2, dim=1)
    assert torch.allclose(y[:, :6], moved * (2.0 * torch.tanh(raw / 2.0)).exp() + shift, atol=1e-6)
    assert torch.equal(y[:, 6:], kept)


# -- labels ----------------------------------------------------------------------------------------------------------


def labelled(support: Support, **others: Any) -> Glow:
    return flow(support, labels=["cat", "dog", "cow"], **others)


def test_a_label_conditions_the_law_of_the_last_scale_alone() -> None:
    model = labelled(levels(256, 4, 4, 3))
    x = some(model.support, 5)
    cat, dog, none = (model.encode(x, torch.full((5,), i)) for i in (0, 1, 3))
    left = 6 * 4  # what leaves at the first scale
    assert torch.equal(cat[:, :left], dog[:, :left])
    assert not torch.isclose(cat[:, left:], dog[:, left:]).any()
    assert not torch.isclose(cat[:, left:], none[:, left:]).any()
    # Each label's law is that of its own mean and scale: what a channel is, the code of another label tells.
    mean, log_scale = model._top(cat, (torch.zeros(5, dtype=torch.int64),))
    other, other_scale = model._top(cat, (torch.ones(5, dtype=torch.int64),))
    moved = (cat[:, left:] * log_scale.exp() + mean - other) * (-other_scale).exp()
    assert torch.allclose(moved, dog[:, left:], atol=1e-4)
    for i, z in ((0, cat), (1, dog), (3, none)):
        assert torch.equal(model.decode(z, torch.full((5,), i)), x)


def test_training_withholds_the_label_of_some_rows() -> None:
    x = some(levels(256, 4, 4), 64)
    place, label = torch.arange(64), torch.full((64,), 1)
    for share, told in ((0.0, False), (0.3, True)):
        model = labelled(levels(256, 4, 4), scales=1, label_dropout=share)
        model.top.weight.requires_grad_(True)
        loss = model.losses(x, place, place, label).total["main"]
        (gradient,) = torch.autograd.grad(loss, [model.top.weight])
        used = gradient.abs().sum(dim=1) > 0
        assert used.tolist() == [False, True, False, told]


def test_without_labels_it_takes_no_condition() -> None:
    assert Glow(levels(256, 4, 4), **SMALL).conditions == ()
    (label,) = labelled(levels(256, 4, 4)).conditions
    assert label.vocabulary == ("cat", "dog", "cow")
    assert label.default == 3


# -- the bound and the draws -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_bound_meets_the_law_and_draws_follow_it() -> None:
    # Four pixels in black and white, each on a grid: the law of the 16 pictures by quadrature.
    model, n = flow(pictures(2, 2), 0.2, scales=1, steps=2, preprocess="affine"), 20_000
    side = np.arange(0.0, 2.0, 1 / 12) + 1 / 24
    grid = np.stack(np.meshgrid(*[side] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    z, log_det = model._to_code(torch.from_numpy(grid))
    mass = (model.latent_log_prob(z) + log_det).exp().numpy() / 12**4
    x = np.array(list(product(range(2), repeat=4)), dtype=np.uint8)
    inner = np.bincount(np.floor(grid).astype(int) @ [8, 4, 2, 1], weights=mass, minlength=16)
    answer = answers_in_torch(model, "log_prob", {"x": x.reshape(-1, 2, 2)}, steps=3000)
    assert (np.abs(answer["log_prob"] - np.log(inner)) < 5 * answer["standard_error"] + 0.01).all()
    # Draws beyond the range count as its ends, so that each picture is at least as likely as its bound says.
    drawn = model.decode(model.latent(torch.full((n,), 3), torch.arange(n), torch.ones(n).double())).numpy()
    observed = np.bincount(drawn.reshape(n, 4).astype(int) @ [8, 4, 2, 1], minlength=16)
    assert (stats.binom.cdf(observed, n, inner * 0.99) > 1e-5).all()


def test_the_temperature_scales_the_base_law_of_all_scales() -> None:
    model = flow(levels(256, 4, 4))
    seed, row = torch.full((200,), 3), torch.arange(200)
    cold, warm = (model.latent(seed, row, torch.full((200,), t).double()) for t in (0.25, 1.0))
    assert torch.allclose(cold, 0.25 * warm)
    narrow, wide = (model.decode(z).double().std(dim=0).mean() for z in (cold, warm))
    assert narrow < 0.6 * wide


@pytest.mark.slow
def test_the_export_of_a_colour_picture_with_a_label_is_the_model() -> None:
    model = labelled(levels(256, 4, 4, 3), spread=0.1, steps=1)
    exported = export_model(model)
    verified = verify_export(model, exported, some(model.support, 64).numpy())
    assert {"latent", "decode", "encode", "log_prob_init", "log_prob_step"} == set(verified.graphs)
    assert exported.programs["sample"].graphs == ("latent", "decode")
    assert exported.programs["log_prob"].input("label") is not None
    assert all(graph.row_multiple == 1 for graph in verified.graphs.values())


@pytest.mark.parametrize(
    ("support", "hyper", "words"),
    [
        (table("real", "real"), {}, "a table"),
        (levels(256, 4, 4, 2), {}, "no pictures"),
        (levels(256, 6, 4), {"scales": 2}, "multiples of 4"),
        (levels(256, 4, 4), {"steps": 0}, "steps"),
        (levels(256, 4, 4), {"label_dropout": 1.0}, "label_dropout"),
    ],
)
def test_what_cannot_be_squeezed_is_refused(support: Support, hyper: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Glow(support, **hyper)
