"""Multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

__all__ = ["mlp"]


def mlp(
    inputs: int, hidden: Sequence[int], outputs: int, *, zero_output: bool = False, dropout: float = 0.0
) -> nn.Sequential:
    """Linear layers with SiLU between them (Elfwing et al. 2018): [n, inputs] -> [n, outputs].

    Args:
        inputs: width of the input.
        hidden: widths of the hidden layers.
        outputs: width of the output.
        zero_output: start with an output of zero, so that what it parametrises starts as the identity.
        dropout: share of hidden units that are left out in training; 0 for no such layers.

    Example:
        >>> import torch
        >>> mlp(3, [8, 8], 2, zero_output=True)(torch.randn(5, 3)).abs().max().item()
        0.0
    """
    layers: list[nn.Module] = []
    width = inputs
    for size in hidden:
        layers += [nn.Linear(width, size), nn.SiLU(), *([nn.Dropout(dropout)] if dropout else [])]
        width = size
    last = nn.Linear(width, outputs)
    if zero_output:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
