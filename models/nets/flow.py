"""What all flows over tables are: scaling of the columns, learnt transforms, and a base law.

    log p(x) = log p_base(f(x)) + log |det df/dx|

f takes logarithms of positive columns, scales, and applies the transforms that a family lists; a family says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from contract.capabilities import Capability
from contract.programs import ProgramInput
from contract.support import Support
from models.base import GenerativeModel
from models.nets.dequantise import Dequantised, cells_of
from models.nets.laws import TEMPERATURE, standard_normal, standard_normal_log_prob
from models.nets.tabular import why_not_continuous
from models.nets.transforms import LogColumns, Standardise, Transform, Whiten, forward_through, inverse_through
from models.protocols import Losses

__all__ = ["Preprocess", "TabularFlow"]

Preprocess = Literal["standardise", "whiten"]


class TabularFlow(Dequantised, GenerativeModel):
    """Base of the flows over tables of continuous columns; positive ones enter as their logarithms.

    A family makes its ``layers`` after this constructor, from the rows to the code, or its own ``transforms``.
    The base law is the standard normal one, unless a family has another.

    Args:
        support: real or positive columns, none of which may be missing.
        preprocess: ``standardise`` scales each column; ``whiten`` also removes the correlations, which lets a small
            flow start from the maximum-likelihood normal.
        dequantise: whether columns with a ``resolution`` are dequantised; log p is then a lower bound, and draws are
            rounded. Else they are taken for continuous, and refused where rounding is coarse.
    """

    layers: nn.ModuleList
    logs: LogColumns | None
    scaling: Standardise | Whiten

    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "one law describes all rows: it knows no labels that a row could have",
        "marginal": "a flow maps all coordinates at once: to integrate some of them out has no closed form",
        "inpaint": "a flow knows the law of some coordinates given others up to a constant alone, and draws whole rows",
    }
    code_description: ClassVar[str] = "base-law coordinates f(x) of the flow, a bijection"
    latent_parameters: ClassVar[tuple[ProgramInput, ...]] = (TEMPERATURE,)
    inner_dtype: ClassVar[torch.dtype] = torch.float64
    """Precision of the rows that the transforms take."""

    def __init__(self, support: Support, *, preprocess: Preprocess = "standardise", dequantise: bool = False):
        super().__init__(support)
        positive = [column.kind == "positive" for column in support.columns or ()]
        self.logs = LogColumns(positive) if any(positive) else None
        scalings: dict[str, type[Standardise] | type[Whiten]] = {"standardise": Standardise, "whiten": Whiten}
        self.scaling = scalings[preprocess](support.size)
        self.cells = cells_of(support, dequantise=dequantise)

    @property
    def transforms(self) -> Sequence[Transform]:
        """The learnt transforms, from the scaled rows to the code."""
        return cast(Sequence[Transform], list(self.layers))

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for a table of continuous columns without missing values, else the reason in words."""
        return why_not_continuous(support, positive=True)

    def prepare(self, x: Tensor) -> None:
        """Fit the scaling to x [n, d].

        Raises:
            ValueError: a column is constant, redundant (when whitening) or too coarsely rounded.
        """
        x = self._prepared(x)
        self.scaling.fit(self.logs.forward_and_log_det(x)[0] if self.logs is not None else x)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(d,)."""
        return self.support.shape

    def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
        """Mean negative log-likelihood of x [n, d], in nats; of rounded columns, minus its bound with one draw."""
        loss = self.validation_loss(x, seed, row).mean()
        return Losses(total={"main": loss}, logged={"nll": loss.detach()})

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of continuous values, in nats of the original units: x float64 [n, d] -> float64 [n]."""
        z, log_det = self._to_code(x)
        log_prob = self.latent_log_prob(z) + log_det
        # Some 10^38 deviations away single precision overflows to inf - inf, where the density has long vanished.
        return torch.where(log_prob.isnan(), -torch.inf, log_prob)

    def encode(self, x: Tensor) -> Tensor:
        """x float64 [n, d] -> z float64 [n, d]; of a rounded column the code of its cell's centre."""
        return self._to_code(self._centre(x))[0].double()

    def decode(self, z: Tensor) -> Tensor:
        """z float64 [n, d] -> x float64 [n, d], rounded where the columns are dequantised."""
        y, _ = inverse_through(self.transforms, z.to(self.inner_dtype))
        x, _ = inverse_through(self._outer, y.double())
        return self._centre(x)

    def latent(self, seed: Tensor, row: Tensor, *parameters: Tensor) -> Tensor:
        """Draw codes: seed, row int64 [n], temperature float64 [n] -> z float64 [n, d]."""
        (temperature,) = parameters
        return standard_normal(seed, row, temperature, dims=self.support.size)

    def latent_log_prob(self, z: Tensor) -> Tensor:
        """Log-density of the base law: z float64 [n, d] -> float64 [n]."""
        return standard_normal_log_prob(z)

    @property
    def _outer(self) -> list[LogColumns | Standardise | Whiten]:
        return [self.scaling] if self.logs is None else [self.logs, self.scaling]

    def _to_code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, outer = forward_through(self._outer, x.double())
        z, inner = forward_through(self.transforms, y.to(self.inner_dtype))
        return z, outer + inner
