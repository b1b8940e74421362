"""The label as a condition, for families that take one, and Bayes' rule for the label of a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from contract.capabilities import Capability
from contract.programs import ProgramInput
from contract.randomness import Stream
from models.nets.lanes import row_logsumexp
from models.protocols import HasLogProb
from models.randomness import uniform

__all__ = ["BayesClassifier", "LabelPrior", "label_condition", "log_posterior", "withheld"]


def label_condition(labels: Sequence[str], what: str = "picture") -> tuple[ProgramInput, ...]:
    """The label of a picture, or of what else a row is, as an input; one more than the last is the null value.

    None where there are no labels.

    Example:
        >>> (label,) = label_condition(["cat", "dog"])
        >>> label.default
        2.0
    """
    if not labels:
        return ()
    return (
        ProgramInput(
            name="label",
            dtype="int64",
            source="condition",
            default=len(labels),
            vocabulary=tuple(labels),
            description=f"class of the {what}; none is the law of all of them",
        ),
    )


def withheld(conditions: tuple[Tensor, ...], seed: Tensor, row: Tensor, share: float, null: int) -> tuple[Tensor, ...]:
    """The label of a share of the rows replaced by the null value, by lot, at their addresses; nothing of nothing.

    Args:
        conditions: the label, int64 [n], or nothing.
        seed: int64 [n].
        row: int64 [n].
        share: of the rows, in [0, 1).
        null: what stands for no label.
    """
    if not conditions:
        return ()
    by_lot = uniform(seed, row, Stream.INIT, dims=1)[:, 0] < share
    return (torch.where(by_lot, null, conditions[0]),)


class LabelPrior(nn.Module):
    """p(label): each label's share of the training rows; uniform until it is fitted. In double.

    A label that no training row has keeps the chance of half a row, so that no row is ruled out by its rarity.

    Example:
        >>> prior = LabelPrior(2)
        >>> prior.fit(torch.tensor([0, 0, 1]))
        >>> [round(share, 3) for share in prior.shares]
        [0.625, 0.375]
    """

    log_prob: Tensor

    def __init__(self, count: int):
        super().__init__()
        self.register_buffer("log_prob", torch.full((count,), 1.0 / max(count, 1), dtype=torch.float64).log())

    def fit(self, labels: Tensor) -> None:
        """Set the shares from labels int64 [n], half a row added to each (Krichevsky and Trofimov 1981)."""
        count = self.log_prob.shape[0]
        rows = torch.bincount(labels, minlength=count).double() + 0.5
        self.log_prob.copy_((rows / rows.sum()).log())

    @property
    def shares(self) -> tuple[float, ...]:
        """The probability of each label."""
        return tuple(self.log_prob.exp().tolist())


def log_posterior(log_prob: Callable[[Tensor, Tensor], Tensor], x: Tensor, log_prior: Tensor) -> Tensor:
    """Bayes' rule, log p(y given x) = log p(x given y) + log p(y) - log sum_y' p(x given y') p(y').

    Args:
        log_prob: rows [m, *shape], labels int64 [m] -> log p(row given label), exact, float64 [m].
        x: rows [n, *shape].
        log_prior: log p(y) of each label, float64 [L].

    Returns:
        float64 [n, L]; each row's exponentials sum to 1.

    Example:
        >>> def coin(x: Tensor, y: Tensor) -> Tensor:  # label 0 is fair, label 1 falls heads with 3/4
        ...     return torch.tensor([[0.5, 0.5], [0.25, 0.75]]).double().log()[y, x[:, 0]]
        >>> prior = torch.tensor([0.5, 0.5]).double().log()
        >>> [round(p, 6) for p in log_posterior(coin, torch.tensor([[1]]), prior).exp()[0].tolist()]
        [0.4, 0.6]
    """
    count, shape = log_prior.shape[0], x.shape[1:]
    # Every row next to itself, once for each label.
    rows = x[:, None].expand(-1, count, *shape).reshape(-1, *shape)  # [n L, *shape]
    labels = torch.arange(count, device=x.device).expand(x.shape[0], -1).reshape(-1)  # [n L]
    joint = log_prior + log_prob(rows, labels).reshape(-1, count)
    return joint - row_logsumexp(joint)[:, None]


class BayesClassifier:
    """Names the label of a row by Bayes' rule; mixed into families with an exact law of rows given a label.

    Attributes:
        labels: the classes that the model is conditional on; none for an unconditional one.
        prior: shares of the labels among the training rows, where there are labels.
    """

    labels: tuple[str, ...]
    prior: LabelPrior | None

    @property
    def lacks(self) -> dict[Capability, str]:
        """Without labels there is none to name."""
        why = "this model was trained without labels, and Bayes' rule needs a law of rows for each label"
        return {} if self.labels else {"classify": why}

    @property
    def label_prior(self) -> tuple[float, ...]:
        """Shares of the labels among the training rows."""
        return () if self.prior is None else self.prior.shares

    def prepare_labels(self, labels: Tensor) -> None:
        """Count the labels int64 [n]."""
        assert self.prior is not None
        self.prior.fit(labels)

    def classify(self, x: Tensor) -> Tensor:
        """log p(label given x), exact: x [n, *shape] -> float64 [n, labels]."""
        assert self.prior is not None
        return log_posterior(cast(HasLogProb, self).log_prob, x, self.prior.log_prob)
