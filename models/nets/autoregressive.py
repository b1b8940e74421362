"""Autoregressive layers: each column is moved by a map whose parameters follow from the columns before it.

    y_i = g(x_i; m_i(x_1 ... x_{i-1})),    log |det dy/dx| = sum_i log g'(x_i)

One pass of a masked network gives all m_i of a known x. The way back needs x_1 ... x_{i-1} before x_i: D passes, which
are unrolled here, so that either direction is one graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.nets.elementwise import Elementwise
from models.nets.lanes import row_sum
from models.nets.masked import MaskedLinear

__all__ = ["MOST_COLUMNS", "Inverted", "MaskedAutoregressive", "MaskedNetwork", "why_not_unrolled"]

MOST_COLUMNS = 64
"""The most columns of a table whose D passes one graph may hold."""


def why_not_unrolled(dims: int) -> str | None:
    """None if D passes fit one graph, else the reason in words."""
    if dims <= MOST_COLUMNS:
        return None
    return (
        f"it has {dims} columns: one direction of the flow takes a pass a column, all of them in one graph, and at "
        f"most {MOST_COLUMNS} are put there"
    )


class MaskedNetwork(nn.Module):
    """A multilayer perceptron whose outputs for a column see only the columns before it (Germain et al. 2015).

    Hidden units see the first 1, 2 ... D - 1 columns in turn. It starts with outputs of zero.

    Args:
        order: a permutation of the D columns: the order in which they condition each other.
        hidden: widths of the hidden layers, with SiLU after each.
        outputs: numbers a column.
        dropout: share of hidden units that are left out in training.

    Example:
        >>> network = MaskedNetwork([1, 0], hidden=[4], outputs=3)
        >>> network(torch.zeros(5, 2)).shape
        torch.Size([5, 2, 3])
    """

    def __init__(self, order: Sequence[int], *, hidden: Sequence[int], outputs: int, dropout: float = 0.0):
        super().__init__()
        dims = len(order)
        self.outputs = outputs
        self.dropout = dropout
        degree = own = torch.argsort(torch.tensor(order)) + 1  # of each column, 1 ... D
        layers = []
        for width in hidden:
            units = torch.arange(width) % (dims - 1) + 1 if dims > 1 else torch.zeros(width)
            layers.append(MaskedLinear((units[:, None] >= degree).float()))
            degree = units
        self.layers = nn.ModuleList(layers)
        self.last = MaskedLinear((own.repeat_interleave(outputs)[:, None] > degree).float(), zero=True)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.last.weight.dtype

    def forward(self, x: Tensor) -> Tensor:
        """x [n, D] -> [n, D, outputs]."""
        raw: Tensor = self.last(self._hidden(x))
        return raw.reshape(raw.shape[0], -1, self.outputs)

    def of_column(self, x: Tensor, column: int) -> Tensor:
        """Of one column alone, for less work: x [n, D], of which only columns before it count -> [n, 1, outputs]."""
        assert self.last.bias is not None
        rows = slice(column * self.outputs, (column + 1) * self.outputs)
        return functional.linear(self._hidden(x), self.last.masked_weight[rows], self.last.bias[rows])[:, None]

    def _hidden(self, x: Tensor) -> Tensor:
        h = x
        for layer in self.layers:
            h = functional.silu(layer(h))
            if self.dropout:
                h = functional.dropout(h, self.dropout, self.training)
        return h


class MaskedAutoregressive(nn.Module):
    """One autoregressive layer: forward in one pass, back in D; it starts as the identity.

    Args:
        order: a permutation of the D columns.
        element: g.
        hidden: widths of the hidden layers of the network m.
        dropout: share of m's hidden units that are left out in training.

    Example:
        >>> from models.nets.elementwise import Affine
        >>> layer = MaskedAutoregressive([1, 0], Affine(bound=5.0), hidden=[8])
        >>> y, log_det = layer.forward_and_log_det(torch.tensor([[3.0, 4.0]]))
        >>> y.tolist(), log_det.tolist()
        ([[3.0, 4.0]], [0.0])
    """

    def __init__(self, order: Sequence[int], element: Elementwise, *, hidden: Sequence[int], dropout: float = 0.0):
        super().__init__()
        self.order = list(order)
        self.element = element
        self.network = MaskedNetwork(order, hidden=hidden, outputs=element.size, dropout=dropout)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, D] -> (y [n, D], log |det dy/dx| float64 [n])."""
        y, log_slope = self.element.forward(x, self.network(x.to(self.network.dtype)))
        return y, row_sum(log_slope)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y [n, D] -> (x [n, D], log |det dx/dy| float64 [n]), column by column."""
        # Columns that are not known yet are 0: weights of 0 would not keep out what is not finite.
        x, log_slopes = torch.zeros_like(y), []
        for column in self.order:
            parameters = self.network.of_column(x.to(self.network.dtype), column)
            value, log_slope = self.element.inverse(y[:, column : column + 1], parameters)
            x = torch.cat([x[:, :column], value, x[:, column + 1 :]], dim=1)
            log_slopes.append(log_slope)
        return x, -row_sum(torch.cat(log_slopes, dim=1))


class Inverted(nn.Module):
    """A layer the other way round: forward is its inverse.

    Args:
        layer: what is turned round.
    """

    def __init__(self, layer: MaskedAutoregressive):
        super().__init__()
        self.layer = layer

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, D] -> (y [n, D], log |det dy/dx| float64 [n])."""
        return self.layer.inverse_and_log_det(x)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y [n, D] -> (x [n, D], log |det dx/dy| float64 [n])."""
        return self.layer.forward_and_log_det(y)
