"""Transforms: bijections whose log-determinant is autodiff's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.nets.transforms import (
    LogColumns,
    Standardise,
    Transform,
    Whiten,
    forward_through,
    inverse_through,
)
from models.realnvp import AffineCoupling

ROWS = torch.randn(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).exp() * 3


def standardise() -> Transform:
    transform = Standardise(5)
    transform.fit(ROWS)
    return transform


def whiten() -> Transform:
    transform = Whiten(5)
    transform.fit(ROWS)
    return transform


def log_columns() -> Transform:
    return LogColumns([True, False, True, True, False])


def coupling() -> Transform:
    torch.manual_seed(0)
    layer = AffineCoupling([3, 0, 4, 1, 2], hidden=[16], log_scale_bound=2.0).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return layer.requires_grad_(False)


@pytest.mark.parametrize("make", [standardise, whiten, log_columns, coupling])
class TestTransform:
    def test_inverse_undoes_forward(self, make: Callable[[], Transform]) -> None:
        transform = make()
        y, forward = transform.forward_and_log_det(ROWS)
        x, back = transform.inverse_and_log_det(y)
        assert not torch.allclose(y, ROWS)
        assert torch.allclose(x, ROWS, rtol=1e-9)
        assert torch.allclose(forward, -back)
        assert forward.shape == (len(ROWS),)

    def test_log_det_is_autodiff_s(self, make: Callable[[], Transform]) -> None:
        transform = make()

        def one(x: Tensor) -> Tensor:
            return transform.forward_and_log_det(x[None])[0][0]

        for row in ROWS[:10]:
            jacobian = torch.autograd.functional.jacobian(one, row)
            expected = torch.linalg.slogdet(jacobian).logabsdet
            assert torch.allclose(transform.forward_and_log_det(row[None])[1], expected[None], atol=1e-9)


def test_a_chain_goes_there_and_back() -> None:
    chain = [log_columns(), coupling()]
    z, there = forward_through(chain, ROWS)
    x, back = inverse_through(chain, z)
    assert torch.allclose(x, ROWS)
    assert torch.allclose(there, -back)
    parts = [chain[0].forward_and_log_det(ROWS)]
    parts.append(chain[1].forward_and_log_det(parts[0][0]))
    assert torch.equal(z, parts[1][0])
    assert torch.equal(there, parts[0][1] + parts[1][1])


def test_standardised_columns_have_mean_zero_and_deviation_one() -> None:
    y, _ = standardise().forward_and_log_det(ROWS)
    assert torch.allclose(y.mean(dim=0), torch.zeros(5).double(), atol=1e-12)
    assert torch.allclose(y.std(dim=0, correction=0), torch.ones(5).double())


def test_a_coupling_starts_as_the_identity_and_stays_bounded() -> None:
    layer = AffineCoupling([0, 1, 2], hidden=[4], log_scale_bound=1.5)
    x = torch.randn(6, 3)
    y, log_det = layer.forward_and_log_det(x)
    assert torch.equal(y, x)
    assert torch.equal(log_det, torch.zeros(6).double())
    torch.nn.init.constant_(layer.network[-1].bias, 1e6)
    assert layer.forward_and_log_det(x)[1].abs().max() <= 2 * 1.5
