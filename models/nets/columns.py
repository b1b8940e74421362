"""Columns of numbers on a scale where mixtures of a few logistic laws describe them, and back.

    real                y = (x - m) / s
    real, heavy tails   y = (asinh((x - c) / w) - m) / s
    positive            y = (log x - m) / s
    count               y = (log(1 + x) - m) / s

c is the median and w the spread of the middle half; m and s are mean and standard deviation on the transformed scale.
All of it is fitted to training rows and in double.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from contract.support import Column
from models.nets.lanes import full_lanes

__all__ = ["FAR", "NumberScales"]

FAR = 1e8
"""Deviations that stand for an infinite edge: the logistic law has no mass beyond, and differences stay finite."""

_HEAVY = 10.0  # excess kurtosis from which a column's tails are heavy; a normal law has 0, a Laplace law 3
_LARGEST = 1e300


class NumberScales(nn.Module):
    """The scales of C columns of kind real, positive or count.

    Args:
        columns: the columns.

    Example:
        >>> columns = [Column(name="size", kind="positive", base_measure="lebesgue")]
        >>> scales = NumberScales(columns)
        >>> x = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
        >>> scales.fit(x)
        >>> [round(v, 4) for v in scales.forward(x)[:, 0].tolist()]
        [-1.2247, 0.0, 1.2247]
        >>> bool(torch.allclose(scales.inverse(scales.forward(x)), x))
        True
    """

    heavy: Tensor
    centre: Tensor
    width: Tensor
    mean: Tensor
    deviation: Tensor
    offset: Tensor
    resolution: Tensor
    positive: Tensor
    count: Tensor

    def __init__(self, columns: Sequence[Column]):
        super().__init__()
        size = len(columns)
        self.names = [column.name for column in columns]
        self.register_buffer("positive", torch.tensor([c.kind == "positive" for c in columns]), persistent=False)
        self.register_buffer("count", torch.tensor([c.kind == "count" for c in columns]), persistent=False)
        # A count fills its cell as a rounded number does; 0 stands for none.
        steps = [1.0 if c.kind == "count" else c.resolution or 0.0 for c in columns]
        self.register_buffer("resolution", torch.tensor(steps, dtype=torch.float64), persistent=False)
        self.register_buffer("heavy", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("centre", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("width", torch.ones(size, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones(size, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros(size, dtype=torch.float64))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Fit the scales to x [n, C], NaN where missing.

        Raises:
            ValueError: a column is constant, or has fewer than two values.
        """
        for i, name in enumerate(self.names):
            values = x[:, i][~x[:, i].isnan()].double()
            if len(values) < 2 or bool((values == values[0]).all()):
                raise ValueError(f"column {name!r} is constant among the training rows: there is nothing to model")
            spread = values.std(correction=0)
            kurtosis = float((((values - values.mean()) / spread) ** 4).mean()) - 3.0
            self.heavy[i] = kurtosis > _HEAVY and not bool(self.positive[i] | self.count[i])
            low, middle, high = torch.quantile(values, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
            self.centre[i] = middle
            self.width[i] = (high - low) / 1.349 if high > low else spread
            step = float(self.resolution[i])
            if step:
                offset = float(values[0] - step * torch.round(values[0] / step))
                # A multiple of the step up to rounding lies on the grid through 0.
                self.offset[i] = 0.0 if self.count[i] or abs(offset) < 1e-6 * step else offset
        self.mean.zero_()
        self.deviation.fill_(1.0)
        y = self.forward(x)
        seen = ~y.isnan()
        n = seen.sum(dim=0)
        y = torch.where(seen, y, torch.zeros_like(y))
        self.mean.copy_(y.sum(dim=0) / n)
        self.deviation.copy_(((y.square().sum(dim=0) / n) - self.mean.square()).clamp(min=1e-24).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """x float64 [n, C] in original units -> y float64 [n, C]; NaN stays NaN."""
        v = (x - self.centre) / self.width
        # asinh v; of minus |v| the sum under the logarithm would cancel.
        heavy = v.sign() * full_lanes(torch.log, v.abs() + (v.square().clamp(max=_LARGEST) + 1.0).sqrt())
        shifted = torch.where(self.count, x + 1.0, torch.where(self.positive, x, torch.ones_like(x)))
        logs = full_lanes(torch.log, shifted.clamp(min=1.0 / _LARGEST))
        y = torch.where(self.positive | self.count, logs, torch.where(self.heavy, heavy, x))
        return (y - self.mean) / self.deviation

    def log_slope(self, x: Tensor) -> Tensor:
        """log dy/dx at x float64 [n, C] -> float64 [n, C]."""
        v = (x - self.centre) / self.width
        heavy = -0.5 * full_lanes(torch.log, v.square().clamp(max=_LARGEST) + 1.0) - full_lanes(
            torch.log, self.width.expand_as(x)
        )
        shifted = torch.where(self.count, x + 1.0, torch.where(self.positive, x, torch.ones_like(x)))
        logs = -full_lanes(torch.log, shifted.clamp(min=1.0 / _LARGEST))
        slope = torch.where(self.positive | self.count, logs, torch.where(self.heavy, heavy, torch.zeros_like(x)))
        return slope - full_lanes(torch.log, self.deviation.expand_as(x))

    def cell(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The rounding cell of x on the y scale: float64 [n, C] -> (lower edge, upper edge), of any two where none.

        The lowest cell of a column that has a least value reaches down to minus infinity.
        """
        step = torch.where(self.resolution > 0, self.resolution, torch.ones_like(self.resolution))
        centre = self.offset + step * torch.round((x - self.offset) / step)
        low, high = centre - 0.5 * step, centre + 0.5 * step
        # Zero of a count, and the least positive value on the grid.
        lowest = (self.count & (centre < 0.5)) | (self.positive & (centre - step <= 0))
        least = torch.where(self.count, torch.zeros_like(low), torch.full_like(low, 1e-30))
        edge = self.forward(torch.where(self.positive | self.count, torch.maximum(low, least), low))
        return torch.where(lowest, torch.full_like(edge, -FAR), edge), self.forward(high)

    def inverse(self, y: Tensor) -> Tensor:
        """y float64 [n, C] -> x float64 [n, C], rounded to the cell's centre where the column is."""
        u = y * self.deviation + self.mean
        # Beyond these the exponential leaves the range of doubles.
        e = full_lanes(torch.exp, u.clamp(-690.0, 690.0))
        heavy = self.centre + self.width * 0.5 * (e - 1.0 / e)
        x = torch.where(self.positive, e, torch.where(self.count, e - 1.0, torch.where(self.heavy, heavy, u)))
        step = torch.where(self.resolution > 0, self.resolution, torch.ones_like(self.resolution))
        index = torch.floor((x - self.offset) / step + 0.5)
        index = torch.where(self.count, index.clamp(min=0.0), index)
        first = torch.floor(-self.offset / step) + 1.0  # the first cell whose centre is above zero
        index = torch.where(self.positive, torch.maximum(index, first), index)
        # 3938 / 10000 is the double nearest to 0.3938, as data have it; 3938 * 0.0001 is its neighbour.
        per = torch.round(1.0 / step)
        whole = (per > 0) & ((per * step - 1.0).abs() < 1e-9)
        rounded = self.offset + torch.where(whole, index / torch.where(whole, per, torch.ones_like(per)), step * index)
        return torch.where(self.resolution > 0, rounded, x)
