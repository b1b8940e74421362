"""Coupling layers: half of the columns are moved, each by a map whose parameters follow from the other half."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.nets.elementwise import Elementwise
from models.nets.lanes import row_sum
from models.nets.mlp import mlp

__all__ = ["Coupling", "why_not_couplings"]


class Coupling(nn.Module):
    """One coupling layer (Dinh, Krueger and Bengio 2014, section 3.2); it starts as the identity.

        a' = a,    b' = g(b; m(a)),    log |det| = sum log g'(b)

    Args:
        order: a permutation of the d columns: the first half of them is a, the rest b.
        element: g.
        hidden: widths of the hidden layers of the network m.
        dropout: share of m's hidden units that are left out in training.

    Example:
        >>> from models.nets.elementwise import Additive
        >>> layer = Coupling([1, 0], Additive(), hidden=[8])
        >>> y, log_det = layer.forward_and_log_det(torch.tensor([[3.0, 4.0]]))
        >>> y.tolist(), log_det.tolist()
        ([[3.0, 4.0]], [0.0])
    """

    order: Tensor
    back: Tensor

    def __init__(self, order: Sequence[int], element: Elementwise, *, hidden: Sequence[int], dropout: float = 0.0):
        super().__init__()
        self.kept = len(order) // 2
        self.element = element
        outputs = (len(order) - self.kept) * element.size
        self.network = mlp(self.kept, hidden, outputs, zero_output=True, dropout=dropout)
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("back", torch.argsort(torch.tensor(order)), persistent=False)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, d] -> (y [n, d], log |det dy/dx| float64 [n])."""
        a, b = self._split(x)
        moved, log_slope = self.element.forward(b, self._network_given(a))
        return torch.cat([a, moved], dim=1).index_select(1, self.back), row_sum(log_slope)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y [n, d] -> (x [n, d], log |det dx/dy| float64 [n])."""
        a, b = self._split(y)
        moved, log_slope = self.element.inverse(b, self._network_given(a))
        return torch.cat([a, moved], dim=1).index_select(1, self.back), -row_sum(log_slope)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        ordered = x.index_select(1, self.order)
        return ordered[:, : self.kept], ordered[:, self.kept :]  # [n, kept], [n, moved]

    def _network_given(self, a: Tensor) -> Tensor:
        """The network in its own precision, whatever that of a is: [n, kept] -> [n, moved, size]."""
        raw: Tensor = self.network(a.to(next(self.network.parameters()).dtype))
        return raw.reshape(raw.shape[0], -1, self.element.size)


def why_not_couplings(dims: int) -> str | None:
    """None if rows of so many columns can be split in two, else the reason in words."""
    return None if dims >= 2 else "a coupling layer needs at least two columns, one to condition the other on"
