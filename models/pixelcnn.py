"""PixelCNN: pictures drawn pixel by pixel, by masked convolutions.

    log p(x) = sum_t log P(x_t given x_1 ... x_(t-1)),    t in raster order

A convolution whose weights at the pixel itself and at later ones are masked out (mask A), then residual blocks whose
convolutions see the pixel's own features too (mask B), then a softmax over the levels (A. van den Oord,
N. Kalchbrenner and K. Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016, section 3.5). With * a masked convolution,

    h = W_A * x,    h = h + U relu( W_B * relu(D relu(h)) ),    logits = O relu(P relu(h))

where D halves the channels, U doubles them, and D, U, P and O look at one pixel. Masks leave a blind spot: a layer that
looks one pixel up and to the right never sees past that diagonal, and so earlier pixels far to the right are missed.
``gated-pixelcnn`` has none. The log-probability is exact all the same: of what the network does see.

Of a colour picture, each channel's logits add a row of a learnt table for each earlier channel of the pixel, where the
paper divides all features into three groups: a pixel then takes one step of drawing rather than three. The network is
also told where a pixel lies.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> pixel = Column(name="pixel", kind="binary", base_measure="counting")
    >>> model = PixelCNN(Support(shape=(2, 3), element=pixel), width=4, blocks=1)
    >>> states = torch.cartesian_prod(*[torch.arange(2)] * 6).reshape(-1, 2, 3)
    >>> round(model.log_prob(states).exp().sum().item(), 5)
    1.0
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.capabilities import Capability
from contract.support import Support
from models.base import register
from models.nets.pixels import LevelSoftmax
from models.nets.raster import PLACE, RasterModel

__all__ = ["PixelCNN"]


@register("pixelcnn")
class PixelCNN(RasterModel):
    """PixelCNN of pictures in black and white, grey or colour, with a softmax over the levels of a pixel.

    Args:
        support: pixels of 2 to 256 levels, [H, W] or [H, W, 3].
        width: channels of the features, an even number; blocks compute with half as many.
        blocks: residual blocks after the first convolution; each reaches one pixel further.
        reach: pixels that the first convolution sees above and on either side; 3 is the paper's.
        head: channels between the features and the softmax.
    """

    refusals: ClassVar[dict[Capability, str]] = {
        **RasterModel.refusals,
        "classify": "one law describes all pictures: it knows no labels that a picture could have",
    }

    def __init__(self, support: Support, *, width: int = 64, blocks: int = 7, reach: int = 3, head: int = 64):
        super().__init__(support)
        if min(width, blocks, reach, head) < 1 or width % 2:
            raise ValueError("width, blocks, reach and head are 1 or more, and width is even")
        self.law = LevelSoftmax(self.channels, self.levels, intensities=True)
        self.network = _MaskedStack(self.law.features + PLACE, width=width, blocks=blocks, reach=reach)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(width, head, 1), nn.ReLU())
        self.to_law = nn.Conv2d(head, self.law.outputs, 1)


class _MaskedStack(nn.Module):
    """Features of earlier pixels to features of each pixel; a ``RasterNetwork``."""

    def __init__(self, inputs: int, *, width: int, blocks: int, reach: int):
        super().__init__()
        self.reach = reach
        self.radius = reach + blocks
        self.first = _MaskedConvolution(inputs, width, reach, sees_itself=False)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Of every pixel: x [n, inputs, H, W] -> [n, width, H, W]."""
        h: Tensor = self.first(functional.pad(x, (self.reach, self.reach, self.reach, 0)))
        for block in self.blocks:
            h = h + block(h)
        return h

    def at_last(self, window: Tensor, inside: Tensor, label: Tensor | None = None) -> Tensor:
        """Of one pixel, as ``RasterNetwork`` says: [n, inputs, radius + 1, 2 radius + 1] -> [n, width, 1, 1]."""
        h: Tensor = self.first(window)
        ahead = self.radius - self.reach  # pixels on either side that later blocks still need
        for block in self.blocks:
            here = inside[:, :, -(ahead + 1) :, self.radius - ahead : self.radius + ahead + 1]
            h = h[:, :, 1:, 1:-1] + block(h, here)
            ahead -= 1
        return h


class _Block(nn.Module):
    """What a residual block adds to its features."""

    def __init__(self, width: int):
        super().__init__()
        self.down = nn.Conv2d(width, width // 2, 1)
        self.masked = _MaskedConvolution(width // 2, width // 2, 1, sees_itself=True)
        self.up = nn.Conv2d(width // 2, width, 1)

    def forward(self, h: Tensor, inside: Tensor | None = None) -> Tensor:
        """h [n, width, H, W] -> the same; of a window, with 1 ``inside`` the picture, one pixel less on each side."""
        middle = functional.relu(self.down(functional.relu(h)))
        # Where whole pictures have zeros, a window has what the layers make of them.
        middle = functional.pad(middle, (1, 1, 1, 0)) if inside is None else middle * inside
        added: Tensor = self.up(functional.relu(self.masked(middle)))
        return added


class _MaskedConvolution(nn.Module):
    """A convolution that ends in the middle of its last row: [n, inputs, H + r, W + 2 r] -> [n, outputs, H, W].

    The rows of the square kernel below the middle are left out, for all their weights are masked.
    """

    mask: Tensor | None

    def __init__(self, inputs: int, outputs: int, reach: int, *, sees_itself: bool):
        super().__init__()
        layer = nn.Conv2d(inputs, outputs, (reach + 1, 2 * reach + 1))
        assert layer.bias is not None
        mask = torch.ones(reach + 1, 2 * reach + 1)
        mask[-1, reach + sees_itself :] = 0.0
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("mask", mask, persistent=False)  # the constructor's

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight if self.mask is None else self.weight * self.mask
        return functional.conv2d(x, weight, self.bias)

    @torch.no_grad()
    def bake(self) -> None:
        """Multiply the mask in for good, so that a graph need not do so at every run. Training ends here."""
        if self.mask is not None:
            self.weight.mul_(self.mask)
            self.mask = None
