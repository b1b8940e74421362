"""Masked autoregressive flow for pictures: the law and the code against plain loops, and the way back step by step."""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contract.support import Support
from models.maf_image import MAFImage
from models.nets.autoregressive_steps import SteppedAutoregressive
from tests.models.picture_flows import check_decode_undoes_encode, check_weight
from tests.models.supports import levels, pictures, table
from training.export import export_model
from training.graphs import answers_in_torch
from training.parity import verify_export

SMALL: dict[str, Any] = {"layers": 3, "hidden": 16}
Array = NDArray[np.float64]


def stir(module: nn.Module, spread: float) -> None:
    """Weights at random, so that no layer is the identity."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=spread)


def flow(support: Support, spread: float = 0.2, **others: Any) -> MAFImage:
    model = MAFImage(support, **{**SMALL, **others})
    model.prepare(some(support, 60))
    stir(model, spread)
    return model.eval().requires_grad_(False)


def some(support: Support, n: int = 40) -> Tensor:
    count = (support.element.levels or 2) if support.element else 0
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, count, (n, *support.shape), dtype=torch.uint8, generator=generator)


def layers(dims: int, **others: Any) -> SteppedAutoregressive:
    made = SteppedAutoregressive(dims, **{"layers": 2, "hidden": 16, "log_scale_bound": 4.0, **others})
    stir(made, 0.4)
    return made.requires_grad_(False)


def in_loops(made: SteppedAutoregressive, x: Array) -> tuple[Array, float]:
    """One row through the layers' equation, one number after the other in double: x [D] -> (z [D], log-determinant)."""
    dims, hidden, bound = made.dims, made.hidden, 4.0
    total = 0.0
    for layer in range(made.layers):
        order = list(range(dims))[:: -1 if layer % 2 else 1]
        w, d, v, c = (
            part[layer].double().numpy() for part in (made.inner, made.inner_bias, made.outer, made.outer_bias)
        )
        z = x.copy()
        for i, column in enumerate(order):
            shift, raw = c[i]
            for unit in range(hidden):
                before = 1 + unit * (dims - 1) // hidden  # how many coordinates the unit sees
                if before > i:
                    continue
                h = d[unit] + sum(w[j, unit] * x[order[j]] / (1 + abs(x[order[j]]) / 8) for j in range(before))
                activity = h / (1 + exp(-h))
                shift, raw = shift + v[2 * i, unit] * activity, raw + v[2 * i + 1, unit] * activity
            a = raw / (1 + abs(raw) / bound)
            z[column] = x[column] * exp(a) + shift
            total += a
        x = z
    return x, total


class TestLayers:
    def test_they_are_the_equation_number_by_number(self) -> None:
        made = layers(7, layers=3, hidden=10)
        x = torch.randn(4, 7, generator=torch.Generator().manual_seed(2)) * 2
        z, log_det = made(x)
        for row in range(4):
            expected, total = in_loops(made, x[row].double().numpy())
            np.testing.assert_allclose(z[row].numpy(), expected, rtol=1e-4, atol=1e-4)
            assert abs(log_det[row].item() - total) < 1e-4

    def test_the_steps_undo_the_pass(self) -> None:
        made = layers(9, layers=3)
        x = torch.randn(20, 9, generator=torch.Generator().manual_seed(2))
        state = made.start(made(x)[0])
        for t in range(made.steps):
            state = made.step(torch.full((20,), t), *state)
        assert torch.allclose(state[1], x, atol=1e-3)

    @pytest.mark.parametrize("first", [0, 1])
    def test_a_coordinate_depends_on_those_before_it_in_its_layer_s_order_alone(self, first: int) -> None:
        made = layers(6, layers=2)
        with torch.no_grad():  # the other layer is the identity
            made.outer[1 - first].zero_()
            made.outer_bias[1 - first].zero_()
        jacobian = torch.autograd.functional.jacobian(lambda v: made(v)[0], torch.randn(1, 6)).reshape(6, 6)
        wrong = jacobian.tril(-1) if first else jacobian.triu(1)
        right = jacobian.triu(1) if first else jacobian.tril(-1)
        assert (wrong == 0).all()
        assert (right[right != 0]).numel() == 15

    def test_rows_at_different_steps_of_different_layers_share_a_batch(self) -> None:
        made = layers(5, layers=3)
        h, values = torch.randn(made.steps, 16), torch.randn(made.steps, 5)
        t = torch.randperm(made.steps, generator=torch.Generator().manual_seed(3))
        together = made.step(t, h, values)
        for i in range(made.steps):
            alone = made.step(t[i : i + 1], h[i : i + 1], values[i : i + 1])
            assert all(torch.allclose(a[0], b[i], atol=1e-6) for a, b in zip(alone, together, strict=True))

    def test_baking_changes_nothing(self) -> None:
        made, x = layers(5), torch.randn(3, 5)
        t, h = torch.tensor([0, 4, 7]), torch.randn(3, 16)
        before = (*made(x), *made.step(t, h, x))
        made.bake()
        for old, new in zip(before, (*made(x), *made.step(t, h, x)), strict=True):
            assert torch.allclose(old, new, atol=1e-6)
        assert (made.inner == 0).sum() > 20, "the masks are in the weights"


