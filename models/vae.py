"""Variational autoencoder of pictures, with convolutional networks.

    p(x) = E p(x given z),    z ~ N(0, I),    q(z given x) = N(m(x), diag s(x)^2)
    log p(x) >= E_q [ log p(x given z) ] - KL( q(z given x) || N(0, I) )

(D. P. Kingma and M. Welling, "Auto-Encoding Variational Bayes", 2013). Training maximises that bound; ``beta`` other
than 1 weighs the divergence and so trains another objective (I. Higgins et al., "beta-VAE", 2017), but what is
reported is always the bound, importance-weighted over K draws (Burda, Grosse and Salakhutdinov 2016).

Pixels are independent given z. Of a picture in black and white each is Bernoulli. Of levels 0 ... L - 1 the value
y = x + u, u ~ U[0, 1), is normal with a mean and a scale of its own, and a draw y counts as the level floor(y), below 0
and above L - 1 as the nearest one. Hence, in nats of the levels themselves,

    log P(x given z) >= log of the integral of p(x + u given z) >= E_u log p(x + u given z)

so that one more average, over u, makes the same bound (L. Theis, A. van den Oord and M. Bethge, "A note on the
evaluation of generative models", 2016).

The prior may be a flow learnt with the rest, p(z) in place of N(0, I) (X. Chen et al., "Variational Lossy
Autoencoder", 2016): draws of it then lie where codes of pictures do, given the label too.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> pixel = Column(name="pixel", kind="ordinal", levels=256, base_measure="counting")
    >>> model = VAE(Support(shape=(6, 5, 3), element=pixel), latent=2, widths=[4], blocks=0, labels=["cat", "dog"])
    >>> seed, row, label = torch.zeros(3, 2, dtype=torch.int64)
    >>> model.sample(seed, row, torch.ones(2), torch.ones(2), label).shape
    torch.Size([2, 6, 5, 3])
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, pi
from typing import ClassVar

import torch
from torch import Tensor, nn

from contract.capabilities import Capability
from contract.programs import ProgramInput, State
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel, register
from models.nets.convolutional import (
    PictureDecoder,
    PictureEncoder,
    channels_first,
    channels_last,
    picture_shape,
    why_not_pictures,
)
from models.nets.labels import label_condition, withheld
from models.nets.lanes import row_sum
from models.nets.laws import TEMPERATURE, bernoulli_log_prob, standard_normal
from models.nets.prior import FlowPrior
from models.protocols import Losses
from models.randomness import normal, uniform

__all__ = ["OBSERVATION_NOISE", "VAE"]

OBSERVATION_NOISE = ProgramInput(
    name="observation_noise",
    dtype="float64",
    source="parameter",
    default=1.0,
    minimum=0.0,
    maximum=1.0,
    description="Noise of the pixels given the code: 1 is the model's own law, 0 is the mean picture of each code.",
)

_CONTEXT = 16
_PRIOR_HIDDEN = 64
# Log-scales of q lie in (-7, 7). A pixel's scale lies between 0.2 levels, below the 0.29 of a pixel whose level is
# certain, and the whole range.
_LOG_SCALE_BOUND = 7.0
_LEAST_LEVELS = 0.2
_FIRST_SCALE = 0.25


@register("vae")
class VAE(GenerativeModel):
    """Convolutional VAE of pictures in black and white, grey or colour.

    Args:
        support: pixels of 2 to 256 levels, [H, W] or [H, W, 3].
        latent: coordinates of the code z.
        widths: channels after each halving of the picture.
        blocks: residual blocks at each size.
        neck: channels of the smallest picture on the way to and from the code.
        prior_layers: affine couplings of the prior; 0 for the standard normal law.
        beta: weight of the divergence in training; 1 is the bound itself.
        labels: classes to condition both networks on; none for an unconditional model.
        label_dropout: share of training rows whose label is withheld, which teaches the model without a label.
    """

    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "its log-probabilities given a label are lower bounds, each short of the truth by another unknown "
        "amount: Bayes' rule on them gives neither p(label given x) nor a bound on it",
        "marginal": "what is summed out of a lower bound is no bound that this model can compute: its approximate "
        "posterior is one of whole pictures",
        "inpaint": "the law of codes given a part of a picture is not known: its approximate posterior is one of whole "
        "pictures",
    }
    default_samples: ClassVar[int] = 16
    decode_undoes_encode: ClassVar[bool] = False
    code_description: ClassVar[str] = (
        "mean of the approximate posterior q(z given x); decoding it gives a picture like x, not x itself"
    )
    latent_parameters: ClassVar[tuple[ProgramInput, ...]] = (TEMPERATURE,)
    sample_parameters: ClassVar[tuple[ProgramInput, ...]] = (TEMPERATURE, OBSERVATION_NOISE)

    def __init__(
        self,
        support: Support,
        *,
        latent: int = 32,
        widths: Sequence[int] = (32, 64),
        blocks: int = 1,
        neck: int = 16,
        prior_layers: int = 0,
        beta: float = 1.0,
        labels: Sequence[str] = (),
        label_dropout: float = 0.1,
    ):
        super().__init__(support)
        if latent < 1 or not widths or min(*widths, neck) < 1 or min(blocks, prior_layers) < 0:
            raise ValueError("latent, neck and widths are 1 or more, blocks and prior_layers 0 or more")
        if not 0.0 < beta < float("inf"):
            raise ValueError(f"beta is a finite number above 0, not {beta:g}")
        if not 0.0 <= label_dropout < 1.0:
            raise ValueError(f"label_dropout lies in [0, 1), not {label_dropout:g}")
        assert support.element is not None
        shape = picture_shape(support)
        self.levels = support.element.levels or 2
        self.latent_dims = latent
        self.beta = beta
        self.labels = tuple(labels)
        self.label_dropout = label_dropout
        context = _CONTEXT if labels else 0
        self.context = nn.Embedding(len(labels) + 1, context) if labels else None
        self.encoder = PictureEncoder(shape, widths, blocks=blocks, neck=neck, context=context, outputs=2 * latent)
        self.prior = FlowPrior(latent, layers=prior_layers, hidden=[_PRIOR_HIDDEN] * 2, context=context)
        # Logits of a binary pixel; mean and log-scale of another.
        outputs = (shape[0] if self.levels == 2 else 2 * shape[0], *shape[1:])
        self.decoder = PictureDecoder(latent + context, widths, blocks=blocks, neck=neck, shape=outputs)
        self.log_scales = (log(_LEAST_LEVELS / self.levels), 0.0)
        if self.levels > 2:
            self._start_wide(shape[0])

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for pictures of 2 to 256 levels without missing pixels, else the reason in words."""
        return why_not_pictures(support)

    @property
    def conditions(self) -> tuple[ProgramInput, ...]:
        """The label, if there are labels; one more than the last is the null value."""
        return label_condition(self.labels)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(latent,)."""
        return (self.latent_dims,)

    def losses(self, x: Tensor, seed: Tensor, row: Tensor, *conditions: Tensor) -> Losses:
        """Minus the bound of x [n, *shape] with one draw, in closed form what can be (Kingma and Welling, eq. 10).

        The label of some rows is withheld, in validation as in training.
        """
        conditions = withheld(conditions, seed, row, self.label_dropout, len(self.labels))
        mean, log_scale = self._posterior(x, conditions)
        z = mean + normal(seed, row, Stream.LATENT, dims=self.latent_dims) * log_scale.exp()
        distortion = -self._log_prob_given(x, self._offset(seed, row, 0), z, conditions).mean()
        if self.prior.orders:
            entropy = (0.5 * (1.0 + log(2.0 * pi)) + log_scale).double().sum(dim=1)
            rate = (-entropy - self.prior.log_prob(z, self._context(conditions))).mean()
        else:
            rate = (0.5 * (mean.square() + (2.0 * log_scale).exp() - 1.0) - log_scale).double().sum(dim=1).mean()
        loss = distortion + self.beta * rate
        return Losses(total={"main": loss}, logged={"distortion": distortion.detach(), "rate": rate.detach()})

    # -- the bound, draw by draw -----------------------------------------------------------------------------------

    @property
    def bound_state(self) -> tuple[State, ...]:
        """Mean and log-scale of q(z given x)."""
        return tuple(State(name=name, dtype="float32", shape=self.code_shape) for name in ("mean", "log_scale"))

    def bound_init(self, x: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
        """x [n, *shape] -> mean, log-scale float32 [n, latent]."""
        return self._posterior(x, conditions)

    def log_weight(self, x: Tensor, seed: Tensor, row: Tensor, t: Tensor, *rest: Tensor) -> Tensor:
        """log p(x + u given z) + log p(z) - log q(z given x) at draw t of z and u -> float64 [n]."""
        *conditions, mean, log_scale = rest
        noise = normal(seed, row, Stream.LATENT, t, dims=self.latent_dims)
        z = mean + noise * log_scale.exp()
        posterior = -0.5 * (noise.double().square() + log(2.0 * pi)) - log_scale.double()
        prior = self.prior.log_prob(z, self._context(tuple(conditions)))
        likelihood = self._log_prob_given(x, self._offset(seed, row, t), z, tuple(conditions))
        return likelihood + prior - row_sum(posterior)

    # -- codes and draws -------------------------------------------------------------------------------------------

    def encode(self, x: Tensor, *conditions: Tensor) -> Tensor:
        """Mean of q(z given x): x [n, *shape] -> z float64 [n, latent]."""
        return self.encode_with_scale(x, *conditions)[0]

    def encode_with_scale(self, x: Tensor, *conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z given x): x [n, *shape] -> float64 [n, latent] each."""
        mean, log_scale = self._posterior(x, conditions)
        return mean.double(), log_scale.exp().double()

    def decode(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """The mean picture of a code, rounded to its levels: z float64 [n, latent] -> x [n, *shape]."""
        observed = self._observation(z.float(), conditions)
        return self._row(observed[0] > 0) if self.levels == 2 else self._levels(observed[0])

    def latent(self, seed: Tensor, row: Tensor, *rest: Tensor) -> Tensor:
        """Draw codes: seed, row int64 [n], temperature float64 [n], conditions -> z float64 [n, latent]."""
        temperature, *conditions = rest
        noise = standard_normal(seed, row, temperature, dims=self.latent_dims)
        return self.prior.sample(noise.float(), self._context(tuple(conditions))).double()

    def latent_log_prob(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """log p(z): z float64 [n, latent], conditions -> float64 [n]."""
        return self.prior.log_prob(z.float(), self._context(conditions))

    def sample(self, seed: Tensor, row: Tensor, *rest: Tensor) -> Tensor:
        """seed, row int64 [n], temperature and observation noise float64 [n], conditions -> x [n, *shape]."""
        temperature, observation_noise, *conditions = rest
        z = self.latent(seed, row, temperature, *conditions).float()
        observed = self._observation(z, tuple(conditions))
        noise = observation_noise.float()[:, None]  # [n, 1]
        if self.levels == 2:
            # Logistic noise added to the logit, so that none leaves its sign: what ``decode`` gives.
            chance = torch.sigmoid(observed[0] / noise.clamp(min=1e-6))
            chance = torch.where(noise > 0, chance, (observed[0] > 0).float())
            return self._row(uniform(seed, row, Stream.OBSERVATION, dims=self.support.size) < chance)
        mean, log_scale = observed
        draws = normal(seed, row, Stream.OBSERVATION, dims=self.support.size)
        return self._levels(mean + noise * log_scale.exp() * draws)

    # -- networks --------------------------------------------------------------------------------------------------

    def _posterior(self, x: Tensor, conditions: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        centred = (x.float() + 0.5) * (2.0 / self.levels) - 1.0
        raw = self.encoder(channels_first(centred), self._context(conditions))
        mean, log_scale = raw.chunk(2, dim=1)
        return mean, _LOG_SCALE_BOUND * torch.tanh(log_scale / _LOG_SCALE_BOUND)

    def _observation(self, z: Tensor, conditions: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """z float32 [n, latent] -> logits; or mean and log-scale in units of the whole range; each [n, D]."""
        context = self._context(conditions)
        raw = self.decoder(z if context is None else torch.cat([z, context], dim=1))
        if self.levels == 2:
            return (channels_last(raw, self.support.shape).flatten(1),)
        mean, log_scale = (channels_last(part, self.support.shape).flatten(1) for part in raw.chunk(2, dim=1))
        low, high = self.log_scales
        return torch.sigmoid(mean), low + (high - low) * torch.sigmoid(log_scale)

    def _log_prob_given(self, x: Tensor, offset: Tensor | None, z: Tensor, conditions: tuple[Tensor, ...]) -> Tensor:
        """log p(x + u given z): x [n, *shape], u [n, D], z [n, latent] -> float64 [n]."""
        observed = self._observation(z, conditions)
        rows = x.flatten(1).float()  # [n, D]
        if offset is None:
            return bernoulli_log_prob(observed[0], rows)
        mean, log_scale = observed
        residual = ((rows + offset) / self.levels - mean) * (-log_scale).exp()
        terms = -0.5 * residual.square() - log_scale
        return row_sum(terms.double()) - self.support.size * (0.5 * log(2.0 * pi) + log(self.levels))

    def _context(self, conditions: tuple[Tensor, ...]) -> Tensor | None:
        return None if self.context is None else self.context(conditions[0])

    def _offset(self, seed: Tensor, row: Tensor, t: Tensor | int) -> Tensor | None:
        if self.levels == 2:
            return None
        return uniform(seed, row, Stream.OBSERVATION, t, dims=self.support.size)

    def _levels(self, y: Tensor) -> Tensor:
        return self._row((y * self.levels).floor().clamp(0, self.levels - 1))

    def _row(self, flat: Tensor) -> Tensor:
        return flat.to(torch.uint8).reshape(-1, *self.support.shape)

    @torch.no_grad()
    def _start_wide(self, channels: int) -> None:
        # Narrow pixels far from their value would start training with a loss of millions.
        low, high = self.log_scales
        self.decoder.last_bias[4 * channels :] = torch.logit(torch.tensor((log(_FIRST_SCALE) - low) / (high - low)))
