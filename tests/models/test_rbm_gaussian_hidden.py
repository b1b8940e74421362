"""RBM with Gaussian hidden units: the Hopfield network that it is, summed, integrated and walked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from contract.support import Column, Support
from models.nets.partition import annealed_spin_log_partition, spin_log_partition
from models.randomness import address
from models.rbm_gaussian_hidden import GaussianHiddenRBM
from runtime.session import GraphSession
from tests.models.supports import pictures, table
from training.export import export_graph
from training.graphs import answers_in_torch, model_graphs

DETERMINED = 1e-4  # smallest p-value of a test whose draws are fixed: met once in ten thousand choices of a seed


def machine(
    visible: int, hidden: int, *, scale: float = 0.5, seed: int = 0, finished: bool = True, **options: object
) -> GaussianHiddenRBM:
    """Normal weights and biases of that standard deviation."""
    torch.manual_seed(seed)
    model = GaussianHiddenRBM(pictures(visible), hidden=hidden, **options)  # type: ignore[arg-type]
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    if finished:
        model.finish()
        model.eval().requires_grad_(False)
    return model


def every_state(d: int) -> Tensor:
    return ((torch.arange(2**d)[:, None] >> torch.arange(d)) & 1).to(torch.uint8)


def energies(model: GaussianHiddenRBM) -> np.ndarray:
    """Hopfield's energy of every state, by couplings: -a . s - sum_ij J_ij s_i s_j / 2, J = W^T W."""
    w, a = model.weight.detach().double().numpy(), model.visible_bias.detach().double().numpy()
    s = 2.0 * every_state(len(a)).numpy() - 1.0
    return np.asarray(-s @ a - 0.5 * np.einsum("ni,ij,nj->n", s, w.T @ w, s))


# -- the law ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("visible", "hidden"), [(1, 1), (3, 2), (6, 9)])
def test_it_is_hopfield_s_network_with_hebbian_couplings(visible: int, hidden: int) -> None:
    model = machine(visible, hidden)
    energy = energies(model)
    x = every_state(visible)
    np.testing.assert_allclose(model.free_energy(x).numpy(), energy, atol=1e-5)
    log_z = np.logaddexp.reduce(-energy)
    assert model.log_z.item() == pytest.approx(log_z, abs=1e-6)
    np.testing.assert_allclose(model.log_prob(x).numpy(), -energy - log_z, atol=1e-5)


def test_the_hidden_unit_is_integrated_out() -> None:
    model = machine(3, 1, scale=0.7)
    w, a = model.weight.double().numpy()[0], model.visible_bias.double().numpy()
    s = 2.0 * every_state(3).numpy() - 1.0

    def joint(z: float, spins: np.ndarray) -> float:
        return math.exp(spins @ a + z * (w @ spins) - z * z / 2) / math.sqrt(2 * math.pi)

    weights = np.array([integrate.quad(joint, -20, 20, args=(spins,))[0] for spins in s])
    np.testing.assert_allclose(model.log_prob(every_state(3)).exp().numpy(), weights / weights.sum(), atol=1e-6)
    means = [integrate.quad(lambda z, v=v: z * joint(z, v), -20, 20)[0] for v in s] / weights
    np.testing.assert_allclose(model.encode(every_state(3)).numpy()[:, 0], means, atol=1e-6)


def test_stored_patterns_and_their_opposites_are_the_likeliest_states() -> None:
    # Hebb's rule: three orthogonal patterns of eight spins, and no field.
    patterns = torch.tensor(
        [[1, 1, 1, 1, -1, -1, -1, -1], [1, 1, -1, -1, 1, 1, -1, -1], [1, -1, 1, -1, 1, -1, 1, -1.0]]
    )
    model = GaussianHiddenRBM(pictures(8), hidden=3)
    with torch.no_grad():
        model.weight.copy_(patterns * 1.2 / 8**0.5)
    model.finish()
    stored = torch.cat([patterns, -patterns])
    best = every_state(8)[model.log_prob(every_state(8)).argsort(descending=True)[:6]].float() * 2 - 1
    assert {tuple(row) for row in best.tolist()} == {tuple(row) for row in stored.tolist()}


def test_an_enumeration_in_many_pieces_is_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, field = torch.randn(3, 9), torch.randn(9)
    whole = spin_log_partition(weight, field)
    monkeypatch.setattr("models.nets.partition._STATES_AT_ONCE", 90)
    assert spin_log_partition(weight, field).item() == pytest.approx(whole.item(), abs=1e-9)


def test_the_weights_that_ship_are_near_and_their_sums_exact_in_any_order() -> None:
    model = machine(300, 40, scale=0.1, finished=False, ais_steps=2)
    before = model.weight.detach().clone()
    model.finish()
    assert 0 < (model.weight - before).abs().max() < 1e-4
    x = every_state(9)[:, torch.randint(9, (300,))]
    exact = (2.0 * x.double() - 1.0) @ model.weight.double().T
    assert torch.equal(model.encode(x), exact)


