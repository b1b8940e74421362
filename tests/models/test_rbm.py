"""RBM: a gradient that is one, chains that draw from the law, and a log Z that is right or says how far off it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.neural_network import BernoulliRBM
from torch import Tensor

from contract.support import Column, Support
from models.nets.partition import annealed_log_partition, log_partition
from models.randomness import address
from models.rbm import RBM, _field, _gibbs
from tests.models.supports import pictures, table
from training.graphs import answers_in_torch

DETERMINED = 1e-4  # smallest p-value of a test whose draws are fixed: met once in ten thousand choices of a seed


def rbm(
    visible: int, hidden: int, *, scale: float = 1.0, seed: int = 0, finished: bool = True, **options: object
) -> RBM:
    """Normal weights of that standard deviation, and biases of half of it."""
    torch.manual_seed(seed)
    model = RBM(pictures(visible), hidden=hidden, **options)  # type: ignore[arg-type]
    for parameter, spread in ((model.weight, scale), (model.visible_bias, scale / 2), (model.hidden_bias, scale / 2)):
        torch.nn.init.normal_(parameter, std=spread)
    if finished:
        model.finish()
        model.eval().requires_grad_(False)
    return model


def every_state(d: int) -> Tensor:
    return ((torch.arange(2**d)[:, None] >> torch.arange(d)) & 1).to(torch.uint8)


# -- the law ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("visible", "hidden"), [(3, 2), (2, 3), (1, 1), (6, 5)])
def test_log_z_and_the_free_energy_are_sums_over_the_joint_states(visible: int, hidden: int) -> None:
    model = rbm(visible, hidden)
    v, h = every_state(visible).double(), every_state(hidden).double()
    w, a, b = model.weight.double(), model.visible_bias.double(), model.hidden_bias.double()
    energy = -(v @ a)[:, None] - (h @ b)[None] - v @ w.T @ h.T  # [2^D, 2^H]
    assert model.log_z.item() == pytest.approx(torch.logsumexp(-energy.flatten(), 0).item(), abs=1e-9)
    expected = -torch.logsumexp(-energy, dim=1)
    assert torch.allclose(model.free_energy(every_state(visible)), expected, atol=1e-5)
    joint = torch.softmax(-energy, dim=1)
    assert torch.allclose(model.encode(every_state(visible)), joint @ h, atol=1e-6)


def test_the_free_energy_is_scikit_learn_s_on_equal_parameters() -> None:
    model = rbm(9, 14, scale=2.0)
    theirs = BernoulliRBM(n_components=14)
    theirs.components_ = model.weight.double().numpy()
    theirs.intercept_hidden_ = model.hidden_bias.double().numpy()
    theirs.intercept_visible_ = model.visible_bias.double().numpy()
    x = every_state(9)
    np.testing.assert_allclose(model.free_energy(x).numpy(), theirs._free_energy(x.double().numpy()), atol=1e-5)
    np.testing.assert_allclose(model.encode(x).numpy(), theirs.transform(x.double().numpy()), atol=1e-6)


def test_an_enumeration_in_many_pieces_is_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = torch.randn(7, 9), torch.randn(9), torch.randn(7)
    whole = log_partition(*parameters)
    monkeypatch.setattr("models.nets.partition._STATES_AT_ONCE", 90)
    assert log_partition(*parameters).item() == pytest.approx(whole.item(), abs=1e-9)
    w, a, b = parameters
    assert log_partition(w.T, b, a).item() == pytest.approx(whole.item(), abs=1e-9)


def test_the_weights_that_ship_are_near_and_their_sums_exact_in_any_order() -> None:
    model = rbm(300, 40, scale=0.3, finished=False, ais_steps=2)
    before = model.weight.detach().clone()
    model.finish()
    assert 0 < (model.weight - before).abs().max() < 1e-4
    v = every_state(9)[:, torch.randint(9, (300,))].float()
    machine = model.parameters_in_use()
    field = _field(machine, v)
    assert torch.equal(field.double(), v.double() @ model.weight.double().T + model.hidden_bias.double())
    order = torch.randperm(300)
    assert torch.equal(field, v[:, order] @ model.weight[:, order].T + model.hidden_bias)
    h = every_state(8)[:, torch.randint(8, (40,))].float()
    exact = h.double() @ model.weight.double() + model.visible_bias.double()
    assert torch.equal((h @ model.weight + model.visible_bias).double(), exact)


def test_log_prob_is_no_number_before_log_z_is_found() -> None:
    model = rbm(5, 3, finished=False)
    assert model.log_prob(every_state(5)).isnan().all()


# -- log Z, estimated ------------------------------------------------------------------------------------------------


def test_the_estimate_of_log_z_keeps_its_error() -> None:
    # Small machines of weights from nearly none to strong ones; a z-score each against the enumerated truth.
    scores = []
    for i in range(20):
        scale = (0.1, 0.5, 1.0, 1.5)[i % 4]
        model = rbm(10 + i % 3, 6 + i % 5, scale=scale, seed=i)
        parameters = model.weight, model.visible_bias, model.hidden_bias
        base = torch.randn(model.support.size) * 0.5
        value, error = annealed_log_partition(*parameters, base, chains=200, temperatures=200, seed=i)
        truth = log_partition(*parameters).item()
        assert 0 < error < 0.15, "an error so large would forgive anything"
        assert abs(value - truth) < 3 * error
        scores.append((value - truth) / error)
    squares = float(np.square(scores).sum())
    low, high = stats.chi2.ppf([0.005, 0.995], len(scores))
    assert low < squares < high
    assert abs(np.mean(scores)) < 4 / len(scores) ** 0.5


def test_more_chains_and_temperatures_make_the_error_smaller() -> None:
    model = rbm(20, 15, scale=0.7)
    parameters = model.weight, model.visible_bias, model.hidden_bias
    base = torch.zeros(20)
    errors = [annealed_log_partition(*parameters, base, chains=m, temperatures=k)[1] for m, k in ((50, 20), (50, 800))]
    assert errors[1] < errors[0] / 3
    found = [annealed_log_partition(*parameters, base, chains=400, temperatures=100, seed=s)[0] for s in range(2)]
    assert found[0] != found[1]
    again = annealed_log_partition(*parameters, base, chains=400, temperatures=100, seed=1)[0]
    assert again == found[1]


def test_the_stated_error_is_the_spread_over_seeds() -> None:
    model = rbm(14, 9, scale=1.0)
    parameters = model.weight, model.visible_bias, model.hidden_bias
    runs = [
        annealed_log_partition(*parameters, torch.zeros(14), chains=60, temperatures=60, seed=s) for s in range(150)
    ]
    spread, stated = np.std([value for value, _ in runs], ddof=1), np.mean([error for _, error in runs])
    assert stated == pytest.approx(spread, rel=0.25)  # a spread from 150 runs is known to 6 %; weights are skewed
    # exp of the estimate, not the estimate, is right on average; the estimate is low by half its variance.
    truth = model.log_z.item()
    ratios = np.exp([value - truth for value, _ in runs])
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / len(runs) ** 0.5
    assert np.mean([value for value, _ in runs]) < math.log(ratios.mean()) + truth


def test_kind_and_error_follow_from_the_size() -> None:
    small, large = rbm(20, 30), rbm(21, 21, scale=0.1, finished=False, ais_steps=50, ais_chains=30)
    assert small.log_prob_kind == "exact"
    assert small.log_prob_error is None
    assert small.finish_steps == 1
    assert large.log_prob_kind == "estimate"
    assert large.log_prob_error is None, "not yet found"
    done: list[int] = []
    said = large.finish(done.append)
    assert done == list(range(1, large.finish_steps + 1))
    error = large.log_prob_error
    assert error is not None
    assert error.scope == "shared"
    assert error.standard_error == large.log_z_error.item() > 0
    assert "biased high" in error.bias
    assert said.startswith(f"log Z = {large.log_z.item():.2f} ±")


def test_a_restored_machine_has_log_z_and_its_error() -> None:
    model = rbm(22, 21, scale=0.1, ais_steps=20, ais_chains=10)
    again = RBM(pictures(22), hidden=21)
    again.load_state_dict(model.state_dict())
    assert again.log_prob_error == model.log_prob_error is not None
    x = every_state(8)[:, [*range(8), *range(8), *range(6)]]
    assert torch.equal(again.log_prob(x), model.log_prob(x))


# -- gradients -------------------------------------------------------------------------------------------------------


def gradient(model: RBM, x: Tensor, row: Tensor | None = None, seed: int = 0) -> Tensor:
    row = torch.arange(len(x)) if row is None else row
    loss = model.losses(x, torch.full_like(row, seed), row).total["main"]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).double()


def data_and_machines(*choices: str, **options: object) -> tuple[Tensor, list[RBM]]:
    """Rows that are no draw of the machine's law, and machines with equal weights."""
    torch.manual_seed(1)
    x = (torch.rand(2000, 6) < torch.linspace(0.1, 0.9, 6)).to(torch.uint8)
    return x, [rbm(6, 4, scale=0.8, finished=False, gradient=choice, **options) for choice in choices]


