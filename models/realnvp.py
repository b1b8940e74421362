"""RealNVP: a normalising flow of affine coupling layers, for tables of continuous columns.

    log p(x) = log N(f(x); 0, I) + log |det df/dx|

where f first scales the columns and then applies coupling layers. A layer splits a row into a and b and maps

    a' = a,    b' = b * exp(s(a)) + t(a),    log |det| = sum s(a)

so that both directions and the determinant cost one pass through the networks s and t (L. Dinh, J. Sohl-Dickstein
and S. Bengio, "Density estimation using Real NVP", 2016). log p is in the original units: the Jacobian of the scaling
is in it. Scaling is in double, the layers in single precision. The code z = f(x) is a bijection.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> columns = tuple(Column(name=name, kind="real", base_measure="lebesgue") for name in "uvw")
    >>> model = RealNVP(Support(shape=(3,), columns=columns), layers=4, hidden=[16])
    >>> x = torch.randn(100, 3, dtype=torch.float64) * 5 + 100
    >>> model.prepare(x)
    >>> bool(torch.allclose(model.decode(model.encode(x)), x, rtol=1e-6))
    True
    >>> model.log_prob(x).shape
    torch.Size([100])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from contract.support import Support
from models.base import register
from models.nets.coupling import why_not_couplings
from models.nets.flow import Preprocess, TabularFlow
from models.nets.lanes import row_sum
from models.nets.mlp import mlp
from models.nets.orders import column_orders
from models.nets.transforms import Transform

__all__ = ["AffineCoupling", "RealNVP"]


class AffineCoupling(nn.Module):
    """One affine coupling layer; it starts as the identity.

    Args:
        order: a permutation of the d columns: the first half of them is a, the rest b.
        hidden: widths of the hidden layers of the network that gives s and t.
        log_scale_bound: s lies in (-bound, bound), so that no layer can blow a row up.

    Example:
        >>> layer = AffineCoupling([1, 0], hidden=[8], log_scale_bound=2.0)
        >>> y, log_det = layer.forward_and_log_det(torch.tensor([[3.0, 4.0]]))
        >>> y.tolist(), log_det.tolist()
        ([[3.0, 4.0]], [0.0])
    """

    order: Tensor
    back: Tensor

    def __init__(self, order: Sequence[int], *, hidden: Sequence[int], log_scale_bound: float):
        super().__init__()
        self.kept = len(order) // 2
        self.bound = log_scale_bound
        self.network = mlp(self.kept, hidden, 2 * (len(order) - self.kept), zero_output=True)
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("back", torch.argsort(torch.tensor(order)), persistent=False)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, d] -> (y [n, d], log |det dy/dx| float64 [n])."""
        a, b = self._split(x)
        log_scale, shift = self._scale_and_shift(a)
        y = torch.cat([a, b * log_scale.exp() + shift], dim=1)
        return y.index_select(1, self.back), row_sum(log_scale.double())

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y [n, d] -> (x [n, d], log |det dx/dy| float64 [n])."""
        a, b = self._split(y)
        log_scale, shift = self._scale_and_shift(a)
        x = torch.cat([a, (b - shift) * (-log_scale).exp()], dim=1)
        return x.index_select(1, self.back), -row_sum(log_scale.double())

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        ordered = x.index_select(1, self.order)
        return ordered[:, : self.kept], ordered[:, self.kept :]  # [n, kept], [n, moved]

    def _scale_and_shift(self, a: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.network(a).chunk(2, dim=1)  # [n, moved] each
        return self.bound * torch.tanh(raw / self.bound), shift


@register("realnvp")
class RealNVP(TabularFlow):
    """RealNVP over a table of at least two continuous columns.

    Positive columns enter as their logarithms, so that every row drawn is positive there.

    Args:
        support: real or positive columns, none of which may be missing.
        layers: coupling layers; neighbours transform complementary halves of the columns.
        hidden: widths of the hidden layers in each coupling layer.
        log_scale_bound: bound on the log-scale of one layer.
        preprocess: ``standardise`` scales each column; ``whiten`` also removes the correlations, which lets a small
            flow start from the maximum-likelihood normal.
        dequantise: whether rounded columns are dequantised, which makes log p a lower bound; else they are taken for
            continuous, and refused where rounding is coarse.
    """

    inner_dtype: ClassVar[torch.dtype] = torch.float32

    def __init__(
        self,
        support: Support,
        *,
        layers: int = 8,
        hidden: Sequence[int] = (128, 128),
        log_scale_bound: float = 2.0,
        preprocess: Preprocess = "standardise",
        dequantise: bool = False,
    ):
        super().__init__(support, preprocess=preprocess, dequantise=dequantise)
        self.couplings = nn.ModuleList(
            AffineCoupling(order, hidden=hidden, log_scale_bound=log_scale_bound)
            for order in column_orders(support.size, layers)
        )

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for a table of two or more continuous columns without missing values, else the reason in words."""
        return why_not_couplings(support.size) or super().accepts(support)

    @property
    def transforms(self) -> Sequence[Transform]:
        """The coupling layers."""
        return list(self.couplings)  # type: ignore[arg-type]
