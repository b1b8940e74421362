"""Glow: a flow over pictures with learnt mixtures of the channels.

    log p(x) >= E log p(v),    log p(v) = log N(f(v); 0, I) + log |det df/dv|

for values v of the levels x. f works in several scales, each a squeeze of 2 x 2 pixels into channels and then K steps
of flow, each of which is

    actnorm           y_c = (x_c + b_c) exp(l_c)                      log |det| = H W sum_c l_c
    1 x 1 convolution y = P L (U + diag(d)) x at every pixel          log |det| = H W sum_c log |d_c|
    affine coupling   y_1 = x_1 exp(s(x_2)) + t(x_2),  y_2 = x_2      log |det| = sum s(x_2)

(D. P. Kingma and P. Dhariwal, "Glow: Generative Flow with Invertible 1 x 1 Convolutions", 2018, table 1 and equations
9 to 11). b and l start such that the first rows have mean 0 and deviation 1 in every channel; P is fixed, L and U are
triangular, and P L (U + diag(d)) starts as a rotation. s and t come from a network of three convolutions, 3 x 3, 1 x 1
and 3 x 3, the last of which starts at zero. After each scale but the last, half of the channels leave, under a normal
law whose mean and scale are a convolution of the other half; those of the last scale have a mean and scale for each
channel, learnt for each label where the model is conditional. Here these laws are the last transforms of the flow, a
coupling and a scaling, so that all of a code is N(0, I), at any temperature N(0, T^2 I).

What makes of it a bound on the probability of a picture, and what a code is, stands in
``models/nets/picture_flow.py``.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> pixel = Column(name="pixel", kind="ordinal", levels=256, base_measure="counting")
    >>> model = Glow(Support(shape=(4, 4, 3), element=pixel), scales=2, steps=2, width=4, labels=["cat", "dog"])
    >>> x, label = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8), torch.tensor([0, 1])
    >>> bool((model.decode(model.encode(x, label), label) == x).all())
    True
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.capabilities import Capability
from contract.programs import ProgramInput
from contract.randomness import Stream
from contract.support import Support
from models.base import register
from models.nets.convolutional import picture_shape
from models.nets.labels import label_condition, withheld
from models.nets.lanes import row_sum
from models.nets.picture_flow import ChannelCoupling, Multiscale, PictureFlow, Preprocess, Shape, Squeeze, last_layer
from models.protocols import Losses
from models.randomness import uniform

__all__ = ["ActNorm", "Glow", "InvertibleConvolution"]

_FIRST_ROWS = 512
"""Training rows that the channels are scaled by to begin with."""


class ActNorm(nn.Module):
    """Scale and shift of each channel: [n, C, H, W] -> the same.

    Args:
        channels: C.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.waits = False
        """Whether the next rows that pass set both, so that they leave with mean 0 and deviation 1."""

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, C, H, W] -> (y [n, C, H, W], log |det dy/dx| float64 [n])."""
        if self.waits:
            self._start(x)
        return (x + self.shift) * self.log_scale.exp(), self._log_det(x)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y [n, C, H, W] -> (x [n, C, H, W], log |det dx/dy| float64 [n])."""
        return y * (-self.log_scale).exp() - self.shift, -self._log_det(y)

    def _log_det(self, x: Tensor) -> Tensor:
        return (x.shape[2] * x.shape[3] * self.log_scale.double().sum()).expand(x.shape[0])

    @torch.no_grad()
    def _start(self, x: Tensor) -> None:
        self.shift.copy_(-x.mean(dim=(0, 2, 3), keepdim=True)[0])
        self.log_scale.copy_(-x.std(dim=(0, 2, 3), keepdim=True)[0].clamp(min=1e-6).log())
        self.waits = False


