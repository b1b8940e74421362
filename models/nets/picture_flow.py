"""What normalising flows over pictures have in common: dequantisation, the bound, and codes in several scales.

    log P(x) >= log of the integral of p(x + u) over u in [0, 1)^D >= E_u log p(x + u),    u ~ U[0, 1)^D

where p is the density of a flow over the real numbers (L. Theis, A. van den Oord and M. Bethge, "A note on the
evaluation of generative models", 2016). A draw y of the flow counts as the level floor(y), below 0 and above the last
level as the nearest one, so that what lies outside only adds to P. K draws of u in place of one make the
importance-weighted bound (Burda, Grosse and Salakhutdinov 2016), in nats of the levels themselves.

Levels go through a logit, because pixels crowd at the ends of their range. At the end of each scale but the last, half
of the channels go to the code as they are (L. Dinh, J. Sohl-Dickstein and S. Bengio, "Density estimation using Real
NVP", 2016, section 3.6). The code of a picture is the code of the middles x + 1/2 of its levels, which decoding gives
back exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.capabilities import Capability
from contract.programs import ProgramInput, State
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel
from models.nets.convolutional import channels_first, channels_last, why_not_pictures
from models.nets.lanes import full_lanes, row_sum
from models.nets.laws import TEMPERATURE, standard_normal, standard_normal_log_prob
from models.nets.transforms import Transform, forward_through, inverse_through
from models.protocols import Losses
from models.randomness import uniform

__all__ = ["ChannelCoupling", "Levels", "Multiscale", "PictureFlow", "Preprocess", "Shape", "Squeeze", "last_layer"]

Preprocess = Literal["logit", "affine"]

Shape = tuple[int, int, int]
"""C, H, W."""

_LOGIT_MARGIN = 0.05  # the paper's alpha, on both sides


class Levels(nn.Module):
    """From [0, levels] to the line, in double: a logit, for pixels that crowd at the ends of the range, or affine.

    Args:
        levels: L.
        preprocess: which.
    """

    def __init__(self, levels: int, preprocess: Preprocess):
        super().__init__()
        self.levels, self.preprocess = levels, preprocess

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x float64 [n, D], in levels -> (y [n, D], log |det dy/dx| [n])."""
        share, size = x / self.levels, x.shape[1]
        if self.preprocess == "affine":
            return 2.0 * share - 1.0, x.new_full((x.shape[0],), size * log(2.0 / self.levels))
        inner = _LOGIT_MARGIN + (1.0 - 2.0 * _LOGIT_MARGIN) * share
        below, above = full_lanes(torch.log, inner), full_lanes(torch.log, 1.0 - inner)
        slope = log((1.0 - 2.0 * _LOGIT_MARGIN) / self.levels)
        return below - above, size * slope - row_sum(below + above)

    def inverse(self, y: Tensor) -> Tensor:
        """y float64 [n, D] -> x [n, D], in levels."""
        if self.preprocess == "affine":
            return (y + 1.0) * (self.levels / 2.0)
        inner = full_lanes(torch.sigmoid, y)
        return (inner - _LOGIT_MARGIN) * (self.levels / (1.0 - 2.0 * _LOGIT_MARGIN))


class Squeeze(nn.Module):
    """2 x 2 pixels become channels: [n, C, H, W] -> [n, 4 C, H / 2, W / 2]."""

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, C, H, W] -> (y [n, 4 C, H / 2, W / 2], 0 as float64 [n])."""
        return functional.pixel_unshuffle(x, 2), x.new_zeros(x.shape[0], dtype=torch.float64)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y [n, 4 C, H / 2, W / 2] -> (x [n, C, H, W], 0 as float64 [n])."""
        return functional.pixel_shuffle(y, 2), y.new_zeros(y.shape[0], dtype=torch.float64)


class ChannelCoupling(nn.Module):
    """Affine coupling that moves half of the channels, given the other half.

    Args:
        network: from the half that is kept, [n, C / 2, H, W], to s and t, [n, C, H, W]; where it starts at zero the
            coupling starts as the identity.
        first: whether the first half is moved, else the second.
        log_scale_bound: s lies in (-bound, bound).
    """

    def __init__(self, network: nn.Module, *, first: bool, log_scale_bound: float):
        super().__init__()
        self.first = first
        self.network = network
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


