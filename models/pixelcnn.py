"""Gated PixelCNN: pictures drawn pixel by pixel, each given all the earlier ones around it.

    log p(x) = sum_t log P(x_t given x_1 ... x_(t-1)),    t in raster order

with two stacks of gated convolutions, so that no earlier pixel within reach is missed (A. van den Oord et al.,
"Conditional Image Generation with PixelCNN Decoders", 2016), and all channels of a pixel in one law
(``models/nets/pixels.py``): a softmax for few levels; for many a mixture of copies of earlier pixels, of colours of a
palette and of discretised logistic laws (T. Salimans et al., "PixelCNN++", 2017). It is a probability of the levels
themselves, exact, and takes one run of the network for all pixels.

Drawing takes a step a pixel. A step looks at the window of pixels that its law depends on, and computes nothing else
(``GatedStacks.at_last``), so that it costs the same in large pictures as in small ones. Rows at different pixels share
a batch.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> pixel = Column(name="pixel", kind="binary", base_measure="counting")
    >>> model = PixelCNN(Support(shape=(2, 3), element=pixel), width=4, layers=1)
    >>> states = torch.cartesian_prod(*[torch.arange(2)] * 6).reshape(-1, 2, 3)
    >>> round(model.log_prob(states).exp().sum().item(), 5)
    1.0
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.capabilities import Capability, NumberKind
from contract.programs import Filling, ProgramInput, State
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel, Losses, register
from models.nets.convolutional import picture_shape, why_not_pictures
from models.nets.gated import GatedStacks
from models.nets.labels import LabelPrior, label_condition, log_posterior
from models.nets.lanes import row_sum
from models.nets.laws import TEMPERATURE
from models.nets.pixels import OUTSIDE, CopyMixture, LevelSoftmax
from models.randomness import address, stream_state, uniform, uniform_from

__all__ = ["PixelCNN"]

_FEW_LEVELS = 16  # up to so many, a softmax
_PLACE = 5  # numbers that say where a pixel lies, and that it is one


@register("pixelcnn")
class PixelCNN(GenerativeModel):
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
        super().__init__(support)
        if min(width, layers, reach, head) < 1:
            raise ValueError("width, layers, reach and head are 1 or more")
        if not (0.0 <= dropout < 1.0 and 0.0 <= label_dropout < 1.0):
            raise ValueError("dropout and label_dropout lie in [0, 1)")
        assert support.element is not None
        self.channels, self.height, self.columns = picture_shape(support)
        levels = support.element.levels or 2
        self.labels = tuple(labels)
        self.label_dropout = label_dropout
        self.prior = LabelPrior(len(labels)) if labels else None
        self.law: LevelSoftmax | CopyMixture
        if levels <= _FEW_LEVELS:
            self.law = LevelSoftmax(self.channels, levels)
        else:
            self.law = CopyMixture(self.channels, levels, radius=copies, palette=palette, components=components)
        self.stacks = GatedStacks(
            self.law.features + _PLACE, width=width, layers=layers, reach=reach, labels=len(labels), dropout=dropout
        )
        self.head = nn.Conv2d(width, head, 1)
        self.to_law = nn.Conv2d(head, self.law.outputs, 1)
        # Rows above, and columns on either side, that the law of a pixel depends on.
        self.radius = max(self.stacks.radius + 1, self.law.radius)

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for pictures of 2 to 256 levels without missing pixels, else the reason in words."""
        return why_not_pictures(support)

    @property
    def conditions(self) -> tuple[ProgramInput, ...]:
        """The label, if there are labels; one more than the last is the null value."""
        return label_condition(self.labels)

    @property
    def lacks(self) -> dict[Capability, str]:
        """Without labels there is none to name."""
        why = "this model was trained without labels, and Bayes' rule needs a law of pictures for each label"
        return {} if self.labels else {"classify": why}

    @property
    def label_prior(self) -> tuple[float, ...]:
        """Shares of the labels among the training rows."""
        return () if self.prior is None else self.prior.shares

    def prepare_labels(self, labels: Tensor) -> None:
        """Count the labels int64 [n]."""
        assert self.prior is not None
        self.prior.fit(labels)

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Start from shares of levels or colours in x [n, *shape], whatever the pixels around."""
        assert self.to_law.bias is not None
        self.to_law.weight.mul_(0.1)
        self.to_law.bias.copy_(self.law.start(self._pixels(x).flatten(0, 1)))

    def losses(self, x: Tensor, seed: Tensor, row: Tensor, *conditions: Tensor) -> Losses:
        """Mean negative log-likelihood of x [n, *shape], in nats. The label of some rows is withheld."""
        if conditions:
            withheld = uniform(seed, row, Stream.INIT, dims=1)[:, 0] < self.label_dropout
            conditions = (torch.where(withheld, len(self.labels), conditions[0]),)
        loss = -self.log_prob(x, *conditions).mean()
        return Losses(total={"main": loss}, logged={"nll": loss.detach()})

    def log_prob(self, x: Tensor, *conditions: Tensor) -> Tensor:
        """log p(x), exact, in nats: x [n, *shape] -> float64 [n]."""
        pixels = self._pixels(x)
        raw, around = self._whole(pixels, conditions)
        return row_sum(self.law.log_prob(raw, pixels, around))

    def classify(self, x: Tensor) -> Tensor:
        """log p(label given x) by Bayes' rule, exact: x [n, *shape] -> float64 [n, labels]."""
        assert self.prior is not None
        return log_posterior(self.log_prob, x, self.prior.log_prob)

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
        places = self.law.place(pixels) if isinstance(self.law, CopyMixture) else torch.zeros_like(pixels)
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
        if isinstance(self.law, CopyMixture):
            places = torch.where(here, self.law.place(drawn)[:, None], places)
        return addresses, torch.where(here, drawn[:, None], pixels), places, held

    def sample_final(self, *state: Tensor) -> Tensor:
        """The last state -> x [n, *shape]."""
        return self.law.decode(state[1]).to(torch.uint8).reshape(-1, *self.support.shape)

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
        return self._raw(self.stacks(features, *conditions)), self._around(_padded(code, self.law.radius))

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
        reach = self.stacks.radius
        within = self._cut(inside, reach)[:, None].float()
        place = self._cut(places.gather(1, index).reshape(*shape), reach)
        where = self._where(self._cut(rows, reach), self._cut(columns, reach))
        # What a pixel looks like depends on its own neighbours, one further away.
        features = torch.cat([self.law.seen(self._cut(code, reach + 1), place), where], dim=1) * within
        around = self._around(self._cut(code, self.law.radius))
        return self._raw(self.stacks.at_last(features, within, *conditions)), around

    def _cut(self, window: Tensor, radius: int) -> Tensor:
        """The window of a smaller radius: [n, r + 1, 2 r + 1] -> [n, radius + 1, 2 radius + 1]."""
        edge = self.radius - radius
        return window[:, edge:, edge : 2 * self.radius + 1 - edge]

    def _where(self, row: Tensor, column: Tensor) -> Tensor:
        """Where a pixel lies, and 1: row, column int64 [..., H, W] -> float32 [..., _PLACE, H, W]."""
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
        raw: Tensor = self.to_law(functional.silu(self.head(features)))
        return raw.flatten(2).transpose(1, 2)


def _padded(code: Tensor, margin: int) -> Tensor:
    """Codes with what lies above and on both sides: [n, H, W] -> [n, H + margin, W + 2 margin]."""
    return functional.pad(code, (margin, margin, margin, 0), value=OUTSIDE)