class InvertibleConvolution(nn.Module):
    """A 1 x 1 convolution y = W x, W = P L (U + diag(d)), that starts as a random rotation of the channels.

    Args:
        channels: C.

    Example:
        >>> layer = InvertibleConvolution(4)
        >>> y, log_det = layer.forward_and_log_det(torch.ones(1, 4, 2, 2))
        >>> round(y.square().sum().item(), 4), abs(log_det.item()) < 1e-5
        (16.0, True)
    """

    permutation: Tensor
    sign: Tensor
    matrix: Tensor | None
    inverse: Tensor | None

    def __init__(self, channels: int):
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.lower = nn.Parameter(lower.tril(-1).float())
        self.upper = nn.Parameter(upper.triu(1).float())
        self.log_diagonal = nn.Parameter(diagonal.abs().log().float())  # log |d|
        self.register_buffer("matrix", None, persistent=False)  # W and its inverse, once they are baked
        self.register_buffer("inverse", None, persistent=False)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, C, H, W] -> (y [n, C, H, W], log |det dy/dx| float64 [n])."""
        matrix = self._matrix().float() if self.matrix is None else self.matrix
        return functional.conv2d(x, matrix[:, :, None, None]), self._log_det(x)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y [n, C, H, W] -> (x [n, C, H, W], log |det dx/dy| float64 [n])."""
        inverse = torch.linalg.inv(self._matrix()).float() if self.inverse is None else self.inverse
        return functional.conv2d(y, inverse[:, :, None, None]), -self._log_det(y)

    @torch.no_grad()
    def bake(self) -> None:
        """Multiply the factors, and invert the product, for good: graphs cannot. Training ends here."""
        self.matrix = self._matrix().float()
        self.inverse = torch.linalg.inv(self._matrix()).float()

    def _matrix(self) -> Tensor:
        """W, float64 [C, C]."""
        diagonal = torch.diag(self.sign * self.log_diagonal.double().exp())
        lower = self.lower.double().tril(-1) + torch.eye(len(diagonal), dtype=torch.float64, device=diagonal.device)
        return self.permutation @ lower @ (self.upper.double().triu(1) + diagonal)

    def _log_det(self, x: Tensor) -> Tensor:
        return (x.shape[2] * x.shape[3] * self.log_diagonal.double().sum()).expand(x.shape[0])


