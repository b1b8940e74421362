"""What restricted Boltzmann machines with binary visible units have in common, whatever their hidden units are.

    log p(x) = -F(x) - log Z

F, the free energy, is known in closed form. Its gradient on the data, less that under the machine's own law, is the
gradient of minus the log-likelihood; block Gibbs sampling draws from that law, the hidden units given the visible ones
and these given the hidden ones.

- contrastive divergence starts k such steps at the data (G. Hinton, "Training Products of Experts by Minimizing
  Contrastive Divergence", 2002): cheap, but not the gradient of any likelihood until k is large;
- persistent contrastive divergence keeps its chains from one update to the next (T. Tieleman, "Training Restricted
  Boltzmann Machines using Approximations to the Likelihood Gradient", 2008);
- where every state of some side can be counted, the gradient is exact.

log Z is found once, when training is over: exactly where it is a sum over the states of at most 20 units, else by
annealed importance sampling (``models/nets/partition.py``), one estimate for all rows, whose error they share.

The weights that ship are rounded to a common power of two, so that sums over binary units are exact in float32 in
whatever order they are taken, and chains do not part ways between machines over the last place.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from contract.capabilities import NumberKind
from contract.programs import Filling, OutputError, ProgramInput, State, Steps
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel
from models.nets.lanes import full_lanes
from models.protocols import Losses
from models.randomness import address, stream_state, uniform_from

__all__ = ["EXACT", "LONGEST_CHAIN", "SMALL", "Gradient", "RestrictedBoltzmannMachine", "sigmoid"]

EXACT = 20
"""log Z is summed over every state of at most so many units."""

SMALL = 12
"""So few that it can be summed at every step of training."""

LONGEST_CHAIN = 100_000

Gradient = Literal["pcd", "cd", "exact"]


class RestrictedBoltzmannMachine(GenerativeModel):
    """D binary visible units, H hidden ones, and weights between the two sides alone.

    A draw is the end of a chain of a finite number of steps, which starts from independent coordinates with the
    training rows' own rates: it follows the machine's law only as far as the chain has forgotten its start. How many
    steps that takes depends on the weights; a request may ask for more of them.

    A family says what its hidden units are by the methods that are abstract here. Visible units are 0 and 1 in all
    that these take and give.

    Args:
        support: binary coordinates, none of which may be missing.
        hidden: H, hidden units.
        gradient: persistent contrastive divergence, contrastive divergence, or the exact gradient.
        k: block Gibbs steps for each update.
        particles: chains of persistent contrastive divergence.
        centred: whether biases are trained centred.
        chain: steps of a sample, where the request does not say.
        ais_chains: chains of annealed importance sampling, where log Z is estimated.
        ais_steps: temperatures that each of them passes.
    """

    sample_parameters: ClassVar[tuple[ProgramInput, ...]] = ()
    sample_preview: ClassVar[str] = "visible"
    filling: ClassVar[Filling] = "chain"
    finish_words: ClassVar[str] = "log Z"

    base_logits: Tensor
    particles: Tensor
    particle_steps: Tensor
    centring: Tensor
    log_z: Tensor
    log_z_error: Tensor

    def __init__(
        self,
        support: Support,
        *,
        hidden: int = 500,
        gradient: Gradient = "pcd",
        k: int = 1,
        particles: int = 100,
        centred: bool = True,
        chain: int = 1000,
        ais_chains: int = 100,
        ais_steps: int = 10_000,
    ):
        super().__init__(support)
        dims = support.size
        for name, value, least in (
            ("hidden", hidden, 1),
            ("k", k, 1),
            ("particles", particles, 1),
            ("ais_chains", ais_chains, 2),
            ("ais_steps", ais_steps, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}")
        if not 1 <= chain <= LONGEST_CHAIN:
            raise ValueError(f"chain must be from 1 to {LONGEST_CHAIN}, not {chain}")
        self.gradient = gradient
        self.k = k
        self.centred = centred
        self.chain = chain
        self.ais = (ais_chains, ais_steps)
        self.weight = nn.Parameter(0.01 * torch.randn(hidden, dims))  # W; Hinton's guide, 2012, section 8
        self.visible_bias = nn.Parameter(torch.zeros(dims))  # a, centred until it is folded
        self.folded = False
        self.register_buffer("base_logits", torch.zeros(dims))
        self.register_buffer("particles", torch.zeros(particles, dims, dtype=torch.uint8))
        self.register_buffer("particle_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("centring", torch.zeros(()))  # 1 while biases are centred
        self.register_buffer("log_z", torch.tensor(torch.nan, dtype=torch.float64))
        self.register_buffer("log_z_error", torch.tensor(torch.nan, dtype=torch.float64))
        if gradient == "exact" and self.summed_units > SMALL:
            raise ValueError(
                f"the exact gradient sums over every state of the {self.summed_side}, {self.summed_units} units here: "
                f"at most {SMALL}"
            )

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for binary coordinates without missing values, else the reason in words."""
        for column in support.columns or (support.element,):
            if column is not None and column.kind != "binary":
                return f"{column.name!r} is {column.kind}, and a visible unit is 0 or 1"
            if column is not None and column.missing_allowed:
                return f"{column.name!r} may be missing, and this family cannot sum a visible unit out"
        return None

    # -- what a family says of its units -------------------------------------------------------------------------

    summed_side: ClassVar[str]
    """Whose states log Z is a sum over, in words."""

    @property
    @abstractmethod
    def summed_units(self) -> int:
        """How many units these are."""

    @abstractmethod
    def parameters_in_use(self) -> tuple[Tensor, ...]:
        """The plain machine: weights W [H, D], visible biases a [D], and hidden ones where there are any."""

    @abstractmethod
    def free_energy(self, x: Tensor) -> Tensor:
        """F(x) in nats: x [n, *shape] -> float64 [n]."""

    @abstractmethod
    def mean_energy(self, visible: Tensor) -> Tensor:
        """Mean free energy of rows float32 [n, D], in single precision, for gradients."""

    @abstractmethod
    def pseudo_loss(self, visible: Tensor, seed: Tensor, row: Tensor) -> Tensor:
        """-sum_i log p(x_i given the others), or an unbiased estimate of it, at addresses: [n, D] -> float64 [n]."""

    @abstractmethod
    def gibbs(self, visible: Tensor, addresses: Tensor, t: Tensor | int) -> Tensor:
        """Step t of the chains of the addresses: float32 [n, D], int64 [n] -> float32 [n, D]."""

    @abstractmethod
    def summed_log_z(self) -> Tensor:
        """log Z, exact and differentiable: float64."""

    @abstractmethod
    def annealed_log_z(self, *, chains: int, temperatures: int, progress: Callable[[int], None]) -> tuple[float, float]:
        """log Z by annealed importance sampling, and its standard error."""

    @abstractmethod
    def largest_sum(self) -> float:
        """A bound on the magnitude of every sum of weights into a unit that the answers take in single precision."""

    @abstractmethod
    def start_at(self, odds: Tensor) -> None:
        """Set the visible biases so that without weights each coordinate has these log-odds, [D]."""

    # -- training ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Start from the independent law of x [n, *shape], and the particles as draws from it."""
        on = x.reshape(len(x), -1).double().mean(dim=0)
        odds = ((on * len(x) + 0.5) / ((1 - on) * len(x) + 0.5)).log()  # Haldane-Anscombe: finite at 0 and 1
        self.base_logits.copy_(odds)
        self.start_at(odds)
        self.centring.fill_(self.centred)
        row = torch.arange(len(self.particles))
        self.particles.copy_(self._first(address(torch.zeros_like(row), row)))
        self.particle_steps.zero_()

    def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
        """What has the gradient of the chosen kind on a batch x [n, *shape]; its value means something for exact alone.

        (seed, row), int64 [n], address the chains of contrastive divergence; particle i has row i of the seed, and its
        steps count on over all updates.
        """
        rows = self._flat(x)
        energy = self.mean_energy(rows)
        if self.gradient == "exact":
            loss = energy + self.summed_log_z()
            return Losses(total={"main": loss}, logged={"nll": loss.detach()})
        with torch.no_grad():
            fantasy = self._walk(rows, address(seed, row), 0) if self.gradient == "cd" else self._walk_on(seed)
        gap = energy - self.mean_energy(fantasy)
        return Losses(total={"main": gap}, logged={"free_energy": energy.detach()})

    def validation_loss(self, x: Tensor, seed: Tensor, row: Tensor) -> Tensor:
        """What early stopping looks at: x [n, *shape], addresses int64 [n] -> float64 [n].

        Minus the log-probability where log Z can be summed at once. Else minus the pseudo-log-likelihood
        sum_i log p(x_i given the others), the same in every epoch: it needs no Z, and like the likelihood it is largest
        on average at the law of the data (J. Besag, "Statistical Analysis of Non-Lattice Data", 1975). It is not the
        log-probability, and never served as one.
        """
        if self.summed_units <= SMALL:
            return self.free_energy(x) + self.summed_log_z()
        return self.pseudo_loss(self._flat(x), seed, row)

    @property
    def finish_steps(self) -> int:
        """How far ``finish`` counts."""
        return 1 if self.log_prob_kind == "exact" else self.ais[1]

    @torch.no_grad()
    def finish(self, progress: Callable[[int], None] = lambda done: None) -> str:
        """Fold the offsets into the biases, round, and find log Z of what is left; says what it found.

        A weight is rounded to a multiple of 2^-e, with e so large that every sum of weights into a unit is still below
        2^24 such multiples: float32 holds it exactly.
        """
        self.bake()
        largest = max(self.largest_sum(), torch.finfo(torch.float32).tiny)
        unit = 2.0 ** math.ceil(math.log2(largest) - 23)  # half of what would just do, for the rounding itself
        for parameter in self.parameters():
            parameter.copy_((parameter.double() / unit).round() * unit)
        if self.log_prob_kind == "exact":
            self.log_z.copy_(self.summed_log_z())
            self.log_z_error.zero_()
            progress(1)
            return f"log Z = {self.log_z.item():.4f}, exact"
        chains, steps = self.ais
        value, error = self.annealed_log_z(chains=chains, temperatures=steps, progress=progress)
        self.log_z.fill_(value)
        self.log_z_error.fill_(error)
        return f"log Z = {value:.2f} ± {error:.2g}, by {chains} chains over {steps:,} temperatures"

    @torch.no_grad()
    def bake(self) -> None:
        """Fold the offsets into the biases for good. Training ends here."""
        for parameter, plain in zip(self.parameters(), self.parameters_in_use(), strict=True):
            parameter.copy_(plain)
        self.centring.zero_()
        self.folded = True

    # -- log-probability -----------------------------------------------------------------------------------------

    @property
    def log_prob_kind(self) -> NumberKind:
        """Exact where log Z can be summed over every state of a side, else an estimate."""
        return "exact" if self.summed_units <= EXACT else "estimate"

    @property
    def log_prob_error(self) -> OutputError | None:
        """The error of log Z, which all rows share; None where it is exact, or not yet found."""
        if self.log_prob_kind == "exact" or self.log_z_error.isnan():
            return None
        return OutputError(
            scope="shared",
            standard_error=self.log_z_error.item(),
            bias="log p is biased high: annealed importance sampling estimates log Z low on average, the more so where "
            "its chains miss a mode, of which its standard error knows nothing",
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats: x [n, *shape] -> float64 [n]; NaN until ``finish`` has found log Z."""
        return self.log_prob_and_free_energy(x)[0]

    def log_prob_and_free_energy(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x) and F(x) in nats: x [n, *shape] -> float64 [n], [n]."""
        energy = self.free_energy(x)
        return -energy - self.log_z, energy

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(H,)."""
        return (self.weight.shape[0],)

    # -- sampling, step by step ----------------------------------------------------------------------------------

    @property
    def sample_steps(self) -> Steps:
        """Any number of block Gibbs steps up to ``LONGEST_CHAIN``."""
        return Steps(default=self.chain, maximum=LONGEST_CHAIN)

    @property
    def sample_state(self) -> tuple[State, ...]:
        """The address, the visible units, and which of them are clamped."""
        shape = (self.support.size,)
        return (
            State(name="address", dtype="int64"),
            State(name="visible", dtype="float32", shape=shape),
            State(name="clamped", dtype="bool", shape=shape),
        )

    def sample_init(self, seed: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        """seed, row int64 [n] -> (address int64 [n], independent visible units float32 [n, D], clamped: none)."""
        addresses = address(seed, row)
        visible = self._first(addresses)
        return addresses, visible, torch.zeros_like(visible, dtype=torch.bool)

    def inpaint_init(self, x: Tensor, known: Tensor, seed: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        """x, known [n, *shape], seed, row int64 [n] -> the first state, what is known clamped."""
        addresses, visible, _ = self.sample_init(seed, row)
        clamped = known.reshape(-1, self.support.size)
        return addresses, torch.where(clamped, self._flat(x), visible), clamped

    def sample_step(self, seed: Tensor, row: Tensor, t: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """One block Gibbs step, hidden units and then visible ones: addresses and t int64 [n], state -> next state."""
        addresses, visible, clamped = rest
        return addresses, torch.where(clamped, visible, self.gibbs(visible, addresses, t)), clamped

    def sample_final(self, *state: Tensor) -> Tensor:
        """The last state -> x [n, *shape]."""
        dtype = torch.uint8 if self.support.dtype == "uint8" else torch.float64
        return state[1].to(dtype).reshape(-1, *self.support.shape)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _flat(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.support.size).float()  # [n, D]

    def _first(self, addresses: Tensor) -> Tensor:
        """Independent visible units with the training rows' rates: int64 [n] -> float32 [n, D]."""
        drawn = uniform_from(stream_state(addresses, Stream.INIT), self.support.size)
        return (drawn < torch.sigmoid(self.base_logits.double())).float()

    def _walk(self, visible: Tensor, addresses: Tensor, start: int) -> Tensor:
        for t in range(start, start + self.k):
            visible = self.gibbs(visible, addresses, t)
        return visible

    def _walk_on(self, seed: Tensor) -> Tensor:
        """The particles, k steps on from where they were."""
        row = torch.arange(len(self.particles), device=seed.device)
        addresses = address(seed[:1].expand(len(row)), row)
        start = int(self.particle_steps)
        moved = self._walk(self.particles.float(), addresses, start)
        self.particles.copy_(moved)
        self.particle_steps.add_(self.k)
        return moved


def sigmoid(logits: Tensor) -> Tensor:
    """Chances in double, of logits [n, d]: one that is off by a place in single changes one draw in ten million."""
    return full_lanes(torch.sigmoid, logits.double())
