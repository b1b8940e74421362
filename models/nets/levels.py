"""Coordinates with finitely many values, independent of each other given a class.

    log p(x given k) = sum_d log P_kd(x_d)

Both the law of independent coordinates and naive Bayes are made of it. In double.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contract.support import Column, Support
from models.nets.inversion import invert_steps
from models.nets.lanes import row_sum

__all__ = ["IndependentLevels", "number_of_values", "why_not_binary", "why_not_levels"]


def number_of_values(column: Column) -> int:
    """How many values a binary, ordinal or categorical column has; 0 for others, which have no bound."""
    return 2 if column.kind == "binary" else column.levels or len(column.categories or ())


def why_not_levels(support: Support) -> str | None:
    """None if every coordinate has finitely many values and is never missing, else the reason in words."""
    for column in support.columns or (support.element,):
        assert column is not None
        if column.missing_allowed:
            return f"{column.name!r} may be missing, and this family has no probability of that"
        if not number_of_values(column):
            return f"{column.name!r} is {column.kind}, and a table of probabilities has finitely many values"
    return None


def why_not_binary(support: Support) -> str | None:
    """None if every coordinate is binary and never missing, else the reason in words."""
    for column in support.columns or (support.element,):
        assert column is not None
        if column.kind != "binary":
            return f"{column.name!r} is {column.kind}, and a Bernoulli law gives 0 or 1 only"
        if column.missing_allowed:
            return f"{column.name!r} may be missing, and this family has no probability of that"
    return None


class IndependentLevels(nn.Module):
    """Tables of the probabilities P_kd(v) of value v of coordinate d in class k.

    Args:
        support: coordinates with finitely many values.
        classes: K.

    Example:
        >>> pixel = Column(name="pixel", kind="binary", base_measure="counting")
        >>> law = IndependentLevels(Support(shape=(2,), element=pixel), classes=1)
        >>> law.fit(torch.tensor([[0, 1], [0, 1]]), torch.tensor([0, 0]), smoothing=1.0)
        >>> law.log_prob(torch.tensor([[0, 1]])).exp().tolist()
        [[0.5625]]
    """

    log_table: Tensor
    cumulative: Tensor
    real: Tensor

    def __init__(self, support: Support, *, classes: int):
        super().__init__()
        self.dims, self.classes = support.size, classes
        sizes = [number_of_values(support.column_at(d)) for d in range(support.size)]
        self.values = max(sizes)
        shape = (classes, self.dims, self.values)
        # A coordinate of fewer values than another has no probability of the rest.
        real = torch.arange(self.values) < torch.tensor(sizes)[:, None]  # [D, L]
        self.register_buffer("real", real, persistent=False)
        self.register_buffer("log_table", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("cumulative", torch.zeros(shape, dtype=torch.float64))

    def fit(self, x: Tensor, of: Tensor, *, smoothing: float) -> None:
        """Shares of the values in each class, ``smoothing`` added to each count: x [n, *shape], class int64 [n]."""
        flat = x.reshape(-1, self.dims).long()
        counts = torch.zeros(self.classes, self.dims, self.values, dtype=torch.float64)
        places = flat + self.values * torch.arange(self.dims)
        for k in range(self.classes):
            counted = torch.bincount(places[of == k].flatten(), minlength=self.dims * self.values)
            counts[k] = counted.reshape(self.dims, self.values)
        counts = torch.where(self.real, counts + smoothing, torch.zeros_like(counts))
        table = counts / counts.sum(dim=2, keepdim=True)
        self.log_table.copy_(table.log())
        self.cumulative.copy_(table.cumsum(dim=2))

    def log_prob(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """log p(x given k), or of the coordinates that are known: x, known bool [n, *shape] -> float64 [n, K]."""
        flat = x.reshape(-1, self.dims).long() + self.values * torch.arange(self.dims)  # [n, D]
        table = self.log_table.reshape(self.classes, self.dims * self.values)
        terms = table.index_select(1, flat.reshape(-1)).reshape(self.classes, -1, self.dims)  # [K, n, D]
        terms = terms.permute(1, 0, 2)
        if known is not None:
            terms = torch.where(known.reshape(-1, 1, self.dims), terms, torch.zeros_like(terms))
        return row_sum(terms)

    def quantile(self, u: Tensor, of: Tensor) -> Tensor:
        """The values at u float64 [n, D] in class int64 [n]: int64 [n, D]."""
        return invert_steps(self.cumulative.index_select(0, of), u)
