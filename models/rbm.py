"""RBM: a restricted Boltzmann machine, binary visible and binary hidden units.

    p(v, h) = exp( a . v + b . h + h . W v ) / Z
    log p(x) = -F(x) - log Z,    F(v) = -a . v - sum_j softplus(b_j + W_j . v)

(P. Smolensky, "Information Processing in Dynamical Systems: Foundations of Harmony Theory", 1986; F: free energy.)
Training, log Z and the chain of a draw are those of ``models/nets/boltzmann.py``; block Gibbs sampling goes by

    p(h_j = 1 | v) = sigmoid(b_j + W_j . v),    p(v_i = 1 | h) = sigmoid(a_i + W_i . h)

Given one side the other is independent, so that log Z is a sum over the states of the smaller side: exact with at most
20 units there, and summed at every step of training, for the exact gradient, with at most 12.

The biases are trained centred, as those of E = -(v - m) . a - (h - 1/2) . b - (h - 1/2) . W (v - m), with the training
rows' mean m: the same machines, over a better conditioned space (G. Montavon and K.-R. Müller, "Deep Boltzmann
Machines and the Centering Trick", 2012). At the end of training they are folded into the plain ones.

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

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.capabilities import Capability
from contract.randomness import Stream
from contract.support import Support
from models.base import register
from models.nets.boltzmann import Gradient, RestrictedBoltzmannMachine, sigmoid
from models.nets.lanes import row_sum, softplus
from models.nets.partition import annealed_log_partition, log_partition
from models.randomness import address, stream_state, uniform_from

__all__ = ["RBM"]

PROBES = 16
"""Coordinates of each validation row whose pseudo-likelihood is looked at."""

Machine = tuple[Tensor, Tensor, Tensor]
"""W [H, D], a [D] and b [H]."""


@register("rbm")
class RBM(RestrictedBoltzmannMachine):
    """Bernoulli-Bernoulli restricted Boltzmann machine of D coordinates.

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
    summed_side: ClassVar[str] = "smaller side"

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
        super().__init__(
            support,
            hidden=hidden,
            gradient=gradient,
            k=k,
            particles=particles,
            centred=centred,
            chain=chain,
            ais_chains=ais_chains,
            ais_steps=ais_steps,
        )
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))  # b

    @property
    def summed_units(self) -> int:
        """Units of the smaller side."""
        return min(self.weight.shape)

    def parameters_in_use(self) -> Machine:
        """W, a and b of the plain machine."""
        if self.folded:
            return self.weight, self.visible_bias, self.hidden_bias
        mean = self.centring * torch.sigmoid(self.base_logits)
        visible_bias = self.visible_bias - 0.5 * self.centring * self.weight.sum(dim=0)
        return self.weight, visible_bias, self.hidden_bias - self.weight @ mean

    def start_at(self, odds: Tensor) -> None:
        """Set the visible biases so that without weights each coordinate has these log-odds, [D]."""
        self.visible_bias.copy_(odds)

    # -- energies ------------------------------------------------------------------------------------------------

    def free_energy(self, x: Tensor) -> Tensor:
        """F(x) in nats: x [n, *shape] -> float64 [n]."""
        rows, machine = self._flat(x), self.parameters_in_use()
        return -row_sum((rows * machine[1]).double()) - row_sum(softplus(_field(machine, rows)))

    def mean_energy(self, visible: Tensor) -> Tensor:
        """Mean free energy of rows float32 [n, D], in single precision, for gradients."""
        machine = self.parameters_in_use()
        return -(visible @ machine[1]).mean() - functional.softplus(_field(machine, visible)).sum(dim=1).mean()

    def pseudo_loss(self, visible: Tensor, seed: Tensor, row: Tensor) -> Tensor:
        """-sum_i log p(x_i given the others), estimated from ``PROBES`` coordinates: [n, D] -> float64 [n]."""
        machine = self.parameters_in_use()
        weight, visible_bias, _ = machine
        dims = self.support.size
        probe = (uniform_from(stream_state(address(seed, row), Stream.PROBE), PROBES) * dims).long()  # [n, PROBES]
        field = _field(machine, visible)
        before = functional.softplus(field)
        total = torch.zeros(len(visible), dtype=torch.float64, device=visible.device)
        for here in probe.clamp(max=dims - 1).unbind(dim=1):
            turn = 1.0 - 2.0 * visible.gather(1, here[:, None])  # +1 where the coordinate would be switched on
            after = functional.softplus(torch.addcmul(field, turn, weight.T[here]))
            gain = turn[:, 0] * visible_bias[here] + (after - before).sum(dim=1)  # F(x) - F(x with it turned)
            total += functional.softplus(gain)
        return total * (dims / PROBES)

    def encode(self, x: Tensor) -> Tensor:
        """p(h_j = 1 given x) of each hidden unit: x [n, *shape] -> float64 [n, H]."""
        return sigmoid(_field(self.parameters_in_use(), self._flat(x)))

    # -- log Z and chains ----------------------------------------------------------------------------------------

    def summed_log_z(self) -> Tensor:
        """log Z over the states of the smaller side, differentiable: float64."""
        return log_partition(*self.parameters_in_use())

    def annealed_log_z(self, *, chains: int, temperatures: int, progress: Callable[[int], None]) -> tuple[float, float]:
        """log Z by annealed importance sampling from the training rows' own rates, and its standard error."""
        return annealed_log_partition(
            *self.parameters_in_use(), self.base_logits, chains=chains, temperatures=temperatures, progress=progress
        )

    def largest_sum(self) -> float:
        """The largest sum of magnitudes of weights and bias into a unit of either side."""
        weight, visible_bias, hidden_bias = (part.abs() for part in self.parameters_in_use())
        return max((hidden_bias + weight.sum(dim=1)).max().item(), (visible_bias + weight.sum(dim=0)).max().item())

    def gibbs(self, visible: Tensor, addresses: Tensor, t: Tensor | int) -> Tensor:
        """Step t of the chains of the addresses: float32 [n, D], int64 [n] -> float32 [n, D]."""
        return _gibbs(self.parameters_in_use(), visible, addresses, t)


def _field(machine: Machine, visible: Tensor) -> Tensor:
    """b + W v: [n, D] -> [n, H]."""
    weight, _, hidden_bias = machine
    return functional.linear(visible, weight, hidden_bias)


def _gibbs(machine: Machine, visible: Tensor, addresses: Tensor, t: Tensor | int) -> Tensor:
    weight, visible_bias, _ = machine
    hidden, dims = weight.shape
    drawn = uniform_from(stream_state(addresses, Stream.STEP, t), hidden + dims)
    h = (drawn[:, :hidden] < sigmoid(_field(machine, visible))).float()
    return (drawn[:, hidden:] < sigmoid(h @ weight + visible_bias)).float()
