"""Laws of a latent code: standard normal, or a flow of affine couplings over it, conditional on a context."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.nets.lanes import row_sum
from models.nets.laws import standard_normal_log_prob
from models.nets.mlp import mlp

__all__ = ["FlowPrior"]

_LOG_SCALE_BOUND = 2.0


class FlowPrior(nn.Module):
    """p(z given c) of z = f^-1(e; c), e ~ N(0, I), where f is a stack of affine couplings (Dinh et al. 2016).

    With no coupling it is the standard normal law. It starts as that in any case.

    Args:
        dims: coordinates of z; two or more if there are couplings.
        layers: number of couplings.
        hidden: widths of the hidden layers of each.
        context: width of c; 0 for none.

    Example:
        >>> prior = FlowPrior(4, layers=2, hidden=[8], context=0)
        >>> z = prior.sample(torch.ones(1, 4), None)
        >>> bool(torch.allclose(prior.log_prob(z, None), standard_normal_log_prob(torch.ones(1, 4))))
        True
    """

    def __init__(self, dims: int, *, layers: int, hidden: Sequence[int], context: int):
        super().__init__()
        if layers and dims < 2:
            raise ValueError(
                "a prior with couplings needs at least two latent coordinates, one to move given the other"
            )
        kept, moved = [(dims + 1) // 2, dims // 2], [dims // 2, (dims + 1) // 2]
        self.networks = nn.ModuleList(
            mlp(kept[i % 2] + context, hidden, 2 * moved[i % 2], zero_output=True) for i in range(layers)
        )
        self.orders = [_order(dims, i) for i in range(layers)]

    def log_prob(self, z: Tensor, context: Tensor | None) -> Tensor:
        """log p(z given c): z float32 [n, dims], c [n, context] -> float64 [n]."""
        total = z.new_zeros(z.shape[0], dtype=torch.float64)
        for i in range(len(self.orders)):
            kept, moved, log_scale, shift = self._parts(i, z, context)
            z = self._join(i, kept, moved * log_scale.exp() + shift)
            total = total + row_sum(log_scale.double())
        return standard_normal_log_prob(z) + total

    def sample(self, e: Tensor, context: Tensor | None) -> Tensor:
        """f^-1(e; c): e float32 [n, dims], c [n, context] -> z float32 [n, dims]."""
        for i in reversed(range(len(self.orders))):
            kept, moved, log_scale, shift = self._parts(i, e, context)
            e = self._join(i, kept, (moved - shift) * (-log_scale).exp())
        return e

    def _parts(self, i: int, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ordered = z[:, self.orders[i]]
        size = ordered.shape[1] // 2 + (ordered.shape[1] % 2 if i % 2 == 0 else 0)
        kept, moved = ordered[:, :size], ordered[:, size:]
        given = kept if context is None else torch.cat([kept, context], dim=1)
        raw, shift = self.networks[i](given).chunk(2, dim=1)
        return kept, moved, _LOG_SCALE_BOUND * torch.tanh(raw / _LOG_SCALE_BOUND), shift

    def _join(self, i: int, kept: Tensor, moved: Tensor) -> Tensor:
        order = self.orders[i]
        back = sorted(range(len(order)), key=order.__getitem__)
        return torch.cat([kept, moved], dim=1)[:, back]


def _order(dims: int, layer: int) -> list[int]:
    # Pairs of neighbours move complementary halves; the first pair splits the coordinates in the middle, the next by
    # even and odd, and so on in turn.
    order = list(range(dims)) if layer // 2 % 2 == 0 else [*range(0, dims, 2), *range(1, dims, 2)]
    return order if layer % 2 == 0 else order[::-1]
