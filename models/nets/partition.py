"""The normalising constant of a restricted Boltzmann machine: summed over every state, or estimated.

    Z = sum_v sum_h exp( a . v + b . h + h . W v ),    v in {0, 1}^D, h in {0, 1}^H

Given one side the other is independent, so that the sum runs over the states of the smaller side alone. With spins
on one side and Gaussian units on the other,

    Z = sum_s E exp( a . s + z . W s ) = sum_s exp( a . s + |W s|^2 / 2 ),    s in {-1, 1}^D, z ~ N(0, I) in R^H

and the sum runs over the states of the spins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = [
    "annealed_log_partition",
    "annealed_spin_log_partition",
    "inverse_temperatures",
    "log_partition",
    "spin_log_partition",
]

_STATES_AT_ONCE = 2**22
"""Elements of the largest intermediate array of an enumeration."""


def log_partition(weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor) -> Tensor:
    """log Z, exact, in double, by the 2^min(D, H) states of the smaller side; differentiable.

    Args:
        weight: W, [H, D].
        visible_bias: a, [D].
        hidden_bias: b, [H].

    Example:
        >>> log_partition(torch.zeros(2, 30), torch.zeros(30), torch.zeros(2)).item() / math.log(2)
        32.0
    """
    w, mine, theirs = weight.double(), hidden_bias.double(), visible_bias.double()
    if w.shape[0] > w.shape[1]:
        w, mine, theirs = w.T, theirs, mine
    parts = [
        torch.logsumexp(states @ mine + softplus(torch.addmm(theirs, states, w)).sum(dim=1), dim=0)
        for states in _states(len(mine), _STATES_AT_ONCE // len(theirs), w.device)
    ]
    return torch.logsumexp(torch.stack(parts), dim=0)


def spin_log_partition(weight: Tensor, field: Tensor) -> Tensor:
    """log of the sum over spins s in {-1, 1}^D of exp(a . s + |W s|^2 / 2), in double, by all 2^D; differentiable.

    Args:
        weight: W, [H, D].
        field: a, [D].

    Example:
        >>> round(spin_log_partition(torch.zeros(2, 10), torch.zeros(10)).item() / math.log(2), 9)
        10.0
    """
    w, a = weight.double(), field.double()
    parts = []
    for states in _states(len(a), _STATES_AT_ONCE // max(w.shape), w.device):
        spins = 2.0 * states - 1.0
        parts.append(torch.logsumexp(spins @ a + 0.5 * (spins @ w.T).square().sum(dim=1), dim=0))
    return torch.logsumexp(torch.stack(parts), dim=0)


def _states(units: int, at_once: int, device: torch.device) -> Iterator[Tensor]:
    """All 2^units binary states, float64 [at most about at_once, units] at a time."""
    count = 2**units
    for start in range(0, count, max(1, at_once)):
        numbers = torch.arange(start, min(count, start + max(1, at_once)), device=device)
        yield ((numbers[:, None] >> torch.arange(units, device=device)) & 1).double()


@torch.no_grad()
def annealed_log_partition(
    weight: Tensor,
    visible_bias: Tensor,
    hidden_bias: Tensor,
    base_logits: Tensor,
    *,
    chains: int,
    temperatures: int,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[float, float]:
    """log Z by annealed importance sampling, and its standard error.

    Each of M chains goes from independent visible units (log-odds a0, Z_0 = 2^H prod_i (1 + exp a0_i)) through

        log f_beta(v) = (1 - beta) a0 . v + beta a . v + sum_j softplus(beta (b_j + W_j . v)),    0 = beta_0 < ... = 1

    with one block Gibbs sweep at each beta, and gathers log w = sum_k log f_{beta_k}(v_k) - log f_{beta_{k-1}}(v_k);
    E w = Z / Z_0 (R. Neal, "Annealed Importance Sampling", 2001; R. Salakhutdinov and I. Murray, "On the Quantitative
    Analysis of Deep Belief Networks", 2008, equations 15 to 18). log of the mean of w is low on average, by Jensen's
    inequality. Its standard error is sd(w) / (sqrt(M) mean(w)), the delta method's; neither it nor any other function
    of the weights can know of modes that no chain has met.

    Args:
        weight: W, [H, D].
        visible_bias: a, [D].
        hidden_bias: b, [H].
        base_logits: a0, [D].
        chains: M, at least 2.
        temperatures: number of steps from beta = 0 to beta = 1.
        seed: of all that is drawn.
        progress: called with the number of steps done.
    """
    tilt = (visible_bias - base_logits).double()  # [D]

    def first(draw: _Draws) -> Tensor:
        return draw.bernoulli(base_logits.expand(chains, -1))  # [M, D]

    def sweep(draw: _Draws, v: Tensor, before: float, beta: float) -> tuple[Tensor, Tensor]:
        field = torch.addmm(hidden_bias, v, weight.T)  # b + W v, [M, H]
        # The two sums are nearly equal: their difference wants double.
        wide = field.double()
        gain = (beta - before) * (v.double() @ tilt)
        gain += (softplus(beta * wide) - softplus(before * wide)).sum(dim=1)
        h = draw.bernoulli(beta * field)
        return draw.bernoulli((1 - beta) * base_logits + beta * torch.addmm(visible_bias, h, weight)), gain

    base = len(hidden_bias) * math.log(2.0) + softplus(base_logits.double()).sum().item()
    return _annealed(first, sweep, base, _Draws(seed, weight.dtype), chains, temperatures, progress)


@torch.no_grad()
def annealed_spin_log_partition(
    weight: Tensor,
    field: Tensor,
    base_field: Tensor,
    *,
    chains: int,
    temperatures: int,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[float, float]:
    """log Z of a machine of spins and Gaussian hidden units by annealed importance sampling, and its standard error.

    As ``annealed_log_partition``, from independent spins in a field a0, Z_0 = prod_i 2 cosh a0_i, through

        log f_beta(s) = (1 - beta) a0 . s + beta a . s + beta |W s|^2 / 2

    with one block Gibbs sweep at each beta: z ~ N(sqrt(beta) W s, I), then each spin given z.

    Args:
        weight: W, [H, D].
        field: a, [D].
        base_field: a0, [D].
        chains: M, at least 2.
        temperatures: number of steps from beta = 0 to beta = 1.
        seed: of all that is drawn.
        progress: called with the number of steps done.
    """
    tilt = (field - base_field).double()  # [D]

    def first(draw: _Draws) -> Tensor:
        return draw.spins(base_field.expand(chains, -1))  # [M, D]

    def sweep(draw: _Draws, s: Tensor, before: float, beta: float) -> tuple[Tensor, Tensor]:
        mean = s @ weight.T  # W s, [M, H]
        gain = (beta - before) * (s.double() @ tilt + 0.5 * mean.double().square().sum(dim=1))
        z = math.sqrt(beta) * mean + draw.normal(mean.shape)
        return draw.spins((1 - beta) * base_field + beta * field + math.sqrt(beta) * (z @ weight)), gain

    wide = base_field.double()
    base = (wide + softplus(-2.0 * wide)).sum().item()  # log 2 cosh
    return _annealed(first, sweep, base, _Draws(seed, weight.dtype), chains, temperatures, progress)


class _Draws:
    """What chains draw, from a generator with a fixed seed.

    Args:
        seed: of all that is drawn.
        dtype: of the draws.
    """

    def __init__(self, seed: int, dtype: torch.dtype):
        self._generator = torch.Generator().manual_seed(seed)
        self._dtype = dtype

    def bernoulli(self, logits: Tensor) -> Tensor:
        """0 or 1, 1 with probability sigmoid(logit)."""
        uniform = torch.rand(logits.shape, generator=self._generator, dtype=self._dtype)
        return (uniform < torch.sigmoid(logits)).to(self._dtype)

    def spins(self, field: Tensor) -> Tensor:
        """-1 or 1, 1 with probability sigmoid(2 field)."""
        return 2.0 * self.bernoulli(2.0 * field) - 1.0

    def normal(self, shape: torch.Size) -> Tensor:
        """Standard normals."""
        return torch.randn(shape, generator=self._generator, dtype=self._dtype)


def _annealed(
    first: Callable[[_Draws], Tensor],
    sweep: Callable[[_Draws, Tensor, float, float], tuple[Tensor, Tensor]],
    base: float,
    draw: _Draws,
    chains: int,
    temperatures: int,
    progress: Callable[[int], None],
) -> tuple[float, float]:
    """log Z and its standard error, from chains, log Z_0, and what one sweep does: (v, gain of log w float64 [M])."""
    v = first(draw)
    log_w = torch.zeros(chains, dtype=torch.float64)
    for k, (before, beta) in enumerate(pairwise(inverse_temperatures(temperatures)), start=1):
        v, gain = sweep(draw, v, before, beta)
        log_w += gain
        progress(k)
    largest = log_w.max()
    w = torch.exp(log_w - largest)
    mean = w.mean()
    return base + (largest + mean.log()).item(), (w.std() / mean).item() / math.sqrt(chains)


def inverse_temperatures(steps: int) -> list[float]:
    """0 = beta_0 < beta_1 < ... < beta_steps = 1, closer together towards 1.

    In the proportions of Salakhutdinov and Murray: 500 in [0, 0.5], 4,000 in [0.5, 0.9], 10,000 in [0.9, 1].

    Example:
        >>> inverse_temperatures(29)[:3], inverse_temperatures(29)[-1]
        ([0.0, 0.5, 0.55], 1.0)
    """
    progress, beta = [0.0, 500 / 14_500, 4_500 / 14_500, 1.0], [0.0, 0.5, 0.9, 1.0]
    found = []
    for k in range(steps + 1):
        done = k / steps
        piece = max(i for i in range(3) if progress[i] <= done)
        share = (done - progress[piece]) / (progress[piece + 1] - progress[piece])
        found.append(round(beta[piece] + share * (beta[piece + 1] - beta[piece]), 12))
    return found
