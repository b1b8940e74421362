"""How typical the code of a row is: whether its density is what the density of a draw usually is.

    t(x) = | -log p_Z(f(x)) - H(Z) |,        H(Z) = E -log p_Z(Z)

with f the code and p_Z the base law; for a standard normal law of d dimensions | |f(x)|^2 / 2 - d/2 |. Almost all draws
of a law of many dimensions lie in a thin shell, away from where its density is greatest, so that a code may be too
likely as well as too unlikely (E. Nalisnick, A. Matsukawa, Y. W. Teh and B. Lakshminarayanan, "Detecting
Out-of-Distribution Inputs to Deep Generative Models Using Typicality", 2019, here for a single row).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor

from contract.programs import Units
from models.base import GenerativeModel, capabilities
from models.protocols import HasEncode, HasLatent
from training.statistics.base import Statistic

__all__ = ["LatentTypicality"]

_DRAWS = 20_000
_FARTHEST = 1e100


class LatentTypicality(Statistic):
    """Distance of a code's log-density from its mean over the base law, in nats.

    Args:
        model: a fitted model whose code is a bijection, and whose base law can be drawn from.
        nothing: values of its conditions under which nothing is known, float or int64 each.
    """

    name: ClassVar[str] = "typicality"
    units: ClassVar[Units] = "nats"

    entropy: Tensor
    farthest: Tensor

    def __init__(self, model: GenerativeModel, nothing: Sequence[Tensor] = ()):
        super().__init__()
        self.model = model.baked()
        self.register_buffer("farthest", torch.tensor(_FARTHEST, dtype=torch.float64))
        base = cast(HasLatent, self.model)
        row = torch.arange(_DRAWS)
        knobs = [torch.full((_DRAWS,), float(part.default or 0.0)).double() for part in base.latent_parameters]
        given = [value.expand(_DRAWS) for value in nothing]
        with torch.no_grad():
            codes = base.latent(torch.zeros_like(row), row, *knobs, *given)
            self.register_buffer("entropy", -base.latent_log_prob(codes, *given).mean())

    @property
    def words(self) -> str:
        """What the numbers are."""
        return f"distance of -log p(code) from its mean over the base law, {float(self.entropy):.4g} nats"

    @classmethod
    def why_not(cls, family: type[GenerativeModel]) -> str | None:
        """None for bijections with a base law, else the reason in words."""
        if not {"encode", "decode", "latent"} <= set(capabilities(family)):
            return family.refusals.get("encode") or "its codes have no base law that they could be typical of"
        if not family.decode_undoes_encode:
            return "the code of a row is the mean of a law of codes, and no draw of the prior that could be typical"
        return None

    def forward(self, x: Tensor, log_prob: Tensor | None, *conditions: Tensor) -> Tensor:
        """x [n, *shape], conditions [n] -> float64 [n]."""
        z = cast(HasEncode, self.model).encode(x, *conditions)
        surprise = -cast(HasLatent, self.model).latent_log_prob(z, *conditions)
        far = (surprise - self.entropy).abs().clamp(max=_FARTHEST)
        return torch.where(far.isnan(), self.farthest, far)
