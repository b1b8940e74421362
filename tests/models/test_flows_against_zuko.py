"""Autoregressive flows and splines against zuko's, on the same weights."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from math import exp, log

import pytest
import torch
import zuko
from torch import Tensor, nn
from zuko.flows import MaskedAutoregressiveTransform
from zuko.flows.coupling import GeneralCouplingTransform
from zuko.transforms import MonotonicAffineTransform, MonotonicRQSTransform

from models.iaf import IAF
from models.maf import MAF
from models.nets.elementwise import RationalQuadratic
from models.nets.flow import TabularFlow
from models.nsf_autoregressive import NSFAutoregressive
from models.nsf_coupling import NSFCoupling
from tests.models.supports import table

D = 5
HIDDEN = [12, 20]
BINS, BOUND, LOG_SCALE_BOUND = 6, 3.0, 4.0
ROWS = torch.randn(60, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2.0


def with_weights(model: TabularFlow) -> TabularFlow:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.double().eval().requires_grad_(False)


AFFINE = {
    "univariate": partial(MonotonicAffineTransform, slope=exp(-LOG_SCALE_BOUND)),
    "shapes": [(), ()],
}
SPLINES = {
    "univariate": partial(MonotonicRQSTransform, bound=BOUND, slope=1e-3),
    "shapes": [(BINS,), (BINS,), (BINS - 1,)],
}


def copied(theirs: nn.Module, ours: list[nn.Module]) -> None:
    """Give their linear layers our weights; a masked layer of theirs keeps its own mask."""
    layers = [layer for layer in theirs.modules() if hasattr(layer, "weight")]
    assert len(layers) == len(ours)
    for layer, own in zip(layers, ours, strict=True):
        layer.double()
        layer.weight.copy_(own.weight)
        layer.bias.copy_(own.bias)


@torch.no_grad()
def autoregressive(model: MAF | NSFAutoregressive, **element: object) -> zuko.transforms.Transform:
    parts = []
    for layer in model.layers:
        place = torch.argsort(torch.tensor(layer.order))
        part = MaskedAutoregressiveTransform(D, order=place, hidden_features=HIDDEN, activation=nn.SiLU, **element)
        copied(part.hyper, [*layer.network.layers, layer.network.last])
        parts.append(part())
    return zuko.transforms.ComposedTransform(*parts)


@torch.no_grad()
def coupling(model: NSFCoupling) -> zuko.transforms.Transform:
    parts: list[zuko.transforms.Transform] = []
    for layer in model.layers:
        # Theirs takes and gives columns in their natural order; ours in the layer's.
        mask = torch.arange(D) < layer.kept
        part = GeneralCouplingTransform(D, mask=mask, hidden_features=HIDDEN, activation=nn.SiLU, **SPLINES)
        copied(part.hyper, [m for m in layer.network if isinstance(m, nn.Linear)])
        back = torch.argsort(layer.order)
        parts += [zuko.transforms.PermutationTransform(layer.order), part()]
        parts += [zuko.transforms.PermutationTransform(back)]
    return zuko.transforms.ComposedTransform(*parts)


def log_prob(transform: zuko.transforms.Transform, x: Tensor) -> Tensor:
    z, log_det = transform.call_and_ladj(x)
    return torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(dim=1) + log_det


def test_maf_is_zuko_s() -> None:
    model = with_weights(MAF(table(*["real"] * D), layers=3, hidden=HIDDEN, log_scale_bound=LOG_SCALE_BOUND))
    theirs = autoregressive(model, **AFFINE)
    assert torch.allclose(model.log_prob(ROWS), log_prob(theirs, ROWS), atol=1e-4)
    assert torch.allclose(model.encode(ROWS), theirs(ROWS))
    assert torch.allclose(model.decode(ROWS), theirs.inv(ROWS))


def test_iaf_is_zuko_s_turned_round() -> None:
    model = with_weights(IAF(table(*["real"] * D), layers=2, hidden=HIDDEN, log_scale_bound=LOG_SCALE_BOUND))
    maf = MAF(table(*["real"] * D), layers=2, hidden=HIDDEN, log_scale_bound=LOG_SCALE_BOUND).double()
    for layer, own in zip(maf.layers, reversed(model.layers), strict=True):
        layer.load_state_dict(own.layer.state_dict())
        layer.order = own.layer.order
        for mine, other in zip(layer.network.modules(), own.layer.network.modules(), strict=True):
            if getattr(other, "mask", None) is not None:
                mine.mask = other.mask
    theirs = autoregressive(maf, **AFFINE).inv
    x = theirs.inv(ROWS)  # rows where codes are ordinary
    assert torch.allclose(model.log_prob(x), log_prob(theirs, x), rtol=1e-6, atol=1e-4)
    assert torch.allclose(model.decode(ROWS), x)


def test_autoregressive_splines_are_zuko_s() -> None:
    model = with_weights(NSFAutoregressive(table(*["real"] * D), layers=3, hidden=HIDDEN, bins=BINS, bound=BOUND))
    theirs = autoregressive(model, **SPLINES)
    assert torch.allclose(model.log_prob(ROWS), log_prob(theirs, ROWS), atol=1e-4)
    assert torch.allclose(model.encode(ROWS), theirs(ROWS))
    assert torch.allclose(model.decode(ROWS), theirs.inv(ROWS))


def test_spline_couplings_are_zuko_s() -> None:
    model = with_weights(NSFCoupling(table(*["real"] * D), layers=4, hidden=HIDDEN, bins=BINS, bound=BOUND))
    theirs = coupling(model)
    assert torch.allclose(model.log_prob(ROWS), log_prob(theirs, ROWS), atol=1e-4)
    assert torch.allclose(model.decode(ROWS), theirs.inv(ROWS))


@pytest.mark.parametrize("bins", [2, 3, 8])
def test_a_spline_is_zuko_s(bins: int) -> None:
    g = torch.Generator().manual_seed(bins)
    raw = 3.0 * torch.randn(200, 4, 3 * bins - 1, generator=g, dtype=torch.float64)
    x = 3.0 * torch.randn(200, 4, generator=g, dtype=torch.float64)
    theirs = MonotonicRQSTransform(*raw.split([bins, bins, bins - 1], dim=-1), bound=BOUND, slope=exp(-log(1000.0)))
    ours = RationalQuadratic(bins=bins, bound=BOUND)
    for mine, other in zip(ours.forward(x, raw), theirs.call_and_ladj(x), strict=True):
        assert torch.allclose(mine, other, atol=1e-9)
    assert torch.allclose(ours.inverse(x, raw)[0], theirs._inverse(x), atol=1e-7)


def test_the_networks_have_masks_that_zuko_s_do_not_cut() -> None:
    # Else the comparisons above would compare fewer connections than there are.
    model = with_weights(MAF(table(*["real"] * D), layers=2, hidden=HIDDEN))
    for layer in model.layers:
        place = torch.argsort(torch.tensor(layer.order))
        part = MaskedAutoregressiveTransform(D, order=place, hidden_features=HIDDEN)
        masks = [m.mask for m in part.hyper.modules() if hasattr(m, "mask")]
        for mine, other in zip([*layer.network.layers, layer.network.last], masks, strict=True):
            assert torch.equal(mine.mask.bool(), other)
    assert any(a.order != b.order for a, b in pairwise(model.layers))
