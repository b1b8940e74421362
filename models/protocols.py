"""Capabilities of families, as small protocols: what a method is called, takes and gives.

A family has a capability by having the methods; nothing is inherited.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from contract.capabilities import NumberKind
from contract.programs import Filling, ProgramInput, State, Steps

__all__ = [
    "Bakes",
    "HasBound",
    "HasClassify",
    "HasCode",
    "HasDecode",
    "HasEncode",
    "HasEncodeWithScale",
    "HasFinish",
    "HasFit",
    "HasFreeEnergy",
    "HasInpaint",
    "HasLatent",
    "HasLogProb",
    "HasLongFit",
    "HasLosses",
    "HasMarginal",
    "HasSample",
    "HasStepDecoder",
    "HasStepInpainter",
    "HasStepSampler",
    "HasTrace",
    "HasValidationLoss",
    "Losses",
]


@dataclass(frozen=True)
class Losses:
    """What one optimisation step minimises, per optimiser, and what to log beside it.

    Attributes:
        total: scalar tensors by optimiser name; a family with one optimiser calls it ``"main"``.
        logged: figures for the progress bar and TensorBoard.
    """

    total: dict[str, Tensor]
    logged: dict[str, float | Tensor]


@runtime_checkable
class Bakes(Protocol):
    """A layer whose forward pass recomputes its weights, until it is baked."""

    def bake(self) -> None:
        """Store the weights as they are used. Training ends here."""
        ...


@runtime_checkable
class HasLosses(Protocol):
    """Trained by gradients."""

    def losses(self, x: Tensor, seed: Tensor, row: Tensor, *conditions: Tensor) -> Losses:
        """Losses on a batch x [n, *shape]; (seed, row), int64 [n], address whatever is drawn."""
        ...


@runtime_checkable
class HasValidationLoss(Protocol):
    """Is stopped by a figure of its own, because minus its log-probability is not known, or too dear, in training."""

    def validation_loss(self, x: Tensor, seed: Tensor, row: Tensor, *conditions: Tensor) -> Tensor:
        """x [n, *shape] -> float64 [n], less is better; (seed, row), int64 [n], the same in every epoch."""
        ...


@runtime_checkable
class HasFinish(Protocol):
    """Has numbers that are found once, of the weights that were kept, such as an estimate of their partition function.

    Whatever ``finish`` finds is a parameter or a buffer, so that it is saved with the weights and never found again.
    """

    finish_words: ClassVar[str]
    """What it finds, for the progress bar."""

    @property
    def finish_steps(self) -> int:
        """How far ``finish`` counts."""
        ...

    def finish(self, progress: Callable[[int], None]) -> str:
        """Find them, telling ``progress`` the number of steps done; returns in words what was found."""
        ...


@runtime_checkable
class HasFit(Protocol):
    """Fitted in closed form."""

    def fit(self, x: Tensor, *conditions: Tensor) -> None:
        """Set the parameters from the training fold x [n, *shape], and its conditions where the model has some."""
        ...


@runtime_checkable
class HasLongFit(Protocol):
    """Fitted without gradients, by so many passes over the rows that one wants to see how far it is."""

    @property
    def fit_passes(self) -> int:
        """How many passes there are at most."""
        ...

    def fit(self, x: Tensor, *conditions: Tensor, progress: Callable[[int, str], None]) -> None:
        """As ``HasFit.fit``, telling ``progress`` the number of passes done and a word on how it goes."""
        ...


@runtime_checkable
class HasLogProb(Protocol):
    """Has a log-probability, of a declared kind, in nats of the original units."""

    @property
    def log_prob_kind(self) -> NumberKind:
        """Of the class, or of the model where it depends on its size."""
        ...

    def log_prob(self, x: Tensor, *conditions: Tensor) -> Tensor:
        """x [n, *shape] in original units -> float64 [n]."""
        ...


@runtime_checkable
class HasFreeEnergy(Protocol):
    """Knows its log-probability as -F(x) - log Z: the free energy F is exact even where log Z is an estimate."""

    def log_prob_and_free_energy(self, x: Tensor, *conditions: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, *shape] in original units -> log-probability and free energy, float64 [n] each, in nats."""
        ...


@runtime_checkable
class HasTrace(Protocol):
    """Knows its log-probability as a sum over positions, each given the earlier ones: the sum comes with its terms."""

    @property
    def trace_shape(self) -> tuple[int, ...]:
        """Shape of one row's terms."""
        ...

    def log_prob_and_trace(self, x: Tensor, *conditions: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, *shape] in original units -> log-probability float64 [n], terms float64 [n, *trace_shape], in nats."""
        ...


@runtime_checkable
class HasBound(Protocol):
    """Has an importance-weighted lower bound on its log-probability (Burda, Grosse and Salakhutdinov 2016):

        log p(x) >= E log( 1/K sum_k w_k ),    w_k = p(x, z_k) / q(z_k given x),    z_k ~ q(z given x)

    K = 1 is the evidence lower bound (ELBO); a larger K is tighter. A request chooses K as ``samples``. A family that
    also has a ``log_prob`` answers with the bound where its ``log_prob_kind`` is ``lower_bound``.
    """

    default_samples: ClassVar[int]

    @property
    def bound_state(self) -> tuple[State, ...]:
        """Names, dtypes and shapes of what ``bound_init`` gives: what all K draws have in common."""
        ...

    def bound_init(self, x: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
        """x [n, *shape] in original units -> what does not depend on the draw, such as the mean and scale of q."""
        ...

    def log_weight(self, x: Tensor, seed: Tensor, row: Tensor, t: Tensor, *rest: Tensor) -> Tensor:
        """log w of draw t: x [n, *shape], addresses and t int64 [n], conditions, the state -> float64 [n]."""
        ...


@runtime_checkable
class HasCode(Protocol):
    """Has codes z [n, *code_shape]; ``code_description`` says in words what a code is."""

    code_description: ClassVar[str]

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Shape of one code."""
        ...


