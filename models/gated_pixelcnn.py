"""Gated PixelCNN: pictures drawn pixel by pixel, each given all the earlier ones around it.

    log p(x) = sum_t log P(x_t given x_1 ... x_(t-1)),    t in raster order

with two stacks of gated convolutions, so that no earlier pixel within reach is missed (A. van den Oord et al.,
"Conditional Image Generation with PixelCNN Decoders", 2016), and all channels of a pixel in one law
(``models/nets/pixels.py``): a softmax for few levels; for many a mixture of copies of earlier pixels, of colours of a
palette and of discretised logistic laws (T. Salimans et al., "PixelCNN++", 2017). It is a probability of the levels
themselves, exact, and takes one run of the network for all pixels.

Drawing takes a step a pixel, and a step computes what the law of its pixel depends on and nothing else
(``models/nets/raster.py``, ``GatedStacks.at_last``).

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> pixel = Column(name="pixel", kind="binary", base_measure="counting")
    >>> model = GatedPixelCNN(Support(shape=(2, 3), element=pixel), width=4, layers=1)
    >>> states = torch.cartesian_prod(*[torch.arange(2)] * 6).reshape(-1, 2, 3)
    >>> round(model.log_prob(states).exp().sum().item(), 5)
    1.0
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from contract.support import Support
from models.base import register
from models.nets.gated import GatedStacks
from models.nets.labels import BayesClassifier
from models.nets.pixels import CopyMixture, LevelSoftmax
from models.nets.raster import PLACE, RasterModel

__all__ = ["GatedPixelCNN"]

_FEW_LEVELS = 16  # up to so many, a softmax


@register("gated-pixelcnn")
class GatedPixelCNN(BayesClassifier, RasterModel):
    """Gated PixelCNN of pictures in black and white, grey or colour.

    Args:
        support: pixels of 2 to 256 levels, [H, W] or [H, W, 3].
        width: channels of each stack; a multiple of 16 is fastest.
        layers: gated layers after the first.
        reach: pixels that the first layer sees above and on either side; each further layer adds one.
        head: channels between the stacks and the law of a pixel.
        dropout: share of the horizontal stack's gated units that are left out in training.
        copies: of pixels with more than 16 levels, copies are of earlier ones at most so many rows and columns away.
        palette: of such pixels, how many colours have a chance of their own: the most frequent ones in training.
        components: of such pixels, how many logistic laws are mixed.
        labels: classes to condition on; none for an unconditional model.
        label_dropout: share of training rows whose label is withheld, which teaches the model without a label.
    """

    def __init__(
        self,
        support: Support,
        *,
        width: int = 32,
        layers: int = 6,
        reach: int = 3,
        head: int = 64,
        dropout: float = 0.0,
        copies: int = 4,
        palette: int = 256,
        components: int = 8,
        labels: Sequence[str] = (),
        label_dropout: float = 0.1,
    ):
        super().__init__(support, labels=labels, label_dropout=label_dropout)
        if min(width, layers, reach, head) < 1:
            raise ValueError("width, layers, reach and head are 1 or more")
        if not 0.0 <= dropout < 1.0:
            raise ValueError("dropout lies in [0, 1)")
        self.law = (
            LevelSoftmax(self.channels, self.levels)
            if self.levels <= _FEW_LEVELS
            else CopyMixture(self.channels, self.levels, radius=copies, palette=palette, components=components)
        )
        self.network = GatedStacks(
            self.law.features + PLACE, width=width, layers=layers, reach=reach, labels=len(labels), dropout=dropout
        )
        self.head = nn.Sequential(nn.Conv2d(width, head, 1), nn.SiLU())
        self.to_law = nn.Conv2d(head, self.law.outputs, 1)