@pytest.mark.parametrize("choice", ["exact", "cd", "pcd"])
def test_centred_biases_are_another_way_to_write_the_same_machine(choice: str) -> None:
    x, (plain, centred) = data_and_machines(choice, choice)
    for model in (plain, centred):
        model.prepare(x)
    plain.centring.zero_()
    with torch.no_grad():
        centred.visible_bias.copy_(plain.visible_bias + 0.5 * plain.weight.sum(dim=0))
        centred.hidden_bias.copy_(plain.hidden_bias + plain.weight @ torch.sigmoid(plain.base_logits))
    assert torch.allclose(plain.free_energy(x), centred.free_energy(x), atol=1e-5)
    found = {}
    for name, model in (("plain", plain), ("centred", centred)):
        flat = gradient(model, x)
        found[name] = flat[:24].reshape(4, 6), flat[24:30], flat[30:]
    # The chain rule: a' = a - W' 1/2 and b' = b - W m, so that W also moves the plain biases.
    weight, visible, hidden = found["plain"]
    mean = torch.sigmoid(plain.base_logits).double()
    expected = weight - 0.5 * visible[None] - hidden[:, None] * mean[None]
    assert torch.allclose(found["centred"][0], expected, atol=1e-4)
    assert torch.allclose(found["centred"][1], visible, atol=1e-5)
    assert torch.allclose(found["centred"][2], hidden, atol=1e-5)
    before = centred.free_energy(x)
    centred.finish()
    assert centred.centring == 0
    assert torch.allclose(centred.free_energy(x), before, atol=1e-4)