# -- log Z, estimated ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.1, 0.3])
def test_annealing_is_right_on_average_and_its_stated_error_is_the_spread_over_seeds(scale: float) -> None:
    model = machine(10, 4, scale=scale, finished=False)
    parameters = model.weight, model.visible_bias
    base = 0.3 * torch.randn(10)
    runs = [
        annealed_spin_log_partition(*parameters, base, chains=60, temperatures=60, seed=seed) for seed in range(120)
    ]
    values, errors = np.array(runs).T
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.3)  # known to 6 %; weights are skewed
    assert 0.005 < errors.mean() < 0.2
    # exp of the estimate, not the estimate, is right on average.
    ratios = np.exp(values - spin_log_partition(*parameters).item())
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / len(runs) ** 0.5


def test_kind_and_error_follow_from_the_visible_side() -> None:
    small, large = machine(20, 2, scale=0.1), machine(21, 2, scale=0.1, finished=False, ais_steps=50, ais_chains=30)
    assert small.log_prob_kind == "exact"
    assert small.log_prob_error is None
    assert large.log_prob_kind == "estimate", "two hidden units cannot be counted: they are real"
    assert large.log_prob_error is None, "not yet found"
    done: list[int] = []
    large.finish(done.append)
    assert done == list(range(1, large.finish_steps + 1))
    error = large.log_prob_error
    assert error is not None
    assert error.scope == "shared"
    truth = spin_log_partition(large.weight, large.visible_bias).item()
    assert abs(large.log_z.item() - truth) < 4 * (error.standard_error or 0.0)


# -- gradients -------------------------------------------------------------------------------------------------------


def gradient(model: GaussianHiddenRBM, x: Tensor, seed: int = 0) -> Tensor:
    row = torch.arange(len(x))
    loss = model.losses(x, torch.full_like(row, seed), row).total["main"]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).double()


def rows() -> Tensor:
    torch.manual_seed(1)
    return (torch.rand(2000, 6) < torch.linspace(0.1, 0.9, 6)).to(torch.uint8)


def test_the_exact_gradient_is_that_of_minus_the_log_likelihood() -> None:
    x, model = rows(), machine(6, 3, finished=False, gradient="exact")
    found = gradient(model, x)
    # By finite differences of the couplings' energy.
    parameters = list(model.parameters())
    states = (x.long() * 2 ** torch.arange(6)).sum(dim=1).numpy()

    def nll() -> float:
        energy = energies(model)
        return float(energy[states].mean() + np.logaddexp.reduce(-energy))

    expected = []
    for parameter in parameters:
        flat = parameter.data.view(-1)
        for i in range(len(flat)):
            kept, sides = flat[i].item(), []
            for step in (1e-2, -1e-2):
                flat[i] = kept + step
                sides.append(nll())
            flat[i] = kept
            expected.append((sides[0] - sides[1]) / 2e-2)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-3)


def test_contrastive_divergence_approaches_the_exact_gradient_as_k_grows() -> None:
    x = rows()
    truth = gradient(machine(6, 3, scale=0.6, finished=False, gradient="exact"), x)
    distance, noise = [], []
    for k in (1, 4, 40):
        model = machine(6, 3, scale=0.6, finished=False, gradient="cd", k=k)
        draws = torch.stack([gradient(model, x, seed=s) for s in range(16)])
        distance.append((draws.mean(dim=0) - truth).norm().item())
        noise.append((draws.var(dim=0).sum() / len(draws)).sqrt().item())
    # Far off at first, beyond all noise; then nearer; at last within what the draws scatter.
    assert distance[0] > 8 * noise[0]
    assert distance[1] < 0.7 * distance[0]
    assert distance[2] < 2.5 * noise[2]


def test_persistent_chains_end_at_the_exact_gradient() -> None:
    x, exact = rows(), machine(6, 3, finished=False, gradient="exact")
    model = machine(6, 3, finished=False, gradient="pcd", particles=4000)
    model.prepare(x)
    model.centring.zero_()
    with torch.no_grad():
        model.visible_bias.copy_(exact.visible_bias)
    truth = gradient(exact, x)
    draws = torch.stack([gradient(model, x) for _ in range(90)])[30:]  # the weights rest; the particles walk
    error = (draws.mean(dim=0) - truth).norm() / (draws.var(dim=0).sum() / len(draws)).sqrt()
    assert error < 3, "neighbouring states of a chain are correlated; independent ones would give 1"
    assert model.particle_steps == 90


def test_a_centred_bias_is_another_way_to_write_the_same_machine() -> None:
    x = rows()
    plain, centred = (machine(6, 3, finished=False, gradient="exact") for _ in range(2))
    for model in (plain, centred):
        model.prepare(x)
    plain.centring.zero_()
    with torch.no_grad():
        mean = torch.tanh(0.5 * plain.base_logits)
        centred.visible_bias.copy_(plain.visible_bias + plain.weight.T @ (plain.weight @ mean))
    assert torch.allclose(plain.free_energy(x), centred.free_energy(x), atol=1e-5)
    before = centred.free_energy(x)
    centred.finish()
    assert centred.centring == 0
    assert torch.allclose(centred.free_energy(x), before, atol=1e-4)