@register("glow")
class Glow(PictureFlow):
    """Glow over pictures in black and white, grey or colour.

    Args:
        support: pixels of 2 to 256 levels, [H, W] or [H, W, 3].
        scales: number of scales; H and W must be multiples of 2^scales.
        steps: steps of flow at each scale, K.
        width: channels of the couplings' networks.
        log_scale_bound: bound on the log-scale of one coupling, and on those of the laws at the end.
        preprocess: ``logit``, for pixels that crowd at the ends of the range, or ``affine``.
        labels: classes to condition on; none for an unconditional model.
        label_dropout: share of training rows whose label is withheld, which teaches the model without a label.
    """

    refusals: ClassVar[dict[Capability, str]] = {
        **PictureFlow.refusals,
        "classify": "its log-probabilities given a label are lower bounds, each short of the truth by another unknown "
        "amount: Bayes' rule on them gives neither p(label given x) nor a bound on it",
    }

    def __init__(
        self,
        support: Support,
        *,
        scales: int = 2,
        steps: int = 8,
        width: int = 64,
        log_scale_bound: float = 2.0,
        preprocess: Preprocess = "logit",
        labels: Sequence[str] = (),
        label_dropout: float = 0.1,
    ):
        super().__init__(support, preprocess=preprocess)
        if min(scales, steps, width) < 1 or log_scale_bound <= 0:
            raise ValueError("scales, steps and width are 1 or more, log_scale_bound above 0")
        if not 0.0 <= label_dropout < 1.0:
            raise ValueError(f"label_dropout lies in [0, 1), not {label_dropout:g}")
        shape = picture_shape(support)
        _, height, columns = shape
        factor = 2**scales
        if height % factor or columns % factor:
            raise ValueError(f"{scales} scales need a height and width in multiples of {factor}, not {height, columns}")
        self.labels, self.label_dropout, self.bound = tuple(labels), label_dropout, log_scale_bound
        parts: list[list[nn.Module]] = []
        shapes: list[Shape] = []  # of what comes out of each scale
        for scale in range(scales):
            channels = 4 * shape[0]
            shape = (channels, shape[1] // 2, shape[2] // 2)
            transforms: list[nn.Module] = [Squeeze()]
            for _ in range(steps):
                coupling = ChannelCoupling(_network(channels, width), first=True, log_scale_bound=log_scale_bound)
                transforms += [ActNorm(channels), InvertibleConvolution(channels), coupling]
            if scale < scales - 1:
                law = last_layer(channels // 2, channels)  # of the half that leaves, given the other
                transforms.append(ChannelCoupling(law, first=True, log_scale_bound=log_scale_bound))
            parts.append(transforms)
            shapes.append(shape)
            shape = (channels // 2, *shape[1:])
        self.flow = Multiscale(parts, shapes)
        # Mean and log-scale of each channel of the last scale, for each label and for none.
        self.top = nn.Embedding(len(labels) + 1, 2 * shapes[-1][0])
        nn.init.zeros_(self.top.weight)

    @property
    def conditions(self) -> tuple[ProgramInput, ...]:
        """The label, if there are labels; one more than the last is the null value."""
        return label_condition(self.labels)

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Scale and shift every channel, layer by layer, by rows spread over x [n, *shape]."""
        rows = x[:: max(1, len(x) // _FIRST_ROWS)][:_FIRST_ROWS].flatten(1)
        place = torch.arange(len(rows))
        u = uniform(torch.zeros_like(place), place, Stream.OBSERVATION, dims=self.support.size)
        for module in self.modules():
            if isinstance(module, ActNorm):
                module.waits = True
        self._to_code(rows.double() + u.double(), *(torch.full_like(place, len(self.labels)) for _ in self.conditions))

    def losses(self, x: Tensor, seed: Tensor, row: Tensor, *conditions: Tensor) -> Losses:
        """Minus the mean bound of x [n, *shape] with one draw of u, in nats. The label of some rows is withheld."""
        return super().losses(x, seed, row, *withheld(conditions, seed, row, self.label_dropout, len(self.labels)))

    # -- the law of the last scale ---------------------------------------------------------------------------------

    def _to_code(self, y: Tensor, *conditions: Tensor) -> tuple[Tensor, Tensor]:
        """y float64 [n, D], in levels -> (z float32 [n, D], log |det dz/dy| float64 [n])."""
        z, log_det = super()._to_code(y)
        mean, log_scale = self._top(z, conditions)
        given, top = z[:, : -mean.shape[1]], z[:, -mean.shape[1] :]
        return torch.cat([given, (top - mean) * (-log_scale).exp()], dim=1), log_det - row_sum(log_scale.double())

    def _from_code(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """z float32 [n, D] -> y float64 [n, D], in levels."""
        mean, log_scale = self._top(z, conditions)
        given, top = z[:, : -mean.shape[1]], z[:, -mean.shape[1] :]
        return super()._from_code(torch.cat([given, mean + log_scale.exp() * top], dim=1))

    def _top(self, z: Tensor, conditions: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of the last scale's part of a code, [n, C H W] each; z is there for its number of rows."""
        channels, height, columns = self.flow.shapes[-1]
        found = self.top(conditions[0]) if conditions else self.top.weight.expand(z.shape[0], 2 * channels)
        mean, raw = found[:, :, None].expand(-1, -1, height * columns).flatten(1).chunk(2, dim=1)
        return mean, self.bound * torch.tanh(raw / self.bound)


def _network(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels // 2, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 1),
        nn.ReLU(),
        last_layer(width, channels),
    )