@runtime_checkable
class HasEncode(HasCode, Protocol):
    """Gives the code of a row; with ``HasDecode`` the two are a bijection, unless ``decode_undoes_encode`` is false."""

    def encode(self, x: Tensor, *conditions: Tensor) -> Tensor:
        """x [n, *shape] -> z float64 [n, *code_shape]."""
        ...


@runtime_checkable
class HasEncodeWithScale(HasEncode, Protocol):
    """Has a law of codes given a row, of which ``encode`` gives the mean."""

    def encode_with_scale(self, x: Tensor, *conditions: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, *shape] -> mean and standard deviation of the law, float64 [n, *code_shape] each."""
        ...


@runtime_checkable
class HasDecode(HasCode, Protocol):
    """Gives the row of a code."""

    def decode(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """z float64 [n, *code_shape] -> x [n, *shape]."""
        ...


@runtime_checkable
class HasStepDecoder(HasDecode, Protocol):
    """Gives the row of a code by T steps over a state; row i is at step t[i], so rows at different steps share a batch.

    Nothing is drawn on the way: ``decode`` is the same, step after step. With ``HasLatent`` this samples.
    """

    @property
    def decode_steps(self) -> int:
        """T."""
        ...

    @property
    def decode_state(self) -> tuple[State, ...]:
        """Names, dtypes and shapes of the state, in the order in which the methods take and give it."""
        ...

    def decode_init(self, z: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
        """z float64 [n, *code_shape], conditions -> the first state."""
        ...

    def decode_step(self, t: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Step index t int64 [n], conditions, the state -> the next state."""
        ...

    def decode_final(self, *state: Tensor) -> Tensor:
        """The last state -> x [n, *shape], of the support's dtype."""
        ...


@runtime_checkable
class HasLatent(Protocol):
    """Draws codes from the base law; with ``HasDecode`` this samples in one shot: decode(latent(seed, row))."""

    latent_parameters: ClassVar[tuple[ProgramInput, ...]]

    def latent(self, seed: Tensor, row: Tensor, *parameters: Tensor) -> Tensor:
        """Addresses, int64 [n], declared parameters [n], conditions -> z float64 [n, *code_shape]."""
        ...

    def latent_log_prob(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """Log-density of z at the parameters' defaults: float64 [n, *code_shape], conditions -> float64 [n]."""
        ...


@runtime_checkable
class HasSample(Protocol):
    """Samples in one shot without a code that could be decoded, as by choosing one of several laws first."""

    sample_parameters: ClassVar[tuple[ProgramInput, ...]]

    def sample(self, seed: Tensor, row: Tensor, *rest: Tensor) -> Tensor:
        """Addresses, int64 [n], declared parameters [n], conditions -> x [n, *shape], of the support's dtype."""
        ...


@runtime_checkable
class HasStepSampler(Protocol):
    """Samples by T steps over a state; row i is at step t[i], so rows at different steps share a batch."""

    sample_parameters: ClassVar[tuple[ProgramInput, ...]]
    sample_preview: ClassVar[str]

    @property
    def sample_steps(self) -> int | Steps:
        """T, or which T a request may choose."""
        ...

    @property
    def sample_state(self) -> tuple[State, ...]:
        """Names, dtypes and shapes of the state, in the order in which the methods take and give it."""
        ...

    def sample_init(self, seed: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        """Addresses, int64 [n] -> the first state."""
        ...

    def sample_step(self, seed: Tensor, row: Tensor, t: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Addresses, step index t int64 [n], declared parameters [n], conditions, the state -> the next state.

        A part of the state that a step leaves alone is returned as the same object; graphs then do not copy it.
        """
        ...

    def sample_final(self, *state: Tensor) -> Tensor:
        """The last state -> x [n, *shape], of the support's dtype."""
        ...


@runtime_checkable
class HasClassify(Protocol):
    """Knows the law of labels given a row, by Bayes' rule from its exact law of rows given a label."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the numbers that ``classify`` gives."""
        ...

    @property
    def label_prior(self) -> tuple[float, ...]:
        """The probability of each label before a row is seen."""
        ...

    def classify(self, x: Tensor) -> Tensor:
        """log p(label given x), exact: x [n, *shape] in original units -> float64 [n, labels]."""
        ...


@runtime_checkable
class HasMarginal(Protocol):
    """Knows the exact law of some coordinates by themselves, the others summed or integrated out."""

    def marginal(self, x: Tensor, known: Tensor, *conditions: Tensor) -> Tensor:
        """log p(known coordinates of x), exact: x [n, *shape], known bool [n, *shape] -> float64 [n].

        What ``x`` holds where it is not known is 1, and must not matter.
        """
        ...


@runtime_checkable
class HasInpaint(Protocol):
    """Draws what is missing of a row from the exact law given what is known, in one shot."""

    def inpaint(self, x: Tensor, known: Tensor, seed: Tensor, row: Tensor, *conditions: Tensor) -> Tensor:
        """x [n, *shape], known bool [n, *shape], addresses int64 [n] -> x with its holes filled, the rest bit-equal."""
        ...


@runtime_checkable
class HasStepInpainter(Protocol):
    """Fills in what is missing by the steps of its sampler, which leave alone what its state says is known."""

    @property
    def filling(self) -> Filling:
        """What the draws are conditioned on."""
        ...

    def inpaint_init(self, x: Tensor, known: Tensor, seed: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        """x [n, *shape], known bool [n, *shape], addresses int64 [n] -> the first state, as ``sample_init``'s."""
        ...
