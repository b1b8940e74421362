"""The log-density of a row under a mixture of normals in the scaled data space.

    log q(x) = log sum_k w_k N(f(x); m_k, C_k),        f the scaled data space of ``scaled.py``

fitted by expectation maximisation to the rows' points. Where the nearest rows say that a place is empty, this says that
columns do not go together: an ellipsoid sees in which directions rows do not spread. A ridge on each variance keeps
columns that are nearly functions of others, or rounded, from making all else small; so it takes rows of any columns,
categories and holes among them, in seconds, and gives no probability of such rows: its number is a statistic, in nats
of the scaled space, beside whatever log-probability the model of the bundle has.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import log, pi
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from contract.programs import Units
from models.nets.lanes import row_logsumexp, row_sum
from models.nets.tabular import FARTHEST
from training.statistics.base import Statistic
from training.statistics.scaled import ScaledSpace

__all__ = ["MixtureDensity"]

_NUMBERS_TRIED = (1, 2, 4, 8, 16)
_ROWS_EACH = 20  # training rows for each normal, at the least
_MOST_ROWS = 5_000  # that EM is fitted to, so that it takes seconds
_MOST_COMPARED = 2_000  # that K is chosen by
_HELD_OUT = 0.2
_MAX_ITERATIONS = 60
_TOLERANCE = 1e-2  # nats a row by which an iteration must better the fit


class MixtureDensity(Statistic):
    """Log-density under K normals with full covariances.

    Args:
        space: the way from rows to points [n, m].
        rows: training rows, [N, *shape], by lot.
        components: K; None for the one of 1, 2, 4, 8, 16 under which a fifth of the rows, held out, is likeliest.
        ridge: what is added to each variance.
        seed: of EM's starts.
    """

    name: ClassVar[str] = "mixture"
    units: ClassVar[Units] = "nats"

    whitening: Tensor
    whitened_means: Tensor
    offsets: Tensor

    def __init__(self, space: ScaledSpace, rows: Tensor, *, components: int | None, ridge: float, seed: int):
        super().__init__()
        self.space, self.ridge = space, ridge
        points = space(rows[:_MOST_ROWS]).numpy()
        em = _fitted(points, components or _likeliest(points, ridge, seed), ridge, seed)
        factors = torch.linalg.cholesky(torch.from_numpy(em.covariances_))  # [K, m, m]
        inverses = torch.linalg.solve_triangular(factors, torch.eye(space.size).double(), upper=False)
        log_det = factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        means = torch.from_numpy(em.means_)
        self.components = len(means)
        self.register_buffer("whitening", inverses.reshape(-1, space.size).clone())
        self.register_buffer("whitened_means", (inverses @ means[:, :, None]).reshape(-1))
        weights = torch.from_numpy(em.weights_).clamp(min=1e-300).log()
        self.register_buffer("offsets", weights - 0.5 * space.size * log(2.0 * pi) - log_det)

    @property
    def looks_at_model(self) -> bool:
        """It looks at the rows alone."""
        return False

    @property
    def words(self) -> str:
        """What the numbers are."""
        many = "a normal law" if self.components == 1 else f"a mixture of {self.components} normal laws"
        return f"log-density under {many} of the scaled columns, whose variances are at least {self.ridge:g}"

    def forward(self, x: Tensor, log_prob: Tensor | None, *conditions: Tensor) -> Tensor:
        """x [n, *shape] -> float64 [n]."""
        y = self.space(x).clamp(-FARTHEST, FARTHEST)  # beyond, squares overflow
        z = functional.linear(y, self.whitening, -self.whitened_means)  # [n, K m]
        squares = row_sum(z.reshape(-1, self.components, y.shape[1]).square())  # [n, K]
        return row_logsumexp(self.offsets - 0.5 * squares)


def _likeliest(points: NDArray[np.float64], ridge: float, seed: int) -> int:
    """K by the log-density of rows that the fit has not seen."""
    points = points[:_MOST_COMPARED]
    kept, held = np.split(points, [int((1.0 - _HELD_OUT) * len(points))])
    tried: Sequence[int] = [k for k in _NUMBERS_TRIED if k * _ROWS_EACH <= len(kept)]
    if len(tried) < 2:
        return 1
    return max(tried, key=lambda k: float(_fitted(kept, k, ridge, seed).score(held)))


def _fitted(points: NDArray[np.float64], components: int, ridge: float, seed: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    em = GaussianMixture(components, reg_covar=ridge, max_iter=_MAX_ITERATIONS, tol=_TOLERANCE, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # where it stops is a law too
        return em.fit(points)
