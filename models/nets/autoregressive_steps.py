"""Autoregressive layers over many coordinates: forward in a pass a layer, back in a step a coordinate of each layer.

    y_i = x_i exp(a_i) + b_i,    (b_i, a_i) = c_i + V_i . silu(h_i),    h_i = d + sum over j < i of W_j g(x_j)

of one layer, whose network has one hidden layer under the masks of M. Germain et al. 2015. Every second layer has the
coordinates in the reverse order (G. Papamakarios, T. Pavlakou and I. Murray, "Masked Autoregressive Flow for Density
Estimation", 2017). On the way back h is carried along: a step reads a_i and b_i off it, solves for x_i, and adds what
x_i switches on. A step so costs O(H + D) a row, and all D of them as much as one pass; the graph of a step holds no
loop, and rows at different steps, of different layers too, share a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.programs import State
from models.nets.elementwise import Affine, softly_bounded
from models.nets.lanes import row_sum

__all__ = ["SteppedAutoregressive"]

_SEEN = 8.0  # networks see values softly bounded, g: of a pixel that is nearly always empty some lie far out
_MOST = 1e20  # of a coordinate on the way back: its square is still finite in single precision


class SteppedAutoregressive(nn.Module):
    """Layers of affine autoregressive maps; each starts as the identity.

    Args:
        dims: D, coordinates.
        layers: L, how many layers.
        hidden: H, hidden units of each layer's network; a multiple of 16 is fastest.
        log_scale_bound: bound on the log-scale a of one layer.

    Example:
        >>> layers = SteppedAutoregressive(3, layers=2, hidden=4, log_scale_bound=5.0)
        >>> y, log_det = layers(torch.tensor([[3.0, 4.0, 5.0]]))
        >>> y.tolist(), log_det.tolist(), layers.steps
        ([[3.0, 4.0, 5.0]], [0.0], 6)
    """

    degree: Tensor

    def __init__(self, dims: int, *, layers: int, hidden: int, log_scale_bound: float):
        super().__init__()
        if min(dims, layers, hidden) < 1:
            raise ValueError("layers and hidden are 1 or more")
        self.dims, self.layers, self.hidden = dims, layers, hidden
        self.element = Affine(bound=log_scale_bound)
        # A unit of degree m sees the first m coordinates of its layer's order; degrees are spread over 1 ... D - 1.
        self.register_buffer("degree", 1 + torch.arange(hidden) * max(dims - 1, 1) // hidden, persistent=False)
        self.baked = False
        # All layers in one tensor, by the coordinates' ranks in their orders, so that a step finds its rows by number.
        # At the start as in Glorot and Bengio (2010): a unit of degree m sees m coordinates, and enters D - m laws.
        start = (torch.rand(layers, dims, hidden) * 2 - 1) * (6.0 / dims) ** 0.5
        self.inner = nn.Parameter(start * self._seen_by(torch.arange(dims)))  # W
        self.inner_bias = nn.Parameter(torch.zeros(layers, hidden))  # d
        self.outer = nn.Parameter(torch.zeros(layers, 2 * dims, hidden))  # V, of b and a of each coordinate in turn
        self.outer_bias = nn.Parameter(torch.zeros(layers, dims, 2))  # c

    @torch.no_grad()
    def bake(self) -> None:
        """Multiply the masks in for good, so that a graph need not do so at every run. Training ends here."""
        inner, outer = self._masked()
        self.inner.copy_(inner)
        self.outer.copy_(outer)
        self.baked = True

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x float32 [n, D] -> (y float32 [n, D], log |det dy/dx| float64 [n])."""
        total = x.new_zeros(x.shape[0], dtype=torch.float64)
        # Taken apart at once: gradients are then put together at once.
        for layer, (inner, outer) in enumerate(zip(*(part.unbind() for part in self._masked()), strict=True)):
            seen = softly_bounded(x, _SEEN)
            seen = seen.flip(1) if layer % 2 else seen
            h = functional.silu(torch.addmm(self.inner_bias[layer], seen, inner))
            raw = functional.linear(h, outer, self.outer_bias[layer].flatten())
            raw = raw.reshape(-1, self.dims, 2)
            x, log_slope = self.element.forward(x, raw.flip(1) if layer % 2 else raw)
            total = total + row_sum(log_slope)
        return x, total

    # -- back, step by step ----------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """L D."""
        return self.layers * self.dims

    @property
    def state(self) -> tuple[State, ...]:
        """h of the layer that a row is at, and its coordinates: those before its step are found already."""
        return (
            State(name="h", dtype="float32", shape=(self.hidden,)),
            State(name="values", dtype="float32", shape=(self.dims,)),
        )

    def start(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y float32 [n, D] -> the first state: h float32 [n, H] of the last layer, and y."""
        return self.inner_bias[self.layers - 1].expand(y.shape[0], -1), y.clamp(-_MOST, _MOST)

    def step(self, t: Tensor, h: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Find one coordinate of each row: t int64 [n], h [n, H], values [n, D] -> the next h and values."""
        layer, rank = self.layers - 1 - t // self.dims, t % self.dims
        at = layer * self.dims + rank
        column = torch.where(layer % 2 == 1, self.dims - 1 - rank, rank)[:, None]
        outer = self.outer.reshape(-1, 2, self.hidden).index_select(0, at)  # [n, 2, H]
        inner = self.inner.flatten(0, 1).index_select(0, at)  # [n, H]
        if not self.baked:
            sees = self._seen_by(rank).to(h.dtype)
            inner, outer = inner * sees, outer * (1.0 - sees)[:, None]
        raw = row_sum(outer * functional.silu(h)[:, None]) + self.outer_bias.flatten(0, 1).index_select(0, at)
        value, _ = self.element.inverse(values.gather(1, column), raw[:, None])
        # What is not finite would spread over the row: 0 times it is not 0.
        value = value.clamp(-_MOST, _MOST)
        values = torch.where(torch.arange(self.dims, device=t.device) == column, value, values)
        ended = (rank == self.dims - 1)[:, None]
        anew = self.inner_bias.index_select(0, (layer - 1).clamp(min=0))
        return torch.where(ended, anew, h + softly_bounded(value, _SEEN) * inner), values

    def _masked(self) -> tuple[Tensor, Tensor]:
        """The weights of all layers as they are used: W [L, D, H], V [L, 2 D, H]."""
        if self.baked:
            return self.inner, self.outer
        sees = self._seen_by(torch.arange(self.dims, device=self.degree.device)).to(self.inner.dtype)
        return self.inner * sees, self.outer * (1.0 - sees).repeat_interleave(2, dim=0)

    def _seen_by(self, rank: Tensor) -> Tensor:
        """Which hidden units see the coordinate of that rank: int64 [m] -> bool [m, H]; the others enter its law."""
        return self.degree > rank[:, None]
