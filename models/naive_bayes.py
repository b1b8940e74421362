"""Naive Bayes: coordinates that are independent once the label is known.

    log p(x given y) = sum_d log P_yd(x_d)
    log p(x) = log sum_y p(y) p(x given y),    p(y given x) = p(y) p(x given y) / p(x)

(M. E. Maron, "Automatic Indexing: An Experimental Inquiry", 1961). The label's probabilities are its shares of the
training rows; P_yd(v) = (n_yd(v) + a) / (n_y + a L_d), of n_y rows with label y and L_d values of coordinate d. All
three laws are exact: without a label, a row's log-probability is the sum over labels.

A draw without a label draws one first, by inversion, and then each coordinate given it. The code of a row is
p(y given x).

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> pixel = Column(name="pixel", kind="binary", base_measure="counting")
    >>> model = NaiveBayes(Support(shape=(1, 2), element=pixel), labels=["dark", "bright"], smoothing=1.0)
    >>> x = torch.tensor([[[0, 0]], [[0, 1]], [[1, 1]]], dtype=torch.uint8)
    >>> model.fit(x, torch.tensor([0, 0, 1]))
    >>> none, bright = torch.tensor([2, 2, 2]), torch.tensor([1, 1, 1])
    >>> [round(p, 4) for p in model.log_prob(x, none).exp().tolist()]  # (0, 0): 2/3 3/4 1/2 + 1/3 1/3 1/3
    [0.287, 0.3241, 0.2315]
    >>> [round(p, 4) for p in model.log_prob(x, bright).exp().tolist()]
    [0.1111, 0.2222, 0.4444]
    >>> [round(p, 4) for p in model.classify(x).exp()[2].tolist()]
    [0.36, 0.64]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from contract.capabilities import Capability, NumberKind
from contract.programs import ProgramInput
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel, register
from models.nets.inversion import invert_steps
from models.nets.labels import label_condition
from models.nets.lanes import full_lanes, row_logsumexp
from models.nets.levels import IndependentLevels, why_not_levels
from models.randomness import uniform

__all__ = ["NaiveBayes"]


@register("naive-bayes")
class NaiveBayes(GenerativeModel):
    """Law of D coordinates, each binary, ordinal or categorical, independent given one of K labels.

    Args:
        support: coordinates with finitely many values, none of which may be missing.
        labels: names of the labels, of which there are two or more.
        smoothing: a, added to the count of each value.

    Raises:
        ValueError: the support is not of that kind, there are no labels, or a pseudo-count is not above 0.
    """

    log_shares: Tensor
    cumulative: Tensor

    refusals: ClassVar[dict[Capability, str]] = {
        "decode": "the probabilities of the labels say what a row is of, and not what it is: many rows share them",
        "latent": "a draw is a label and coordinates drawn given it, which no code with one base law stands for",
    }
    log_prob_kind: ClassVar[NumberKind] = "exact"
    code_description: ClassVar[str] = (
        "p(label given row), the labels in their order, which cannot be decoded; where a label is given it is certain"
    )
    sample_parameters: ClassVar[tuple[ProgramInput, ...]] = ()

    def __init__(self, support: Support, *, labels: Sequence[str] = (), smoothing: float = 0.5):
        super().__init__(support)
        if len(labels) < 2:
            raise ValueError("naive Bayes tells labels apart, two or more: say `condition: label` in the recipe")
        if not 0.0 < smoothing < float("inf"):
            raise ValueError(f"smoothing: a pseudo-count is a finite number above 0, not {smoothing:g}")
        self.labels = tuple(labels)
        self.smoothing = smoothing
        self.law = IndependentLevels(support, classes=len(labels))
        self.register_buffer("log_shares", torch.zeros(len(labels), dtype=torch.float64))
        self.register_buffer("cumulative", torch.zeros(len(labels), dtype=torch.float64))

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for coordinates with finitely many values and none missing, else the reason in words."""
        return why_not_levels(support)

    @property
    def conditions(self) -> tuple[ProgramInput, ...]:
        """The label; one more than the last is the null value."""
        return label_condition(self.labels, "row")

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(K,)."""
        return (len(self.labels),)

    def fit(self, x: Tensor, *conditions: Tensor) -> None:
        """Count the labels, and the values among the rows of each: x [n, *shape], label int64 [n].

        Raises:
            ValueError: no row has one of the labels; the first of them is named.
        """
        (label,) = conditions
        counts = torch.bincount(label, minlength=len(self.labels)).double()
        for name, count in zip(self.labels, counts.tolist(), strict=True):
            if not count:
                raise ValueError(f"none of the {len(x)} training rows has the label {name!r}: it has no law")
        shares = counts / counts.sum()
        self.log_shares.copy_(shares.log())
        self.cumulative.copy_(shares.cumsum(dim=0))
        self.law.fit(x, label, smoothing=self.smoothing)

    def log_prob(self, x: Tensor, *conditions: Tensor) -> Tensor:
        """log p(x given label), or log p(x) without: x [n, *shape], label int64 [n] -> float64 [n], exact, in nats."""
        (label,) = conditions
        return row_logsumexp(self.law.log_prob(x) + self._weights(label))

    def encode(self, x: Tensor, *conditions: Tensor) -> Tensor:
        """p(y given x); of a label that is given, 1: x [n, *shape], label int64 [n] -> float64 [n, K]."""
        (label,) = conditions
        joint = self.law.log_prob(x) + self._weights(label)
        return full_lanes(torch.exp, joint - row_logsumexp(joint)[:, None])

    @property
    def label_prior(self) -> tuple[float, ...]:
        """Shares of the labels among the training rows."""
        return tuple(self.log_shares.exp().tolist())

    def classify(self, x: Tensor) -> Tensor:
        """log p(y given x) by Bayes' rule: x [n, *shape] -> float64 [n, K]."""
        joint = self.law.log_prob(x) + self.log_shares
        return joint - row_logsumexp(joint)[:, None]

    def sample(self, seed: Tensor, row: Tensor, *rest: Tensor) -> Tensor:
        """Draw a label where none is given, then each coordinate: seed, row, label int64 [n] -> x [n, *shape]."""
        (label,) = rest
        drawn = invert_steps(self.cumulative, uniform(seed, row, Stream.LATENT, dims=1)[:, 0].double())
        return self._row_of(torch.where(label < len(self.labels), label, drawn), seed, row)

    # -- rows of which a part is known -------------------------------------------------------------------------------

    def marginal(self, x: Tensor, known: Tensor, *conditions: Tensor) -> Tensor:
        """log p(known coordinates of x), exact, in nats: x, known bool [n, *shape], label int64 [n] -> float64 [n]."""
        (label,) = conditions
        return row_logsumexp(self.law.log_prob(x, known) + self._weights(label))

    def inpaint(self, x: Tensor, known: Tensor, seed: Tensor, row: Tensor, *conditions: Tensor) -> Tensor:
        """Draw what is not known of x [n, *shape] given what is, a label first; known bool, addresses int64 [n]."""
        (label,) = conditions
        joint = self.law.log_prob(x, known) + self._weights(label)
        cumulative = full_lanes(torch.exp, joint - row_logsumexp(joint)[:, None]).cumsum(dim=1)
        y = invert_steps(cumulative, uniform(seed, row, Stream.LATENT, dims=1)[:, 0].double())
        return torch.where(known, x, self._row_of(y, seed, row))

    def _row_of(self, y: Tensor, seed: Tensor, row: Tensor) -> Tensor:
        """A row of each label y int64 [n] -> x [n, *shape]."""
        values = self.law.quantile(uniform(seed, row, Stream.OBSERVATION, dims=self.support.size).double(), y)
        dtype = torch.uint8 if self.support.dtype == "uint8" else torch.float64
        return values.to(dtype).reshape(-1, *self.support.shape)

    def _weights(self, label: Tensor) -> Tensor:
        """What each label's law weighs: int64 [n] -> [n, K], the log-shares without a label, else 0 at it alone."""
        given = label[:, None]
        of = torch.arange(len(self.labels)) == given
        certain = torch.where(of, torch.zeros_like(self.log_shares), torch.full_like(self.log_shares, -torch.inf))
        return torch.where(given < len(self.labels), certain, self.log_shares)
