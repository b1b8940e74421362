"""RealNVP for pictures: a multiscale flow of affine couplings over dequantised levels.

    log P(x) >= log of the integral of p(x + u) over u in [0, 1)^D >= E_u log p(x + u),    u ~ U[0, 1)^D

where p is the density of a normalising flow over the real numbers (L. Dinh, J. Sohl-Dickstein and S. Bengio, "Density
estimation using Real NVP", 2016; for the bound L. Theis, A. van den Oord and M. Bethge 2016). A draw y of the flow
counts as the level floor(y), below 0 and above the last level as the nearest one, so that what lies outside only adds
to P. K draws of u in place of one make the importance-weighted bound (Burda, Grosse and Salakhutdinov 2016), in nats
of the levels themselves.

The flow is the paper's: levels go through a logit; at each scale, couplings under a checkerboard mask, then 2 x 2
pixels become channels, couplings that split the channels, and half of them go to the code as they are; the last scale
has checkerboards alone. Scale s and shift t come from residual convolutional networks. In place of the paper's batch
normalisation, each network ends in a layer that starts at zero, so that the flow starts as the identity.

The code of a picture is the code of the middles x + 1/2 of its levels, which decoding gives back exactly.

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

from math import log
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.capabilities import Capability
from contract.programs import ProgramInput, State
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel, Losses, register
from models.nets.convolutional import Residual, channels_first, channels_last, picture_shape, why_not_pictures
from models.nets.lanes import full_lanes, row_sum
from models.nets.laws import TEMPERATURE, standard_normal, standard_normal_log_prob
from models.randomness import uniform

__all__ = ["ChannelCoupling", "CheckerboardCoupling", "RealNVPImage"]

_LOGIT_MARGIN = 0.05  # the paper's alpha, on both sides


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

    def __init__(self, shape: tuple[int, int, int], *, odd: bool, width: int, blocks: int, log_scale_bound: float):
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


class ChannelCoupling(nn.Module):
    """Affine coupling that moves half of the channels, given the other half; starts as the identity.

    Args:
        shape: (C, H, W), with an even number of channels.
        first: whether the first half is moved, else the second.
        width: channels of the network that gives s and t.
        blocks: its residual blocks.
        log_scale_bound: s lies in (-bound, bound).
    """

    def __init__(self, shape: tuple[int, int, int], *, first: bool, width: int, blocks: int, log_scale_bound: float):
        super().__init__()
        self.first = first
        self.network = _network(shape[0] // 2, width, blocks, shape[0])
        self.bound = log_scale_bound

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, C, H, W] -> (y [n, C, H, W], log |det dy/dx| float64 [n])."""
        kept, moved = self._split(x)
        log_scale, shift = self._scale_and_shift(kept)
        return self._join(kept, moved * log_scale.exp() + shift), row_sum(log_scale.flatten(1).double())

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y [n, C, H, W] -> (x [n, C, H, W], log |det dx/dy| float64 [n])."""
        kept, moved = self._split(y)
        log_scale, shift = self._scale_and_shift(kept)
        return self._join(kept, (moved - shift) * (-log_scale).exp()), -row_sum(log_scale.flatten(1).double())

    def _scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.network(kept).chunk(2, dim=1)
        return self.bound * torch.tanh(raw / self.bound), shift

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        one, two = x.chunk(2, dim=1)
        return (two, one) if self.first else (one, two)

    def _join(self, kept: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([moved, kept] if self.first else [kept, moved], dim=1)


Coupling = CheckerboardCoupling | ChannelCoupling


@register("realnvp-image")
class RealNVPImage(GenerativeModel):
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

    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "one law describes all rows: it knows no labels that a row could have",
        "marginal": "a flow maps all coordinates at once: to integrate some of them out has no closed form",
        "inpaint": "a flow knows the law of some coordinates given others up to a constant alone, and draws whole rows",
    }
    default_samples: ClassVar[int] = 8
    code_description: ClassVar[str] = (
        "base-law coordinates of the flow at the middle of each level: decoding them gives the row back exactly"
    )
    latent_parameters: ClassVar[tuple[ProgramInput, ...]] = (TEMPERATURE,)
    bound_state: tuple[State, ...] = ()

    def __init__(
        self,
        support: Support,
        *,
        scales: int = 3,
        couplings: int = 3,
        width: int = 32,
        blocks: int = 2,
        log_scale_bound: float = 2.0,
        preprocess: Literal["logit", "affine"] = "logit",
    ):
        super().__init__(support)
        shape = picture_shape(support)
        _, height, columns = shape
        if min(scales, couplings, width, blocks) < 1 or log_scale_bound <= 0:
            raise ValueError("scales, couplings, width and blocks are 1 or more, log_scale_bound above 0")
        factor = 2 ** (scales - 1)
        if height % factor or columns % factor:
            raise ValueError(f"{scales} scales need a height and width in multiples of {factor}, not {height, columns}")
        if height * columns < 2 * factor**2:
            raise ValueError(f"{scales} scales leave a picture of one pixel, which no checkerboard can split")
        assert support.element is not None
        self.levels = support.element.levels or 2
        self.preprocess = preprocess
        self.shapes: list[tuple[int, int, int]] = []  # of what each scale works on
        self.checkerboards, self.channels = nn.ModuleList(), nn.ModuleList()
        for scale in range(scales):
            self.shapes.append(shape)
            last = scale == scales - 1
            size: dict[str, Any] = {"width": width * 2**scale, "blocks": blocks, "log_scale_bound": log_scale_bound}
            self.checkerboards.append(
                nn.ModuleList(CheckerboardCoupling(shape, odd=i % 2 == 0, **size) for i in range(couplings + last))
            )
            if not last:
                squeezed = (4 * shape[0], shape[1] // 2, shape[2] // 2)
                self.channels.append(
                    nn.ModuleList(ChannelCoupling(squeezed, first=i % 2 == 0, **size) for i in range(couplings))
                )
                shape = (squeezed[0] // 2, *squeezed[1:])

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for pictures of 2 to 256 levels without missing pixels, else the reason in words."""
        return why_not_pictures(support)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(D,): what each scale gave to the code, the first scale first."""
        return (self.support.size,)

    def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
        """Minus the mean bound of x [n, *shape] with one draw of u, in nats."""
        bound = self.log_weight(x, seed, row, torch.zeros_like(seed)).mean()
        return Losses(total={"main": -bound}, logged={"bound": bound.detach()})

    # -- the bound, draw by draw -----------------------------------------------------------------------------------

    def bound_init(self, x: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
        """Nothing: draws of u have only the row in common."""
        return ()

    def log_weight(self, x: Tensor, seed: Tensor, row: Tensor, t: Tensor, *rest: Tensor) -> Tensor:
        """log p(x + u) at draw t of u -> float64 [n]."""
        u = uniform(seed, row, Stream.OBSERVATION, t, dims=self.support.size)
        z, log_det = self._to_code(x.flatten(1).double() + u.double())
        log_prob = standard_normal_log_prob(z) + log_det
        # A code beyond single precision is inf - inf, where the density has long vanished.
        return torch.where(log_prob.isnan(), -torch.inf, log_prob)

    # -- codes and draws -------------------------------------------------------------------------------------------

    def encode(self, x: Tensor) -> Tensor:
        """x [n, *shape] -> z float64 [n, D], of x + 1/2."""
        return self._to_code(x.flatten(1).double() + 0.5)[0].double()

    def decode(self, z: Tensor) -> Tensor:
        """z float64 [n, D] -> x [n, *shape]: the level that the flow's value lies in."""
        y = self._from_code(z.float())
        levels = y.floor().clamp(0, self.levels - 1)
        return levels.to(torch.uint8).reshape(-1, *self.support.shape)

    def latent(self, seed: Tensor, row: Tensor, *parameters: Tensor) -> Tensor:
        """Draw codes: seed, row int64 [n], temperature float64 [n] -> z float64 [n, D]."""
        (temperature,) = parameters
        return standard_normal(seed, row, temperature, dims=self.support.size)

    def latent_log_prob(self, z: Tensor) -> Tensor:
        """log N(z; 0, I): z float64 [n, D] -> float64 [n]."""
        return standard_normal_log_prob(z)

    # -- the flow --------------------------------------------------------------------------------------------------

    def _to_code(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y float64 [n, D], in levels -> (z float32 [n, D], log |det dz/dy| float64 [n])."""
        values, total = self._unbounded(y)
        x = channels_first(values.float().reshape(-1, *self.support.shape))
        parts = []
        for scale, checkerboards in enumerate(self.checkerboards):
            for coupling in self._list(checkerboards):
                x, log_det = coupling.forward_and_log_det(x)
                total = total + log_det
            if scale < len(self.channels):
                x = functional.pixel_unshuffle(x, 2)
                for coupling in self._list(self.channels[scale]):
                    x, log_det = coupling.forward_and_log_det(x)
                    total = total + log_det
                given, x = x.chunk(2, dim=1)
                parts.append(given.flatten(1))
        parts.append(x.flatten(1))
        return torch.cat(parts, dim=1), total

    def _from_code(self, z: Tensor) -> Tensor:
        """z float32 [n, D] -> y float64 [n, D], in levels."""
        sizes = [c * h * w // 2 for c, h, w in self.shapes[:-1]]
        *given, rest = torch.split(z, [*sizes, z.shape[1] - sum(sizes)], dim=1)
        x = rest.reshape(-1, *self.shapes[-1])
        for scale in reversed(range(len(self.shapes))):
            if scale < len(self.channels):
                x = torch.cat([given[scale].reshape(x.shape), x], dim=1)
                for coupling in reversed(self._list(self.channels[scale])):
                    x, _ = coupling.inverse_and_log_det(x)
                x = functional.pixel_shuffle(x, 2)
            for coupling in reversed(self._list(self.checkerboards[scale])):
                x, _ = coupling.inverse_and_log_det(x)
        return self._bounded(channels_last(x, self.support.shape).flatten(1).double())

    def _unbounded(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """From [0, levels] to the line: y float64 [n, D] -> (v [n, D], log |det dv/dy| [n])."""
        share = y / self.levels
        if self.preprocess == "affine":
            return 2.0 * share - 1.0, y.new_full((y.shape[0],), self.support.size * log(2.0 / self.levels))
        inner = _LOGIT_MARGIN + (1.0 - 2.0 * _LOGIT_MARGIN) * share
        below, above = full_lanes(torch.log, inner), full_lanes(torch.log, 1.0 - inner)
        slope = log((1.0 - 2.0 * _LOGIT_MARGIN) / self.levels)
        return below - above, self.support.size * slope - row_sum(below + above)

    def _bounded(self, v: Tensor) -> Tensor:
        if self.preprocess == "affine":
            return (v + 1.0) * (self.levels / 2.0)
        inner = full_lanes(torch.sigmoid, v)
        return (inner - _LOGIT_MARGIN) * (self.levels / (1.0 - 2.0 * _LOGIT_MARGIN))

    @staticmethod
    def _list(couplings: nn.Module) -> list[Coupling]:
        return list(couplings)  # type: ignore[call-overload,no-any-return]


def _network(channels: int, width: int, blocks: int, outputs: int) -> nn.Sequential:
    last = nn.Conv2d(width, outputs, 3, padding=1)
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), *(Residual(width) for _ in range(blocks)), nn.SiLU(), last
    )