# -- what early stopping looks at ------------------------------------------------------------------------------------


def test_validation_is_exact_where_it_is_cheap_and_else_the_pseudo_likelihood() -> None:
    small, row = machine(11, 4), torch.arange(40)
    x = every_state(11)[::52]
    assert torch.allclose(small.validation_loss(x, row, row), -small.log_prob(x), atol=1e-9)
    model, row = machine(13, 5), torch.arange(200)
    x = every_state(13)[::41]
    # Every conditional from two log-probabilities: of the row, and of the row with one coordinate turned.
    turned = (x[:, None] ^ torch.eye(13, dtype=torch.uint8)).reshape(-1, 13)
    gain = model.log_prob(x)[:, None] - model.log_prob(turned).reshape(-1, 13)
    expected = torch.nn.functional.softplus(-gain).sum(dim=1)  # -log p(x_i given the others)
    assert torch.allclose(model.validation_loss(x, row, row), expected, atol=1e-4)


# -- sampling --------------------------------------------------------------------------------------------------------


def test_a_step_draws_the_hidden_units_and_then_each_spin_by_twice_its_field() -> None:
    model, n = machine(4, 2, scale=0.6), 20_000
    state = torch.tensor([1, 0, 1, 1]).float()
    row = torch.arange(n)
    after = model.gibbs(state.expand(n, -1), address(row, row), torch.zeros_like(row))
    w, a = model.weight.double().numpy(), model.visible_bias.double().numpy()
    mean = w @ (2 * state.double().numpy() - 1)
    # The two hidden units on a grid: the law of the four spins, which depend on each other through them.
    side = np.linspace(-6, 6, 121)
    z = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    density = stats.norm.pdf(z).prod(axis=1)
    on = 1 / (1 + np.exp(-2 * ((z + mean) @ w + a)))  # p(s = 1) = sigmoid(2 x)
    law = np.array([(density * np.where(bits, on, 1 - on).prod(axis=1)).sum() for bits in every_state(4).numpy()])
    counts = np.bincount(after.numpy().astype(int) @ [1, 2, 4, 8], minlength=16)
    assert stats.chisquare(counts, law / law.sum() * n).pvalue > DETERMINED


def test_long_chains_draw_from_the_enumerated_law_and_short_ones_do_not_yet() -> None:
    model = machine(4, 3, scale=0.6)
    model.base_logits.fill_(-2.0)
    law = model.log_prob(every_state(4)).exp().numpy()

    def chance(steps: int) -> float:
        drawn = answers_in_torch(model, "sample", {"seed": np.full(4000, 1), "row": np.arange(4000)}, steps)["x"]
        return float(stats.chisquare(np.bincount(drawn @ [1, 2, 4, 8], minlength=16), law * 4000).pvalue)

    assert chance(80) > DETERMINED
    assert chance(1) < 1e-6


def test_a_long_chain_of_a_wide_machine_is_the_same_in_the_graph(tmp_path: Path) -> None:
    model = machine(50, 60, scale=0.15, ais_steps=2, ais_chains=2).baked()
    step, n = model_graphs(model)["sample_step"], 64
    (tmp_path / "step.onnx").write_bytes(export_graph("sample_step", step).SerializeToString())
    session = GraphSession(tmp_path / "step.onnx")
    seed, row = np.full(n, 3), np.arange(n)
    start = model_graphs(model)["sample_init"].run({"seed": seed, "row": row})
    ours, theirs = dict(start), dict(start)
    for t in range(150):
        given = {"seed": seed, "row": row, "t": np.full(n, t)}
        ours |= step.run({**given, **ours})
        theirs |= session.run({**given, **theirs})
    assert not np.array_equal(ours["visible"], start["visible"])
    assert np.array_equal(ours["visible"], theirs["visible"]), "to the last pixel: chances are computed in double"


def test_binary_columns_are_given_as_doubles() -> None:
    columns = tuple(Column(name=name, kind="binary", base_measure="counting") for name in "abc")
    model = GaussianHiddenRBM(Support(shape=(3,), columns=columns), hidden=4)
    model.finish()
    drawn = answers_in_torch(model, "sample", {"seed": np.full(5, 1), "row": np.arange(5)}, 3)["x"]
    assert drawn.dtype == np.float64
    assert model.log_prob(torch.from_numpy(drawn)).shape == (5,)


# -- refusals --------------------------------------------------------------------------------------------------------


def test_refuses_what_is_not_binary_and_an_exact_gradient_of_many_states() -> None:
    assert "'a' is real" in (GaussianHiddenRBM.accepts(table("real")) or "")
    with pytest.raises(ValueError, match="of the visible side, 13 units here: at most 12"):
        GaussianHiddenRBM(pictures(13), hidden=2, gradient="exact")
    with pytest.raises(ValueError, match="hidden must be at least 1, not 0"):
        GaussianHiddenRBM(pictures(3), hidden=0)
