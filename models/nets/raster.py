"""Pictures drawn pixel by pixel: what all families with a network over earlier pixels have in common.

    log p(x) = sum_t log P(x_t given x_1 ... x_(t-1)),    t in raster order

All channels of a pixel are in one law (``models/nets/pixels.py``), so that a picture takes a step a pixel. The network
answers two questions with the same weights: about all pixels of a picture at once, for the log-probability, and about
one pixel given a window that ends at it, for a step of drawing. A step computes what that pixel's law depends on and
nothing else, so that it costs the same in large pictures as in small ones. Rows at different pixels share a batch.

The network sees of each earlier pixel what the law says of it (``seen``), and where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.capabilities import Capability, NumberKind
from contract.programs import Filling, ProgramInput, State
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel
from models.nets.convolutional import picture_shape, why_not_pictures
from models.nets.labels import LabelPrior, label_condition, withheld
from models.nets.lanes import row_sum
from models.nets.laws import TEMPERATURE
from models.nets.pixels import OUTSIDE, CopyMixture, LevelSoftmax
from models.protocols import Losses
from models.randomness import address, stream_state, uniform_from

__all__ = ["PLACE", "RasterModel", "RasterNetwork"]

PLACE = 5
"""Numbers that say where a pixel lies, and that it is one."""


class RasterNetwork(Protocol):
    """A network from features of earlier pixels to features of each pixel."""

    radius: int
    """Rows above, and columns on either side, that a pixel's features depend on."""

    def __call__(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Of every pixel: x [n, inputs, H, W], label int64 [n] -> [n, width, H, W]."""
        ...

    def at_last(self, window: Tensor, inside: Tensor, label: Tensor | None = None) -> Tensor:
        """Of the one pixel in the middle of the last row of its window.

        Args:
            window: [n, inputs, radius + 1, 2 radius + 1]; zero outside the picture. Neither that pixel nor those to the
                right of it are looked at.
            inside: [n, 1, radius + 1, 2 radius + 1], 1 within the picture, else 0.
            label: int64 [n].

        Returns:
            [n, width, 1, 1].
        """
        ...


class RasterModel(GenerativeModel):
    """Base of the families; each sets its law of a pixel, its network, and two layers from the one to the other.

    Attributes:
        law: of one pixel, all channels of it.
        network: a ``RasterNetwork`` of ``law.features + PLACE`` inputs.
        head: features to features, pixel by pixel.
        to_law: a 1 x 1 convolution to ``law.outputs``.

    Args:
        support: pixels of 2 to 256 levels, [H, W] or [H, W, 3].
        labels: classes to condition on; none for an unconditional model.
        label_dropout: share of training rows whose label is withheld, which teaches the model without a label.
    """

    refusals: ClassVar[dict[Capability, str]] = {
        "encode": "an autoregressive model factorises p(x) over the pixels themselves: it has no latent code",
        "decode": "an autoregressive model has no latent code to decode: a picture is drawn pixel by pixel",
        "latent": "an autoregressive model has no latent variable: its randomness goes into the pixels one by one",
        "marginal": "a pixel that is not known enters the law of each later one: to sum it out takes a sum over every "
        "state of all such pixels",
    }
    log_prob_kind: ClassVar[NumberKind] = "exact"
    sample_parameters: ClassVar[tuple[ProgramInput, ...]] = (TEMPERATURE,)
    sample_preview: ClassVar[str] = "pixels"
    filling: ClassVar[Filling] = "earlier"

    law: LevelSoftmax | CopyMixture
    network: nn.Module
    head: nn.Module
    to_law: nn.Conv2d

    def __init__(self, support: Support, *, labels: Sequence[str] = (), label_dropout: float = 0.0):
        super().__init__(support)
        if not 0.0 <= label_dropout < 1.0:
            raise ValueError("label_dropout lies in [0, 1)")
        self.channels, self.height, self.columns = picture_shape(support)
        assert support.element is not None
        self.levels = support.element.levels or 2
        self.labels = tuple(labels)
        self.label_dropout = label_dropout
        self.prior = LabelPrior(len(labels)) if labels else None

    @property
    def radius(self) -> int:
        """Rows above, and columns on either side, that the law of a pixel depends on."""
        return max(cast(RasterNetwork, self.network).radius + 1, self.law.radius)

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for pictures of 2 to 256 levels without missing pixels, else the reason in words."""
        return why_not_pictures(support)

    @property
    def conditions(self) -> tuple[ProgramInput, ...]:
        """The label, if there are labels; one more than the last is the null value."""
        return label_condition(self.labels)

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Start from shares of levels or colours in x [n, *shape], whatever the pixels around."""
        assert self.to_law.bias is not None
        self.to_law.weight.mul_(0.1)
        self.to_law.bias.copy_(self.law.start(self._pixels(x).flatten(0, 1)))

    def losses(self, x: Tensor, seed: Tensor, row: Tensor, *conditions: Tensor) -> Losses:
        """Mean negative log-likelihood of x [n, *shape], in nats. The label of some rows is withheld."""
        known = withheld(conditions, seed, row, self.label_dropout, len(self.labels))
        loss = -self.log_prob(x, *known).mean()
        return Losses(total={"main": loss}, logged={"nll": loss.detach()})

    def log_prob(self, x: Tensor, *conditions: Tensor) -> Tensor:
        """log p(x), exact, in nats: x [n, *shape] -> float64 [n]."""
        return self.log_prob_and_trace(x, *conditions)[0]

    @property
    def trace_shape(self) -> tuple[int, ...]:
        """[H, W]: all channels of a pixel have one law."""
        return (self.height, self.columns)

    def log_prob_and_trace(self, x: Tensor, *conditions: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, *shape] -> log p(x) float64 [n], and of each pixel given the earlier ones, float64 [n, H, W]."""
        pixels = self._pixels(x)
        raw, around = self._whole(pixels, conditions)
        terms = self.law.log_prob(raw, pixels, around).double()  # [n, H W]
        return row_sum(terms), terms.reshape(-1, self.height, self.columns)

    # -- sampling, pixel by pixel ----------------------------------------------------------------------------------

    @property
    def sample_steps(self) -> int:
        """H W."""
        return self.height * self.columns

    @property
    def sample_state(self) -> tuple[State, ...]:
        """The address, the colours drawn so far, as codes and as places in the palette, and which pixels are held."""
        shape = (self.sample_steps,)
        return (
            State(name="address", dtype="int64"),
            State(name="pixels", dtype="float32", shape=shape),
            State(name="places", dtype="int64", shape=shape),
            State(name="held", dtype="bool", shape=shape),
        )

    @property
    def known_shape(self) -> tuple[int, ...]:
        """[H, W]: all channels of a pixel are drawn at once."""
        return (self.height, self.columns)

    def sample_init(self, seed: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        """seed, row int64 [n] -> (address int64 [n], pixels float32, places int64, held bool [n, H W] each, all 0)."""
        pixels = torch.zeros(row.shape[0], self.sample_steps)
        return address(seed, row), pixels, pixels.long(), pixels.bool()

    def inpaint_init(self, x: Tensor, known: Tensor, seed: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        """x [n, *shape], known bool [n, H, W], seed, row int64 [n] -> the first state: known pixels there, and held."""
        held = known.reshape(-1, self.sample_steps)
        pixels = torch.where(held, self.law.code(self._pixels(x)), 0.0)
        places = self.law.place(pixels) if self._has_palette else torch.zeros_like(pixels)
        return address(seed, row), pixels, torch.where(held, places, 0).long(), held

    def sample_step(self, seed: Tensor, row: Tensor, t: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Draw pixel t of each row: t int64 [n], temperature float64 [n], conditions, the state -> the next state."""
        temperature, *conditions, addresses, pixels, places, held = rest
        raw, around = self._at(t, pixels, places, tuple(conditions))
        u = uniform_from(stream_state(addresses, Stream.STEP, t), self.law.uniforms)
        drawn = self.law.code(self.law.draw(raw[:, 0], around[:, 0], u, temperature.float()))  # [n]
        at = t[:, None]
        drawn = torch.where(held.gather(1, at), pixels.gather(1, at), drawn[:, None])[:, 0]
        here = torch.arange(self.sample_steps, device=t.device) == at  # [n, H W]
        if self._has_palette:
            places = torch.where(here, self.law.place(drawn)[:, None], places)
        return addresses, torch.where(here, drawn[:, None], pixels), places, held

    def sample_final(self, *state: Tensor) -> Tensor:
        """The last state -> x [n, *shape]."""
        return self.law.decode(state[1]).to(torch.uint8).reshape(-1, *self.support.shape)

    @property
    def _has_palette(self) -> bool:
        return isinstance(self.law, CopyMixture) and len(self.law.palette) > 0

    # -- the network -----------------------------------------------------------------------------------------------

    def _pixels(self, x: Tensor) -> Tensor:
        return x.float().reshape(-1, self.sample_steps, self.channels)

    def _whole(self, pixels: Tensor, conditions: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The laws of all pixels: pixels [n, H W, C] -> raw [n, H W, outputs], around [n, H W, copies]."""
        code = self.law.code(pixels).reshape(-1, self.height, self.columns)
        rows, columns = torch.arange(self.height, device=code.device), torch.arange(self.columns, device=code.device)
        where = self._where(rows[:, None].expand(-1, self.columns), columns.expand(self.height, -1))
        seen = self.law.seen(_padded(code, 1), self.law.place(code))
        features = torch.cat([seen, where.expand(code.shape[0], -1, -1, -1)], dim=1)
        return self._raw(self.network(features, *conditions)), self._around(_padded(code, self.law.radius))

    def _at(self, t: Tensor, pixels: Tensor, places: Tensor, conditions: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The law of pixel t [n] of each row: pixels, places [n, H W] -> raw [n, 1, outputs], around [n, 1, copies]."""
        r = self.radius
        above = torch.arange(-r, 1, device=t.device)
        beside = torch.arange(-r, r + 1, device=t.device)
        shape = (-1, r + 1, 2 * r + 1)
        rows = ((t // self.columns)[:, None, None] + above[:, None]).expand(*shape)  # [n, r + 1, 2 r + 1]
        columns = ((t % self.columns)[:, None, None] + beside).expand(*shape)
        inside = (rows >= 0) & (columns >= 0) & (columns < self.columns)
        index = (rows * self.columns + columns).clamp(0, self.sample_steps - 1).flatten(1)
        code = torch.where(inside, pixels.gather(1, index).reshape(*shape), OUTSIDE)
        reach = cast(RasterNetwork, self.network).radius
        within = self._cut(inside, reach)[:, None].float()
        place = self._cut(places.gather(1, index).reshape(*shape), reach)
        where = self._where(self._cut(rows, reach), self._cut(columns, reach))
        # What a pixel looks like depends on its own neighbours, one further away.
        features = torch.cat([self.law.seen(self._cut(code, reach + 1), place), where], dim=1) * within
        around = self._around(self._cut(code, self.law.radius))
        return self._raw(cast(RasterNetwork, self.network).at_last(features, within, *conditions)), around

    def _cut(self, window: Tensor, radius: int) -> Tensor:
        """The window of a smaller radius: [n, r + 1, 2 r + 1] -> [n, radius + 1, 2 radius + 1]."""
        edge = self.radius - radius
        return window[:, edge:, edge : 2 * self.radius + 1 - edge]

    def _where(self, row: Tensor, column: Tensor) -> Tensor:
        """Where a pixel lies, and 1: row, column int64 [..., H, W] -> float32 [..., PLACE, H, W]."""
        down = row.float() * (2.0 / max(self.height - 1, 1)) - 1.0
        along = column.float() * (2.0 / max(self.columns - 1, 1)) - 1.0
        return torch.stack([down, along, down * down, along * along, torch.ones_like(down)], dim=-3)

    def _around(self, code: Tensor) -> Tensor:
        """Codes of the pixels that may be copied: [n, H + r, W + 2 r], r its margin -> [n, H W, copies]."""
        r = self.law.radius
        height, columns = code.shape[1] - r, code.shape[2] - 2 * r
        if r == 0:
            return code.new_zeros(code.shape[0], height * columns, 0)
        places = [(i, j) for i in range(r + 1) for j in range(2 * r + 1) if i < r or j < r]
        return torch.stack([code[:, i : i + height, j : j + columns] for i, j in places], dim=-1).flatten(1, 2)

    def _raw(self, features: Tensor) -> Tensor:
        """[n, width, H, W] -> [n, H W, outputs]."""
        raw: Tensor = self.to_law(self.head(features))
        return raw.flatten(2).transpose(1, 2)


def _padded(code: Tensor, margin: int) -> Tensor:
    """Codes with what lies above and on both sides: [n, H, W] -> [n, H + margin, W + 2 margin]."""
    return functional.pad(code, (margin, margin, margin, 0), value=OUTSIDE)
