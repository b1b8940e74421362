"""A mixture of multivariate normals with full covariances, fitted by expectation maximisation.

    log p(x) = log sum_k w_k N(x; m_k, L_k L_k^T)
             = log sum_k exp( log w_k - 1/2 ||L_k^-1 (x - m_k)||^2 - d/2 log(2 pi) - log det L_k )

EM climbs to a local maximum of the likelihood (A. P. Dempster, N. M. Laird and D. B. Rubin, "Maximum Likelihood from
Incomplete Data via the EM Algorithm", 1977); of several starts the best is kept. Without a bound the likelihood grows
for ever as a component closes in on one row, so that a small number is added to each variance. Columns are
standardised first, so that this number means the same for all. Everything is in double.

Some columns by themselves are a mixture too, with the same weights; given them, the others are one whose weights are
the responsibilities of what is known (``models/nets/conditioning.py``).

A draw chooses a component and then a point of it. The code of a row is its responsibilities, the probabilities
p(k given x): they say which component a row is of, and not where in it, so that there is no way back.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> column = Column(name="length", kind="real", base_measure="lebesgue")
    >>> model = MixtureOfGaussians(Support(shape=(1,), columns=(column,)), components=2)
    >>> _ = torch.manual_seed(0)
    >>> model.fit(torch.tensor([[-10.0], [-9.0], [-8.0], [8.0], [9.0], [10.0]]))
    >>> [[round(v, 6) for v in sorted(z)] for z in model.encode(torch.tensor([[-9.0]]).double()).tolist()]
    [[0.0, 1.0]]
    >>> round(model.log_prob(torch.tensor([[-9.0], [9.0]]).double())[0].item(), 1)
    -1.4
"""

from __future__ import annotations

import warnings
from math import log, pi
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from contract.capabilities import Capability
from contract.programs import ProgramInput
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel, register
from models.nets.conditioning import CELLS, MOST_COLUMNS, TOO_MANY, condition_normal
from models.nets.dequantise import COPIES, Dequantised, cells_of
from models.nets.lanes import full_lanes, row_logsumexp, row_sum
from models.nets.tabular import FARTHEST, why_not_continuous
from models.nets.transforms import Standardise
from models.randomness import normal, uniform

__all__ = ["MixtureOfGaussians"]