def test_the_exact_gradient_is_that_of_minus_the_log_likelihood() -> None:
    x, (model,) = data_and_machines("exact")
    found = gradient(model, x)
    reference = rbm(6, 4, scale=0.8, finished=False)
    states = every_state(6).float()
    energy = -(states @ reference.visible_bias) - torch.nn.functional.softplus(
        states @ reference.weight.T + reference.hidden_bias
    ).sum(dim=1)
    nll = -torch.log_softmax(-energy, dim=0)[(x.long() * 2 ** torch.arange(6)).sum(dim=1)].mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(nll, list(reference.parameters()))])
    assert torch.allclose(found, expected.double(), atol=1e-4)


def test_contrastive_divergence_approaches_the_exact_gradient_as_k_grows() -> None:
    x, (exact,) = data_and_machines("exact")
    truth = gradient(exact, x)
    distance, noise = [], []
    for k in (1, 3, 30):
        _, (model,) = data_and_machines("cd", k=k)
        draws = torch.stack([gradient(model, x, seed=s) for s in range(30)])
        distance.append((draws.mean(dim=0) - truth).norm().item())
        noise.append((draws.var(dim=0).sum() / len(draws)).sqrt().item())
    # Far off at first, beyond all noise; then half of it; at last within what the draws scatter.
    assert distance[0] > 8 * noise[0]
    assert distance[1] < 0.6 * distance[0]
    assert distance[2] < 2.5 * noise[2]


def test_persistent_chains_end_at_the_exact_gradient() -> None:
    x, (exact, model) = data_and_machines("exact", "pcd", particles=4000)
    model.prepare(x)
    model.centring.zero_()
    with torch.no_grad():
        model.visible_bias.copy_(exact.visible_bias)
    truth = gradient(exact, x)
    draws = torch.stack([gradient(model, x) for _ in range(60)])[30:]  # the weights rest; the particles walk
    error = (draws.mean(dim=0) - truth) / (draws.std(dim=0) / len(draws) ** 0.5)
    assert (error.square().mean()) < 3, "neighbouring states of a chain are correlated; independent ones would give 1"
    assert model.particle_steps == 60


def test_particles_go_on_from_where_they_were_and_never_draw_twice_alike() -> None:
    x, (model,) = data_and_machines("pcd", particles=50, k=2)
    model.prepare(x)
    row = torch.arange(50)
    expected = model.particles.float()
    for t in range(6):
        expected = _gibbs(model.parameters_in_use(), expected, address(torch.full_like(row, 3), row), t)
    for part in x[:60].split(20):
        model.losses(part, torch.full((20,), 3), torch.arange(20))
    assert torch.equal(model.particles.float(), expected.detach())


# -- what early stopping looks at ------------------------------------------------------------------------------------


def test_validation_is_exact_where_it_is_cheap() -> None:
    model = rbm(11, 20)
    x = every_state(11)[::13]
    row = torch.arange(len(x))
    assert torch.allclose(model.validation_loss(x, row, row), -model.log_prob(x), atol=1e-9)


