"""Neural spline flow of autoregressive layers, for tables of continuous columns.

    z_i = g(x_i; m_i(x_1 ... x_{i-1})),    log p(x) = log N(z; 0, I) + sum_i log g'(x_i)

for one layer. Several follow each other, the columns in another order from layer to layer. g is a monotone
rational-quadratic spline, the identity beyond a bound; one masked network gives the knots and slopes of all columns
(C. Durkan, A. Bekasov, I. Murray and G. Papamakarios, "Neural Spline Flows", 2019, RQ-NSF (AR)). The density and the
code of a row take one pass through each layer, a draw and a decoded code D passes, a column each. log p is in the
original units.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> columns = tuple(Column(name=name, kind="real", base_measure="lebesgue") for name in "uvw")
    >>> model = NSFAutoregressive(Support(shape=(3,), columns=columns), layers=2, hidden=[16])
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
from models.nets.autoregressive import MaskedAutoregressive, why_not_unrolled
from models.nets.elementwise import RationalQuadratic
from models.nets.flow import Preprocess, TabularFlow
from models.nets.orders import column_orders

__all__ = ["NSFAutoregressive"]


@register("nsf-autoregressive")
class NSFAutoregressive(TabularFlow):
    """Autoregressive splines over a table of at most 64 continuous columns; positive ones enter as logarithms.

    Args:
        support: real or positive columns, none of which may be missing.
        layers: autoregressive layers; each second one has the columns in the reverse order of the one before.
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
        layers: int = 3,
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
            MaskedAutoregressive(order, element, hidden=hidden, dropout=dropout)
            for order in column_orders(support.size, layers)
        )

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for a table of at most 64 continuous columns without missing values, else the reason in words."""
        return why_not_unrolled(support.size) or super().accepts(support)
