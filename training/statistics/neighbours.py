"""What the nearest training rows say of a row: how empty its place is, and how much emptier than theirs.

    r_k(x) = the k-th smallest of || f(x) - f(x_i) ||,        x_1 ... x_m training rows
    SLOF_k(x) = r_k(x) / mean of r_k(x_i) over the k nearest x_i

with f the code of a row where there is one that can be decoded, else the scaled data space of ``scaled.py``. The first
(S. Ramaswamy, R. Rastogi and K. Shim, "Efficient Algorithms for Mining Outliers from Large Data Sets", 2000) needs no
model of the rows' law. The second, the simplified local outlier factor (E. Schubert, A. Zimek and H.-P. Kriegel, "Local
Outlier Detection Reconsidered", 2014; after M. M. Breunig et al., "LOF", 2000), is about 1 wherever a row lies among
its like, however dense they lie there. The rows x_i are in the graph: whoever has the bundle has them.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from contract.programs import Units
from models.nets.lanes import row_sum
from models.nets.rows import KeptRows
from models.nets.tabular import FARTHEST
from training.statistics.base import Statistic
from training.statistics.scaled import ScaledSpace

__all__ = ["KeptPoints", "LocalOutlierFactor", "NearestRows"]

_CHUNK = 500  # kept rows whose distances to all others are in memory at a time
_LEAST = 1e-3  # of the usual distance: a distance that is taken for none


class KeptPoints(nn.Module):
    """Points of the rows that others are compared with; statistics may share it, and the graph then holds it once.

    Args:
        space: x [n, *shape], conditions -> points float64 [n, d], a module that exports.
        points: the kept rows' points, float64 [m, d].
        where: what the space is, in words.
    """

    middle: Tensor

    def __init__(self, space: nn.Module, points: Tensor, *, where: str):
        super().__init__()
        self.space, self.where = space, where
        # Around their mean, so that the product of matrices that finds the nearest cancels little.
        self.register_buffer("middle", points.mean(dim=0))
        self.kept = KeptRows(points.shape[1])
        self.kept.keep(points - self.middle)

    def __len__(self) -> int:
        return len(self.kept)

    def nearest(self, x: Tensor, k: int, *conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Distance of the k-th nearest, float64 [n], and positions of the k nearest, int64 [n, k]."""
        y = (self.space(x, *conditions) - self.middle).clamp(-FARTHEST, FARTHEST)  # [n, d]; beyond, squares overflow
        return self._nearest(y, k)

    def spacing(self, k: int) -> Tensor:
        """Distance of each kept row's k-th nearest other one, float64 [m]."""
        # A row is the nearest one to itself, or as near as one that equals it.
        starts = range(0, len(self), _CHUNK)
        return torch.cat([self._nearest(self.kept.rows[start : start + _CHUNK], k + 1)[0] for start in starts])

    def _nearest(self, y: Tensor, k: int) -> tuple[Tensor, Tensor]:
        places = torch.topk(self.kept.squared_distances(y), k, dim=1, largest=False).indices  # [n, k]
        # Measured again from the differences: as small as it is, the distance then has all its digits.
        squares = row_sum((y[:, None, :] - self.kept.take(places)).square())  # [n, k]
        return squares.amax(dim=1).sqrt(), places


class _OfNeighbours(Statistic):
    """What the two have in common: k of the kept rows."""

    def __init__(self, points: KeptPoints, *, k: int):
        super().__init__()
        if len(points) <= k:
            raise ValueError(f"of {len(points)} training rows none has a neighbour number {k}")
        self.points, self.k = points, k

    @property
    def looks_at_model(self) -> bool:
        """Whether distances are those of codes."""
        return not isinstance(self.points.space, ScaledSpace)

    @property
    def keeps_rows(self) -> bool:
        """They are what a row is compared with."""
        return True


class NearestRows(_OfNeighbours):
    """Distance of the k-th nearest of m kept rows, in units of the space.

    Args:
        points: the kept rows.
        k: which neighbour counts.

    Raises:
        ValueError: there are not more than k rows.

    Example:
        >>> kept = KeptPoints(nn.Flatten(), torch.tensor([[0.0], [1.0], [4.0]]).double(), where="the line")
        >>> NearestRows(kept, k=2)(torch.tensor([[0.0], [6.0]]).double(), None).tolist()
        [1.0, 5.0]
    """

    name: ClassVar[str] = "neighbours"
    units: ClassVar[Units] = "none"

    @property
    def words(self) -> str:
        """What the numbers are."""
        return f"distance of the {_th(self.k)} nearest of {len(self.points):,} training rows, {self.points.where}"

    def forward(self, x: Tensor, log_prob: Tensor | None, *conditions: Tensor) -> Tensor:
        """x [n, *shape] -> distance float64 [n]."""
        return self.points.nearest(x, self.k, *conditions)[0]


class LocalOutlierFactor(_OfNeighbours):
    """Distance of the k-th nearest of m kept rows over what it is for those k rows, on average.

    Where rows repeat each other distances vanish; a thousandth of the usual distance is added to both.

    Args:
        points: the kept rows.
        k: how many neighbours count.

    Raises:
        ValueError: there are not more than k rows, or all are the same.

    Example:
        >>> kept = KeptPoints(nn.Flatten(), torch.tensor([[0.0], [1.0], [2.0], [10.0]]).double(), where="the line")
        >>> factor = LocalOutlierFactor(kept, k=1)(torch.tensor([[1.5], [5.0]]).double(), None)
        >>> factor.round(decimals=2).tolist()  # the nearest rows, 1 or 2, have each other 1 away
        [0.5, 3.0]
    """

    name: ClassVar[str] = "local_outlier_factor"
    units: ClassVar[Units] = "none"

    spacing: Tensor

    def __init__(self, points: KeptPoints, *, k: int):
        super().__init__(points, k=k)
        spacing = points.spacing(k)
        usual = spacing[spacing > 0].median() if bool((spacing > 0).any()) else spacing.new_zeros(())
        if not bool(usual > 0):
            raise ValueError("the training rows repeat each other so often that no distance is left between neighbours")
        self.least = _LEAST * float(usual)
        self.register_buffer("spacing", spacing)

    @property
    def words(self) -> str:
        """What the numbers are."""
        return (
            f"simplified local outlier factor: distance of the {_th(self.k)} nearest of {len(self.points):,} training "
            f"rows over theirs, {self.points.where}"
        )

    def forward(self, x: Tensor, log_prob: Tensor | None, *conditions: Tensor) -> Tensor:
        """x [n, *shape] -> ratio float64 [n]."""
        distance, places = self.points.nearest(x, self.k, *conditions)
        theirs = self.spacing.index_select(0, places.reshape(-1)).reshape(places.shape)
        return (distance + self.least) / (row_sum(theirs) / self.k + self.least)


def _th(k: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(k % 10 if k % 100 not in (11, 12, 13) else 0, "th")
    return f"{k}{ending}"