class Multiscale(nn.Module):
    """Transforms in several scales; each but the last gives the first half of its channels to the code.

    Args:
        scales: the transforms of each scale, in order.
        shapes: (C, H, W) of what comes out of each.
    """

    def __init__(self, scales: Iterable[Iterable[nn.Module]], shapes: Sequence[Shape]):
        super().__init__()
        self.scales = nn.ModuleList(nn.ModuleList(transforms) for transforms in scales)
        self.shapes = list(shapes)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, C, H, W] -> (z [n, C H W], the first scale first; log |det dz/dx| float64 [n])."""
        total, parts = x.new_zeros(x.shape[0], dtype=torch.float64), []
        for scale in range(len(self.scales)):
            x, log_det = forward_through(self._transforms(scale), x)
            total = total + log_det
            if scale < len(self.scales) - 1:
                given, x = x.chunk(2, dim=1)
                parts.append(given.flatten(1))
        return torch.cat([*parts, x.flatten(1)], dim=1), total

    def inverse(self, z: Tensor) -> Tensor:
        """z [n, C H W] -> x [n, C, H, W]."""
        sizes = [channels * height * width // 2 for channels, height, width in self.shapes[:-1]]
        *given, rest = torch.split(z, [*sizes, z.shape[1] - sum(sizes)], dim=1)
        x = rest.reshape(-1, *self.shapes[-1])
        for scale in reversed(range(len(self.scales))):
            if scale < len(self.scales) - 1:
                x = torch.cat([given[scale].reshape(x.shape), x], dim=1)
            x, _ = inverse_through(self._transforms(scale), x)
        return x

    def _transforms(self, scale: int) -> list[Transform]:
        return list(self.scales[scale])  # type: ignore[call-overload,no-any-return]


class PictureFlow(GenerativeModel):
    """A flow over pictures in black and white, grey or colour; a family says which one by ``flow``.

    Args:
        support: pixels of 2 to 256 levels, [H, W] or [H, W, 3].
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

    # From values on the line, as pictures [n, C, H, W], to codes [n, D]; a family without one has maps of its own.
    flow: Multiscale

    def __init__(self, support: Support, *, preprocess: Preprocess):
        super().__init__(support)
        assert support.element is not None
        self.levels = support.element.levels or 2
        self.outer = Levels(self.levels, preprocess)

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for pictures of 2 to 256 levels without missing pixels, else the reason in words."""
        return why_not_pictures(support)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(D,): what each scale gave to the code, the first scale first."""
        return (self.support.size,)

    def losses(self, x: Tensor, seed: Tensor, row: Tensor, *conditions: Tensor) -> Losses:
        """Minus the mean bound of x [n, *shape] with one draw of u, in nats."""
        bound = self.log_weight(x, seed, row, torch.zeros_like(seed), *conditions).mean()
        return Losses(total={"main": -bound}, logged={"bound": bound.detach()})

    # -- the bound, draw by draw -----------------------------------------------------------------------------------

    def bound_init(self, x: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
        """Nothing: draws of u have only the row in common."""
        return ()

    def log_weight(self, x: Tensor, seed: Tensor, row: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        """log p(x + u) at draw t of u -> float64 [n]."""
        u = uniform(seed, row, Stream.OBSERVATION, t, dims=self.support.size)
        z, log_det = self._to_code(x.flatten(1).double() + u.double(), *conditions)
        log_prob = standard_normal_log_prob(z) + log_det
        # A code beyond single precision is inf - inf, where the density has long vanished.
        return torch.where(log_prob.isnan(), -torch.inf, log_prob)

    # -- codes and draws -------------------------------------------------------------------------------------------

    def encode(self, x: Tensor, *conditions: Tensor) -> Tensor:
        """x [n, *shape] -> z float64 [n, D], of x + 1/2."""
        return self._to_code(x.flatten(1).double() + 0.5, *conditions)[0].double()

    def decode(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """z float64 [n, D] -> x [n, *shape]: the level that the flow's value lies in."""
        return self._rounded(self._from_code(z.float(), *conditions))

    def latent(self, seed: Tensor, row: Tensor, *rest: Tensor) -> Tensor:
        """Draw codes: seed, row int64 [n], temperature float64 [n], conditions -> z float64 [n, D]."""
        return standard_normal(seed, row, rest[0], dims=self.support.size)

    def latent_log_prob(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """log N(z; 0, I): z float64 [n, D] -> float64 [n]."""
        return standard_normal_log_prob(z)

    def _rounded(self, y: Tensor) -> Tensor:
        """y float64 [n, D], in levels -> x [n, *shape]: the level that it lies in."""
        return y.floor().clamp(0, self.levels - 1).to(torch.uint8).reshape(-1, *self.support.shape)

    # -- the flow --------------------------------------------------------------------------------------------------

    def _to_code(self, y: Tensor, *conditions: Tensor) -> tuple[Tensor, Tensor]:
        """y float64 [n, D], in levels -> (z float32 [n, D], log |det dz/dy| float64 [n])."""
        values, outer = self.outer.forward_and_log_det(y)
        z, inner = self.flow.forward_and_log_det(channels_first(values.float().reshape(-1, *self.support.shape)))
        return z, outer + inner

    def _from_code(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """z float32 [n, D] -> y float64 [n, D], in levels."""
        return self.outer.inverse(channels_last(self.flow.inverse(z), self.support.shape).flatten(1).double())


def last_layer(inputs: int, outputs: int) -> nn.Conv2d:
    """The 3 x 3 convolution at the end of a coupling's network: it starts at zero, and the coupling as the identity."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
