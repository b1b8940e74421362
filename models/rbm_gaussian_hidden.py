"""RBM with Gaussian hidden units: the Hopfield form, spins on the visible side.

    p(s, z) = exp( a . s + z . W s - |z|^2 / 2 ) / ( (2 pi)^(H/2) Z ),    s in {-1, 1}^D, z in R^H
    log p(x) = -F(s) - log Z,    F(s) = -a . s - |W s|^2 / 2,    s = 2 x - 1

With the hidden units summed out it is Hopfield's network in the external field a, whose couplings W^T W are Hebb's rule
on the rows of W, the patterns (A. Barra, A. Bernacchia, E. Santucci and P. Contucci, "On the equivalence of Hopfield
networks and Boltzmann Machines", 2012; the inverse temperature is in W). Data are 0 and 1; spins are inside. Training,
log Z and the chain of a draw are those of ``models/nets/boltzmann.py``; block Gibbs sampling goes by

    z | s ~ N(W s, I),    p(s_i = 1 | z) = sigmoid(2 (a_i + W_i . z))

There is one conditional for all spins at once, none for the sum over z: so log Z is a sum over the states of the
visible side alone, exact with at most 20 units there, and summed at every step of training, for the exact gradient,
with at most 12. Biases of the hidden units would be no others: they add W^T c to a, and nothing else.

The bias is trained centred, as that of E = -s . a - |W (s - m)|^2 / 2 with the training rows' mean spin m: the same
machines, in which a unit that is nearly always on no longer moves every hidden one (G. Montavon and K.-R. Müller,
"Deep Boltzmann Machines and the Centering Trick", 2012). At the end of training the offset is folded into a.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> pixel = Column(name="pixel", kind="binary", base_measure="counting")
    >>> model = GaussianHiddenRBM(Support(shape=(2, 2), element=pixel), hidden=3)
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
from torch import Tensor
from torch.nn import functional

from contract.capabilities import Capability
from contract.randomness import Stream
from models.base import register
from models.nets.boltzmann import RestrictedBoltzmannMachine, sigmoid
from models.nets.lanes import row_sum
from models.nets.partition import annealed_spin_log_partition, spin_log_partition
from models.randomness import normal_from, stream_state, uniform_from

__all__ = ["GaussianHiddenRBM"]


@register("rbm-gaussian-hidden")
class GaussianHiddenRBM(RestrictedBoltzmannMachine):
    """Restricted Boltzmann machine of D spins and H Gaussian hidden units.

    Args:
        support: binary coordinates, none of which may be missing.
        options: as of ``RestrictedBoltzmannMachine``.
    """

    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "one law describes all rows: it knows no labels that a row could have",
        "marginal": "spins that share a hidden unit stay coupled when others are summed out: what is left has no "
        "closed form",
        "decode": "a code is the mean of the hidden units given a row, linear in its spins: rows may share one, and "
        "most points of the space of codes belong to no row",
        "latent": "the hidden units alone are as hard to draw as the rows: both come of one chain of many steps",
    }
    code_description: ClassVar[str] = "mean of each Gaussian hidden unit given the row: its overlap with a pattern, W s"
    summed_side: ClassVar[str] = "visible side"

    @property
    def summed_units(self) -> int:
        """Units of the visible side."""
        return self.weight.shape[1]

    def parameters_in_use(self) -> tuple[Tensor, Tensor]:
        """W and a of the plain machine."""
        if self.folded:
            return self.weight, self.visible_bias
        mean = self.centring * torch.tanh(0.5 * self.base_logits)  # of the spins
        return self.weight, self.visible_bias - (self.weight @ mean) @ self.weight

    def start_at(self, odds: Tensor) -> None:
        """Set the bias so that without weights each coordinate has these log-odds, [D]: they are those of 2 a."""
        self.visible_bias.copy_(0.5 * odds)

    # -- energies ------------------------------------------------------------------------------------------------

    def free_energy(self, x: Tensor) -> Tensor:
        """F(x) in nats: x [n, *shape] -> float64 [n]."""
        weight, visible_bias = self.parameters_in_use()
        spins = _spins(self._flat(x))
        overlap = functional.linear(spins, weight).double()
        return -row_sum((spins * visible_bias).double()) - 0.5 * row_sum(overlap.square())

    def mean_energy(self, visible: Tensor) -> Tensor:
        """Mean free energy of rows float32 [n, D], in single precision, for gradients."""
        weight, visible_bias = self.parameters_in_use()
        spins = _spins(visible)
        return -(spins @ visible_bias).mean() - 0.5 * functional.linear(spins, weight).square().sum(dim=1).mean()

    def pseudo_loss(self, visible: Tensor, seed: Tensor, row: Tensor) -> Tensor:
        """-sum_i log p(x_i given the others), in closed form: float32 [n, D] -> float64 [n].

        Turning spin i changes the field of z by -2 s_i W_i, so that F(s) - F(s with it turned) is
        2 |W_i|^2 - 2 s_i (a_i + W_i . W s): a matrix product for all coordinates of a row.
        """
        weight, visible_bias = self.parameters_in_use()
        spins = _spins(visible)
        local = functional.linear(spins, weight) @ weight + visible_bias  # [n, D]
        gain = 2.0 * weight.square().sum(dim=0) - 2.0 * spins * local
        return functional.softplus(gain.double()).sum(dim=1)

    def encode(self, x: Tensor) -> Tensor:
        """E(z given x) = W s: x [n, *shape] -> float64 [n, H]."""
        weight = self.parameters_in_use()[0]
        return functional.linear(_spins(self._flat(x)), weight).double()

    # -- log Z and chains ----------------------------------------------------------------------------------------

    def summed_log_z(self) -> Tensor:
        """log Z over the states of the visible side, differentiable: float64."""
        return spin_log_partition(*self.parameters_in_use())

    def annealed_log_z(self, *, chains: int, temperatures: int, progress: Callable[[int], None]) -> tuple[float, float]:
        """log Z by annealed importance sampling from the training rows' own rates, and its standard error."""
        weight, visible_bias = self.parameters_in_use()
        return annealed_spin_log_partition(
            weight,
            visible_bias,
            0.5 * self.base_logits,
            chains=chains,
            temperatures=temperatures,
            progress=progress,
        )

    def largest_sum(self) -> float:
        """The largest sum of magnitudes of weights into a hidden unit, or of the biases."""
        weight, visible_bias = (part.abs() for part in self.parameters_in_use())
        return max(weight.sum(dim=1).max().item(), visible_bias.sum().item())

    def gibbs(self, visible: Tensor, addresses: Tensor, t: Tensor | int) -> Tensor:
        """Step t of the chains of the addresses: float32 [n, D], int64 [n] -> float32 [n, D]."""
        weight, visible_bias = self.parameters_in_use()
        hidden, dims = weight.shape
        noise = normal_from(stream_state(addresses, Stream.LATENT, t), hidden)
        # The hidden units are no whole numbers, whose sums would be exact: from here on in double, where the order of
        # additions moves a chance by far less than the spacing of the uniforms.
        z = functional.linear(_spins(visible), weight).double() + noise.double()
        chance = sigmoid(2.0 * (z @ weight.double() + visible_bias.double()))
        return (uniform_from(stream_state(addresses, Stream.STEP, t), dims) < chance).float()


def _spins(visible: Tensor) -> Tensor:
    return 2.0 * visible - 1.0
