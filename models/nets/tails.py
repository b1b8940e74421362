"""Exponential tails of a law of one column, beyond the least and the largest of its training rows.

A fresh row lies below all n others with probability 1 / (n + 1), and above them with the same: that much mass is in
each tail, whose scale is the mean excess of the outermost tenth of the rows over where it begins. With tails, a density
made of the rows that were seen is positive everywhere, and its distribution function a bijection of the line and
(0, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.nets.lanes import full_lanes

__all__ = ["ExponentialTails"]

_OUTERMOST = 0.1


class ExponentialTails(nn.Module):
    """What lies below the start and above the end of a law.

    In what it is asked, ``left`` and ``right`` are how far below the start and above the end a row lies, float64 [n],
    0 where it does not; ``within`` is what the law itself says of each row, which is taken where both are 0.

    Example:
        >>> tails = ExponentialTails()
        >>> tails.fit(torch.linspace(0.0, 1.0, 21).double(), least=0.01)
        >>> [round(v, 3) for v in (tails.mass.item(), *tails.scales.tolist())]
        [0.045, 0.075, 0.075]
    """

    mass: Tensor
    scales: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mass", torch.zeros((), dtype=torch.float64))
        self.register_buffer("scales", torch.zeros(2, dtype=torch.float64))

    def fit(self, rows: Tensor, *, least: float) -> None:
        """To ascending rows, float64 [n]; no scale is below ``least``, as where the outermost rows are all equal."""
        n = len(rows)
        some = max(1, round(_OUTERMOST * n))
        excess = [float(rows[some] - rows[:some].mean()), float(rows[-some:].mean() - rows[-some - 1])]
        self.mass.fill_(1.0 / (n + 1.0))
        self.scales.copy_(torch.tensor([max(scale, least) for scale in excess]))

    def log_density(self, left: Tensor, right: Tensor, within: Tensor) -> Tensor:
        """In nats: float64 [n] each -> float64 [n]."""
        lower = (self.mass / self.scales[0]).log() - left / self.scales[0]
        upper = (self.mass / self.scales[1]).log() - right / self.scales[1]
        return torch.where(left > 0.0, lower, torch.where(right > 0.0, upper, within))

    def distribution(self, left: Tensor, right: Tensor, within: Tensor) -> Tensor:
        """F: float64 [n] each -> float64 [n]."""
        lower, upper = (
            self.mass * full_lanes(torch.exp, -beyond[:, None] / scale)[:, 0]
            for beyond, scale in ((left, self.scales[0]), (right, self.scales[1]))
        )
        return torch.where(left > 0.0, lower, torch.where(right > 0.0, 1.0 - upper, within))

    def quantile(self, u: Tensor, start: Tensor, end: Tensor, within: Tensor) -> Tensor:
        """F^-1 of u in (0, 1) for a law from start to end: float64 [n] each, start and end scalars -> float64 [n]."""
        lower, upper = (
            scale * full_lanes(torch.log, (part / self.mass).clamp(max=1.0)[:, None])[:, 0]
            for part, scale in ((u, self.scales[0]), (1.0 - u, self.scales[1]))
        )
        return torch.where(u < self.mass, start + lower, torch.where(1.0 - u < self.mass, end - upper, within))
