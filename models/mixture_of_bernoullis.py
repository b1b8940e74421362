"""A mixture of laws of independent bits, fitted by expectation maximisation.

    log p(x) = log sum_k w_k prod_d t_kd^x_d (1 - t_kd)^(1 - x_d)
             = log sum_k exp( c_k + sum_d x_d l_kd ),    l = log t / (1 - t),    c_k = log w_k + sum_d log(1 - t_kd)

so that a row costs one product of matrices. EM (A. P. Dempster, N. M. Laird and D. B. Rubin, "Maximum Likelihood from
Incomplete Data via the EM Algorithm", 1977; for bits C. M. Bishop, "Pattern Recognition and Machine Learning", 2006,
section 9.3.3) climbs to a local maximum of

    sum_i log p(x_i) + s sum_k [ log w_k + sum_d ( m_d log t_kd + (1 - m_d) log(1 - t_kd) ) ]

where m is the mean row. The second part is s pseudo-rows of the mean for each component: without it a bit that was
never on among the rows of a component would be impossible there. Some training rows are held out: climbing ends, and
the best of several starts is told, by their likelihood.

A draw chooses a component and then each bit by inversion. The code of a row is its responsibilities, the probabilities
p(k given x). Everything that is served is in double.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> pixel = Column(name="pixel", kind="binary", base_measure="counting")
    >>> model = MixtureOfBernoullis(Support(shape=(2, 2), element=pixel), components=2, starts=5)
    >>> _ = torch.manual_seed(0)
    >>> model.fit(torch.tensor([[[0, 0], [0, 0]], [[1, 1], [1, 1]]], dtype=torch.uint8).repeat(20, 1, 1))
    >>> states = torch.cartesian_prod(*[torch.arange(2)] * 4).reshape(-1, 2, 2)
    >>> round(model.log_prob(states).exp().sum().item(), 9)
    1.0
    >>> bool(model.encode(states)[[0, -1]].amax(dim=1).min() > 0.99)
    True
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from contract.capabilities import Capability, NumberKind
from contract.programs import ProgramInput
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel, register
from models.nets.inversion import invert_steps
from models.nets.lanes import full_lanes, row_logsumexp, row_sum, softplus
from models.nets.levels import why_not_binary
from models.randomness import uniform

__all__ = ["MixtureOfBernoullis", "expectation", "maximisation", "penalty"]

_CHUNK = 4000  # rows whose responsibilities are in memory at a time
_LEAST_GAIN = 1e-3  # nats a row; a pass that gains less has gained nothing


@register("mixture-of-bernoullis")
class MixtureOfBernoullis(GenerativeModel):
    """Mixture of laws of D independent bits.

    Args:
        support: binary coordinates, none of which may be missing.
        components: K.
        starts: how often EM starts anew, each time from other rows.
        smoothing: s, pseudo-rows of the mean row in each component.
        held_out: share of the training rows that says when to stop, and which start is best.
        patience: passes that gain no thousandth of a nat on the rows held out, in a row, after which EM stops.
        max_passes: over the rows, from each start.

    Raises:
        ValueError: the support is not of that kind, or a number is out of its range.
    """

    logits: Tensor
    offsets: Tensor
    cumulative: Tensor

    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "one law describes all rows: it knows no labels that a row could have",
        "latent": "a draw is a component and bits drawn given it, which no code with one base law stands for",
        "decode": "responsibilities say which component a row is of, and not which bits are on: many rows share a code",
    }
    log_prob_kind: ClassVar[NumberKind] = "exact"
    code_description: ClassVar[str] = "responsibilities p(component given row), which cannot be decoded"
    sample_parameters: ClassVar[tuple[ProgramInput, ...]] = ()

    def __init__(
        self,
        support: Support,
        *,
        components: int = 20,
        starts: int = 1,
        smoothing: float = 1.0,
        held_out: float = 0.1,
        patience: int = 5,
        max_passes: int = 200,
    ):
        super().__init__(support)
        if min(components, starts, patience, max_passes) < 1:
            raise ValueError("components, starts, patience and max_passes are 1 or more")
        if not 0.0 < held_out < 1.0 or not 0.0 < smoothing < float("inf"):
            raise ValueError("held_out lies between 0 and 1, and smoothing is a finite number above 0")
        self.components = components
        self.starts = starts
        self.smoothing = smoothing
        self.held_out = held_out
        self.patience = patience
        self.max_passes = max_passes
        self.register_buffer("logits", torch.zeros(components, support.size, dtype=torch.float64))
        self.register_buffer("offsets", torch.zeros(components, dtype=torch.float64))
        self.register_buffer("cumulative", torch.zeros(components, dtype=torch.float64))

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for binary coordinates without missing values, else the reason in words."""
        return why_not_binary(support)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(K,)."""
        return (self.components,)

    @property
    def fit_passes(self) -> int:
        """Over the rows, from all starts."""
        return self.starts * self.max_passes

    @torch.no_grad()
    def fit(self, x: Tensor, progress: Callable[[int, str], None] = lambda done, note: None) -> None:
        """Fit by EM to x [n, *shape]; the rows held out and the starts follow from torch's seed.

        Raises:
            ValueError: there are fewer rows than components.
        """
        order = torch.randperm(len(x))
        aside = max(1, round(self.held_out * len(x)))
        rows, judges = (x.reshape(len(x), -1)[part] for part in (order[aside:], order[:aside]))
        if len(rows) < self.components:
            raise ValueError(f"{len(rows)} training rows are fewer than {self.components} components")
        mean = (rows.double().sum(dim=0) + 0.5) / (len(rows) + 1.0)  # [D], never 0 or 1
        best, chosen = -torch.inf, (self.offsets.exp(), torch.sigmoid(self.logits))
        for start in range(self.starts):
            # Components start half-way between some row and the mean.
            picked = rows[torch.randperm(len(rows))[: self.components]].double()
            weights, chances = torch.full_like(self.offsets, 1.0 / self.components), 0.5 * picked + 0.5 * mean
            last, since = -torch.inf, 0
            for step in range(1, self.max_passes + 1):
                _, sizes, sums = expectation(rows, weights, chances)
                weights, chances = maximisation(sizes, sums, mean, self.smoothing)
                judged = expectation(judges, weights, chances)[0] / len(judges)
                last, since = (judged, 0) if judged > last + _LEAST_GAIN else (last, since + 1)
                if judged > best:
                    best, chosen = judged, (weights, chances)
                progress(start * self.max_passes + step, f"log-probability of the rows held out {judged:.3f}")
                if since >= self.patience:
                    break
        self.set_parameters(*chosen)

    def set_parameters(self, weights: Tensor, chances: Tensor) -> None:
        """Take w float64 [K] and t float64 [K, D], strictly between 0 and 1."""
        logits, offsets = _linear(weights, chances)
        self.logits.copy_(logits)
        self.offsets.copy_(offsets)
        self.cumulative.copy_(weights.cumsum(dim=0))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), exact, in nats: x [n, *shape] -> float64 [n]."""
        return row_logsumexp(self._joint(x))

    def encode(self, x: Tensor) -> Tensor:
        """Responsibilities p(k given x): x [n, *shape] -> float64 [n, K], each row's sum 1."""
        joint = self._joint(x)
        return full_lanes(torch.exp, joint - row_logsumexp(joint)[:, None])

    def sample(self, seed: Tensor, row: Tensor, *parameters: Tensor) -> Tensor:
        """Draw a component by its weight, then each bit: seed, row int64 [n] -> x [n, *shape]."""
        return self._row_of(invert_steps(self.cumulative, self._uniform(seed, row)), seed, row)

    # -- rows of which a part is known -------------------------------------------------------------------------------

    def marginal(self, x: Tensor, known: Tensor) -> Tensor:
        """log p(known bits of x), exact, in nats: x, known bool [n, *shape] -> float64 [n]."""
        return row_logsumexp(self._joint_of_known(x, known))

    def inpaint(self, x: Tensor, known: Tensor, seed: Tensor, row: Tensor) -> Tensor:
        """Draw what is not known of x given what is, a component first: x, known [n, *shape], addresses int64 [n]."""
        joint = self._joint_of_known(x, known)
        cumulative = full_lanes(torch.exp, joint - row_logsumexp(joint)[:, None]).cumsum(dim=1)
        k = invert_steps(cumulative, self._uniform(seed, row))
        return torch.where(known, x, self._row_of(k, seed, row))

    def _joint_of_known(self, x: Tensor, known: Tensor) -> Tensor:
        """log p(known bits of x, k): [n, *shape] -> [n, K]."""
        there = known.reshape(-1, self.support.size).double()
        bits = x.reshape(-1, self.support.size).double() * there
        off = softplus(self.logits)  # -log p(a bit is 0 given k), [K, D]
        log_weights = self.offsets + row_sum(off)
        return functional.linear(bits, self.logits, log_weights) - functional.linear(there, off)

    def _uniform(self, seed: Tensor, row: Tensor) -> Tensor:
        return uniform(seed, row, Stream.LATENT, dims=1)[:, 0].double()  # [n]

    def _row_of(self, k: Tensor, seed: Tensor, row: Tensor) -> Tensor:
        """A row of each component k int64 [n] -> x [n, *shape]."""
        chances = full_lanes(torch.sigmoid, self.logits.index_select(0, k))  # [n, D]
        drawn = uniform(seed, row, Stream.OBSERVATION, dims=self.support.size).double() < chances
        dtype = torch.uint8 if self.support.dtype == "uint8" else torch.float64
        return drawn.to(dtype).reshape(-1, *self.support.shape)

    def _joint(self, x: Tensor) -> Tensor:
        """log p(x, k): [n, *shape] -> [n, K]."""
        return functional.linear(x.reshape(-1, self.support.size).double(), self.logits, self.offsets)


