"""MADE for tables as people have them: one masked network, and for each column a law of its own kind.

    log p(x) = sum_d log p(x_d given x_1 ... x_{d-1})

in the order of the columns (M. Germain, K. Gregor, I. Murray and H. Larochelle, "MADE", 2015). The conditional of
- a real, positive or count column is a mixture of K logistic laws on a fitted scale (B. Uria, I. Murray and
  H. Larochelle, "RNADE", 2013, with logistic in place of normal components; scales in ``models/nets/columns.py``).
  Where values are rounded or counted, it is the mixture's mass in the cell around the value (T. Salimans,
  A. Karpathy, X. Chen and D. Kingma, "PixelCNN++", 2017), divided by the cell's width for a rounded real: the
  density that is constant over each cell;
- a binary, ordinal or categorical column is a softmax over its values.

A column that may be missing has missing as one more value: p(missing) is a Bernoulli law, and the rest of the mass is
the law of the values. The density is thus on {missing} or a value, it sums and integrates to 1, and nothing is summed
out; whether a value is missing may depend on the columns before it. A code of categories enters the network alone and
never the density. Scales and laws are in double, the network in single precision.

Sampling takes D steps, one column each.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> columns = (
    ...     Column(name="kind", kind="categorical", base_measure="counting", categories=("a", "b")),
    ...     Column(name="size", kind="real", base_measure="lebesgue", missing_allowed=True),
    ... )
    >>> model = TabularMADE(Support(shape=(2,), columns=columns), hidden=[8], components=2)
    >>> x = torch.tensor([[0.0, 1.5], [1.0, float("nan")], [1.0, -0.5]], dtype=torch.float64)
    >>> model.prepare(x)
    >>> model.log_prob(x).shape
    torch.Size([3])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.capabilities import Capability, NumberKind
from contract.programs import ProgramInput, State
from contract.randomness import Stream
from contract.support import Column, Support
from models.base import GenerativeModel, register
from models.nets.columns import NumberScales
from models.nets.lanes import full_lanes, row_logsumexp, row_sum
from models.nets.masked import MaskedLinear
from models.protocols import Losses
from models.randomness import bits, state

__all__ = ["TabularMADE"]

_NUMBERS = ("real", "positive", "count")
_SEEN = 8.0  # deviations beyond which the network takes a value to lie no farther
_SCALES = (-7.0, 4.0)  # least and largest log-scale of a component, in deviations of its column
_IMPOSSIBLE = -1e30  # log-odds of a value that a column does not have


@register("tabular-made")
class TabularMADE(GenerativeModel):
    """Masked autoregressive law of a table with columns of any kinds, which may be missing.

    Args:
        support: a table.
        hidden: widths of the hidden layers.
        components: K, logistic laws in a conditional.
        dropout: share of hidden units left out in training.
    """

    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "one law describes all rows: a label is a column like any other, and has no answer of its own",
        "marginal": "a column that is not known enters the law of each later one: to sum it out has no closed form",
        "inpaint": "a missing value is a value of its own here, with a probability: a hole could not be told from it",
        "encode": "an autoregressive model factorises p(x) over the columns themselves: it has no latent code",
        "decode": "an autoregressive model has no latent code to decode: a row is drawn column by column",
        "latent": "an autoregressive model has no latent variable: its randomness goes into the columns one by one",
    }
    log_prob_kind: ClassVar[NumberKind] = "exact"
    sample_parameters: ClassVar[tuple[ProgramInput, ...]] = ()
    sample_preview: ClassVar[str] = "drawn"

    levels: Tensor
    numbers: Tensor
    classes: Tensor
    holes: Tensor
    value_at: Tensor
    hole_at: Tensor
    code_of: Tensor

    def __init__(
        self, support: Support, *, hidden: Sequence[int] = (128, 128), components: int = 8, dropout: float = 0.0
    ):
        super().__init__(support)
        columns = support.columns or ()
        d = len(columns)
        self.components, self.dropout = components, dropout
        numbers = [i for i, column in enumerate(columns) if column.kind in _NUMBERS]
        classes = [i for i, column in enumerate(columns) if column.kind not in _NUMBERS]
        holes = [i for i, column in enumerate(columns) if column.missing_allowed]
        self.scales = NumberScales([columns[i] for i in numbers])
        levels = [_levels(columns[i]) for i in classes]
        self.most = max(levels, default=0)
        # Features in the order of _features, outputs in the order of _laws, each of the degree of its column.
        code = [(i, level) for i, count in zip(classes, levels, strict=True) for level in range(count)]
        features = torch.tensor([*numbers, *(i for i, _ in code), *holes]) + 1
        outputs = torch.tensor(
            [i for i in numbers for _ in range(3 * components)] + [i for i in classes for _ in range(self.most)] + holes
        )
        self.layers = nn.ModuleList()
        before = features
        for width in hidden:
            degrees = 1 + torch.arange(width) * max(d - 1, 1) // width
            self.layers.append(MaskedLinear((degrees[:, None] >= before).float()))
            before = degrees
        self.last = MaskedLinear((outputs[:, None] + 1 > before).float(), zero=True)
        self.direct = MaskedLinear((outputs[:, None] + 1 > features).float(), bias=False, zero=True)
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.int64), persistent=False)
        self.register_buffer("classes", torch.tensor(classes, dtype=torch.int64), persistent=False)
        self.register_buffer("holes", torch.tensor(holes, dtype=torch.int64), persistent=False)
        # Where a column's terms are among all of them; there is a zero behind the last, for columns without holes.
        value_at = [[*numbers, *classes].index(i) for i in range(d)]
        hole_at = [d + holes.index(i) if i in holes else d + len(holes) for i in range(d)]
        self.register_buffer("value_at", torch.tensor(value_at), persistent=False)
        self.register_buffer("hole_at", torch.tensor(hole_at), persistent=False)
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.int64), persistent=False)
        self.register_buffer(
            "code_of", torch.tensor(code, dtype=torch.float64).reshape(-1, 2).T.contiguous(), persistent=False
        )

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for a table, else the reason in words."""
        if support.columns is None:
            return "the support is not a table: its coordinates have no columns of their own"
        return None

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Fit the scales to x [n, d] and start from independent columns.

        Raises:
            ValueError: a column is constant, or missing in every row.
        """
        x = x.double()
        for i, column in enumerate(self.support.columns or ()):
            seen = x[:, i][~x[:, i].isnan()]
            if not len(seen) or bool((seen == seen[0]).all()):
                raise ValueError(
                    f"column {column.name!r} is constant among the training rows: there is nothing to model"
                )
        if len(self.numbers):
            self.scales.fit(x.index_select(1, self.numbers))
        bias: list[Tensor] = []
        k = self.components
        for i in self.numbers.tolist():
            y = self.scales.forward(x.index_select(1, self.numbers))[:, self.numbers.tolist().index(i)]
            places = torch.quantile(y[~y.isnan()], (torch.arange(k, dtype=torch.float64) + 0.5) / k)
            bias += [torch.zeros(k), places.clamp(-_SEEN, _SEEN), torch.full((k,), -1.0)]
        for i, count in zip(self.classes.tolist(), self.levels.tolist(), strict=True):
            seen = x[:, i][~x[:, i].isnan()].long()
            shares = (torch.bincount(seen, minlength=count) + 0.5) / (len(seen) + 0.5 * count)
            bias.append(functional.pad(shares.log(), (0, self.most - count)))
        for i in self.holes.tolist():
            holes = float(x[:, i].isnan().sum())
            bias.append(torch.tensor([(holes + 0.5) / (len(x) - holes + 0.5)]).log())
        assert self.last.bias is not None
        self.last.bias.copy_(torch.cat([part.double() for part in bias]))

    def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
        """Mean negative log-likelihood of x [n, d], in nats; nothing is drawn."""
        loss = -self.log_prob(x).mean()
        return Losses(total={"main": loss}, logged={"nll": loss.detach()})

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), exact, in nats of the original units: x float64 [n, d], NaN where missing -> float64 [n]."""
        return self.log_prob_and_trace(x)[0]

    @property
    def trace_shape(self) -> tuple[int, ...]:
        """[d]."""
        return self.support.shape

    def log_prob_and_trace(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x float64 [n, d] -> log p(x) float64 [n], and of each column given the earlier ones, float64 [n, d].

        The term of a column that may be missing has in it whether it is.
        """
        missing = x.isnan()
        numbers, classes, holes = self._laws(self._features(x))
        terms = []
        if len(self.numbers):
            absent = missing.index_select(1, self.numbers)
            values = x.index_select(1, self.numbers)
            values = torch.where(absent, torch.ones_like(values), values)  # any value that every kind has
            terms.append(torch.where(absent, torch.zeros_like(values), self._of_numbers(values, numbers)))
        if len(self.classes):
            absent = missing.index_select(1, self.classes)
            chosen = self._one_hot(x).to(classes.dtype)  # [n, C, most]; all 0 where missing
            log_p = classes - row_logsumexp(classes)[..., None]
            picked = row_sum(torch.where(chosen > 0, log_p, torch.zeros_like(log_p)))  # [n, C]
            terms.append(torch.where(absent, torch.zeros_like(picked), picked))
        if len(self.holes):
            absent = missing.index_select(1, self.holes)
            odds = torch.where(absent, holes, -holes)
            terms.append(-full_lanes(_softplus, -odds))
        total: Tensor = row_sum(terms[0])
        for term in terms[1:]:
            total = total + row_sum(term)
        flat = torch.cat([*terms, torch.zeros_like(x[:, :1])], dim=1)
        return total, flat.index_select(1, self.value_at) + flat.index_select(1, self.hole_at)

    # -- sampling, column by column ------------------------------------------------------------------------------

    @property
    def sample_steps(self) -> int:
        """D."""
        return self.support.size

    @property
    def sample_state(self) -> tuple[State, ...]:
        """The columns drawn so far; missing until then."""
        return (State(name="drawn", dtype="float64", shape=self.support.shape),)

    def sample_init(self, seed: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        """seed, row int64 [n] -> (drawn = NaN float64 [n, D],)."""
        return (torch.full((row.shape[0], self.support.size), torch.nan, dtype=torch.float64),)

    def sample_step(self, seed: Tensor, row: Tensor, t: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Draw column t of each row: t int64 [n], drawn float64 [n, D] -> (the next drawn,)."""
        (x,) = rest
        numbers, classes, holes = self._laws(self._features(x))
        # 32 bits each, never 0 or 1: is it missing, which component or class, and where in it.
        u = (bits(state(seed, row, Stream.STEP, t), 3).double() + 0.5) * 2.0**-32  # [n, 3]
        drawn = torch.zeros_like(x)
        every = torch.arange(self.support.size, device=x.device)
        if len(self.numbers):
            values = self._draw_numbers(numbers, u)
            drawn = drawn + values @ (self.numbers[:, None] == every).double()
        if len(self.classes):
            p = full_lanes(torch.exp, classes - row_logsumexp(classes)[..., None])
            below = (p.cumsum(dim=-1) < u[:, 1, None, None]).long().sum(dim=-1)  # [n, C]
            chosen = torch.minimum(below, self.levels - 1).double()
            drawn = drawn + chosen @ (self.classes[:, None] == every).double()
        if len(self.holes):
            chance = 1.0 / (1.0 + full_lanes(torch.exp, -holes))
            absent = (u[:, :1] < chance).double() @ (self.holes[:, None] == every).double() > 0.5
            drawn = torch.where(absent, torch.full_like(drawn, torch.nan), drawn)
        return (torch.where(every == t[:, None], drawn, x),)

    def sample_final(self, *state: Tensor) -> Tensor:
        """The last state -> x float64 [n, D]."""
        return state[0] + 0.0

    # -- the network -----------------------------------------------------------------------------------------------

    def _features(self, x: Tensor) -> Tensor:
        """What the network sees, scaled numbers, one-hot classes and holes: x [n, D] -> float32 [n, F]."""
        parts = []
        if len(self.numbers):
            y = self.scales.forward(x.index_select(1, self.numbers))
            parts.append(torch.where(y.isnan(), torch.zeros_like(y), y).clamp(-_SEEN, _SEEN))
        if len(self.classes):
            owner, level = self.code_of[0].long(), self.code_of[1]
            parts.append((x.index_select(1, owner) == level).double())
        if len(self.holes):
            parts.append(x.index_select(1, self.holes).isnan().double())
        return torch.cat(parts, dim=1).float()

    def _laws(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers float64 [n, C, 3, K], classes [n, C, most] (log-odds), log-odds of holes [n, M]."""
        h = features
        for layer in self.layers:
            h = functional.dropout(layer(h).relu(), self.dropout, self.training)
        out = (self.last(h) + self.direct(features)).double()
        n, c, m, k = out.shape[0], len(self.numbers), len(self.classes), self.components
        numbers = out[:, : c * 3 * k].reshape(n, c, 3, k)
        classes = out[:, c * 3 * k : c * 3 * k + m * self.most].reshape(n, m, self.most)
        impossible = torch.arange(self.most, device=out.device) >= self.levels[:, None]
        return numbers, classes.masked_fill(impossible, _IMPOSSIBLE), out[:, c * 3 * k + m * self.most :]

    def _one_hot(self, x: Tensor) -> Tensor:
        values = x.index_select(1, self.classes)
        return values[..., None] == torch.arange(self.most, dtype=torch.float64, device=x.device)

    # -- the law of numbers ------------------------------------------------------------------------------------------

    def _of_numbers(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Log-density or log-probability of each value: x [n, C], parameters [n, C, 3, K] -> float64 [n, C]."""
        log_weight, mean, log_scale = self._mixture(parameters)
        scale = full_lanes(torch.exp, -log_scale)  # 1 / s
        slope = self.scales.log_slope(x)
        z = (self.scales.forward(x)[..., None] - mean) * scale
        point = -z.abs() - log_scale - 2.0 * full_lanes(_log_one_plus_exp_minus, z.abs())
        low, high = self.scales.cell(x)
        a, b = (low[..., None] - mean) * scale, (high[..., None] - mean) * scale
        # log(sigmoid(b) - sigmoid(a)); where the edges meet in double, the width times the slope is the better width.
        step = torch.where(self.scales.resolution > 0, self.scales.resolution, torch.ones_like(self.scales.resolution))
        thin = (full_lanes(torch.exp, slope) * step)[..., None] * scale
        width = torch.where(b - a > 1e-6, b - a, thin).clamp(min=1e-300)
        inside = torch.where(width > 1e-6, 1.0 - full_lanes(torch.exp, -width), width)
        cell = full_lanes(torch.log, inside) - full_lanes(_softplus, a) - full_lanes(_softplus, -b)
        # Of a rounded real, the density over its cell; a count has the probability itself.
        per = torch.where(self.scales.count, torch.zeros_like(step), step.log())
        rounded = self.scales.resolution > 0
        point = row_logsumexp(log_weight + point) + slope
        return torch.where(rounded, row_logsumexp(log_weight + cell) - per, point)

    def _draw_numbers(self, parameters: Tensor, u: Tensor) -> Tensor:
        """Values by inversion: parameters [n, C, 3, K], u [n, 3] -> x float64 [n, C]."""
        log_weight, mean, log_scale = self._mixture(parameters)
        below = full_lanes(torch.exp, log_weight).cumsum(dim=-1) < u[:, 1, None, None]  # [n, C, K]
        k = below.long().sum(dim=-1, keepdim=True).clamp(max=self.components - 1)
        here = torch.arange(self.components, device=u.device) == k
        odds = full_lanes(torch.log, u[:, 2:]) - full_lanes(torch.log, 1.0 - u[:, 2:])  # [n, 1]
        y = row_sum(here * mean) + row_sum(here * full_lanes(torch.exp, log_scale)) * odds
        return self.scales.inverse(y)

    def _mixture(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights, mean, log_scale = parameters.unbind(dim=2)
        return weights - row_logsumexp(weights)[..., None], mean, log_scale.clamp(*_SCALES)


def _levels(column: Column) -> int:
    return 2 if column.kind == "binary" else column.levels or len(column.categories or ())


def _log_one_plus_exp_minus(v: Tensor) -> Tensor:
    # log(1 + exp(-v)) for v >= 0, in double: the logarithm of 1 + something small loses nothing that counts.
    return torch.log(1.0 + torch.exp(-v))


def _softplus(v: Tensor) -> Tensor:
    return _log_one_plus_exp_minus(v.abs()) + v.relu()
