"""The VAE against its law by quadrature over the code, and against its bound by hand in numpy."""

from __future__ import annotations

from itertools import product
from math import log, pi
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from contract import randomness
from contract.randomness import Stream, row_address
from contract.support import Column, Support
from models.nets.prior import FlowPrior
from models.vae import VAE
from tests.models.supports import levels, pictures, table
from training.export import export_model
from training.graphs import answers_in_torch
from training.parity import verify_export

GRID = np.linspace(-7.0, 7.0, 701)  # of a code of one coordinate
Array = np.ndarray


def vae(support: Support, **others: Any) -> VAE:
    """A small VAE with weights wide enough that codes, labels and pixels matter."""
    torch.manual_seed(0)
    model = VAE(support, **{"latent": 1, "widths": [4], "blocks": 1, "neck": 2, **others})
    for name, parameter in model.named_parameters():
        if "decoder" in name:
            parameter.data *= 1.5
    return model.eval().requires_grad_(False)


def states(support: Support) -> Array:
    """Every picture there is."""
    count = support.element.levels or 2 if support.element else 0
    return np.array(list(product(range(count), repeat=support.size)), dtype=np.uint8).reshape(-1, *support.shape)


def observation(model: VAE, z: Array, *conditions: Tensor) -> tuple[Array, ...]:
    """What the decoder says of pixels, float64 [m, D] each."""
    parts = model._observation(torch.from_numpy(z).float().reshape(-1, model.latent_dims), conditions)
    return tuple(part.double().numpy() for part in parts)


def law(model: VAE, x: Array, *, tails: bool, **labels: int) -> Array:
    """P(x) by quadrature: x [n, *shape] -> [n]; with the values outside the range, or without them."""
    rows = x.reshape(len(x), 1, -1).astype(np.float64)
    conditions = tuple(torch.full((len(GRID),), label) for label in labels.values())
    given = observation(model, GRID, *conditions)
    if model.levels == 2:
        chance = special.expit(given[0])
        each = np.where(rows == 1, chance, 1.0 - chance)
    else:
        mean, scale = given[0] * model.levels, np.exp(given[1]) * model.levels
        low, high = rows, rows + 1.0
        if tails:
            low = np.where(rows == 0, -np.inf, low)
            high = np.where(rows == model.levels - 1, np.inf, high)
        each = stats.norm.cdf(high, mean, scale) - stats.norm.cdf(low, mean, scale)
    return np.trapezoid(each.prod(axis=2) * stats.norm.pdf(GRID), GRID, axis=1)


def draws(model: VAE, n: int, noise: float, *conditions: Tensor) -> Tensor:
    seed, row = torch.full((n,), 3), torch.arange(n)
    one = torch.ones(n, dtype=torch.float64)
    return model.sample(seed, row, one, one * noise, *conditions)


@pytest.mark.parametrize("support", [pictures(3, 3), levels(3, 1, 4)], ids=["binary", "three levels"])
def test_the_bound_meets_the_law_from_below(support: Support) -> None:
    model, x = vae(support), states(support)
    truth = np.log(law(model, x, tails=False))
    few, many = (answers_in_torch(model, "log_prob", {"x": x}, steps=k) for k in (16, 1000))
    error = many["standard_error"]
    assert (np.abs(many["log_prob"] - truth) < 5 * error).all()
    assert error.max() < 0.2
    # Of few draws it is lower on average over all pictures.
    assert few["log_prob"].mean() < truth.mean()


@pytest.mark.parametrize("support", [pictures(3, 3), levels(3, 1, 4)], ids=["binary", "three levels"])
def test_draws_follow_the_law_and_the_law_sums_to_one(support: Support) -> None:
    model, x, n = vae(support), states(support), 20_000
    mass = law(model, x, tails=True)
    assert abs(mass.sum() - 1.0) < 1e-4
    base = (model.levels ** np.arange(support.size))[::-1]
    observed = np.bincount(draws(model, n, 1.0).numpy().reshape(n, -1).astype(int) @ base, minlength=len(x))
    often = mass * n >= 5
    assert often.sum() > 20
    counts, expected = observed[often], mass[often] * n
    counts = np.append(counts, n - counts.sum())
    expected = np.append(expected, n - expected.sum())
    assert stats.chisquare(counts, expected).pvalue > 1e-4


