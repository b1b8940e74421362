"""The two stacks of a Gated PixelCNN.

(A. van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016.) The vertical stack sees the rows
above a pixel, the horizontal one the pixels to its left and, at each layer, what the vertical one has found; together
they see every earlier pixel within their reach, without the blind spot that masked convolutions leave. With a
convolution * whose window ends at the pixel itself, each layer is

    v' = V * v,    v = v + tanh(v'_1 + a_1) sigmoid(v'_2 + a_2)
    h' = H * h + L v',    h = h + R [ tanh(h'_1 + b_1) sigmoid(h'_2 + b_2) ]

where 1 and 2 are halves of the channels and a, b belong to the label that the picture is conditioned on. The first
layer's windows end above the pixel and left of it, and have no residual.

The same weights answer two questions: about all pixels of a picture at once, where every layer puts zeros around the
picture, and about one pixel, given a window that ends at it. There only the positions that the answer depends on are
computed: O(layers^3) of them, whatever the size of the picture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GatedStacks"]


class GatedStacks(nn.Module):
    """Features of earlier pixels to features of each pixel.

    Args:
        inputs: channels of what is given of each pixel.
        width: channels of both stacks.
        layers: layers after the first.
        reach: pixels that the first layer sees above and on either side; each further layer adds one.
        labels: classes to be conditioned on, one more than that for none of them; 0 for an unconditional network.
        dropout: share of the horizontal stack's gated units that are left out in training.

    Example:
        >>> stacks = GatedStacks(1, width=4, layers=2, reach=1, labels=0, dropout=0.0)
        >>> x = torch.rand(1, 1, 9, 9)
        >>> whole = stacks(x)
        >>> r = stacks.radius  # the window of the pixel in row 5 and column 4
        >>> window = stacks.at_last(x[:, :, 5 - r : 6, 4 - r : 5 + r], torch.ones(1, 1, r + 1, 2 * r + 1))
        >>> bool(torch.allclose(window[0, :, 0, 0], whole[0, :, 5, 4], atol=1e-6))
        True
    """

    def __init__(self, inputs: int, *, width: int, layers: int, reach: int, labels: int, dropout: float):
        super().__init__()
        self.reach = reach
        self.radius = reach + layers
        self.first = _Layer(inputs, width, (reach, 2 * reach + 1), reach, labels=labels, dropout=dropout)
        self.layers = nn.ModuleList(
            _Layer(width, width, (2, 3), 2, labels=labels, dropout=dropout) for _ in range(layers)
        )

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Of every pixel: x [n, inputs, H, W], label int64 [n] -> [n, width, H, W]."""
        height, columns = x.shape[2:]
        # Above, and to the left, the windows of the first layer end one pixel early.
        above = functional.pad(x, (self.reach, self.reach, self.reach, 0))[:, :, : height + self.reach - 1]
        left = functional.pad(x, (self.reach, 0))[..., : columns + self.reach - 1]
        v, found = self.first.vertical_part(above, label)
        h = self.first.horizontal_part(left, found, label)
        for layer in self._further:
            more, found = layer.vertical_part(functional.pad(v, (1, 1, 1, 0)), label)
            v = v + more
            h = h + layer.horizontal_part(functional.pad(h, (1, 0)), found, label)
        return h

    def at_last(self, window: Tensor, inside: Tensor, label: Tensor | None = None) -> Tensor:
        """Of the one pixel in the middle of the last row of its window.

        Args:
            window: [n, inputs, radius + 1, 2 radius + 1]; zero outside the picture. Neither that pixel nor those to the
                right of it are looked at.
            inside: [n, 1, radius + 1, 2 radius + 1], 1 within the picture, else 0.
            label: int64 [n].

        Returns:
            [n, width, 1, 1].
        """
        ahead = self.radius - self.reach  # pixels on either side that later layers still need
        v, found = self.first.vertical_part(window[:, :, :-1], label)
        row = window[:, :, -1:, : self.radius]
        h = self.first.horizontal_part(row, found[:, :, -1:, : ahead + 1], label)
        for layer in self._further:
            # Where whole pictures have zeros, a window has what the layers make of them.
            here = inside[:, :, -(ahead + 1) :, self.radius - ahead : self.radius + ahead + 1]
            v, h = v * here, h * here[:, :, -1:, : ahead + 1]
            more, found = layer.vertical_part(v, label)
            v = v[:, :, 1:, 1:-1] + more
            ahead -= 1
            h = h[..., 1:] + layer.horizontal_part(h, found[:, :, -1:, : ahead + 1], label)
        return h

    @property
    def _further(self) -> list[_Layer]:
        return list(self.layers)  # type: ignore[arg-type]


class _Layer(nn.Module):
    """One layer of both stacks, on windows that are there in full."""

    def __init__(self, inputs: int, width: int, above: tuple[int, int], left: int, *, labels: int, dropout: float):
        super().__init__()
        self.vertical = nn.Conv2d(inputs, 2 * width, above)
        self.horizontal = nn.Conv2d(inputs, 2 * width, (1, left))
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        self.labels = nn.Embedding(labels + 1, 4 * width) if labels else None
        if self.labels is not None:
            nn.init.zeros_(self.labels.weight)  # to begin with, a label says nothing
        self.dropout = dropout

    def vertical_part(self, v: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """v [n, inputs, H + above - 1, W + columns - 1] -> what to add to it, [n, width, H, W], and v'."""
        found = self.vertical(v)
        return self._gate(found, label, 0), found

    def horizontal_part(self, h: Tensor, found: Tensor, label: Tensor | None) -> Tensor:
        """h [n, inputs, H, W + left - 1], v' [n, 2 width, H, W] -> what to add to h, [n, width, H, W]."""
        gated = self._gate(self.horizontal(h) + self.link(found), label, 1)
        answer: Tensor = self.out(functional.dropout(gated, self.dropout, self.training))
        return answer

    def _gate(self, x: Tensor, label: Tensor | None, stack: int) -> Tensor:
        if self.labels is not None:
            assert label is not None
            x = x + self.labels(label).chunk(2, dim=1)[stack][:, :, None, None]
        value, gate = x.chunk(2, dim=1)
        return torch.tanh(value) * torch.sigmoid(gate)
