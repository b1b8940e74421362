"""RealNVP for pictures: a bijection with the density that goes with it, and a bound on integer pictures."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from contract.support import Support
from models.nets.picture_flow import ChannelCoupling, Squeeze
from models.realnvp_image import CheckerboardCoupling, RealNVPImage, _network
from tests.models.picture_flows import check_decode_undoes_encode, check_weight
from tests.models.supports import levels, pictures, table
from training.export import export_model
from training.graphs import answers_in_torch
from training.parity import verify_export

SMALL: dict[str, Any] = {"scales": 2, "couplings": 2, "width": 6, "blocks": 1}


def stir(module: nn.Module, spread: float = 0.15) -> None:
    """Weights at random, so that no coupling is the identity."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=spread)


def flow(support: Support, spread: float = 0.15, **others: Any) -> RealNVPImage:
    model = RealNVPImage(support, **{**SMALL, **others})
    stir(model, spread)
    return model.eval().requires_grad_(False)


def some(support: Support, n: int = 40) -> Tensor:
    count = (support.element.levels or 2) if support.element else 0
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, count, (n, *support.shape), dtype=torch.uint8, generator=generator)


def coupling_of(name: str) -> CheckerboardCoupling | ChannelCoupling:
    torch.manual_seed(0)
    if name in ("odd", "even"):
        return CheckerboardCoupling((2, 3, 4), odd=name == "odd", width=5, blocks=1, log_scale_bound=2.0)
    network = _network(2, width=5, blocks=1, outputs=4)
    return ChannelCoupling(network, first=name == "first half", log_scale_bound=2.0)


@pytest.mark.parametrize("name", ["odd", "even", "first half", "second half"])
class TestCoupling:
    def test_it_starts_as_the_identity_and_is_undone_by_its_inverse(self, name: str) -> None:
        coupling = coupling_of(name)
        x = torch.randn(5, 2, 3, 4) if isinstance(coupling, CheckerboardCoupling) else torch.randn(5, 4, 2, 3)
        y, log_det = coupling.forward_and_log_det(x)
        assert torch.equal(y, x)
        assert (log_det == 0).all()
        stir(coupling)
        y, log_det = coupling.forward_and_log_det(x)
        back, back_log_det = coupling.inverse_and_log_det(y)
        assert torch.allclose(back, x, atol=1e-5)
        assert torch.allclose(log_det, -back_log_det, atol=1e-5)
        assert not torch.allclose(y, x, atol=0.1)

    def test_its_determinant_is_autodiff_s_and_half_of_the_picture_moves(self, name: str) -> None:
        coupling = coupling_of(name)
        stir(coupling)
        shape = (2, 3, 4) if isinstance(coupling, CheckerboardCoupling) else (4, 2, 3)
        x = torch.randn(1, *shape)
        jacobian = torch.autograd.functional.jacobian(lambda v: coupling.forward_and_log_det(v)[0], x).reshape(24, 24)
        _, log_det = coupling.forward_and_log_det(x)
        assert abs(torch.linalg.slogdet(jacobian).logabsdet - log_det.item()) < 1e-4
        still = [i for i in range(24) if torch.equal(jacobian[i], torch.eye(24)[i])]
        assert len(still) == 12


@pytest.mark.parametrize("preprocess", ["logit", "affine"])
@pytest.mark.parametrize(
    "support", [levels(17, 4, 6), levels(256, 4, 4, 3), pictures(2, 4)], ids=["grey", "colour", "binary"]
)
class TestFlow:
    def test_decode_undoes_encode(self, support: Support, preprocess: Any) -> None:
        check_decode_undoes_encode(flow(support, preprocess=preprocess), some(support))

    def test_a_code_comes_back_within_half_a_level(self, support: Support, preprocess: Any) -> None:
        model = flow(support, preprocess=preprocess)
        z = model.latent(torch.full((40,), 3), torch.arange(40), torch.full((40,), 0.3).double())
        y = model._from_code(z.float())
        inside = (y >= 0) & (y < model.levels)
        middle = model._from_code(model.encode(model.decode(z)).float())
        assert ((y - middle).abs()[inside] < 0.501).all()
        assert inside.double().mean() > 0.3

    def test_the_weight_is_the_base_law_and_autodiff_s_determinant(self, support: Support, preprocess: Any) -> None:
        check_weight(flow(support, preprocess=preprocess), some(support, 3))


