"""WaveNet: signals drawn sample by sample, by dilated causal convolutions.

    log p(x) = sum_t log P(x_t given x_1 ... x_(t-1))

of T whole levels, by layers of gated convolutions that look at the present and d steps back (A. van den Oord et al.,
"WaveNet: A Generative Model for Raw Audio", 2016), with * such a convolution and y the label, if there is one:

    z = tanh(W_1 * h + V_1 y) sigmoid(W_2 * h + V_2 y),    h = h + R z,    s = s + S z
    P(x_t given the past) = softmax(O relu(P relu(s_t)))

h begins with a learnt vector for the level before, and one for there being none. d doubles from layer to layer, and
starts at 1 again with each stack, so that L layers see 2^L steps. Levels are taken as they are: whoever quantises a
signal says how (``training/data/series.py`` uses levels of equal width; mu-law would be other levels of the same law).
The log-probability is exact, of the levels, and comes with its trace: the logarithm of each factor.

Drawing takes a step a sample. A layer that looks d steps back keeps its last d inputs in a ring, of which a step reads
one place and writes one: each layer is computed at one time alone.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> level = Column(name="level", kind="ordinal", levels=3, base_measure="counting")
    >>> model = WaveNet(Support(shape=(4,), element=level), width=4, skip=4, layers=2)
    >>> states = torch.cartesian_prod(*[torch.arange(3)] * 4)
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
from models.base import GenerativeModel, register
from models.nets.labels import BayesClassifier, LabelPrior, label_condition, withheld
from models.nets.lanes import row_logsumexp, row_sum
from models.nets.laws import TEMPERATURE
from models.nets.pixels import draw_from_softmax
from models.protocols import Losses
from models.randomness import address, stream_state, uniform_from

__all__ = ["WaveNet"]


@register("wavenet")
class WaveNet(BayesClassifier, GenerativeModel):
    """WaveNet of signals of T samples in 2 to 256 levels.

    Args:
        support: T levels, shape [T], none of which may be missing.
        width: channels of the layers; a multiple of 16 is fastest.
        skip: channels of what the layers add up, and of the layer before the softmax.
        layers: layers of a stack, with dilations 1, 2, 4 ...
        stacks: how often the dilations start anew.
        labels: classes to condition on; none for an unconditional model.
        label_dropout: share of training rows whose label is withheld, which teaches the model without a label.
    """

    refusals: ClassVar[dict[Capability, str]] = {
        "encode": "an autoregressive model factorises p(x) over the samples themselves: it has no latent code",
        "decode": "an autoregressive model has no latent code to decode: a signal is drawn sample by sample",
        "latent": "an autoregressive model has no latent variable: its randomness goes into the samples one by one",
        "marginal": "a sample that is not known enters the law of each later one: to sum it out takes a sum over every "
        "state of all such samples",
    }
    log_prob_kind: ClassVar[NumberKind] = "exact"
    sample_parameters: ClassVar[tuple[ProgramInput, ...]] = (TEMPERATURE,)
    sample_preview: ClassVar[str] = "signal"
    filling: ClassVar[Filling] = "earlier"

    def __init__(
        self,
        support: Support,
        *,
        width: int = 32,
        skip: int = 64,
        layers: int = 6,
        stacks: int = 1,
        labels: Sequence[str] = (),
        label_dropout: float = 0.1,
    ):
        super().__init__(support)
        assert support.element is not None
        self.length, self.levels = support.size, support.element.levels or 2
        if min(width, skip, layers, stacks) < 1:
            raise ValueError("width, skip, layers and stacks are 1 or more")
        if 2 ** (layers - 1) >= self.length:
            raise ValueError(
                f"layers: the last of {layers} looks {2 ** (layers - 1)} steps back, in {self.length} samples"
            )
        if not 0.0 <= label_dropout < 1.0:
            raise ValueError("label_dropout lies in [0, 1)")
        self.labels, self.label_dropout, self.width = tuple(labels), label_dropout, width
        self.prior = LabelPrior(len(labels)) if labels else None
        self.first = nn.Embedding(self.levels + 1, width)  # the last is for the time before the first sample
        count = layers * stacks
        self.layers = nn.ModuleList(
            _Layer(width, skip, 2 ** (i % layers), labels=len(labels), last=i == count - 1) for i in range(count)
        )
        self.head = nn.Linear(skip, skip)
        self.to_levels = nn.Linear(skip, self.levels)
        # Where each layer's ring begins among the places that are carried along.
        self.dilations = [2 ** (i % layers) for i in range(count)]
        self.starts = [sum(self.dilations[:i]) for i in range(count)]

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for signals of 2 to 256 levels without missing samples, else the reason in words."""
        element = support.element
        if element is None:
            return "the support is a table: its columns do not follow each other in time"
        if len(support.shape) != 1 or support.size < 2:
            return f"rows of shape {list(support.shape)} are no signals [T] of two samples or more"
        if element.missing_allowed:
            return f"{element.name!r} may be missing, and this family cannot sum a sample out"
        if element.kind not in ("binary", "ordinal") or (element.levels or 2) > 256:
            return f"{element.name!r} is {element.kind}, and this family models samples of 2 to 256 levels"
        return None

    @property
    def conditions(self) -> tuple[ProgramInput, ...]:
        """The label, if there are labels; one more than the last is the null value."""
        return label_condition(self.labels, "signal")

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Start near the shares of the levels in x [n, T], whatever came before."""
        shares = (torch.bincount(x.long().flatten(), minlength=self.levels) + 0.5).double()
        self.to_levels.weight.mul_(0.1)
        self.to_levels.bias.copy_((shares / shares.sum()).log())

    def losses(self, x: Tensor, seed: Tensor, row: Tensor, *conditions: Tensor) -> Losses:
        """Mean negative log-likelihood of x [n, T], in nats. The label of some rows is withheld."""
        known = withheld(conditions, seed, row, self.label_dropout, len(self.labels))
        loss = -self.log_prob(x, *known).mean()
        return Losses(total={"main": loss}, logged={"nll": loss.detach()})

    def log_prob(self, x: Tensor, *conditions: Tensor) -> Tensor:
        """log p(x), exact, in nats: x [n, T] -> float64 [n]."""
        return self.log_prob_and_trace(x, *conditions)[0]

    @property
    def trace_shape(self) -> tuple[int, ...]:
        """[T]."""
        return (self.length,)

    def log_prob_and_trace(self, x: Tensor, *conditions: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, T] -> log p(x) float64 [n], and log P(x_t given the past) float64 [n, T], whose sum it is."""
        levels = x.long()
        before = functional.pad(levels[:, :-1], (1, 0), value=self.levels)
        h = self.first(before)  # [n, T, width]
        found = h.new_zeros(1)
        for layer in self._stack:
            past = functional.pad(h, (0, 0, layer.dilation, 0))[:, : self.length]
            h, skip = layer(h, past, *conditions)
            found = found + skip
        logits = self._logits(found).double()  # [n, T, levels]
        trace = logits.gather(2, levels[..., None])[..., 0] - row_logsumexp(logits)
        return row_sum(trace), trace

    # -- sampling, sample by sample ----------------------------------------------------------------------------------

    @property
    def sample_steps(self) -> int:
        """T."""
        return self.length

    @property
    def sample_state(self) -> tuple[State, ...]:
        """The address, the rings of all layers one after the other, the levels so far, and which of them are held."""
        return (
            State(name="address", dtype="int64"),
            State(name="rings", dtype="float32", shape=(sum(self.dilations), self.width)),
            State(name="signal", dtype="int64", shape=(self.length,)),
            State(name="held", dtype="bool", shape=(self.length,)),
        )

    def sample_init(self, seed: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        """seed, row int64 [n] -> (address int64 [n], rings float32 [n, D, width], signal, held [n, T]), zeros."""
        n = row.shape[0]
        rings = torch.zeros(n, sum(self.dilations), self.width)
        signal = torch.zeros(n, self.length, dtype=torch.int64)
        return address(seed, row), rings, signal, signal.bool()

    def inpaint_init(self, x: Tensor, known: Tensor, seed: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        """x, known bool [n, T], seed, row int64 [n] -> the first state: known samples there, and held."""
        addresses, rings, signal, _ = self.sample_init(seed, row)
        return addresses, rings, torch.where(known, x.long(), signal), known

    def sample_step(self, seed: Tensor, row: Tensor, t: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Draw sample t of each row: t int64 [n], temperature float64 [n], conditions, the state -> the next state."""
        temperature, *conditions, addresses, rings, signal, held = rest
        before = signal.gather(1, (t - 1).clamp(min=0)[:, None])[:, 0]
        h = self.first(torch.where(t > 0, before, self.levels))  # [n, width]
        found, written = h.new_zeros(1), []
        for layer, start in zip(self._stack, self.starts, strict=True):
            ring = rings[:, start : start + layer.dilation]  # [n, d, width]
            here = torch.arange(layer.dilation) == (t % layer.dilation)[:, None]  # [n, d]
            place = (t % layer.dilation)[:, None, None].expand(-1, 1, self.width)
            past = ring.gather(1, place)[:, 0]  # what was written there d steps ago; zeros at first
            written.append(torch.where(here[..., None], h[:, None], ring))
            h, skip = layer(h, past, *conditions)
            found = found + skip
        logits = self._logits(found) / temperature.float()[:, None]
        drawn = draw_from_softmax(logits, uniform_from(stream_state(addresses, Stream.STEP, t), 1)[:, 0])
        at = t[:, None]
        drawn = torch.where(held.gather(1, at), signal.gather(1, at), drawn[:, None])  # [n, 1]
        here = torch.arange(self.length) == at  # [n, T]
        return addresses, torch.cat(written, dim=1), torch.where(here, drawn, signal), held

    def sample_final(self, *state: Tensor) -> Tensor:
        """The last state -> x uint8 [n, T]."""
        return state[2].to(torch.uint8)

    @property
    def _stack(self) -> list[_Layer]:
        return list(self.layers)  # type: ignore[arg-type]

    def _logits(self, found: Tensor) -> Tensor:
        logits: Tensor = self.to_levels(functional.relu(self.head(functional.relu(found))))
        return logits


class _Layer(nn.Module):
    """A gated convolution of two taps, as two linear maps, so that it works on one time as on all of them."""

    def __init__(self, width: int, skip: int, dilation: int, *, labels: int, last: bool):
        super().__init__()
        self.dilation = dilation
        self.present = nn.Linear(width, 2 * width)
        self.past = nn.Linear(width, 2 * width, bias=False)
        self.residual = None if last else nn.Linear(width, width)  # nothing comes after the last
        self.skip = nn.Linear(width, skip)
        self.labels = nn.Embedding(labels + 1, 2 * width) if labels else None
        if self.labels is not None:
            nn.init.zeros_(self.labels.weight)  # to begin with, a label says nothing

    def forward(self, h: Tensor, past: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """h and the h of d steps ago [n, ..., width], label int64 [n] -> the next h, and what to add to the skips."""
        mixed = self.present(h) + self.past(past)
        if self.labels is not None:
            assert label is not None
            mixed = mixed + self.labels(label).reshape(-1, *[1] * (h.dim() - 2), mixed.shape[-1])
        value, gate = mixed.chunk(2, dim=-1)
        z = torch.tanh(value) * torch.sigmoid(gate)
        return h if self.residual is None else h + self.residual(z), self.skip(z)