def expectation(rows: Tensor, weights: Tensor, chances: Tensor) -> tuple[float, Tensor, Tensor]:
    """What EM needs to know of all rows, the products of matrices in single precision.

    Args:
        rows: bits, [n, D].
        weights: w float64 [K].
        chances: t float64 [K, D].

    Returns:
        (sum_i log p(x_i), sum_i p(k given x_i) float64 [K], sum_i p(k given x_i) x_i float64 [K, D]).
    """
    logits, offsets = (part.float() for part in _linear(weights, chances))
    total, sizes, sums = 0.0, torch.zeros_like(weights), torch.zeros_like(chances)
    for start in range(0, len(rows), _CHUNK):
        bits = rows[start : start + _CHUNK].float()
        joint = functional.linear(bits, logits, offsets)  # [c, K]
        total += float(joint.logsumexp(dim=1).double().sum())
        shares = joint.softmax(dim=1)
        sizes += shares.double().sum(dim=0)
        sums += (shares.T @ bits).double()
    return total, sizes, sums


def maximisation(sizes: Tensor, sums: Tensor, mean: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The best w [K] and t [K, D] for what ``expectation`` found, s pseudo-rows of the mean [D] added to each."""
    chances = (sums + smoothing * mean) / (sizes + smoothing)[:, None]
    weights = (sizes + smoothing) / (sizes + smoothing).sum()
    return weights, chances


def penalty(weights: Tensor, chances: Tensor, mean: Tensor, smoothing: float) -> float:
    """The part of EM's objective that is no likelihood: log-probability of the pseudo-rows, each in its component."""
    bits = mean * chances.log() + (1.0 - mean) * (1.0 - chances).log()
    return smoothing * float(weights.log().sum() + bits.sum())


def _linear(weights: Tensor, chances: Tensor) -> tuple[Tensor, Tensor]:
    """(l [K, D], c [K]), from which log p(x, k) = c_k + sum_d x_d l_kd."""
    off = (1.0 - chances).log()
    return chances.log() - off, weights.log() + off.sum(dim=1)