def test_the_paper_s_scales() -> None:
    # 4 x 4 x 3 -> (12 channels, half of them to the code) -> 6 x 2 x 2 -> (24, half) -> 12 x 1 x 1 is one pixel.
    model = RealNVPImage(levels(256, 8, 8, 3), scales=3, couplings=3, width=4, blocks=1)
    assert model.flow.shapes == [(12, 4, 4), (24, 2, 2), (12, 2, 2)]
    kinds = [[type(part) for part in scale] for scale in model.flow.scales]  # type: ignore[union-attr]
    whole = [CheckerboardCoupling] * 3 + [Squeeze] + [ChannelCoupling] * 3
    assert kinds == [whole, whole, [CheckerboardCoupling] * 4]
    widths = {scale[0].network[0].out_channels for scale in model.flow.scales}  # type: ignore[index]
    assert widths == {4, 8, 16}


def _density(model: RealNVPImage, per_level: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Two pixels: a grid of the plane, [m, 2] in levels, and the probability of each of its cells, [m]."""
    side = np.arange(-12.0, model.levels + 12.0, 1.0 / per_level) + 0.5 / per_level
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    z, log_det = model._to_code(torch.from_numpy(grid))
    return grid, (model.latent_log_prob(z) + log_det).exp().numpy() / per_level**2


@pytest.mark.slow
def test_the_bound_meets_the_law_and_draws_follow_it() -> None:
    model, n = flow(levels(3, 1, 2), 0.2, scales=1, couplings=3, preprocess="affine"), 20_000
    grid, mass = _density(model)
    assert abs(mass.sum() - 1.0) < 0.005
    level = np.floor(grid)
    x = np.array(list(product(range(3), repeat=2)), dtype=np.uint8).reshape(-1, 1, 2)
    inner, whole = (
        np.array([mass[(which == row.reshape(-1)).all(axis=1)].sum() for row in x])
        for which in (level, level.clip(0, 2))
    )
    answer = answers_in_torch(model, "log_prob", {"x": x}, steps=3000)
    assert (np.abs(answer["log_prob"] - np.log(inner)) < 5 * answer["standard_error"] + 0.01).all()
    few = answers_in_torch(
        model, "log_prob", {"x": np.repeat(x, 200, axis=0), "seed": np.tile(np.arange(200), 9)}, steps=1
    )
    assert (few["log_prob"].reshape(9, 200).mean(axis=1) < np.log(inner)).all()
    # Draws beyond the range count as its ends, so that each picture is at least as likely as its bound says.
    drawn = model.decode(model.latent(torch.full((n,), 3), torch.arange(n), torch.ones(n).double())).numpy()
    observed = np.bincount(drawn.reshape(n, 2).astype(int) @ np.array([3, 1]), minlength=9)
    assert stats.chisquare(observed, whole / whole.sum() * n).pvalue > 1e-4
    assert (whole >= inner).all()


def test_a_low_temperature_keeps_draws_near_the_middle_of_the_law() -> None:
    model = flow(levels(256, 4, 4))
    seed, row = torch.full((200,), 3), torch.arange(200)
    narrow, wide = (
        model.decode(model.latent(seed, row, torch.full((200,), t).double())).double().std(dim=0).mean()
        for t in (0.2, 1.0)
    )
    assert narrow < 0.5 * wide


@pytest.mark.slow
def test_the_export_of_a_colour_picture_is_the_model() -> None:
    model = flow(levels(256, 4, 4, 3), 0.1, couplings=1)
    exported = export_model(model)
    verified = verify_export(model, exported, some(model.support, 64).numpy())
    assert {"latent", "decode", "encode", "log_prob_init", "log_prob_step"} == set(verified.graphs)
    assert exported.programs["sample"].graphs == ("latent", "decode")
    assert verified.parity["sample"].max_rounded_mismatch > 0


@pytest.mark.parametrize(
    ("support", "hyper", "words"),
    [
        (table("real", "real"), {}, "a table"),
        (levels(256, 4, 4, 2), {}, "no pictures"),
        (levels(256, 6, 4), {"scales": 3}, "multiples of 4"),
        (levels(256, 4, 4), {"scales": 3}, "one pixel"),
        (levels(256, 4, 4), {"couplings": 0}, "couplings"),
    ],
)
def test_what_cannot_be_split_is_refused(support: Support, hyper: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RealNVPImage(support, **hyper)