def test_no_bound_counts_what_falls_outside_the_range() -> None:
    # P(x) of the draws is larger than what the bound aims at, and only where a pixel is at an end of the range.
    model = vae(levels(3, 1, 4))
    x = states(model.support)
    inner, whole = law(model, x, tails=False), law(model, x, tails=True)
    ends = ((x == 0) | (x == 2)).any(axis=(1, 2))
    assert (whole[ends] > inner[ends]).all()
    assert np.allclose(whole[~ends], inner[~ends])


@pytest.mark.parametrize("support", [pictures(2, 3), levels(5, 2, 3), levels(256, 4, 3, 3)])
def test_a_weight_by_hand(support: Support) -> None:
    model = vae(support, latent=3)
    count = (support.element.levels or 2) if support.element else 0
    x = np.random.default_rng(0).integers(0, count, size=(6, *support.shape)).astype(np.uint8)
    seed, row, t = np.full(6, 5), row_address(x), np.full(6, 9)
    state = model.bound_init(torch.from_numpy(x))
    mean, log_scale = (part.double().numpy() for part in state)
    noise = randomness.normal(seed, row, Stream.LATENT, t, dims=3).astype(np.float64)
    z = mean + np.exp(log_scale) * noise
    prior, posterior = stats.norm.logpdf(z).sum(1), stats.norm.logpdf(z, mean, np.exp(log_scale)).sum(1)
    given, rows = observation(model, z), x.reshape(6, -1)
    if count == 2:
        likelihood = stats.bernoulli.logpmf(rows, special.expit(given[0])).sum(1)
    else:
        u = randomness.uniform(seed, row, Stream.OBSERVATION, t, dims=support.size)
        likelihood = stats.norm.logpdf(rows + u, given[0] * count, np.exp(given[1]) * count).sum(1)
    tensors = [torch.from_numpy(part) for part in (x, seed, row, t)]
    assert np.allclose(model.log_weight(*tensors, *state).numpy(), likelihood + prior - posterior, rtol=1e-4)


