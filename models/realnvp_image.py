"""RealNVP for pictures: a multiscale flow of affine couplings over dequantised levels.

    log p(x) >= E log p(v),    log p(v) = log N(f(v); 0, I) + log |det df/dv|

for values v of the levels x, with f a composition of couplings y = v exp(s) + t, where
s and t of some pixels or channels are functions of the others (L. Dinh, J. Sohl-Dickstein and S. Bengio,
"Density estimation using Real NVP", 2016). What makes of it a bound on the probability of a picture, and what a code
is, stands in ``models/nets/picture_flow.py``.

The flow is the paper's: levels go through a logit; at each scale, couplings under a checkerboard mask, then 2 x 2
pixels become channels, couplings that split the channels, and half of them go to the code as they are; the last scale
has checkerboards alone. Scale s and shift t come from residual convolutional networks. In place of the paper's batch
normalisation, each network ends in a layer that starts at zero, so that the flow starts as the identity.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> pixel = Column(name="pixel", kind="ordinal", levels=256, base_measure="counting")
    >>> model = RealNVPImage(Support(shape=(4, 4, 3), element=pixel), scales=2, couplings=1, width=4, blocks=1)
    >>> x = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    >>> bool((model.decode(model.encode(x)) == x).all())
    True
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from contract.support import Support
from models.base import register
from models.nets.convolutional import Residual, picture_shape
from models.nets.lanes import row_sum
from models.nets.picture_flow import ChannelCoupling, Multiscale, PictureFlow, Preprocess, Shape, Squeeze, last_layer

__all__ = ["CheckerboardCoupling", "RealNVPImage"]


class CheckerboardCoupling(nn.Module):
    """Affine coupling that moves the pixels of one colour of a checkerboard, given the others; starts as the identity.

    Args:
        shape: (C, H, W).
        odd: whether pixels whose row and column add up to an odd number are moved, else the even ones.
        width: channels of the network that gives s and t.
        blocks: its residual blocks.
        log_scale_bound: s lies in (-bound, bound).
    """

    kept: Tensor

    def __init__(self, shape: Shape, *, odd: bool, width: int, blocks: int, log_scale_bound: float):
        super().__init__()
        channels, height, columns = shape
        parity = (torch.arange(height)[:, None] + torch.arange(columns)) % 2
        self.register_buffer("kept", (parity == (0 if odd else 1)).float(), persistent=False)  # [H, W]
        # The mask is an input too: a convolution cannot else tell a pixel that is 0 from one that is hidden.
        self.network = _network(channels + 1, width, blocks, 2 * channels)
        self.bound = log_scale_bound

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, C, H, W] -> (y [n, C, H, W], log |det dy/dx| float64 [n])."""
        log_scale, shift = self._scale_and_shift(x)
        return x * log_scale.exp() + shift, row_sum(log_scale.flatten(1).double())

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y [n, C, H, W] -> (x [n, C, H, W], log |det dx/dy| float64 [n])."""
        log_scale, shift = self._scale_and_shift(y)
        return (y - shift) * (-log_scale).exp(), -row_sum(log_scale.flatten(1).double())

    def _scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        seen = x * self.kept
        raw, shift = self.network(torch.cat([seen, self.kept.expand_as(x[:, :1])], dim=1)).chunk(2, dim=1)
        moved = 1.0 - self.kept
        return moved * self.bound * torch.tanh(raw / self.bound), moved * shift


@register("realnvp-image")
class RealNVPImage(PictureFlow):
    """Multiscale RealNVP of pictures in black and white, grey or colour.

    Args:
        support: pixels of 2 to 256 levels, [H, W] or [H, W, 3].
        scales: number of scales; H and W must be multiples of 2^(scales - 1).
        couplings: couplings of each kind at each scale; the last scale has one more checkerboard.
        width: channels of the networks at the first scale; each further scale has twice as many.
        blocks: residual blocks of each network.
        log_scale_bound: bound on the log-scale of one coupling.
        preprocess: ``logit`` as in the paper, for pixels that crowd at the ends of the range, or ``affine``.
    """

    def __init__(
        self,
        support: Support,
        *,
        scales: int = 3,
        couplings: int = 3,
        width: int = 32,
        blocks: int = 2,
        log_scale_bound: float = 2.0,
        preprocess: Preprocess = "logit",
    ):
        super().__init__(support, preprocess=preprocess)
        shape = picture_shape(support)
        _, height, columns = shape
        if min(scales, couplings, width, blocks) < 1 or log_scale_bound <= 0:
            raise ValueError("scales, couplings, width and blocks are 1 or more, log_scale_bound above 0")
        factor = 2 ** (scales - 1)
        if height % factor or columns % factor:
            raise ValueError(f"{scales} scales need a height and width in multiples of {factor}, not {height, columns}")
        if height * columns < 2 * factor**2:
            raise ValueError(f"{scales} scales leave a picture of one pixel, which no checkerboard can split")
        parts: list[list[nn.Module]] = []
        shapes: list[Shape] = []  # of what comes out of each scale
        for scale in range(scales):
            last = scale == scales - 1
            size: dict[str, Any] = {"width": width * 2**scale, "blocks": blocks}
            transforms: list[nn.Module] = [
                CheckerboardCoupling(shape, odd=i % 2 == 0, log_scale_bound=log_scale_bound, **size)
                for i in range(couplings + last)
            ]
            if not last:
                channels = 4 * shape[0]
                shape = (channels, shape[1] // 2, shape[2] // 2)
                transforms.append(Squeeze())
                for i in range(couplings):
                    network = _network(channels // 2, outputs=channels, **size)
                    transforms.append(ChannelCoupling(network, first=i % 2 == 0, log_scale_bound=log_scale_bound))
            parts.append(transforms)
            shapes.append(shape)
            shape = (shape[0] // 2, *shape[1:])
        self.flow = Multiscale(parts, shapes)


def _network(channels: int, width: int, blocks: int, outputs: int) -> nn.Sequential:
    last = last_layer(width, outputs)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), *(Residual(width) for _ in range(blocks)), nn.SiLU(), last
    )
