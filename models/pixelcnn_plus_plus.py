"""PixelCNN++: pictures drawn pixel by pixel, each pixel from a mixture of discretised logistic laws.

    log p(x) = sum_t log P(x_t given x_1 ... x_(t-1)),    t in raster order
    P(x) = sum_m w_m prod_c [ sigmoid((x_c + 1/2 - mu_mc) / s_mc) - sigmoid((x_c - 1/2 - mu_mc) / s_mc) ]
    mu_mc = m_mc + sum_(b<c) a_mcb x_b

for the channels c of a pixel, where the ends of the range have the tails, and w, m, s and a depend on all earlier
pixels (T. Salimans, A. Karpathy, X. Chen and D. P. Kingma, "PixelCNN++: Improving the PixelCNN with Discretized
Logistic Mixture Likelihood and Other Modifications", 2017). Neighbouring levels share their evidence, which a softmax
over 256 of them has to learn. The law is ``CopyMixture`` without copies and palette (``models/nets/pixels.py``): a
scale lies between a tenth of a level and half of the range.

The network has the paper's two streams: one sees the rows above a pixel, the other the pixel's row to its left and, at
each layer, what the first has found. A layer is a gated residual block,

    x + a sigmoid(b),    (a, b) = conv( dropout( celu( conv(celu(x)) + link(celu(other stream)) ) ) ) + V y

with celu(x) = [elu(x), elu(-x)] and y the label. Left out of the paper: the down- and up-sampling between layers with
the shortcuts across it, and weight normalisation; all layers work at full resolution, and see as far as they are many.
The network is also told where a pixel lies.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> pixel = Column(name="pixel", kind="ordinal", levels=3, base_measure="counting")
    >>> model = PixelCNNPlusPlus(Support(shape=(2, 2), element=pixel), width=4, layers=1, components=2)
    >>> states = torch.cartesian_prod(*[torch.arange(3)] * 4).reshape(-1, 2, 2)
    >>> round(model.log_prob(states).exp().sum().item(), 5)
    1.0
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.support import Support
from models.base import register
from models.nets.labels import BayesClassifier
from models.nets.pixels import CopyMixture
from models.nets.raster import PLACE, RasterModel

__all__ = ["PixelCNNPlusPlus"]


@register("pixelcnn-plus-plus")
class PixelCNNPlusPlus(BayesClassifier, RasterModel):
    """PixelCNN++ of pictures in black and white, grey or colour, at one resolution.

    Args:
        support: pixels of 2 to 256 levels, [H, W] or [H, W, 3].
        width: channels of each stream; a multiple of 16 is fastest.
        layers: gated residual blocks of each stream; each reaches two pixels further.
        components: logistic laws that are mixed.
        dropout: share of the units between a block's convolutions that are left out in training; the paper's is 0.5.
        labels: classes to condition on; none for an unconditional model.
        label_dropout: share of training rows whose label is withheld, which teaches the model without a label.
    """

    def __init__(
        self,
        support: Support,
        *,
        width: int = 32,
        layers: int = 4,
        components: int = 10,
        dropout: float = 0.0,
        labels: Sequence[str] = (),
        label_dropout: float = 0.1,
    ):
        super().__init__(support, labels=labels, label_dropout=label_dropout)
        if min(width, layers) < 1:
            raise ValueError("width and layers are 1 or more")
        if not 0.0 <= dropout < 1.0:
            raise ValueError("dropout lies in [0, 1)")
        self.law = CopyMixture(self.channels, self.levels, radius=0, palette=0, components=components)
        self.network = _Streams(
            self.law.features + PLACE, width=width, layers=layers, labels=len(labels), dropout=dropout
        )
        self.head = _Elu()
        self.to_law = nn.Conv2d(width, self.law.outputs, 1)


class _Streams(nn.Module):
    """Features of earlier pixels to features of each pixel; a ``RasterNetwork``.

    The stream of the rows above ends its windows (2, 3) in the middle of their last row, the stream of the left its
    windows (2, 2) in their last corner. The first convolutions end above the pixel, or left of it.
    """

    def __init__(self, inputs: int, *, width: int, layers: int, labels: int, dropout: float):
        super().__init__()
        self.radius = 2 * layers + 3
        self.above = nn.Conv2d(inputs, width, (2, 3))
        self.row_above = nn.Conv2d(inputs, width, (1, 3))
        self.column_left = nn.Conv2d(inputs, width, (2, 1))
        self.vertical = nn.ModuleList(_Block(width, (2, 3), 0, labels, dropout) for _ in range(layers))
        self.horizontal = nn.ModuleList(_Block(width, (2, 2), width, labels, dropout) for _ in range(layers))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Of every pixel: x [n, inputs, H, W], label int64 [n] -> [n, width, H, W]."""
        u: Tensor = self.above(functional.pad(x, (1, 1, 2, 0))[:, :, :-1])
        h: Tensor = self.row_above(functional.pad(x, (1, 1, 1, 0))[:, :, :-1])
        h = h + self.column_left(functional.pad(x, (1, 0, 1, 0))[..., :-1])
        for vertical, horizontal in zip(self.vertical, self.horizontal, strict=True):
            u = vertical(u, None, label)
            h = horizontal(h, u, label)
        return h

    def at_last(self, window: Tensor, inside: Tensor, label: Tensor | None = None) -> Tensor:
        """Of one pixel, as ``RasterNetwork`` says: [n, inputs, radius + 1, 2 radius + 1] -> [n, width, 1, 1]."""
        r = self.radius
        # The rows above are known r - 2 pixels around, the left r - 3; each block needs two of them.
        u: Tensor = self.above(window[:, :, :-1, 1:-1])
        h: Tensor = self.row_above(window[:, :, 2:-1, 2 : r + 2]) + self.column_left(window[:, :, 2:, 2:r])
        inside = inside[:, :, 2:, 2:-2]
        for vertical, horizontal in zip(self.vertical, self.horizontal, strict=True):
            middle = inside.shape[2] - 1  # the pixel's own column
            u = vertical(u, None, label, inside)
            # The left wants to know of the rows above one pixel around what it will know.
            h = horizontal(h, u[..., : u.shape[2]], label, inside[:, :, 1:, 1 : middle + 1])
            inside = inside[:, :, 2:, 2:-2]
        return h


class _Block(nn.Module):
    """A gated residual block; in a window, what it gives is two pixels smaller at each end that it looks towards."""

    def __init__(self, width: int, window: tuple[int, int], other: int, labels: int, dropout: float):
        super().__init__()
        self.sides = (1, 1, 1, 0) if window == (2, 3) else (1, 0, 1, 0)  # zeros around a whole picture
        self.first = nn.Conv2d(2 * width, width, window)
        self.second = nn.Conv2d(2 * width, 2 * width, window)
        self.link = nn.Conv2d(2 * other, width, 1) if other else None
        self.labels = nn.Embedding(labels + 1, 2 * width) if labels else None
        if self.labels is not None:
            nn.init.zeros_(self.labels.weight)  # to begin with, a label says nothing
        self.dropout = dropout

    def forward(self, x: Tensor, other: Tensor | None, label: Tensor | None, inside: Tensor | None = None) -> Tensor:
        """x [n, width, H, W], the other stream, label int64 [n] -> the next x; of a window if ``inside`` is given.

        Then x is [n, width, h, w], ``other`` [n, width, h - 1, ...] as far as the first convolution gets, and
        ``inside`` [n, 1, h, w], 1 within the picture.
        """
        left, right, up, _ = self.sides
        found: Tensor = self.first(self._bordered(_celu(x), inside))
        if self.link is not None:
            assert other is not None
            found = found + self.link(_celu(other))
        if inside is not None:
            inside = inside[:, :, up:, left : inside.shape[3] - right]
            x = x[:, :, 2 * up :, 2 * left : x.shape[3] - 2 * right]
        found = functional.dropout(_celu(found), self.dropout, self.training)
        found = self.second(self._bordered(found, inside))
        if self.labels is not None:
            assert label is not None
            found = found + self.labels(label)[:, :, None, None]
        value, gate = found.chunk(2, dim=1)
        return x + value * torch.sigmoid(gate)

    def _bordered(self, x: Tensor, inside: Tensor | None) -> Tensor:
        # Where whole pictures have zeros, a window has what the layers make of them.
        return functional.pad(x, self.sides) if inside is None else x * inside


class _Elu(nn.Module):
    """elu(x) = x above 0, exp(x) - 1 below (D.-A. Clevert et al. 2016), of operations that round alike in any batch."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x) + (torch.exp(-functional.relu(-x)) - 1.0)


_elu = _Elu()


def _celu(x: Tensor) -> Tensor:
    """[n, width, H, W] -> [n, 2 width, H, W]."""
    return torch.cat([_elu(x), _elu(-x)], dim=1)
