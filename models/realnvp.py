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
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from contract import randomness
from contract.capabilities import Capability, NumberKind
from contract.programs import ProgramInput
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel, Losses, register
from models.nets.lanes import row_sum
from models.nets.laws import TEMPERATURE, standard_normal, standard_normal_log_prob
from models.nets.mlp import mlp
from models.nets.tabular import refuse_coarse_columns, why_not_continuous
from models.nets.transforms import LogColumns, Standardise, Whiten, forward_through, inverse_through

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
class RealNVP(GenerativeModel):
    """RealNVP over a table of at least two continuous columns.

    Positive columns enter as their logarithms, so that every row drawn is positive there.

    Args:
        support: real or positive columns, none of which may be missing.
        layers: coupling layers; neighbours transform complementary halves of the columns.
        hidden: widths of the hidden layers in each coupling layer.
        log_scale_bound: bound on the log-scale of one layer.
        preprocess: ``standardise`` scales each column; ``whiten`` also removes the correlations, which lets a small
            flow start from the maximum-likelihood normal.
    """

    logs: LogColumns | None
    scaling: Standardise | Whiten

    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "one law describes all rows: it knows no labels that a row could have",
        "marginal": "a flow maps all coordinates at once: to integrate some of them out has no closed form",
        "inpaint": "a flow knows the law of some coordinates given others up to a constant alone, and draws whole rows",
    }
    log_prob_kind: ClassVar[NumberKind] = "exact"
    code_description: ClassVar[str] = "base-law coordinates f(x) of the flow, a bijection"
    latent_parameters: ClassVar[tuple[ProgramInput, ...]] = (TEMPERATURE,)

    def __init__(
        self,
        support: Support,
        *,
        layers: int = 8,
        hidden: Sequence[int] = (128, 128),
        log_scale_bound: float = 2.0,
        preprocess: Literal["standardise", "whiten"] = "standardise",
    ):
        super().__init__(support)
        dims = support.size
        positive = [column.kind == "positive" for column in support.columns or ()]
        self.logs = LogColumns(positive) if any(positive) else None
        scalings: dict[str, type[Standardise] | type[Whiten]] = {"standardise": Standardise, "whiten": Whiten}
        self.scaling = scalings[preprocess](dims)
        self.couplings = nn.ModuleList(
            AffineCoupling(order, hidden=hidden, log_scale_bound=log_scale_bound) for order in _orders(dims, layers)
        )

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for a table of two or more continuous columns without missing values, else the reason in words."""
        if support.size < 2:
            return "a coupling layer needs at least two columns, one to condition the other on"
        return why_not_continuous(support, positive=True)

    def prepare(self, x: Tensor) -> None:
        """Fit the scaling to x [n, d].

        Raises:
            ValueError: a column is constant, redundant (when whitening) or too coarsely rounded.
        """
        refuse_coarse_columns(self.support, x)
        x = x.double()
        self.scaling.fit(self.logs.forward_and_log_det(x)[0] if self.logs is not None else x)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(d,)."""
        return self.support.shape

    def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
        """Mean negative log-likelihood of x [n, d], in nats; nothing is drawn."""
        loss = -self.log_prob(x).mean()
        return Losses(total={"main": loss}, logged={"nll": loss.detach()})

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), exact, in nats of the original units: x float64 [n, d] -> float64 [n]."""
        z, log_det = self._to_code(x)
        log_prob = self.latent_log_prob(z) + log_det
        # Some 10^38 deviations away single precision overflows to inf - inf, where the density has long vanished.
        return torch.where(log_prob.isnan(), -torch.inf, log_prob)

    def encode(self, x: Tensor) -> Tensor:
        """x float64 [n, d] -> z float64 [n, d]."""
        return self._to_code(x)[0].double()

    def decode(self, z: Tensor) -> Tensor:
        """z float64 [n, d] -> x float64 [n, d]."""
        y, _ = inverse_through(list(self.couplings), z.float())  # type: ignore[arg-type]
        x, _ = inverse_through(self._outer, y.double())
        return x

    def latent(self, seed: Tensor, row: Tensor, *parameters: Tensor) -> Tensor:
        """Draw codes: seed, row int64 [n], temperature float64 [n] -> z float64 [n, d]."""
        (temperature,) = parameters
        return standard_normal(seed, row, temperature, dims=self.support.size)

    def latent_log_prob(self, z: Tensor) -> Tensor:
        """log N(z; 0, I): z float64 [n, d] -> float64 [n]."""
        return standard_normal_log_prob(z)

    @property
    def _outer(self) -> list[LogColumns | Standardise | Whiten]:
        return [self.scaling] if self.logs is None else [self.logs, self.scaling]

    def _to_code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, outer = forward_through(self._outer, x.double())
        z, inner = forward_through(self.couplings, y.float())  # type: ignore[arg-type]
        return z, outer + inner


def _orders(dims: int, layers: int) -> list[list[int]]:
    """A permutation of the columns a layer; each odd one is the one before turned round, so that all columns move."""
    orders: list[list[int]] = []
    for layer in range(layers):
        if layer % 2:
            orders.append(orders[-1][::-1])
        elif layer == 0:
            orders.append(list(range(dims)))
        else:
            draws = randomness.uniform(0, [layer], Stream.INIT, dims=dims)[0]
            orders.append([int(i) for i in np.argsort(draws, kind="stable")])
    return orders
