"""Base laws: what a flow maps data to."""

from __future__ import annotations

from math import log, pi

import torch
from torch import Tensor

from contract.programs import ProgramInput
from contract.randomness import Stream
from models.nets.lanes import full_lanes, row_sum, softplus
from models.randomness import bits, normal, state

__all__ = [
    "TEMPERATURE",
    "bernoulli_log_prob",
    "bernoulli_terms",
    "standard_logistic",
    "standard_logistic_log_prob",
    "standard_normal",
    "standard_normal_log_prob",
]

TEMPERATURE = ProgramInput(
    name="temperature", dtype="float64", source="parameter", default=1.0, minimum=0.05, maximum=10.0
)
"""The knob that widens or narrows what is drawn; 1 is the model's own law."""


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I), in double whatever z's precision: [n, d] -> float64 [n].

    Example:
        >>> import torch
        >>> round(standard_normal_log_prob(torch.zeros(1, 2)).item(), 6) == round(-log(2 * pi), 6)
        True
    """
    squares = row_sum(z.double().square())
    return -0.5 * (squares + z.shape[-1] * log(2.0 * pi))


def standard_normal(seed: Tensor, row: Tensor, temperature: Tensor, *, dims: int) -> Tensor:
    """Draws of N(0, temperature^2 I) at addresses: int64 [n], [n], float64 [n] -> float64 [n, dims]."""
    return normal(seed, row, Stream.LATENT, dims=dims).to(torch.float64) * temperature[:, None]


def standard_logistic_log_prob(z: Tensor) -> Tensor:
    """Log-density of independent standard logistic laws, in double: [n, d] -> float64 [n].

    Example:
        >>> round(standard_logistic_log_prob(torch.zeros(1, 2)).item(), 6) == round(-2 * log(4), 6)
        True
    """
    z = z.double()
    return -row_sum(z + 2.0 * softplus(-z))


def standard_logistic(seed: Tensor, row: Tensor, temperature: Tensor, *, dims: int) -> Tensor:
    """Draws of logistic laws of scale temperature at addresses: int64 [n], [n], float64 [n] -> float64 [n, dims]."""
    # 32 bits each, never 0 or 1.
    u = (bits(state(seed, row, Stream.LATENT), dims).double() + 0.5) * 2.0**-32
    return (full_lanes(torch.log, u) - full_lanes(torch.log, 1.0 - u)) * temperature.unsqueeze(1)


def bernoulli_log_prob(logits: Tensor, x: Tensor) -> Tensor:
    """Log-probability of independent bits: logits float32 [n, d], x of 0 and 1 as float32 [n, d] -> float64 [n].

    Example:
        >>> chance = bernoulli_log_prob(torch.tensor([[0.0, 200.0]]), torch.tensor([[1.0, 0.0]]))
        >>> round(chance.item(), 4) == round(log(0.5) - 200.0, 4)
        True
    """
    return row_sum(bernoulli_terms(logits, x))


def bernoulli_terms(logits: Tensor, x: Tensor) -> Tensor:
    """Of each bit by itself: logits float32 [n, d], x of 0 and 1 as float32 [n, d] -> float64 [n, d]."""
    evidence = ((2.0 * x - 1.0) * logits).double()  # log-odds of what was seen
    return -softplus(-evidence)