def test_the_loss_is_minus_the_bound_of_one_draw() -> None:
    # Both are drawn; the divergence is in closed form in the one. Over many draws they are the same.
    model, n = vae(levels(5, 2, 3), latent=2), 20_000
    x = torch.randint(0, 5, (1, 2, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).expand(n, 2, 3)
    seed, row = torch.zeros(n, dtype=torch.int64), torch.arange(n)
    weights = model.log_weight(x, seed, row, torch.zeros_like(seed), *model.bound_init(x))
    loss = float(model.losses(x, seed, row).total["main"])
    assert abs(loss + float(weights.mean())) < 4 * float(weights.std()) / n**0.5


def test_beta_weighs_the_divergence_in_training_and_nowhere_else() -> None:
    one, four = vae(pictures(3, 3)), vae(pictures(3, 3), beta=4.0)
    x = torch.from_numpy(states(one.support)[:64])
    address = torch.arange(64)
    a, b = (model.losses(x, address, address) for model in (one, four))
    rate = float(a.logged["rate"])
    assert rate > 0
    assert abs(float(b.total["main"] - a.total["main"]) - 3 * rate) < 1e-5
    bounds = [answers_in_torch(model, "log_prob", {"x": x.numpy()})["log_prob"] for model in (one, four)]
    assert np.array_equal(*bounds)


@pytest.mark.parametrize("support", [pictures(4, 5), levels(256, 5, 4, 3)], ids=["binary", "colour"])
def test_without_observation_noise_a_draw_is_the_decoded_code(support: Support) -> None:
    model = vae(support, latent=3)
    z = model.latent(torch.full((50,), 3), torch.arange(50), torch.ones(50, dtype=torch.float64))
    assert torch.equal(draws(model, 50, 0.0), model.decode(z))
    assert not torch.equal(draws(model, 50, 1.0), model.decode(z))


def test_the_decoded_picture_is_the_mean_rounded_to_its_levels() -> None:
    model = vae(levels(256, 5, 4), latent=3)
    z = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # The mean of x is the mean of y = x + u less 1/2; rounding that to a whole number is floor(y).
    mean = observation(model, z.numpy())[0] * 256 - 0.5
    assert np.abs(model.decode(z).numpy().reshape(20, -1) - mean).max() <= 0.5 + 1e-3


def test_more_observation_noise_is_more_noise() -> None:
    model = vae(levels(256, 5, 4), latent=3)
    quiet, some, honest = (draws(model, 400, noise).double() for noise in (0.0, 0.5, 1.0))
    assert 0 < (some - quiet).square().mean() < (honest - quiet).square().mean()


def test_encode_gives_the_mean_and_the_scale_of_the_posterior() -> None:
    model = vae(pictures(3, 3), latent=2)
    x = states(model.support)[:20]
    answer = answers_in_torch(model, "encode", {"x": x})
    mean, log_scale = model.bound_init(torch.from_numpy(x))
    assert np.array_equal(answer["z"], mean.double().numpy())
    assert np.allclose(answer["scale"], log_scale.double().exp().numpy())
    assert answer["z"].shape == answer["scale"].shape == (20, 2)


class TestLabels:
    def model(self) -> VAE:
        return vae(pictures(3, 3), labels=["cat", "dog"], label_dropout=0.25)

    def test_each_label_has_a_law_and_none_is_the_default(self) -> None:
        model = self.model()
        (label,) = model.conditions
        assert (label.vocabulary, label.default) == (("cat", "dog"), 2)
        x = states(model.support)
        laws = [law(model, x, tails=False, label=i) for i in range(3)]
        for i, mass in enumerate(laws):
            assert abs(mass.sum() - 1.0) < 1e-4
            answer = answers_in_torch(model, "log_prob", {"x": x, "label": np.full(len(x), i)}, steps=400)
            off = np.abs(answer["log_prob"] - np.log(mass))
            assert (off < 2 * answer["standard_error"]).mean() > 0.8
        assert np.abs(laws[0] / laws[1] - 1.0).max() > 0.1
        unasked = answers_in_torch(model, "log_prob", {"x": x})["log_prob"]
        asked = answers_in_torch(model, "log_prob", {"x": x, "label": np.full(len(x), 2)})["log_prob"]
        assert np.array_equal(unasked, asked)

    def test_training_withholds_the_label_of_some_rows(self) -> None:
        model = self.model()
        seen: list[Tensor] = []
        assert model.context is not None
        model.context.register_forward_hook(lambda module, given, result: seen.append(given[0]))
        n = 4000
        label, address = torch.arange(n) % 2, torch.arange(n)
        model.losses(torch.zeros(n, 3, 3, dtype=torch.uint8), torch.zeros_like(address), address, label)
        assert len(seen) == 2, "encoder and decoder"
        assert torch.equal(seen[0], seen[1])
        withheld = seen[0] == 2
        assert torch.equal(seen[0][~withheld], label[~withheld])
        assert abs(float(withheld.double().mean()) - 0.25) < 4 * (0.25 * 0.75 / n) ** 0.5


@pytest.mark.slow
def test_the_export_of_a_colour_picture_is_the_model() -> None:
    model = vae(levels(256, 5, 4, 3), latent=3)
    x = np.random.default_rng(0).integers(0, 256, size=(64, 5, 4, 3)).astype(np.uint8)
    verified = verify_export(model, export_model(model), x)
    # A value near the edge of its level may be rounded either way elsewhere; one further off is another row.
    assert verified.parity["sample"].max_rounded_mismatch > 0
    assert verified.parity["log_prob"].max_rounded_mismatch == 0


@pytest.mark.parametrize(
    ("support", "words"),
    [
        (table("real", "real"), "a table"),
        (levels(256, 4, 4, 2), "no pictures"),
        (levels(300, 4, 4), "2 to 256 levels"),
        (Support(shape=(2, 2), element=Column(name="p", kind="count", base_measure="counting")), "is count"),
    ],
)
def test_what_is_no_picture_is_refused(support: Support, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        VAE(support)


@pytest.mark.parametrize(
    "hyper", [{"beta": 0.0}, {"label_dropout": 1.0}, {"latent": 0}, {"widths": []}, {"blocks": -1}]
)
def test_a_hyper_parameter_that_makes_no_model_is_refused(hyper: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(hyper)).removesuffix("s")):
        VAE(pictures(3, 3), **hyper)


def test_a_certain_pixel_costs_no_more_than_its_dequantisation() -> None:
    # The best normal law of U[0, 1) loses 0.18 nats a pixel; the narrowest scale allows it.
    model = VAE(levels(256, 4, 4))
    low, _ = model.log_scales
    spread = 12**-0.5 / 256
    assert low < log(spread)
    best = -0.5 - log(spread * 256) - 0.5 * log(2 * pi)
    assert -0.2 < best < 0.0


def stirred_prior(context: int = 0) -> FlowPrior:
    torch.manual_seed(1)
    prior = FlowPrior(3, layers=4, hidden=[8], context=context)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return prior.requires_grad_(False)


@pytest.mark.parametrize("context", [0, 2])
def test_a_flow_prior_has_the_density_of_its_draws(context: int) -> None:
    prior, e = stirred_prior(context), torch.randn(5, 3)
    given = torch.randn(5, context) if context else None
    z = prior.sample(e, given)
    for i in range(5):
        one = given[i : i + 1] if given is not None else None
        jacobian = torch.autograd.functional.jacobian(lambda v, one=one: prior.sample(v, one), e[i : i + 1])
        density = stats.norm.logpdf(e[i].numpy()).sum() - torch.linalg.slogdet(jacobian.reshape(3, 3)).logabsdet.item()
        assert abs(prior.log_prob(z[i : i + 1], one).item() - density) < 1e-3
    assert (z != e).all(), "every coordinate moves"


def test_draws_of_codes_follow_the_prior_given_the_label() -> None:
    model = vae(pictures(3, 3), latent=2, prior_layers=4, labels=["cat", "dog"])
    for parameter in model.prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    n, label = 5000, torch.arange(5000) % 3
    z = model.latent(torch.full((n,), 3), torch.arange(n), torch.ones(n, dtype=torch.float64), label)
    # By the density: its integral over a box is the share of draws there.
    side = torch.linspace(-1.0, 1.0, 201)[:-1] + 0.005
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).reshape(-1, 2).double()
    shares = []
    for i in range(3):
        mass = model.latent_log_prob(grid, torch.full((len(grid),), i)).exp().sum().item() * 0.01**2
        inside = (z[label == i].abs() < 1.0).all(dim=1).double()
        assert abs(inside.mean().item() - mass) < 4 * (mass * (1 - mass) / len(inside)) ** 0.5
        shares.append(mass)
    assert max(shares) - min(shares) > 0.02


def test_a_flow_prior_starts_as_the_standard_normal_law() -> None:
    plain, flow = vae(pictures(3, 3), latent=4), vae(pictures(3, 3), latent=4, prior_layers=3)
    z = torch.randn(5, 4, dtype=torch.float64)
    assert torch.allclose(plain.latent_log_prob(z), flow.latent_log_prob(z), atol=1e-5)
    with pytest.raises(ValueError, match="at least two latent coordinates"):
        VAE(pictures(3, 3), latent=1, prior_layers=1)
