"""RBM: a restricted Boltzmann machine, binary visible and binary hidden units.

    p(v, h) = exp( a . v + b . h + h . W v ) / Z
    log p(x) = -F(x) - log Z,    F(v) = -a . v - sum_j softplus(b_j + W_j . v)

(P. Smolensky, "Information Processing in Dynamical Systems: Foundations of Harmony Theory", 1986; F: free energy.)
Its gradient is that of F on the data less that of F under the model's own law, which block Gibbs sampling draws from:

    p(h_j = 1 | v) = sigmoid(b_j + W_j . v),    p(v_i = 1 | h) = sigmoid(a_i + W_i . h)

- contrastive divergence starts k such steps at the data (G. Hinton, "Training Products of Experts by Minimizing
  Contrastive Divergence", 2002): cheap, but not the gradient of any likelihood until k is large;
- persistent contrastive divergence keeps its chains from one update to the next (T. Tieleman, "Training Restricted
  Boltzmann Machines using Approximations to the Likelihood Gradient", 2008);
- with at most 12 units on one side every state can be counted, and the gradient is exact.

The biases are trained centred, as those of E = -(v - m) . a - (h - 1/2) . b - (h - 1/2) . W (v - m), with the training
rows' mean m: the same machines, over a better conditioned space (G. Montavon and K.-R. Müller, "Deep Boltzmann
Machines and the Centering Trick", 2012). At the end of training they are folded into the plain ones.

log Z is found once, when training is over: exactly where one side has at most 20 units, else by annealed importance
sampling (``models/nets/partition.py``), one estimate for all rows, whose error they share.

The weights that ship are rounded to a common power of two, so that sums over binary units are exact in float32 in
whatever order they are taken, and chains do not part ways between machines over the last place.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> pixel = Column(name="pixel", kind="binary", base_measure="counting")
    >>> model = RBM(Support(shape=(2, 2), element=pixel), hidden=3)
    >>> print(model.finish()[:7])
    log Z =
    >>> states = torch.cartesian_prod(*[torch.arange(2)] * 4).reshape(-1, 2, 2)
    >>> round(model.log_prob(states).exp().sum().item(), 6)
    1.0
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.capabilities import Capability, NumberKind
from contract.programs import Filling, OutputError, ProgramInput, State, Steps
from contract.randomness import Stream
from contract.support import Support
from models.base import GenerativeModel, Losses, register
from models.nets.lanes import full_lanes, row_sum, softplus
from models.nets.partition import annealed_log_partition, log_partition
from models.randomness import address, stream_state, uniform_from

__all__ = ["RBM"]

EXACT = 20
"""log Z is summed over every state of a side of at most so many units."""

SMALL = 12
"""So few that it can be summed at every step of training."""

PROBES = 16
"""Coordinates of each validation row whose pseudo-likelihood is looked at."""

LONGEST_CHAIN = 100_000

Machine = tuple[Tensor, Tensor, Tensor]
"""W [H, D], a [D] and b [H]."""


@register("rbm")
class RBM(GenerativeModel):
    """Bernoulli-Bernoulli restricted Boltzmann machine of D coordinates.

    A draw is the end of a chain of a finite number of steps, which starts from independent coordinates with the
    training rows' own rates: it follows the model's law only as far as the chain has forgotten its start. How many
    steps that takes depends on the weights; a request may ask for more of them.

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

    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "one law describes all rows: it knows no labels that a row could have",
        "marginal": "to sum a visible unit out ties the hidden units to each other: what is left is no RBM, and a sum "
        "over their states no longer factorises",
        "decode": "a code is the probability of each hidden unit given a row; many rows share one, and none is its row",
        "latent": "the hidden units alone are as hard to draw as the rows: both come of one chain of many steps",
    }
    code_description: ClassVar[str] = "probability that each hidden unit is on, given the row"
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
        gradient: Literal["pcd", "cd", "exact"] = "pcd",
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
        if gradient == "exact" and min(dims, hidden) > SMALL:
            raise ValueError(
                f"the exact gradient sums over every state of the smaller side, {min(dims, hidden)} units here: "
                f"at most {SMALL}"
            )
        self.gradient = gradient
        self.k = k
        self.centred = centred
        self.chain = chain
        self.ais = (ais_chains, ais_steps)
        self.weight = nn.Parameter(0.01 * torch.randn(hidden, dims))  # W; Hinton's guide, 2012, section 8
        self.visible_bias = nn.Parameter(torch.zeros(dims))  # a, centred until it is folded
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))  # b
        self.folded = False
        self.register_buffer("base_logits", torch.zeros(dims))
        self.register_buffer("particles", torch.zeros(particles, dims, dtype=torch.uint8))
        self.register_buffer("particle_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("centring", torch.zeros(()))  # 1 while biases are centred
        self.register_buffer("log_z", torch.tensor(torch.nan, dtype=torch.float64))
        self.register_buffer("log_z_error", torch.tensor(torch.nan, dtype=torch.float64))

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for binary coordinates without missing values, else the reason in words."""
        for column in support.columns or (support.element,):
            if column is not None and column.kind != "binary":
                return f"{column.name!r} is {column.kind}, and a visible unit is 0 or 1"
            if column is not None and column.missing_allowed:
                return f"{column.name!r} may be missing, and this family cannot sum a visible unit out"
        return None

    # -- training ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Start from the independent law of x [n, *shape], and the particles as draws from it."""
        on = x.reshape(len(x), -1).double().mean(dim=0)
        odds = ((on * len(x) + 0.5) / ((1 - on) * len(x) + 0.5)).log()  # Haldane-Anscombe: finite at 0 and 1
        self.base_logits.copy_(odds)
        self.visible_bias.copy_(odds)
        self.centring.fill_(self.centred)
        row = torch.arange(len(self.particles))
        self.particles.copy_(self._first(address(torch.zeros_like(row), row)))
        self.particle_steps.zero_()

    def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
        """What has the gradient of the chosen kind on a batch x [n, *shape]; its value means something for exact alone.

        (seed, row), int64 [n], address the chains of contrastive divergence; particle i has row i of the seed, and its
        steps count on over all updates.
        """
        rows, machine = self._flat(x), self._machine()
        energy = _mean_energy(machine, rows)
        if self.gradient == "exact":
            loss = energy + log_partition(*machine)
            return Losses(total={"main": loss}, logged={"nll": loss.detach()})
        with torch.no_grad():
            fantasy = self._walk(rows, address(seed, row), 0) if self.gradient == "cd" else self._walk_on(seed)
        gap = energy - _mean_energy(machine, fantasy)
        return Losses(total={"main": gap}, logged={"free_energy": energy.detach()})

    def validation_loss(self, x: Tensor, seed: Tensor, row: Tensor) -> Tensor:
        """What early stopping looks at: x [n, *shape], addresses int64 [n] -> float64 [n].

        Minus the log-probability where log Z can be summed at once. Else minus the pseudo-log-likelihood
        sum_i log p(x_i given the others), estimated from ``PROBES`` coordinates of each row, the same in every epoch:
        it needs no Z, and like the likelihood it is largest on average at the law of the data (J. Besag, "Statistical
        Analysis of Non-Lattice Data", 1975). It is not the log-probability, and never served as one.
        """
        rows, machine = self._flat(x), self._machine()
        weight, visible_bias, _ = machine
        if min(weight.shape) <= SMALL:
            return self.free_energy(x) + log_partition(*machine)
        dims = self.support.size
        probe = (uniform_from(stream_state(address(seed, row), Stream.PROBE), PROBES) * dims).long()  # [n, PROBES]
        field = _field(machine, rows)
        before = functional.softplus(field)
        total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        for here in probe.clamp(max=dims - 1).unbind(dim=1):
            turn = 1.0 - 2.0 * rows.gather(1, here[:, None])  # +1 where the coordinate would be switched on
            after = functional.softplus(torch.addcmul(field, turn, weight.T[here]))
            gain = turn[:, 0] * visible_bias[here] + (after - before).sum(dim=1)  # F(x) - F(x with it turned)
            total += functional.softplus(gain)
        return total * (dims / PROBES)

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
        magnitude = self.weight.abs()
        largest = max(
            (self.hidden_bias.abs() + magnitude.sum(dim=1)).max().item(),
            (self.visible_bias.abs() + magnitude.sum(dim=0)).max().item(),
            torch.finfo(torch.float32).tiny,
        )
        unit = 2.0 ** math.ceil(math.log2(largest) - 23)  # half of what would just do, for the rounding itself
        for parameter in (self.weight, self.visible_bias, self.hidden_bias):
            parameter.copy_((parameter.double() / unit).round() * unit)
        parameters = (self.weight, self.visible_bias, self.hidden_bias)
        if self.log_prob_kind == "exact":
            self.log_z.copy_(log_partition(*parameters))
            self.log_z_error.zero_()
            progress(1)
            return f"log Z = {self.log_z.item():.4f}, exact"
        chains, steps = self.ais
        value, error = annealed_log_partition(
            *parameters, self.base_logits, chains=chains, temperatures=steps, progress=progress
        )
        self.log_z.fill_(value)
        self.log_z_error.fill_(error)
        return f"log Z = {value:.2f} ± {error:.2g}, by {chains} chains over {steps:,} temperatures"

    @torch.no_grad()
    def bake(self) -> None:
        """Fold the offsets into the biases for good. Training ends here."""
        _, visible_bias, hidden_bias = self._machine()
        self.visible_bias.copy_(visible_bias)
        self.hidden_bias.copy_(hidden_bias)
        self.centring.zero_()
        self.folded = True

    # -- log-probability -----------------------------------------------------------------------------------------

    @property
    def log_prob_kind(self) -> NumberKind:
        """Exact where log Z can be summed over every state of the smaller side, else an estimate."""
        return "exact" if min(self.weight.shape) <= EXACT else "estimate"

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

    def free_energy(self, x: Tensor) -> Tensor:
        """F(x) in nats: x [n, *shape] -> float64 [n]."""
        rows, machine = self._flat(x), self._machine()
        return -row_sum((rows * machine[1]).double()) - row_sum(softplus(_field(machine, rows)))

    def encode(self, x: Tensor) -> Tensor:
        """p(h_j = 1 given x) of each hidden unit: x [n, *shape] -> float64 [n, H]."""
        return _sigmoid(_field(self._machine(), self._flat(x)))

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
        return addresses, torch.where(clamped, visible, _gibbs(self._machine(), visible, addresses, t)), clamped

    def sample_final(self, *state: Tensor) -> Tensor:
        """The last state -> x [n, *shape]."""
        dtype = torch.uint8 if self.support.dtype == "uint8" else torch.float64
        return state[1].to(dtype).reshape(-1, *self.support.shape)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _flat(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.support.size).float()  # [n, D]

    def _machine(self) -> Machine:
        """W, a and b of the plain machine."""
        if self.folded:
            return self.weight, self.visible_bias, self.hidden_bias
        mean = self.centring * torch.sigmoid(self.base_logits)
        visible_bias = self.visible_bias - 0.5 * self.centring * self.weight.sum(dim=0)
        return self.weight, visible_bias, self.hidden_bias - self.weight @ mean

    def _first(self, addresses: Tensor) -> Tensor:
        """Independent visible units with the training rows' rates: int64 [n] -> float32 [n, D]."""
        drawn = uniform_from(stream_state(addresses, Stream.INIT), self.support.size)
        return (drawn < torch.sigmoid(self.base_logits.double())).float()

    def _walk(self, visible: Tensor, addresses: Tensor, start: int) -> Tensor:
        machine = self._machine()
        for t in range(start, start + self.k):
            visible = _gibbs(machine, visible, addresses, t)
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


def _field(machine: Machine, visible: Tensor) -> Tensor:
    """b + W v: [n, D] -> [n, H]."""
    weight, _, hidden_bias = machine
    return functional.linear(visible, weight, hidden_bias)


def _mean_energy(machine: Machine, visible: Tensor) -> Tensor:
    """Mean free energy of rows [n, D], in single precision, for gradients."""
    return -(visible @ machine[1]).mean() - functional.softplus(_field(machine, visible)).sum(dim=1).mean()


def _gibbs(machine: Machine, visible: Tensor, addresses: Tensor, t: Tensor | int) -> Tensor:
    """Step t of the chains of the addresses: float32 [n, D], int64 [n] -> float32 [n, D]."""
    weight, visible_bias, _ = machine
    hidden, dims = weight.shape
    drawn = uniform_from(stream_state(addresses, Stream.STEP, t), hidden + dims)
    h = (drawn[:, :hidden] < _sigmoid(_field(machine, visible))).float()
    return (drawn[:, hidden:] < _sigmoid(h @ weight + visible_bias)).float()


def _sigmoid(logits: Tensor) -> Tensor:
    # In double: where a chance is off by one place in single precision, one draw in ten million falls otherwise.
    return full_lanes(torch.sigmoid, logits.double())
