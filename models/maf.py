"""Masked autoregressive flow: autoregressive layers of affine maps, for tables of continuous columns.

    z_i = x_i exp(a_i) + b_i,    a_i, b_i functions of x_1 ... x_{i-1},    log p(x) = log N(z; 0, I) + sum_i a_i

for one layer. Several follow each other, the columns in another order from layer to layer; the functions of one layer
are one masked network (G. Papamakarios, T. Pavlakou and I. Murray, "Masked Autoregressive Flow for Density
Estimation", 2017; a and b are theirs of the inverse: a = -alpha, b = -mu exp(-alpha)). The density and the code of a
row take one pass through each layer, a draw and a decoded code D passes, a column each. In place of the paper's batch
normalisation, each network ends in a layer that starts at zero, so that the flow starts as the identity. log p is in
the original units.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> columns = tuple(Column(name=name, kind="real", base_measure="lebesgue") for name in "uvw")
    >>> model = MAF(Support(shape=(3,), columns=columns), layers=2, hidden=[16])
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
from models.nets.elementwise import Affine
from models.nets.flow import Preprocess, TabularFlow
from models.nets.orders import column_orders

__all__ = ["MAF"]


@register("maf")
class MAF(TabularFlow):
    """Masked autoregressive flow over a table of at most 64 continuous columns; positive ones enter as logarithms.

    Args:
        support: real or positive columns, none of which may be missing.
        layers: autoregressive layers; each second one has the columns in the reverse order of the one before.
        hidden: widths of the hidden layers of each layer's network.
        log_scale_bound: bound on the log-scale of one layer.
        dropout: share of hidden units that are left out in training.
        preprocess: ``standardise`` scales each column; ``whiten`` also removes the correlations.
        dequantise: whether rounded columns are dequantised, which makes log p a lower bound; else they are taken for
            continuous, and refused where rounding is coarse.
    """

    def __init__(
        self,
        support: Support,
        *,
        layers: int = 5,
        hidden: Sequence[int] = (128, 128),
        log_scale_bound: float = 5.0,
        dropout: float = 0.0,
        preprocess: Preprocess = "standardise",
        dequantise: bool = False,
    ):
        super().__init__(support, preprocess=preprocess, dequantise=dequantise)
        element = Affine(bound=log_scale_bound)
        self.layers = nn.ModuleList(
            MaskedAutoregressive(order, element, hidden=hidden, dropout=dropout)
            for order in column_orders(support.size, layers)
        )

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for a table of at most 64 continuous columns without missing values, else the reason in words."""
        return why_not_unrolled(support.size) or super().accepts(support)