def test_else_it_is_the_pseudo_likelihood() -> None:
    model = rbm(13, 14, scale=0.7)
    x = every_state(13)[torch.randint(2**13, (3000,))]
    row = torch.arange(len(x))
    found = model.validation_loss(x, torch.zeros_like(row), row)
    # Every conditional from two log-probabilities: of the row, and of the row with one coordinate turned.
    turned = (x[:, None] ^ torch.eye(13, dtype=torch.uint8)).reshape(-1, 13)
    gain = (model.log_prob(x)[:, None] - model.log_prob(turned).reshape(-1, 13)).double()
    terms = torch.nn.functional.softplus(-gain)  # -log p(x_i given the others)
    error = found - terms.sum(dim=1)
    assert error.abs().max() > 0.1, "it is an estimate from some of the coordinates"
    assert abs(error.mean()) < 4 * error.std() / len(x) ** 0.5
    assert torch.equal(found, model.validation_loss(x, torch.zeros_like(row), row)), "the same in every epoch"


# -- sampling --------------------------------------------------------------------------------------------------------


def draws(model: RBM, n: int, steps: int) -> np.ndarray:
    return answers_in_torch(model, "sample", {"seed": np.full(n, 1), "row": np.arange(n)}, steps)["x"]


def chance_of(x: np.ndarray, law: np.ndarray) -> float:
    counts = np.bincount(x.reshape(len(x), -1) @ (1 << np.arange(x.shape[1])), minlength=len(law))
    return float(stats.chisquare(counts, law * len(x)).pvalue)


def test_long_chains_draw_from_the_enumerated_law_and_short_ones_do_not_yet() -> None:
    model = rbm(4, 3, scale=1.2)
    model.base_logits.fill_(-2.0)
    law = model.log_prob(every_state(4)).exp().numpy()
    assert chance_of(draws(model, 4000, 60), law) > DETERMINED
    assert chance_of(draws(model, 4000, 1), law) < 1e-6


def test_a_chain_starts_from_independent_coordinates_at_the_training_rates() -> None:
    x = torch.tensor([[0, 1, 1], [0, 1, 0], [0, 1, 1], [0, 1, 0]], dtype=torch.uint8)
    model = RBM(pictures(3), hidden=4, particles=2000)
    model.prepare(x)
    rates = np.array([0.1, 0.9, 0.5])
    assert np.allclose(torch.sigmoid(model.visible_bias).detach().numpy(), rates, atol=1e-6)
    first = model.sample_init(torch.full((4000,), 2), torch.arange(4000))[1].numpy()
    counts = np.bincount(first.astype(int) @ [1, 2, 4], minlength=8)
    law = [np.prod(np.where(state, rates, 1 - rates)) for state in every_state(3).numpy()]
    assert stats.chisquare(counts, np.array(law) * 4000).pvalue > DETERMINED
    assert np.allclose(model.particles.double().mean(dim=0).numpy(), rates, atol=0.05)


def test_a_step_is_one_sweep_of_the_conditionals() -> None:
    model = rbm(5, 4)
    n = 20_000
    state = torch.tensor([1, 0, 1, 1, 0]).float().expand(n, -1)
    row = torch.arange(n)
    free = torch.zeros(n, 5, dtype=torch.bool)
    after = model.sample_step(row, row, torch.zeros_like(row), address(row, row), state, free)[1]
    h = every_state(4).float()
    on = torch.sigmoid(_field(model.parameters_in_use(), state[:1]))[0]
    of_h = torch.where(h > 0, on, 1 - on).prod(dim=1)  # [16]
    expected = of_h @ torch.sigmoid(h @ model.weight + model.visible_bias)
    error = (after.mean(dim=0) - expected) / (expected * (1 - expected) / n).sqrt()
    assert error.abs().max() < 4


def test_binary_columns_are_given_as_doubles() -> None:
    columns = tuple(Column(name=name, kind="binary", base_measure="counting") for name in "abc")
    model = RBM(Support(shape=(3,), columns=columns), hidden=4)
    model.finish()
    drawn = draws(model, 5, 3)
    assert drawn.dtype == np.float64
    assert model.log_prob(torch.from_numpy(drawn)).shape == (5,)


# -- refusals --------------------------------------------------------------------------------------------------------


def test_refuses_what_is_not_binary_or_may_be_missing() -> None:
    assert "'a' is real" in (RBM.accepts(table("real")) or "")
    grey = Column(name="pixel", kind="ordinal", base_measure="counting", levels=256)
    assert "'pixel' is ordinal" in (RBM.accepts(Support(shape=(2, 2), element=grey)) or "")
    hole = Column(name="pixel", kind="binary", base_measure="counting", missing_allowed=True)
    assert "may be missing" in (RBM.accepts(Support(shape=(2, 2), element=hole)) or "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"k": 0}, "k must be at least 1"),
        ({"ais_chains": 1}, "ais_chains must be at least 2"),
        ({"chain": 100_001}, "chain must be from 1 to 100000"),
        ({"hidden": 13, "gradient": "exact"}, "13 units here: at most 12"),
    ],
)
def test_hyper_parameters_are_checked(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RBM(pictures(4, 4), **options)  # type: ignore[arg-type]
