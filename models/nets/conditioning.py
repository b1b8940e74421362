"""Normal laws given some of their coordinates, one coordinate after another.

Of x ~ N(m, S), once coordinate k is known to be x_k,

    log p(x_k) = -1/2 (x_k - m_k)^2 / S_kk - 1/2 log(2 pi S_kk)
    m <- m + S_:k (x_k - m_k) / S_kk,    S <- S - S_:k S_k: / S_kk

so that the terms sum, by the chain rule, to the log-density of what is known, and m and S end as those of what is not
(T. W. Anderson, "An Introduction to Multivariate Statistical Analysis", 2003, section 2.5). Which coordinates are known
differs from row to row; nothing here has to factorise a matrix, which graphs cannot.

Started from a draw of the law in place of its mean, m ends as a draw of the law given what is known (Y. Hoffman and
E. Ribak, "Constrained realizations of Gaussian fields", 1991).
"""

from __future__ import annotations

from math import log, pi

import torch
from torch import Tensor

from models.nets.lanes import full_lanes, row_sum

__all__ = ["CELLS", "MOST_COLUMNS", "TOO_MANY", "condition_normal"]

MOST_COLUMNS = 32
"""Steps are unrolled into the graph, one a coordinate, and each costs a matrix a row."""

TOO_MANY = (
    f"the law given some columns takes an elimination a row, which is exported for tables of at most {MOST_COLUMNS} "
    "columns"
)

CELLS = "rounded columns are dequantised: what is known of them is a cell, and no law given cells has a closed form"


def condition_normal(start: Tensor, covariance: Tensor, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Condition normal laws on what is known of each row. In double.

    Args:
        start: the mean, or a draw, of each law: [..., d]; leading axes broadcast throughout.
        covariance: [..., d, d], positive definite.
        x: rows [..., d]; what is not known is finite and does not matter.
        known: bool [..., d].

    Returns:
        (mean, or a draw, given what is known [..., d], log-density of what is known [...]).

    Example:
        >>> mean, covariance = torch.zeros(1, 2).double(), torch.tensor([[[1.0, 0.5], [0.5, 1.0]]]).double()
        >>> known = torch.tensor([[True, False]])
        >>> given, log_prob = condition_normal(mean, covariance, torch.tensor([[2.0, 9.0]]).double(), known)
        >>> given.tolist(), round(log_prob.item(), 4)
        ([[2.0, 1.0]], -2.9189)
    """
    squares, variances = [], []
    for k in range(x.shape[-1]):
        here = known[..., k]
        column = covariance[..., :, k]  # [..., d]
        variance = torch.where(here, column[..., k], 1.0)
        error = torch.where(here, x[..., k] - start[..., k], 0.0)
        squares.append(error * error / variance)
        variances.append(variance)
        gain = column * torch.where(here, 1.0 / variance, 0.0)[..., None]
        start = start + gain * error[..., None]
        covariance = covariance - gain[..., :, None] * column[..., None, :]
    count = row_sum(known.double())
    logs = full_lanes(torch.log, torch.stack(variances, dim=-1))
    return start, -0.5 * (row_sum(torch.stack(squares, dim=-1) + logs) + count * log(2.0 * pi))
