"""Convolutional networks on pictures [n, C, H, W] of any height and width.

Pictures are halved by convolutions of stride 2, a side of odd length to the larger half, and doubled again by moving
channels into pixels (W. Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
Convolutional Neural Network", 2016), so that all the work is done on small pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.support import Support

__all__ = [
    "PictureDecoder",
    "PictureEncoder",
    "Residual",
    "channels_first",
    "channels_last",
    "halvings",
    "picture_shape",
    "why_not_pictures",
]


def why_not_pictures(support: Support) -> str | None:
    """None if rows are pictures in black and white, grey or colour, of at most 256 levels, else the reason in words."""
    element = support.element
    if element is None:
        return "the support is a table: its columns have no neighbours"
    if len(support.shape) != 2 and (len(support.shape) != 3 or support.shape[2] != 3):
        return f"rows of shape {list(support.shape)} are no pictures [height, width] or [height, width, 3]"
    if element.missing_allowed:
        return f"{element.name!r} may be missing, and this family cannot sum a pixel out"
    if element.kind not in ("binary", "ordinal") or (element.levels or 2) > 256:
        return f"{element.name!r} is {element.kind}, and this family models pixels of 2 to 256 levels"
    return None


def picture_shape(support: Support) -> tuple[int, int, int]:
    """(C, H, W) of a support of pictures."""
    height, width, *rest = support.shape
    return (rest[0] if rest else 1), height, width


def channels_first(x: Tensor) -> Tensor:
    """Rows as they are stored to rows as convolutions take them: [n, H, W] or [n, H, W, C] -> [n, C, H, W]."""
    return x[:, None] if x.dim() == 3 else x.permute(0, 3, 1, 2)


def channels_last(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Undo ``channels_first``: [n, C, H, W] -> [n, *shape]."""
    return x[:, 0] if len(shape) == 2 else x.permute(0, 2, 3, 1)


class Residual(nn.Module):
    """y = x + conv(silu(conv(silu(x)))): [n, channels, H, W] -> the same (K. He et al. 2016, pre-activation)."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, H, W] -> [n, channels, H, W]."""
        inner: Tensor = self.second(functional.silu(self.first(functional.silu(x))))
        return x + inner


class PictureEncoder(nn.Module):
    """Pictures to vectors.

    Args:
        shape: (C, H, W) of a picture.
        widths: channels after each halving.
        blocks: residual blocks after each halving.
        neck: channels of the smallest picture before it is flattened.
        context: width of a vector that is given beside the picture; 0 for none.
        outputs: width of the answer.

    Example:
        >>> encoder = PictureEncoder((1, 5, 3), [4, 8], blocks=1, neck=2, context=0, outputs=7)
        >>> encoder(torch.zeros(2, 1, 5, 3), None).shape
        torch.Size([2, 7])
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        widths: Sequence[int],
        *,
        blocks: int,
        neck: int,
        context: int,
        outputs: int,
    ):
        super().__init__()
        channels, *_ = shape
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), *(Residual(width) for _ in range(blocks))]
            channels = width
        self.down = nn.Sequential(*layers)
        self.neck = nn.Conv2d(channels, neck, 1)
        height, width = halvings(shape[1:], len(widths))[-1]
        self.out = nn.Linear(neck * height * width + context, outputs)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """x [n, C, H, W], context [n, context] -> [n, outputs]."""
        features = functional.silu(self.neck(functional.silu(self.down(x)))).flatten(1)
        answer: Tensor = self.out(features if context is None else torch.cat([features, context], dim=1))
        return answer


class PictureDecoder(nn.Module):
    """Vectors to pictures: the mirror of ``PictureEncoder``.

    Args:
        inputs: width of the vector.
        widths: channels before each doubling, the last one first: as the encoder's.
        blocks: residual blocks before each doubling.
        neck: channels of the smallest picture.
        shape: (C, H, W) of the answer.

    Example:
        >>> decoder = PictureDecoder(7, [4, 8], blocks=1, neck=2, shape=(1, 5, 3))
        >>> decoder(torch.zeros(2, 7)).shape
        torch.Size([2, 1, 5, 3])
    """

    def __init__(self, inputs: int, widths: Sequence[int], *, blocks: int, neck: int, shape: tuple[int, int, int]):
        super().__init__()
        self.sizes = halvings(shape[1:], len(widths))
        self.neck = neck
        height, width = self.sizes[-1]
        self.start = nn.Linear(inputs, neck * height * width)
        self.widen = nn.Conv2d(neck, widths[-1], 3, padding=1)
        targets = [shape[0], *widths[:-1]]  # of the doubling at each level
        self.levels = nn.ModuleList(
            nn.ModuleDict(
                {
                    "blocks": nn.Sequential(*(Residual(width) for _ in range(blocks))),
                    "up": nn.Conv2d(width, 4 * target, 3, padding=1),
                }
            )
            for width, target in zip(widths, targets, strict=True)
        )

    @property
    def last_bias(self) -> Tensor:
        """Biases of the last convolution, [4 C], those of one channel together."""
        bias: Tensor = self.levels[0]["up"].bias  # type: ignore[index]
        return bias

    def forward(self, z: Tensor) -> Tensor:
        """z [n, inputs] -> [n, C, H, W]."""
        height, width = self.sizes[-1]
        x: Tensor = self.widen(functional.silu(self.start(z)).reshape(-1, self.neck, height, width))
        for level, size in zip(reversed(self.levels), reversed(self.sizes[:-1]), strict=True):
            x = level["up"](functional.silu(level["blocks"](x)))  # type: ignore[index]
            x = functional.pixel_shuffle(x, 2)[:, :, : size[0], : size[1]]
        return x


def halvings(size: tuple[int, int], times: int) -> list[tuple[int, int]]:
    """Height and width before and after each halving, an odd length to its larger half.

    Example:
        >>> halvings((28, 5), 2)
        [(28, 5), (14, 3), (7, 2)]
    """
    sizes = [size]
    for _ in range(times):
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes
