"""MADE: a masked autoencoder as an autoregressive law of binary coordinates.

    log p(x) = sum_d log Bernoulli(x_d; sigmoid(l_d)),    l_d = b_d + V_d . relu(c + W x) + A_d . x

where masks on W, V and A let l_d depend on x_1 ... x_{d-1} alone, so that the conditionals multiply to a
probability that sums to 1 (M. Germain, K. Gregor, I. Murray and H. Larochelle, "MADE: Masked Autoencoder for
Distribution Estimation", 2015; A is the paper's direct connection). One hidden layer, natural order.

Sampling takes D steps, each O(H + D) a row: the hidden units' inputs h = c + W x are carried along, and step t reads
l_t off them, draws x_t, and adds the column of W that x_t switches on. A row's step is its own, so that rows at
different steps share a batch.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> pixel = Column(name="pixel", kind="binary", base_measure="counting")
    >>> model = MADE(Support(shape=(2, 2), element=pixel), hidden=8)
    >>> states = torch.cartesian_prod(*[torch.arange(2)] * 4).reshape(-1, 2, 2)
    >>> round(model.log_prob(states).exp().sum().item(), 6)
    1.0
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from contract.capabilities import Capability, NumberKind
from contract.programs import Filling, ProgramInput, State
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel, register
from models.nets.lanes import row_sum
from models.nets.laws import TEMPERATURE, bernoulli_terms
from models.nets.masked import MaskedLinear
from models.protocols import Losses
from models.randomness import address, stream_state, uniform_from

__all__ = ["MADE"]


@register("made")
class MADE(GenerativeModel):
    """Autoregressive Bernoulli law of D binary coordinates, in the order in which a row lists them.

    Args:
        support: binary coordinates, none of which may be missing.
        hidden: H, hidden units; a multiple of 16 samples fastest.
        direct: whether each coordinate also sees its predecessors directly; D^2 more weights.
    """

    refusals: ClassVar[dict[Capability, str]] = {
        "encode": "an autoregressive model factorises p(x) over the coordinates themselves: it has no latent code",
        "decode": "an autoregressive model has no latent code to decode: a row is drawn coordinate by coordinate",
        "classify": "one law describes all rows: it knows no labels that a row could have",
        "marginal": "a coordinate that is not known enters the law of each later one: to sum it out takes a sum over "
        "every state of all such coordinates",
        "latent": "an autoregressive model has no latent variable: its randomness goes into the coordinates one by one",
    }
    log_prob_kind: ClassVar[NumberKind] = "exact"
    sample_parameters: ClassVar[tuple[ProgramInput, ...]] = (TEMPERATURE,)
    sample_preview: ClassVar[str] = "pixels"
    filling: ClassVar[Filling] = "earlier"

    def __init__(self, support: Support, *, hidden: int = 500, direct: bool = True):
        super().__init__(support)
        dims = support.size
        position = torch.arange(1, dims + 1)
        # A hidden unit of degree m sees coordinates 1 ... m; degrees are spread evenly over 1 ... D - 1.
        degree = 1 + torch.arange(hidden) * max(dims - 1, 1) // hidden
        self.to_hidden = MaskedLinear((degree[:, None] >= position).float(), input_major=True)  # W, stored [D, H]
        self.to_logits = MaskedLinear((position[:, None] > degree).float())  # V, [D, H]
        self.direct = (
            MaskedLinear((position[:, None] > position).float(), bias=False, zero=True) if direct else None
        )  # A, [D, D]

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for binary coordinates without missing values, else the reason in words."""
        for column in support.columns or (support.element,):
            if column is not None and column.kind != "binary":
                return f"{column.name!r} is {column.kind}, and a Bernoulli conditional gives 0 or 1 only"
            if column is not None and column.missing_allowed:
                return f"{column.name!r} may be missing, and this family cannot sum a coordinate out"
        return None

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Start from the independent law of x [n, *shape]: each output bias is its coordinate's log-odds."""
        on = x.reshape(len(x), -1).double().mean(dim=0)
        odds = ((on * len(x) + 0.5) / ((1 - on) * len(x) + 0.5)).log()  # Haldane-Anscombe: finite at 0 and 1
        assert self.to_logits.bias is not None
        self.to_logits.bias.copy_(odds)

    def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
        """Mean negative log-likelihood of x [n, *shape], in nats; nothing is drawn."""
        rows = self._flat(x)
        terms = functional.binary_cross_entropy_with_logits(self._logits(rows), rows, reduction="none")
        loss = terms.sum(dim=1).mean()
        return Losses(total={"main": loss}, logged={"nll": loss.detach()})

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), exact, in nats: x [n, *shape] -> float64 [n]."""
        return self.log_prob_and_trace(x)[0]

    @property
    def trace_shape(self) -> tuple[int, ...]:
        """A row's."""
        return self.support.shape

    def log_prob_and_trace(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, *shape] -> log p(x) float64 [n], and log P(x_d given the earlier ones) float64 [n, *shape]."""
        rows = self._flat(x)
        terms = bernoulli_terms(self._logits(rows), rows)
        return row_sum(terms), terms.reshape(-1, *self.support.shape)

    # -- sampling, step by step --------------------------------------------------------------------------------

    @property
    def sample_steps(self) -> int:
        """D."""
        return self.support.size

    @property
    def sample_state(self) -> tuple[State, ...]:
        """The address, the hidden units' inputs h, the coordinates drawn so far, and which are held as they are."""
        return (
            State(name="address", dtype="int64"),
            State(name="h", dtype="float32", shape=(self.to_logits.weight.shape[1],)),
            State(name="pixels", dtype="float32", shape=(self.support.size,)),
            State(name="held", dtype="bool", shape=(self.support.size,)),
        )

    def sample_init(self, seed: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        """seed, row int64 [n] -> (address int64 [n], h = c float32 [n, H], pixels = 0 float32 [n, D], held: none)."""
        pixels = torch.zeros(row.shape[0], self.support.size)
        return self._start(seed, row, pixels, pixels.bool())

    def inpaint_init(self, x: Tensor, known: Tensor, seed: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        """x, known [n, *shape], seed, row int64 [n] -> the first state, in which what is known is there and held."""
        held = known.reshape(-1, self.support.size)
        return self._start(seed, row, torch.where(held, self._flat(x), 0.0), held)

    def _start(self, seed: Tensor, row: Tensor, pixels: Tensor, held: Tensor) -> tuple[Tensor, ...]:
        assert self.to_hidden.bias is not None
        return address(seed, row), self.to_hidden.bias.expand(row.shape[0], -1), pixels, held

    def sample_step(self, seed: Tensor, row: Tensor, t: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Draw coordinate t of each row: t int64 [n], temperature float64 [n], the state -> the next state."""
        temperature, addresses, h, pixels, held = rest
        assert self.to_logits.bias is not None
        output = self.to_logits.masked_weight.index_select(0, t)  # [n, H]
        logit = self.to_logits.bias.index_select(0, t) + row_sum(output * h.relu())  # [n]
        if self.direct is not None:
            # Row t of A is 0 from coordinate t on: what is held there is not looked at.
            logit = logit + row_sum(self.direct.masked_weight.index_select(0, t) * pixels)
        chance = torch.sigmoid(logit / temperature.float())
        drawn = (uniform_from(stream_state(addresses, Stream.STEP, t), 1)[:, 0] < chance).float()  # [n]
        at = t[:, None]
        drawn = torch.where(held.gather(1, at), pixels.gather(1, at), drawn[:, None])[:, 0]
        here = torch.arange(self.support.size) == at  # [n, D]
        h = h + drawn[:, None] * self.to_hidden.masked_weight.index_select(0, t)
        return addresses, h, torch.where(here, drawn[:, None], pixels), held

    def sample_final(self, *state: Tensor) -> Tensor:
        """The last state -> x [n, *shape]."""
        dtype = torch.uint8 if self.support.dtype == "uint8" else torch.float64
        return state[2].to(dtype).reshape(-1, *self.support.shape)

    def _flat(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.support.size).float()  # [n, D]

    def _logits(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.to_logits(self.to_hidden(rows).relu())
        return logits if self.direct is None else logits + self.direct(rows)
