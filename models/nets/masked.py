"""A linear layer some of whose weights are held at zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MaskedLinear"]


class MaskedLinear(nn.Module):
    """y = (W * M) x + b, with a mask M of zeros and ones (Germain et al. 2015): [n, inputs] -> [n, outputs].

    Args:
        mask: M, [outputs, inputs].
        bias: whether there is a b.
        zero: start with W = 0.
        input_major: store W as [inputs, outputs], so that the weights of one input lie together; else those of one
            output do. The layer computes the same.

    Example:
        >>> layer = MaskedLinear(torch.tensor([[1.0, 0.0]]))
        >>> x = torch.tensor([[0.0, 5.0], [0.0, -5.0]])
        >>> bool((layer(x) == layer.bias).all())
        True
    """

    mask: Tensor | None

    def __init__(self, mask: Tensor, *, bias: bool = True, zero: bool = False, input_major: bool = False):
        super().__init__()
        outputs, inputs = mask.shape
        weight = torch.zeros(outputs, inputs)
        if not zero:
            # Glorot and Bengio (2010), over the connections that exist: a masked unit has fewer than its row is long.
            fan = mask.sum(dim=1, keepdim=True) + mask.sum(dim=0, keepdim=True)
            weight = (torch.rand(outputs, inputs) * 2 - 1) * (6.0 / fan.clamp(min=1)).sqrt() * mask
        self.input_major = input_major
        self.weight = nn.Parameter(self._stored(weight))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.register_buffer("mask", self._stored(mask.to(weight.dtype)), persistent=False)  # the constructor's

    @property
    def masked_weight(self) -> Tensor:
        """W * M as stored: [outputs, inputs], or [inputs, outputs] if input-major."""
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """x [n, inputs] -> [n, outputs]."""
        if not self.input_major:
            return functional.linear(x, self.masked_weight, self.bias)
        return x @ self.masked_weight if self.bias is None else torch.addmm(self.bias, x, self.masked_weight)

    @torch.no_grad()
    def bake(self) -> None:
        """Multiply the mask in for good, so that a graph need not do so at every run. Training ends here."""
        if self.mask is not None:
            self.weight.mul_(self.mask)
            self.mask = None

    def _stored(self, weight: Tensor) -> Tensor:
        return weight.T.contiguous() if self.input_major else weight
