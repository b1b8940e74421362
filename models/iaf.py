"""Inverse autoregressive flow: autoregressive layers from the code to the row, for tables of continuous columns.

    x_i = z_i exp(a_i) + b_i,    a_i, b_i functions of z_1 ... z_{i-1},    log p(x) = log N(z; 0, I) - sum_i a_i

for one layer. Several follow each other, the columns in another order from layer to layer; the functions of one layer
are one masked network (D. Kingma, T. Salimans, R. Jozefowicz, X. Chen, I. Sutskever and M. Welling, "Improved
Variational Inference with Inverse Autoregressive Flow", 2016). It is the masked autoregressive flow the other way
round (Papamakarios et al. 2017, section 3.4): a draw and a decoded code take one pass through each layer, the density
and the code of a row D passes, a column each. Its home is where only its own draws are asked for their density; by
maximum likelihood it trains D times as slowly as the other. log p is in the original units.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> columns = tuple(Column(name=name, kind="real", base_measure="lebesgue") for name in "uvw")
    >>> model = IAF(Support(shape=(3,), columns=columns), layers=2, hidden=[16])
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
from models.nets.autoregressive import Inverted, MaskedAutoregressive, why_not_unrolled
from models.nets.elementwise import Affine
from models.nets.flow import Preprocess, TabularFlow
from models.nets.orders import column_orders

__all__ = ["IAF"]


@register("iaf")
class IAF(TabularFlow):
    """Inverse autoregressive flow over a table of at most 64 continuous columns; positive ones enter as logarithms.

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
            Inverted(MaskedAutoregressive(order, element, hidden=hidden, dropout=dropout))
            for order in column_orders(support.size, layers)
        )

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for a table of at most 64 continuous columns without missing values, else the reason in words."""
        return why_not_unrolled(support.size) or super().accepts(support)
