"""Inversion: a draw of a law is its quantile of a uniform number, x = F^-1(u).

    F^-1(u) = the least x with F(x) > u,    u ~ U(0, 1)    =>    P(F^-1(u) <= x) = F(x)

for any distribution function F, with steps or without (L. Devroye, "Non-Uniform Random Variate Generation", 1986,
II.2). In several dimensions it goes one coordinate after the other, each by its law given those before it: x_1 by F_1,
then x_2 by F(x_2 given x_1), and so on; the way back, u_d = F(x_d given x_1 ... x_(d-1)), makes independent uniforms
of any continuous row (M. Rosenblatt, "Remarks on a Multivariate Transformation", 1952). A mixture is drawn so: first
the component, then the coordinates given it.

Where F has a formula its inverse lives with the law; here is what all of them share.
"""

from __future__ import annotations

import torch
from torch import Tensor

from contract.randomness import Stream
from models.randomness import bits, state

__all__ = ["LEAST", "MOST", "inside", "invert_steps", "open_uniform", "uniform_log_prob"]

LEAST = 1e-300
"""The least probability of which a quantile is taken."""

MOST = 1.0 - 2.0**-53
"""The largest double below 1."""


def open_uniform(seed: Tensor, row: Tensor, stream: Stream, t: Tensor | int = 0, *, dims: int) -> Tensor:
    """Uniforms strictly between 0 and 1, whose quantiles are finite: addresses int64 [n] -> float64 [n, dims].

    Example:
        >>> u = open_uniform(torch.tensor([1]), torch.tensor([0]), Stream.LATENT, dims=1000)
        >>> bool((u > 0).all() and (u < 1).all())
        True
    """
    return (bits(state(seed, row, stream, t), dims).double() + 0.5) * 2.0**-32


def invert_steps(cumulative: Tensor, u: Tensor) -> Tensor:
    """Quantiles of laws over 0 ... L - 1: P(X <= k) [..., L] and u in [0, 1) [...] -> int64 [...].

    Example:
        >>> cumulative = torch.tensor([0.2, 0.2, 1.0])
        >>> invert_steps(cumulative, torch.tensor([0.1, 0.2, 0.9])).tolist()
        [0, 2, 2]
    """
    # The last is not asked: probabilities may add up to less than 1 in the last place.
    return (cumulative[..., :-1] <= u[..., None]).long().sum(dim=-1)


def inside(u: Tensor) -> Tensor:
    """Codes as probabilities that have a quantile: those outside (0, 1) are moved to its ends."""
    return u.clamp(LEAST, MOST)


def uniform_log_prob(u: Tensor) -> Tensor:
    """Log-density of independent uniforms on (0, 1): float64 [n, d] -> float64 [n], 0 or -inf.

    Example:
        >>> uniform_log_prob(torch.tensor([[0.5, 0.1], [0.5, 1.5]]).double()).tolist()
        [0.0, -inf]
    """
    within = ((u > 0.0) & (u < 1.0)).all(dim=1)
    return torch.where(within, torch.zeros_like(u[:, 0]), torch.full_like(u[:, 0], -torch.inf))
