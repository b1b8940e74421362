"""The importance-weighted bound, draw by draw: a program whose number of steps is K, the number of draws.

    L_K = log( 1/K sum_k w_k ),    E L_K <= E L_{K+1} <= log p(x)

(Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted Autoencoders", 2016, theorem 1). A step draws one weight
and adds it to running sums, so that rows with different K share a batch, and K has no price in memory. The standard
error is that of log(mean of w) by the delta method, sqrt(var(w) / K) / mean(w); one draw has none, which is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from contract.programs import State
from models.nets.lanes import full_lanes
from models.protocols import HasBound

__all__ = ["ACCUMULATORS", "ImportanceBound"]

ACCUMULATORS = (
    State(name="peak", dtype="float64"),
    State(name="weights", dtype="float64"),
    State(name="squares", dtype="float64"),
    State(name="log_prob", dtype="float64"),
    State(name="standard_error", dtype="float64"),
)
"""The largest log w so far; sums of w and w^2 relative to it; the bound and its standard error after this draw."""


class ImportanceBound(nn.Module):
    """The bound of a model as two graphs: what all draws share, and one draw.

    Args:
        model: what gives the weights.
        conditions: how many conditions it takes.
    """

    def __init__(self, model: nn.Module, conditions: int):
        super().__init__()
        self.model = model
        self.conditions = conditions

    def init(self, x: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
        """x [n, *shape], conditions -> the model's state, then the accumulators before the first draw."""
        shared = cast(HasBound, self.model).bound_init(x, *conditions)
        zero = torch.zeros_like(x.reshape(x.shape[0], -1)[:, 0], dtype=torch.float64)  # [n]
        return (*shared, zero - torch.inf, zero, zero, zero - torch.inf, zero + torch.nan)

    def step(self, x: Tensor, seed: Tensor, row: Tensor, t: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """x, addresses, t, conditions, the model's state, accumulators -> the accumulators after draw t."""
        peak, weights, squares = rest[-5:-2]
        log_w = cast(HasBound, self.model).log_weight(x, seed, row, t, *rest[:-5])  # [n]
        # A weight of 0 is -inf; all of them so far may be.
        top = torch.maximum(peak, log_w)
        finite = torch.where(top == -torch.inf, torch.zeros_like(top), top)
        before, now = _by_row(torch.exp, peak - finite), _by_row(torch.exp, log_w - finite)
        weights = weights * before + now
        squares = squares * before.square() + now.square()
        count = (t + 1).double()
        mean = weights / count
        variance = (squares / count - mean.square()).relu() / t.double()  # of the mean; 0/0 after one draw
        return top, weights, squares, finite + _by_row(torch.log, mean), variance.sqrt() / mean


def _by_row(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return full_lanes(function, x[:, None])[:, 0]
