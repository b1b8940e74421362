"""How far a row lies from what its code is decoded to.

    r(x) = sqrt( mean_i (x_i - g(f(x))_i)^2 )

with f(x) the mean of q(z given x) and g the mean of p(x given z). What a model has learnt to encode it gives back, and
not what it has never seen (M. Sakurada and T. Yairi, "Anomaly Detection Using Autoencoders with Nonlinear
Dimensionality Reduction", 2014; J. An and S. Cho, "Variational Autoencoder based Anomaly Detection using Reconstruction
Probability", 2015).
"""

from __future__ import annotations

from typing import ClassVar, cast

from torch import Tensor

from contract.programs import Units
from models.base import GenerativeModel, capabilities
from models.nets.lanes import row_sum
from models.protocols import HasDecode, HasEncode
from training.statistics.base import Statistic

__all__ = ["ReconstructionError"]


class ReconstructionError(Statistic):
    """Root mean square of a row less its reconstruction, in the units of the data (levels, of a picture).

    Args:
        model: a fitted autoencoder.
    """

    name: ClassVar[str] = "reconstruction"
    units: ClassVar[Units] = "data"

    def __init__(self, model: GenerativeModel):
        super().__init__()
        self.model = model.baked()

    @property
    def words(self) -> str:
        """What the numbers are."""
        return "root mean square of the row less what its code is decoded to"

    @classmethod
    def why_not(cls, family: type[GenerativeModel]) -> str | None:
        """None for autoencoders, else the reason in words."""
        if not {"encode", "decode"} <= set(capabilities(family)):
            return family.refusals.get("decode") or family.refusals.get("encode") or "it has no code to decode"
        if family.decode_undoes_encode:
            return "its code is a bijection: decoding gives every row back, an anomaly as well as any"
        return None

    def forward(self, x: Tensor, log_prob: Tensor | None, *conditions: Tensor) -> Tensor:
        """x [n, *shape], conditions [n] -> float64 [n]."""
        code = cast(HasEncode, self.model).encode(x, *conditions)
        again = cast(HasDecode, self.model).decode(code, *conditions)
        difference = (x.double() - again.double()).flatten(1)
        return (row_sum(difference.square()) / difference.shape[1]).sqrt()