@pytest.mark.parametrize("preprocess", ["logit", "affine"])
@pytest.mark.parametrize(
    "support", [levels(17, 3, 4), levels(256, 2, 2, 3), pictures(2, 3)], ids=["grey", "colour", "binary"]
)
class TestFlow:
    def test_decode_undoes_encode(self, support: Support, preprocess: Any) -> None:
        check_decode_undoes_encode(flow(support, preprocess=preprocess), some(support))

    def test_the_weight_is_the_base_law_and_autodiff_s_determinant(self, support: Support, preprocess: Any) -> None:
        check_weight(flow(support, preprocess=preprocess), some(support, 3))

    def test_to_begin_with_pixels_have_mean_0_and_deviation_1(self, support: Support, preprocess: Any) -> None:
        model, x = MAFImage(support, preprocess=preprocess, **SMALL), some(support, 300)
        model.prepare(x)
        u = torch.rand(40, *x.shape, generator=torch.Generator().manual_seed(4)).double()
        with torch.no_grad():
            z = torch.cat([model._to_code((x.double() + part).flatten(1))[0] for part in u])
        assert z.mean(dim=0).abs().max() < 0.02
        assert (z.std(dim=0) - 1).abs().max() < 0.03


def test_a_pixel_that_never_varies_has_a_scale_and_a_draw() -> None:
    support = levels(256, 2, 2)
    model = MAFImage(support, **SMALL).eval()
    model.prepare(torch.zeros(500, 2, 2, dtype=torch.uint8))
    drawn = model.decode(model.latent(torch.zeros(50, dtype=torch.int64), torch.arange(50), torch.ones(50).double()))
    assert drawn.double().mean() < 3


def test_a_code_beyond_all_measure_is_still_a_picture() -> None:
    model = flow(levels(4, 2, 2), layers=12)
    model.layers.outer_bias[..., 1] = -1e6  # every layer back spreads its values by exp(5)
    z = torch.tensor([[1e30, -1e30, 1e30, 1e300], [0.0, 1e9, 0.0, 0.0]], dtype=torch.float64)
    state = model.decode_init(z)
    for t in range(model.decode_steps):
        state = model.decode_step(torch.full((2,), t), *state)
    assert torch.isfinite(state[1]).all()
    assert model.decode(z).max() <= 3


def test_the_density_integrates_to_one() -> None:
    model, per_level = flow(levels(3, 1, 2), 0.3, preprocess="affine"), 10
    side = (np.arange(-15 * per_level, 18 * per_level) + 0.5) / per_level
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    z, log_det = model._to_code(torch.from_numpy(grid))
    mass = (model.latent_log_prob(z.double()) + log_det).exp().sum().item() / per_level**2
    assert abs(mass - 1.0) < 0.005


@pytest.mark.slow
def test_the_export_of_a_picture_is_the_model() -> None:
    model = flow(levels(256, 3, 3), 0.1, layers=2)
    exported = export_model(model)
    verified = verify_export(model, exported, some(model.support, 64).numpy())
    decode, sample = exported.programs["decode"], exported.programs["sample"]
    assert decode.graphs == ("decode_init", "decode_step", "decode_final")
    assert sample.graphs == ("sample_init", "decode_step", "decode_final"), "rows of both share batches"
    assert sample.steps.default == decode.steps.default == 2 * 9
    assert verified.parity["sample"].max_rounded_mismatch > 0
    assert verified.parity["decode"].max_rounded_mismatch > 0
    z = model.latent(torch.full((20,), 3), torch.arange(20), torch.full((20,), 0.5).double())
    asked = {"seed": np.full(20, 3), "row": np.arange(20), "temperature": np.full(20, 0.5)}
    drawn = answers_in_torch(model, "sample", asked)["x"]
    assert np.array_equal(drawn, answers_in_torch(model, "decode", {"z": z.numpy()})["x"])
    assert np.array_equal(drawn, model.decode(z).numpy())
    assert len(np.unique(drawn.reshape(20, -1), axis=0)) == 20


@pytest.mark.parametrize(
    ("support", "hyper", "words"),
    [
        (table("real", "real"), {}, "a table"),
        (levels(256, 4, 4, 2), {}, "no pictures"),
        (levels(256, 4, 4), {"layers": 0}, "1 or more"),
        (levels(256, 4, 4), {"hidden": 0}, "1 or more"),
        (levels(256, 4, 4), {"log_scale_bound": 0.0}, "log-scale"),
    ],
)
def test_what_is_no_picture_or_no_network_is_refused(support: Support, hyper: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MAFImage(support, **hyper)
