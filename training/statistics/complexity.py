"""Complexity: how many bits per dimension the residuals of a simple predictor of pixels have.

Likelihoods of pictures are high where pictures are simple, whatever is on them; what a lossless codec needs for a
picture measures that (J. Serrà, D. Álvarez, V. Gómez, O. Slizovskaia, J. F. Núñez and J. Luque, "Input complexity and
out-of-distribution detection with likelihood-based generative models", 2020). Lengths of codecs drift with their
versions. So we take what such codecs start from: the median edge predictor of LOCO-I (M. J. Weinberger, G. Seroussi and
G. Sapiro, "The LOCO-I Lossless Image Compression Algorithm", 2000),

    prediction = median of a, b, a + b - c        (a to the left, b above, c above left; outside is 0)

and the empirical entropy of a picture's residuals x - prediction, taken around a circle of L levels:

    H = -sum_r q_r log2 q_r,        q_r the share of residual r among all pixels and channels of the picture
"""

from __future__ import annotations

from math import log
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from contract.programs import Units
from contract.support import Support
from models.nets.lanes import row_sum
from training.statistics.base import Statistic

__all__ = ["ResidualEntropy", "median_edge_residuals"]

_MOST_LEVELS = 1024  # whose counts the graph holds for each row


class ResidualEntropy(Statistic):
    """Entropy of median-edge-predictor residuals, in bits per dimension: 0 for a blank picture, at most log2 L.

    Args:
        support: pictures [height, width] or [height, width, channels] of binary or ordinal pixels.

    Example:
        >>> from contract.support import Column
        >>> grey = Column(name="pixel", kind="ordinal", base_measure="counting", levels=4)
        >>> entropy = ResidualEntropy(Support(shape=(2, 2), element=grey))
        >>> blank, busy = [[0, 0], [0, 0]], [[1, 3], [0, 2]]
        >>> entropy(torch.tensor([blank, busy], dtype=torch.uint8), None).tolist()  # residuals 1, 2, 3 and 0
        [0.0, 2.0]
    """

    name: ClassVar[str] = "complexity"
    units: ClassVar[Units] = "bits"

    shares: Tensor

    def __init__(self, support: Support):
        super().__init__()
        reason = self.why_not_of(support)
        if reason is not None:
            raise ValueError(reason)
        assert support.element is not None
        self.levels = support.element.levels or 2
        self.size = support.size
        # -q log2 q of each count that a residual may have: no logarithm is left for the graph.
        q = torch.arange(self.size + 1, dtype=torch.float64) / self.size
        bits = torch.where(q > 0, -q * q.clamp(min=1e-300).log() / log(2.0), torch.zeros_like(q))
        self.register_buffer("shares", bits)

    @property
    def looks_at_model(self) -> bool:
        """It is fitted to nothing."""
        return False

    @property
    def words(self) -> str:
        """What the numbers are."""
        return "entropy of the picture's median-edge-predictor residuals, in bits per dimension"

    @classmethod
    def why_not_of(cls, support: Support) -> str | None:
        """None for pictures of binary or ordinal pixels, else the reason in words."""
        if support.element is None or len(support.shape) < 2:
            return "only a picture has neighbouring pixels to predict one from"
        if support.element.base_measure != "counting":
            return "pixels that are continuous have no entropy in bits"
        levels = support.element.levels or 2
        if levels > _MOST_LEVELS:
            return f"residuals of {levels:,} levels are too many to count inside a graph"
        return None

    def forward(self, x: Tensor, log_prob: Tensor | None, *conditions: Tensor) -> Tensor:
        """x [n, height, width(, channels)] -> bits per dimension, float64 [n]."""
        residuals = median_edge_residuals(x.long(), self.levels).flatten(1)  # [n, D]
        none = torch.zeros_like(residuals[:, :1]).expand(-1, self.levels)
        counts = none.scatter_add(1, residuals, torch.ones_like(residuals))  # [n, L]
        return row_sum(self.shares.index_select(0, counts.reshape(-1)).reshape(counts.shape))


def median_edge_residuals(x: Tensor, levels: int) -> Tensor:
    """What the predictor does not foresee, modulo L: int64 [n, h, w(, c)] -> int64 in [0, L), same shape.

    Example:
        >>> median_edge_residuals(torch.tensor([[[5, 5], [5, 9]]]), 16).tolist()
        [[[5, 0], [0, 4]]]
    """
    channels = (0, 0) if x.ndim == 4 else ()
    left = pad(x, (*channels, 1, 0))[:, :, :-1]
    above = pad(x, (*channels, 0, 0, 1, 0))[:, :-1]
    corner = pad(x, (*channels, 1, 0, 1, 0))[:, :-1, :-1]
    low, high = torch.minimum(left, above), torch.maximum(left, above)
    # The median of a, b and a + b - c; (pixel - prediction) + L is never below 0.
    prediction = torch.maximum(low, torch.minimum(high, left + above - corner))
    return torch.remainder(x - prediction + levels, levels)
