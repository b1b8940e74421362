"""The multivariate normal with a full covariance, fitted by maximum likelihood.

    log p(x) = -1/2 ||z||^2 - d/2 log(2 pi) - log det L,    z = L^-1 (x - mean),    L L^T = covariance

Mean and covariance are the sample's, by 1/n, which maximises the likelihood (R. A. Fisher, "On the mathematical
foundations of theoretical statistics", 1922; T. W. Anderson, "An Introduction to Multivariate Statistical Analysis",
2003, chapter 3). Everything is in double. The code z is the whitened row, a bijection.

Some columns by themselves are normal too, and so are the others given them: a row of which a part is known has a
log-density, and what is missing can be drawn (``models/nets/conditioning.py``).

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> names = ["height", "weight"]
    >>> columns = tuple(Column(name=name, kind="real", base_measure="lebesgue") for name in names)
    >>> model = Gaussian(Support(shape=(2,), columns=columns))
    >>> model.fit(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 3.0]]))
    >>> x = torch.tensor([[3.0, 3.0]], dtype=torch.float64)
    >>> [round(v, 4) for v in model.encode(x).abs()[0].tolist()]
    [0.0, 0.0]
    >>> round(model.log_prob(x).item(), 4)
    -1.9817
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from contract.capabilities import Capability
from contract.programs import ProgramInput
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel, register
from models.nets.conditioning import CELLS, MOST_COLUMNS, TOO_MANY, condition_normal
from models.nets.dequantise import COPIES, Dequantised, cells_of
from models.nets.laws import TEMPERATURE, standard_normal, standard_normal_log_prob
from models.nets.tabular import why_not_continuous
from models.nets.transforms import Whiten
from models.randomness import normal

__all__ = ["Gaussian"]


@register("gaussian")
class Gaussian(Dequantised, GenerativeModel):
    """Multivariate normal over a table of real columns.

    Args:
        support: real columns, none of which may be missing.
        dequantise: whether rounded columns are dequantised, which makes log p a lower bound; else they are taken for
            continuous, and refused where rounding is coarse.

    Raises:
        ValueError: the support is not of that kind.
    """

    covariance: Tensor

    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "one normal law describes all rows: it knows no labels that a row could have"
    }
    code_description: ClassVar[str] = "whitened row L^-1 (x - mean), a bijection"
    latent_parameters: ClassVar[tuple[ProgramInput, ...]] = (TEMPERATURE,)

    def __init__(self, support: Support, *, dequantise: bool = False):
        super().__init__(support)
        self.whiten = Whiten(support.size)
        self.register_buffer("covariance", torch.eye(support.size, dtype=torch.float64))
        self.cells = cells_of(support, dequantise=dequantise)

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for a table of real columns without missing values, else the reason in words."""
        return why_not_continuous(support, positive=False)

    @property
    def lacks(self) -> dict[Capability, str]:
        """Wide tables are not conditioned on some of their columns, nor are cells of rounded values."""
        reason = TOO_MANY if self.support.size > MOST_COLUMNS else None if self.cells is None else CELLS
        return {} if reason is None else {"marginal": reason, "inpaint": reason}

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(d,)."""
        return self.support.shape

    def fit(self, x: Tensor) -> None:
        """Set mean and covariance from x [n, d].

        Raises:
            ValueError: a column is constant, redundant or too coarsely rounded.
        """
        self.whiten.fit(self._prepared(x, copies=COPIES))
        self.covariance.copy_(self.whiten.factor @ self.whiten.factor.T)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of continuous values, in nats: x float64 [n, d] -> float64 [n]."""
        z, log_det = self.whiten.forward_and_log_det(x)
        return self.latent_log_prob(z) + log_det

    def encode(self, x: Tensor) -> Tensor:
        """Whiten: x float64 [n, d] -> z float64 [n, d]."""
        return self.whiten.forward_and_log_det(self._centre(x))[0]

    def decode(self, z: Tensor) -> Tensor:
        """Undo the whitening: z float64 [n, d] -> x float64 [n, d]."""
        return self._centre(self.whiten.inverse_and_log_det(z)[0])

    def latent(self, seed: Tensor, row: Tensor, *parameters: Tensor) -> Tensor:
        """Draw codes: seed, row int64 [n], temperature float64 [n] -> z float64 [n, d]."""
        (temperature,) = parameters
        return standard_normal(seed, row, temperature, dims=self.support.size)

    def latent_log_prob(self, z: Tensor) -> Tensor:
        """log N(z; 0, I): z float64 [n, d] -> float64 [n]."""
        return standard_normal_log_prob(z)

    # -- rows of which a part is known -------------------------------------------------------------------------------

    def marginal(self, x: Tensor, known: Tensor) -> Tensor:
        """log p(known columns of x), exact, in nats: x float64 [n, d], known bool [n, d] -> float64 [n]."""
        return condition_normal(self.whiten.mean, self.covariance, x, known)[1]

    def inpaint(self, x: Tensor, known: Tensor, seed: Tensor, row: Tensor) -> Tensor:
        """Draw what is not known of x given what is: x float64 [n, d], known bool [n, d], addresses int64 [n]."""
        z = normal(seed, row, Stream.LATENT, dims=self.support.size).double()
        drawn, _ = condition_normal(self.whiten.inverse_and_log_det(z)[0], self.covariance, x, known)
        return torch.where(known, x, drawn)
