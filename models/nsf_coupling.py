"""Neural spline flow of coupling layers, for tables of continuous columns.

    log p(x) = log N(f(x); 0, I) + log |det df/dx|

where f first scales the columns and then applies coupling layers a' = a, b' = g(b; m(a)): each number of b goes
through a monotone rational-quadratic spline, the identity beyond a bound, whose knots and slopes a network of a gives
(C. Durkan, A. Bekasov, I. Murray and G. Papamakarios, "Neural Spline Flows", 2019, RQ-NSF (C)). Both directions and
the determinant cost one pass. log p is in the original units. The code z = f(x) is a bijection.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> columns = tuple(Column(name=name, kind="real", base_measure="lebesgue") for name in "uvw")
    >>> model = NSFCoupling(Support(shape=(3,), columns=columns), layers=2, hidden=[16])
    >>> x = torch.randn(100, 3, dtype=torch.float64) * 5 + 100
    >>> model.prepare(x)
    >>> bool(torch.allclose(model.decode(model.encode(x)), x))
    True
    >>> model.log_prob(x).shape
    torch.Size([100])
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from contract.support import Support
from models.base import register
from models.nets.coupling import Coupling, why_not_couplings
from models.nets.elementwise import RationalQuadratic
from models.nets.flow import Preprocess, TabularFlow
from models.nets.orders import column_orders

__all__ = ["NSFCoupling"]


@register("nsf-coupling")
class NSFCoupling(TabularFlow):
    """Spline couplings over a table of at least two continuous columns; positive ones enter as their logarithms.

    Args:
        support: real or positive columns, none of which may be missing.
        layers: coupling layers; neighbours move complementary halves of the columns.
        hidden: widths of the hidden layers of each layer's network.
        bins: bins of each spline.
        bound: a spline is the identity beyond -bound and bound, in standard deviations of a column at first.
        dropout: share of hidden units that are left out in training.
        preprocess: ``standardise`` scales each column; ``whiten`` also removes the correlations.
        dequantise: whether rounded columns are dequantised, which makes log p a lower bound; else they are taken for
            continuous, and refused where rounding is coarse.
    """

    def __init__(
        self,
        support: Support,
        *,
        layers: int = 4,
        hidden: Sequence[int] = (64, 64),
        bins: int = 8,
        bound: float = 4.0,
        dropout: float = 0.1,
        preprocess: Preprocess = "standardise",
        dequantise: bool = False,
    ):
        super().__init__(support, preprocess=preprocess, dequantise=dequantise)
        element = RationalQuadratic(bins=bins, bound=bound)
        self.layers = nn.ModuleList(
            Coupling(order, element, hidden=hidden, dropout=dropout) for order in column_orders(support.size, layers)
        )

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for a table of two or more continuous columns without missing values, else the reason in words."""
        return why_not_couplings(support.size) or super().accepts(support)
