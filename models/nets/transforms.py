"""Invertible transforms of tabular rows with their log-determinants: what flows are composed of.

A transform maps x [n, d] to y [n, d] and gives log |det dy/dx| [n] beside it. The transforms here are fitted in closed
form and compute in double; learnt ones live with the family that learns them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.nets.lanes import full_lanes, row_sum

__all__ = ["LogColumns", "Standardise", "Transform", "Whiten", "forward_through", "inverse_through"]


class Transform(Protocol):
    """An invertible map of rows."""

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, d] -> (y [n, d], log |det dy/dx| [n])."""
        ...

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y [n, d] -> (x [n, d], log |det dx/dy| [n])."""
        ...


def forward_through(transforms: Iterable[Transform], x: Tensor) -> tuple[Tensor, Tensor]:
    """Apply transforms in their order: x [n, d] -> (z [n, d], log |det dz/dx| float64 [n])."""
    total = x.new_zeros(x.shape[0], dtype=torch.float64)
    for transform in transforms:
        x, log_det = transform.forward_and_log_det(x)
        total = total + log_det
    return x, total


def inverse_through(transforms: Sequence[Transform], z: Tensor) -> tuple[Tensor, Tensor]:
    """Undo transforms in the reverse order: z [n, d] -> (x [n, d], log |det dx/dz| float64 [n])."""
    total = z.new_zeros(z.shape[0], dtype=torch.float64)
    for transform in reversed(transforms):
        z, log_det = transform.inverse_and_log_det(z)
        total = total + log_det
    return z, total


class LogColumns(nn.Module):
    """y = log x in some columns, for values above 0; the others pass: log |det| = -sum of the y concerned.

    Example:
        >>> y, log_det = LogColumns([True, False]).forward_and_log_det(torch.tensor([[2.0, 3.0]]).double())
        >>> [round(v, 4) for v in y[0].tolist()], round(log_det.item(), 4)
        ([0.6931, 3.0], -0.6931)
    """

    chosen: Tensor

    def __init__(self, chosen: Sequence[bool]):
        super().__init__()
        self.register_buffer("chosen", torch.tensor(chosen), persistent=False)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x float64 [n, d], above 0 where chosen -> (y [n, d], log |det dy/dx| [n])."""
        logs = full_lanes(torch.log, torch.where(self.chosen, x, 1.0))  # 0 where not chosen
        return torch.where(self.chosen, logs, x), -row_sum(logs)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y float64 [n, d] -> (x [n, d], log |det dx/dy| [n])."""
        logs = torch.where(self.chosen, y, 0.0)
        return torch.where(self.chosen, full_lanes(torch.exp, logs), y), row_sum(logs)


class Standardise(nn.Module):
    """y = (x - mean) / deviation, column by column, in double."""

    mean: Tensor
    deviation: Tensor
    log_det_deviation: Tensor

    def __init__(self, dims: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dims, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones(dims, dtype=torch.float64))
        self.register_buffer("log_det_deviation", torch.zeros((), dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Means and standard deviations (by 1/n) of x [n, d].

        Raises:
            ValueError: a column is constant; its index is named.
        """
        _check_varies(x)
        self.mean.copy_(x.double().mean(dim=0))
        self.deviation.copy_(x.double().std(dim=0, correction=0))
        self.log_det_deviation.copy_(self.deviation.log().sum())

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x float64 [n, d] -> (y [n, d], log |det dy/dx| [n])."""
        return (x - self.mean) / self.deviation, -self.log_det_deviation.expand(x.shape[0])

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y float64 [n, d] -> (x [n, d], log |det dx/dy| [n])."""
        return self.mean + self.deviation * y, self.log_det_deviation.expand(y.shape[0])


class Whiten(nn.Module):
    """y = L^-1 (x - mean), where L L^T is the covariance (Cholesky): the columns of y are uncorrelated. In double.

    The factor, its inverse and its log-determinant are computed once, by ``fit``: graphs cannot factorise.

    Example:
        >>> whiten = Whiten(2)
        >>> whiten.fit(torch.tensor([[0.0, 0.0], [2.0, 2.0], [4.0, 1.0]]))
        >>> y, _ = whiten.forward_and_log_det(torch.tensor([[0.0, 0.0], [2.0, 2.0], [4.0, 1.0]]).double())
        >>> bool(torch.allclose(y.T @ y / 3, torch.eye(2).double()))
        True
    """

    mean: Tensor
    factor: Tensor
    inverse_factor: Tensor
    log_det_factor: Tensor

    def __init__(self, dims: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dims, dtype=torch.float64))
        self.register_buffer("factor", torch.eye(dims, dtype=torch.float64))
        self.register_buffer("inverse_factor", torch.eye(dims, dtype=torch.float64))
        self.register_buffer("log_det_factor", torch.zeros((), dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Mean and covariance (by 1/n, which maximises the likelihood) of x [n, d].

        Raises:
            ValueError: a column is constant, or is a linear combination of others: the covariance has no inverse.
        """
        _check_varies(x)
        rows = x.double()
        mean = rows.mean(dim=0)
        deviation = rows.std(dim=0, correction=0)
        # Factorise the correlation matrix, whose condition does not depend on the columns' units.
        scaled = (rows - mean) / deviation
        factor, failed = torch.linalg.cholesky_ex(scaled.T @ scaled / len(rows))
        smallest = factor.diagonal().min().item()
        if failed.item() or smallest < 1e-6:
            raise ValueError(
                f"the covariance of {len(rows)} rows of {rows.shape[1]} columns has no usable inverse: "
                "some column is, to rounding, a linear combination of others"
            )
        identity = torch.eye(len(mean), dtype=torch.float64)
        self.mean.copy_(mean)
        self.factor.copy_(deviation[:, None] * factor)
        self.inverse_factor.copy_(torch.linalg.solve_triangular(factor, identity, upper=False) / deviation)
        self.log_det_factor.copy_((deviation * factor.diagonal()).log().sum())

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x float64 [n, d] -> (y [n, d], log |det dy/dx| [n])."""
        return functional.linear(x - self.mean, self.inverse_factor), -self.log_det_factor.expand(x.shape[0])

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y float64 [n, d] -> (x [n, d], log |det dx/dy| [n])."""
        return functional.linear(y, self.factor, self.mean), self.log_det_factor.expand(y.shape[0])


def _check_varies(x: Tensor) -> None:
    low, high = x.aminmax(dim=0)
    constant = (low == high).nonzero().flatten().tolist()
    if constant:
        raise ValueError(f"column {constant[0]} is constant: it has no scale, and belongs left out of the support")