@register("mixture-of-gaussians")
class MixtureOfGaussians(Dequantised, GenerativeModel):
    """Mixture of multivariate normals over a table of real columns.

    Args:
        support: real columns, none of which may be missing.
        components: K, how many normals.
        starts: how often EM starts anew, each time from another k-means clustering.
        least_variance: what is added to each variance, in squared standard deviations of the column.
        max_iterations: of EM, from each start.
        tolerance: EM has converged once an iteration adds less than this to the mean log-likelihood, in nats.
        dequantise: whether rounded columns are dequantised, which makes log p a lower bound; else they are taken for
            continuous, and refused where rounding is coarse.

    Raises:
        ValueError: the support is not of that kind, or there is no component.
    """

    weights: Tensor
    cumulative: Tensor
    means: Tensor
    factors: Tensor
    whitening: Tensor
    whitened_means: Tensor
    offsets: Tensor
    covariances: Tensor

    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "its components are found without labels: the code of a row says which of them it is of",
        "latent": "a draw is a component and a point of it, which no code with one base law stands for",
        "decode": "responsibilities say which component a row is of, and not where in it: many rows share a code",
    }
    code_description: ClassVar[str] = "responsibilities p(component given row), which cannot be decoded"
    sample_parameters: ClassVar[tuple[ProgramInput, ...]] = ()

    def __init__(
        self,
        support: Support,
        *,
        components: int = 8,
        starts: int = 5,
        least_variance: float = 1e-4,
        max_iterations: int = 1000,
        tolerance: float = 1e-3,
        dequantise: bool = False,
    ):
        super().__init__(support)
        if components < 1:
            raise ValueError(f"components: a mixture has at least one, not {components}")
        self.components = components
        self.starts = starts
        self.least_variance = least_variance
        self.max_iterations = max_iterations
        self.tolerance = tolerance
        d = support.size
        self.scaling = Standardise(d)
        self.cells = cells_of(support, dequantise=dequantise)
        # In standardised units: K standard normals, until they are fitted.
        eye = torch.eye(d, dtype=torch.float64).repeat(components, 1, 1)
        self.register_buffer("weights", torch.full((components,), 1.0 / components, dtype=torch.float64))
        self.register_buffer("cumulative", self.weights.cumsum(dim=0))
        self.register_buffer("means", torch.zeros(components, d, dtype=torch.float64))
        self.register_buffer("factors", eye)
        self.register_buffer("whitening", eye.reshape(components * d, d).clone())
        self.register_buffer("whitened_means", torch.zeros(components * d, dtype=torch.float64))
        self.register_buffer("covariances", eye.clone())
        self.register_buffer("offsets", self.weights.log() - 0.5 * d * log(2.0 * pi))

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
        """(K,)."""
        return (self.components,)

    def fit(self, x: Tensor) -> None:
        """Fit by EM to x [n, d]; the starts follow from torch's seed.

        Raises:
            ValueError: a column is constant or too coarsely rounded, there are fewer rows than components, or EM has
                not converged.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        values = self._prepared(x, copies=COPIES)
        self.scaling.fit(values)
        y, _ = self.scaling.forward_and_log_det(values)
        em = GaussianMixture(
            self.components,
            covariance_type="full",
            n_init=self.starts,
            reg_covar=self.least_variance,
            max_iter=self.max_iterations,
            tol=self.tolerance,
            random_state=int(torch.randint(2**31 - 1, ())),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # becomes an error below
            em.fit(y.numpy())
        if not em.converged_:
            raise ValueError(f"EM has not converged after {self.max_iterations} iterations; allow more, or fewer parts")
        self._set(*(torch.from_numpy(part).double() for part in (em.weights_, em.means_, em.covariances_)))

    def _set(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        # Factors, their inverses and determinants are computed once: graphs cannot factorise.
        d = self.support.size
        factors = torch.linalg.cholesky(covariances)  # [K, d, d]
        inverses = torch.linalg.solve_triangular(factors, torch.eye(d, dtype=torch.float64), upper=False)
        log_det = factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        self.weights.copy_(weights)
        self.cumulative.copy_(weights.cumsum(dim=0))
        self.means.copy_(means)
        self.factors.copy_(factors)
        self.covariances.copy_(factors @ factors.transpose(1, 2))
        self.whitening.copy_(inverses.reshape(-1, d))
        self.whitened_means.copy_((inverses @ means[:, :, None]).reshape(-1))
        self.offsets.copy_(weights.log() - 0.5 * d * log(2.0 * pi) - log_det)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of continuous values, in nats of the original units: x float64 [n, d] -> float64 [n]."""
        y, log_det = self.scaling.forward_and_log_det(x)
        return row_logsumexp(self._joint(y)) + log_det

    def encode(self, x: Tensor) -> Tensor:
        """Responsibilities p(k given x): x float64 [n, d] -> float64 [n, K], each row's sum 1."""
        joint = self._joint(self.scaling.forward_and_log_det(self._centre(x))[0])
        return full_lanes(torch.exp, joint - row_logsumexp(joint)[:, None])

    def sample(self, seed: Tensor, row: Tensor, *parameters: Tensor) -> Tensor:
        """Draw a component by its weight, then a point of it: seed, row int64 [n] -> x float64 [n, d]."""
        u = uniform(seed, row, Stream.LATENT, dims=1).double()  # [n, 1]
        y, _ = self._draw(u, self.cumulative, seed, row)
        return self._centre(self.scaling.inverse_and_log_det(y)[0])

    # -- rows of which a part is known -------------------------------------------------------------------------------

    def marginal(self, x: Tensor, known: Tensor) -> Tensor:
        """log p(known columns of x), exact, in nats: x float64 [n, d], known bool [n, d] -> float64 [n]."""
        y = self._standard(x)
        stretched = torch.where(known, self.scaling.deviation.log(), 0.0)
        return row_logsumexp(self._joint_of_known(y, known)) - row_sum(stretched)

    def inpaint(self, x: Tensor, known: Tensor, seed: Tensor, row: Tensor) -> Tensor:
        """Draw what is not known of x given what is: x float64 [n, d], known bool [n, d], addresses int64 [n].

        A component by its responsibility for what is known, then a point of it given the same.
        """
        y = self._standard(x)
        joint = self._joint_of_known(y, known)
        cumulative = full_lanes(torch.exp, joint - row_logsumexp(joint)[:, None]).cumsum(dim=1)
        u = uniform(seed, row, Stream.LATENT, dims=1).double()
        start, k = self._draw(u, cumulative, seed, row)
        drawn, _ = condition_normal(start, self.covariances.index_select(0, k), y, known)
        return torch.where(known, x, self.scaling.inverse_and_log_det(drawn)[0])

    def _draw(self, u: Tensor, cumulative: Tensor, seed: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """A component and a point of it: u [n, 1], cumulative weights [n, K] -> standardised [n, d], k int64 [n]."""
        # The weights' sum may fall short of 1 in the last place.
        k = (cumulative <= u).long().sum(dim=1).clamp(max=self.components - 1)  # [n]
        z = normal(seed, row, Stream.OBSERVATION, dims=self.support.size).double()  # [n, d]
        return self.means.index_select(0, k) + row_sum(self.factors.index_select(0, k) * z[:, None, :]), k

    def _joint_of_known(self, y: Tensor, known: Tensor) -> Tensor:
        """log p(known columns of y, k): standardised rows [n, d], known bool [n, d] -> [n, K]."""
        _, log_prob = condition_normal(self.means, self.covariances, y[:, None], known[:, None])
        return self.weights.log() + log_prob

    def _standard(self, x: Tensor) -> Tensor:
        return self.scaling.forward_and_log_det(x)[0].clamp(-FARTHEST, FARTHEST)

    def _joint(self, y: Tensor) -> Tensor:
        """log p(y, k): standardised rows [n, d] -> [n, K]."""
        # Beyond this squares overflow; the density has long vanished.
        z = functional.linear(y.clamp(-FARTHEST, FARTHEST), self.whitening, -self.whitened_means)  # [n, K d]
        squares = row_sum(z.reshape(-1, self.components, self.support.size).square())  # [n, K]
        return self.offsets - 0.5 * squares
