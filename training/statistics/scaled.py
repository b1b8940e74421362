"""Rows as points whose coordinates compare: each column scaled by its spread, categories and holes as mismatches."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn

from contract.support import Support
from models.nets.tabular import FARTHEST

__all__ = ["ScaledSpace"]

_NUMBERS = ("real", "positive", "count", "ordinal")
_HALF = sqrt(0.5)


class ScaledSpace(nn.Module):
    """The way from a row to a point of the scaled data space, float64 [n, m].

    - A number (real, positive, count, ordinal) is centred at its median and divided by its spread: the standard
      deviation, or, where a few values far out make that many times larger than the interquartile range tells of, the
      latter over 1.349, which is the same for a normal law.
    - A binary or categorical value is its one-hot code over the square root of 2, so that two rows that differ in it
      are 1 apart in it, and else 0. A category without rows is as far from all others.
    - A missing category is one more category. A missing number lies at the median in a coordinate of the column, and 1
      away from all numbers in one more: so a hole is near another hole, and a spread or more from any value.
    - Pixels are divided by the spread of all of them together, so that those that hardly vary count for little.

    Args:
        support: what a row is.
        rows: training rows, [N, *shape]; a hole is NaN.

    Example:
        >>> from contract.support import Column
        >>> columns = (
        ...     Column(name="size", kind="real", base_measure="lebesgue", missing_allowed=True),
        ...     Column(name="kind", kind="binary", base_measure="counting"),
        ... )
        >>> rows = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 1.0]], dtype=torch.float64)
        >>> space = ScaledSpace(Support(shape=(2,), columns=columns), rows)
        >>> points = space(torch.tensor([[3.0, 0.0], [3.0, 1.0], [float("nan"), 1.0]]).double())
        >>> torch.cdist(points, points).square().round(decimals=9).tolist()
        [[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]
    """

    numbers: Tensor
    centre: Tensor
    spread: Tensor
    owner: Tensor
    level: Tensor
    holes: Tensor
    apart: Tensor

    def __init__(self, support: Support, rows: Tensor):
        super().__init__()
        x = rows.double().flatten(1)
        columns = [support.column_at(i) for i in range(support.size)]
        numbers = [i for i, column in enumerate(columns) if column.kind in _NUMBERS or support.element is not None]
        words = [i for i in range(support.size) if i not in set(numbers)]
        levels = {i: len(columns[i].categories or ("0", "1")) for i in words}
        code = [(i, level) for i in words for level in range(levels[i])]
        holes = [i for i, column in enumerate(columns) if column.missing_allowed]
        centre, spread = _location(x[:, numbers], together=support.element is not None)
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.int64))
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread)
        self.register_buffer("owner", torch.tensor([i for i, _ in code], dtype=torch.int64))
        self.register_buffer("level", torch.tensor([level for _, level in code], dtype=torch.float64))
        self.register_buffer("holes", torch.tensor(holes, dtype=torch.int64))
        self.register_buffer(
            "apart", torch.tensor([1.0 if i in numbers else _HALF for i in holes], dtype=torch.float64)
        )

    @property
    def size(self) -> int:
        """m."""
        return len(self.numbers) + len(self.owner) + len(self.holes)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, *shape] in original units -> points float64 [n, m], finite."""
        flat = x.double().flatten(1)
        parts = []
        if len(self.numbers):
            y = (flat.index_select(1, self.numbers) - self.centre) / self.spread
            parts.append(torch.where(y.isnan(), torch.zeros_like(y), y).clamp(-FARTHEST, FARTHEST))
        if len(self.owner):
            parts.append((flat.index_select(1, self.owner) == self.level).double() * _HALF)
        if len(self.holes):
            parts.append(flat.index_select(1, self.holes).isnan().double() * self.apart)
        return torch.cat(parts, dim=1)


def _location(values: Tensor, *, together: bool) -> tuple[Tensor, Tensor]:
    """Centre and spread of each column, NaN left out: [N, c] -> [c], [c]; one spread for all where they are alike."""
    columns = [values[:, i][~values[:, i].isnan()] for i in range(values.shape[1])]
    centre = torch.stack([c.median() if len(c) else c.new_zeros(()) for c in columns]) if columns else values[0]
    if together:
        deviation = (values - values.mean(dim=0)).square().mean().sqrt()
        return centre, torch.full_like(centre, float(deviation) or 1.0)
    return centre, torch.tensor([_spread(column) for column in columns], dtype=torch.float64)


def _spread(values: Tensor) -> float:
    if len(values) < 2 or bool((values == values[0]).all()):
        return 1.0
    deviation = float(values.std(correction=0))
    quarter, three_quarters = torch.quantile(values, torch.tensor([0.25, 0.75]).double()).tolist()
    robust = (three_quarters - quarter) / 1.349
    return robust if 0.0 < robust < deviation / _HEAVY else deviation


_HEAVY = 10.0  # how much larger a standard deviation is than the quartiles tell of before it is not believed
