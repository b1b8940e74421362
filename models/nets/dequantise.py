"""Rounded columns under a density: the values of a cell are all that a rounded value may stand for.

A value x of a column of resolution r stands for its cell, x - r/2 to x + r/2. With u uniform over the cells of a row,

    log( P(cell) / volume(cell) ) >= E log( 1/K sum_k p(u_k) )

by Jensen's inequality, where p is a density over the real numbers (L. Theis, A. van den Oord and M. Bethge, "A note on
the evaluation of generative models", 2016; for K draws Burda, Grosse and Salakhutdinov 2016). What is bounded is the
probability of the cell over the product of the resolutions: the mean density there, in the units of a density, so that
rounded and continuous columns mix. A draw of p counts as the centre of the cell that it lies in; of a positive column,
the lowest cell begins at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from contract.capabilities import NumberKind
from contract.programs import State
from contract.randomness import Stream
from contract.support import Column, Support
from models.nets.lanes import full_lanes, row_sum
from models.nets.tabular import refuse_coarse_columns
from models.protocols import HasLogProb
from models.randomness import uniform

__all__ = ["COPIES", "Cells", "Dequantised", "cells_of"]

COPIES = 4
"""How often each row is spread over its cells for families that are fitted in closed form or by EM."""


class Cells(nn.Module):
    """The cells of a table's rounded columns; other columns pass. In double.

    Args:
        columns: real or positive columns, with their ``resolution``.

    Example:
        >>> cells = Cells([Column(name="a", kind="real", base_measure="lebesgue", resolution=0.5)])
        >>> x = torch.tensor([[1.0], [2.5]], dtype=torch.float64)
        >>> cells.fit(x)
        >>> cells.spread(x, torch.tensor([[0.0], [0.75]]))[0].round(decimals=4).tolist()
        [[0.75], [2.625]]
        >>> cells.centre(torch.tensor([[0.8]]).double()).tolist()
        [[1.0]]
    """

    step: Tensor
    per: Tensor
    rounded: Tensor
    positive: Tensor
    offset: Tensor

    def __init__(self, columns: Sequence[Column]):
        super().__init__()
        step = torch.tensor([column.resolution or 1.0 for column in columns], dtype=torch.float64)
        # 3938 / 10000 is the double nearest to 0.3938, as data have it; 3938 * 0.0001 is its neighbour.
        per = torch.round(1.0 / step)
        whole = (per > 0) & ((per * step - 1.0).abs() < 1e-9)
        rounded = torch.tensor([column.resolution is not None for column in columns])
        self.register_buffer("step", step, persistent=False)
        self.register_buffer("per", torch.where(whole, per, torch.zeros_like(per)), persistent=False)
        self.register_buffer("rounded", rounded, persistent=False)
        self.register_buffer("positive", torch.tensor([c.kind == "positive" for c in columns]), persistent=False)
        self.register_buffer("offset", torch.zeros(len(columns), dtype=torch.float64))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Find where the centres lie, from x [n, d]: the values need not be multiples of the resolution."""
        first = x[0].double()
        offset = first - self.step * torch.round(first / self.step)
        # A multiple of the step up to rounding lies on the grid through 0.
        self.offset.copy_(torch.where(self.rounded & (offset.abs() > 1e-6 * self.step), offset, 0.0))

    def centre(self, x: Tensor) -> Tensor:
        """The centre of the cell that each value lies in: float64 [n, d] -> [n, d]."""
        index = self._index(x)
        whole = self.per > 0
        on_grid = torch.where(whole, index / torch.where(whole, self.per, torch.ones_like(self.per)), index * self.step)
        return torch.where(self.rounded, self.offset + on_grid, x)

    def spread(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """A value of each cell: x float64 [n, d], u in [0, 1) float32 [n, d] -> ([n, d], log share float64 [n]).

        The share is that of the cells' volume in the product of the resolutions: 1 but for cells that 0 cuts off.
        """
        centre = self.offset + self._index(x) * self.step
        low, high = centre - 0.5 * self.step, centre + 0.5 * self.step
        low = torch.where(self.positive, low.clamp(min=0.0), low)
        # In the middle of what a uniform of 24 bits may stand for, so that it is never the edge itself.
        value = low + (high - low) * (u.double() + 2.0**-25)
        share = torch.where(self.rounded & self.positive, (high - low) / self.step, torch.ones_like(x))
        return torch.where(self.rounded, value, x), row_sum(full_lanes(torch.log, share))

    def _index(self, x: Tensor) -> Tensor:
        index = torch.floor((x - self.offset) / self.step + 0.5)
        first = torch.floor(-self.offset / self.step) + 1.0  # the first cell whose centre is above zero
        return torch.where(self.positive, torch.maximum(index, first), index)


def cells_of(support: Support, *, dequantise: bool) -> Cells | None:
    """The cells of a table, None where no column is rounded or they are not wanted."""
    columns = support.columns or ()
    rounded = dequantise and any(column.resolution is not None for column in columns)
    return Cells(columns) if rounded else None


class Dequantised:
    """What a family with a density ``log_prob`` has beside it, where its ``cells`` are not None: the bound.

    It is mixed into a family, whose ``log_prob`` stays the density of the values that rounded ones stand for.
    """

    cells: Cells | None
    support: Support
    default_samples: ClassVar[int] = 16
    bound_state: tuple[State, ...] = ()

    @property
    def log_prob_kind(self) -> NumberKind:
        """A bound where columns are dequantised, else exact."""
        return "exact" if self.cells is None else "lower_bound"

    def bound_init(self, x: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
        """Nothing: draws have only the row in common."""
        return ()

    def log_weight(self, x: Tensor, seed: Tensor, row: Tensor, t: Tensor, *rest: Tensor) -> Tensor:
        """log p at draw t of the values that row x may stand for -> float64 [n]."""
        if self.cells is None:
            return self._density(x)
        u = uniform(seed, row, Stream.OBSERVATION, t, dims=self.support.size)
        value, log_share = self.cells.spread(x, u)
        return self._density(value) + log_share

    def validation_loss(self, x: Tensor, seed: Tensor, row: Tensor, *conditions: Tensor) -> Tensor:
        """Minus the bound with one draw, the same in every epoch; exact where nothing is rounded: -> float64 [n]."""
        return -self.log_weight(x, seed, row, torch.zeros_like(row))

    def _density(self, x: Tensor) -> Tensor:
        return cast(HasLogProb, self).log_prob(x)

    def _prepared(self, x: Tensor, *, copies: int = 1) -> Tensor:
        """Fit the cells, and spread copies of rows x [n, d] over them, for what is fitted to values.

        Returns:
            float64 [copies n, d]; x itself where nothing is dequantised.

        Raises:
            ValueError: nothing is dequantised, and a column is too coarsely rounded for that.
        """
        x = x.double()
        if self.cells is None:
            refuse_coarse_columns(self.support, x, remedy="dequantise: true")
            return x
        self.cells.fit(x)
        x = x.repeat(copies, 1)
        row = torch.arange(len(x), device=x.device)
        return self.cells.spread(x, uniform(torch.zeros_like(row), row, Stream.INIT, dims=x.shape[1]))[0]

    def _centre(self, x: Tensor) -> Tensor:
        return x if self.cells is None else self.cells.centre(x)
