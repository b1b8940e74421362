"""Gradients lie in memory as their parameters do: a fused optimiser pairs the two by place."""

from __future__ import annotations

import torch

from training.adapter import _laid_out_as


def test_a_fused_step_moves_each_weight_by_its_own_gradient() -> None:
    torch.manual_seed(0)
    start, gradient = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    plain = start.clone().requires_grad_()
    turned = start.clone().contiguous(memory_format=torch.channels_last).requires_grad_()
    plain.grad, turned.grad = gradient, _laid_out_as(turned, gradient)
    torch.optim.AdamW([plain], lr=0.1, fused=False).step()
    torch.optim.AdamW([turned], lr=0.1, fused=True).step()
    assert torch.allclose(plain, turned, atol=1e-6)
    assert not torch.allclose(plain, start, atol=0.05)


def test_what_lies_alike_is_not_copied() -> None:
    parameter = torch.zeros(2, 3, 4, 5)
    gradient = torch.ones(2, 3, 4, 5)
    assert _laid_out_as(parameter, gradient) is gradient
