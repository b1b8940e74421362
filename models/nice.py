"""NICE: a normalising flow of additive coupling layers, for tables of continuous columns.

    log p(x) = sum_i log p_base(exp(s_i) h_i(x)) + sum_i s_i

where h first scales the columns and then applies coupling layers a' = a, b' = b + m(a), which preserve volume; the
diagonal scaling exp(s) at the end says which directions vary (L. Dinh, D. Krueger and Y. Bengio, "NICE: Non-linear
Independent Components Estimation", 2014). The base law is logistic or normal. log p is in the original units: the
Jacobian of the scaling of the columns is in it. The code z = exp(s) h(x) is a bijection.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> columns = tuple(Column(name=name, kind="real", base_measure="lebesgue") for name in "uvw")
    >>> model = NICE(Support(shape=(3,), columns=columns), layers=4, hidden=[16])
    >>> x = torch.randn(100, 3, dtype=torch.float64) * 5 + 100
    >>> model.prepare(x)
    >>> bool(torch.allclose(model.decode(model.encode(x)), x))
    True
    >>> model.log_prob(x).shape
    torch.Size([100])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from contract.support import Support
from models.base import register
from models.nets.coupling import Coupling, why_not_couplings
from models.nets.elementwise import Additive, softly_bounded
from models.nets.flow import Preprocess, TabularFlow
from models.nets.lanes import row_sum
from models.nets.laws import (
    standard_logistic,
    standard_logistic_log_prob,
    standard_normal,
    standard_normal_log_prob,
)
from models.nets.orders import column_orders
from models.nets.transforms import Transform

__all__ = ["NICE", "DiagonalScaling"]

_MOST = 20.0  # log-scales lie in (-20, 20)


class DiagonalScaling(nn.Module):
    """y_i = exp(s_i) x_i, with one s a column, learnt and softly bounded; it starts as the identity (section 3.3).

    Args:
        dims: number of columns.

    Example:
        >>> y, log_det = DiagonalScaling(2).forward_and_log_det(torch.tensor([[3.0, 4.0]]).double())
        >>> y.tolist(), log_det.tolist()
        ([[3.0, 4.0]], [0.0])
    """

    def __init__(self, dims: int):
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(dims))

    @property
    def log_scale(self) -> Tensor:
        """s, float64 [dims]."""
        return softly_bounded(self.raw.double(), _MOST)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x float64 [n, d] -> (y [n, d], log |det dy/dx| [n])."""
        return x * self.log_scale.exp(), row_sum(self.log_scale).expand(x.shape[0])

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y float64 [n, d] -> (x [n, d], log |det dx/dy| [n])."""
        return y / self.log_scale.exp(), -row_sum(self.log_scale).expand(y.shape[0])


@register("nice")
class NICE(TabularFlow):
    """NICE over a table of at least two continuous columns; positive ones enter as their logarithms.

    Args:
        support: real or positive columns, none of which may be missing.
        layers: coupling layers; neighbours move complementary halves of the columns.
        hidden: widths of the hidden layers in each coupling layer.
        base: the base law, ``logistic`` or ``normal``.
        dropout: share of hidden units that are left out in training.
        preprocess: ``standardise`` scales each column; ``whiten`` also removes the correlations.
        dequantise: whether rounded columns are dequantised, which makes log p a lower bound; else they are taken for
            continuous, and refused where rounding is coarse.
    """

    def __init__(
        self,
        support: Support,
        *,
        layers: int = 8,
        hidden: Sequence[int] = (128, 128),
        base: Literal["logistic", "normal"] = "logistic",
        dropout: float = 0.0,
        preprocess: Preprocess = "standardise",
        dequantise: bool = False,
    ):
        super().__init__(support, preprocess=preprocess, dequantise=dequantise)
        if base not in ("logistic", "normal"):
            raise ValueError(f"base: logistic or normal, not {base!r}")
        self.base = base
        self.couplings = nn.ModuleList(
            Coupling(order, Additive(), hidden=hidden, dropout=dropout) for order in column_orders(support.size, layers)
        )
        self.diagonal = DiagonalScaling(support.size)

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for a table of two or more continuous columns without missing values, else the reason in words."""
        return why_not_couplings(support.size) or super().accepts(support)

    @property
    def transforms(self) -> Sequence[Transform]:
        """The coupling layers, and the diagonal scaling."""
        return [*self.couplings, self.diagonal]

    def latent(self, seed: Tensor, row: Tensor, *parameters: Tensor) -> Tensor:
        """Draw codes: seed, row int64 [n], temperature float64 [n] -> z float64 [n, d]."""
        (temperature,) = parameters
        draw = standard_logistic if self.base == "logistic" else standard_normal
        return draw(seed, row, temperature, dims=self.support.size)

    def latent_log_prob(self, z: Tensor) -> Tensor:
        """Log-density of the base law: z float64 [n, d] -> float64 [n]."""
        return standard_logistic_log_prob(z) if self.base == "logistic" else standard_normal_log_prob(z)
