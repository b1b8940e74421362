"""What every family promises, checked on what ``nonesuch train`` ships of it.

One file for all: a family that registers itself and brings a contract recipe is tested here without a line more. Each
test asks the exported graphs, which are what is served, and torch where the question is about training or gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from contract.bundle import open_bundle
from contract.capabilities import CAPABILITIES, Capability
from contract.conformal import alarm_rank, p_values
from models.base import capabilities, registry
from models.protocols import HasFinish, HasFit, HasLosses, HasSample
from runtime.loop import run_program
from runtime.model import LoadedModel, load_model
from runtime.rows import Rows
from runtime.verify import verify
from tests.families import TrainedFamily, every_state, kind_of, trained
from training.graphs import model_graphs

Array = NDArray[Any]

DRAWS = 8000
LARGE_K = 1000
DETERMINED = 1e-4  # smallest p-value of a test whose draws are fixed: met once in ten thousand choices of a seed


def having(*needed: Capability, kind: str | None = None) -> pytest.MarkDecorator:
    """Parametrise a test over the families that have these capabilities, and this kind of log-probability."""
    names = [
        name
        for name, cls in registry().items()
        if set(needed) <= set(capabilities(cls)) and kind in (None, kind_of(name))
    ]
    return pytest.mark.parametrize("family", names, indirect=True)


def ask(served: LoadedModel, capability: Capability, **inputs: Array) -> dict[str, Array]:
    return run_program(served, capability, inputs)


def draw(served: LoadedModel, n: int, seed: int = 42) -> Array:
    return ask(served, "sample", seed=np.full(n, seed), row=np.arange(n))["x"]


def log_prob(served: LoadedModel, x: Array) -> NDArray[np.float64]:
    return np.concatenate(
        [ask(served, "log_prob", x=part)["log_prob"] for part in np.array_split(x, 1 + len(x) // 20_000)]
    )


# -- the law, integrated over the plane or summed over every state ---------------------------------------------------


@dataclass(frozen=True)
class Law:
    """A family's law as a list of cells that cover all of its support that matters.

    Attributes:
        log_prob: log-probability (density) at each cell's centre, [m].
        volume: of a cell, or of each; 1 for states.
        blocks: which larger cell each belongs to, [m], for counting draws.
        block_of: the larger cell of each row: [n, *shape] -> [n], -1 outside all of them.
    """

    log_prob: NDArray[np.float64]
    volume: float | NDArray[np.float64]
    blocks: NDArray[np.int64]
    block_of: Callable[[Array], NDArray[np.int64]]

    @property
    def mass(self) -> NDArray[np.float64]:
        return np.exp(self.log_prob) * self.volume

    @property
    def entropy(self) -> float:
        return -float((self.mass * np.maximum(self.log_prob, -1e300)).sum())  # what has no mass adds nothing


@cache
def law_of(name: str) -> Law:
    family = trained(name)
    columns = family.model.support.columns
    if columns is None:
        return _states(family)
    mixed = any(column.base_measure == "counting" or column.missing_allowed for column in columns)
    return _mixed(family) if mixed else _box(family)


def _box(family: TrainedFamily) -> Law:
    """A box six times as wide as the training rows, of 500 x 500 cells or 40,000 on a line, and larger blocks."""
    dims = family.model.support.size
    assert dims <= 2, "a contract recipe models one or two columns, or binary states"
    cells, per_block = (40_000, 40) if dims == 1 else (500, 5)
    low, high = family.folds.train.rows.min(axis=0), family.folds.train.rows.max(axis=0)
    low, high = (low + high) / 2 - 3 * (high - low), (low + high) / 2 + 3 * (high - low)
    width = (high - low) / cells
    centres = [low[i] + (np.arange(cells) + 0.5) * width[i] for i in range(dims)]
    grid = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, dims)

    def block_of(x: Array) -> NDArray[np.int64]:
        index = np.floor((x - low) / (width * per_block)).astype(np.int64)
        side = cells // per_block
        inside = ((index >= 0) & (index < side)).all(axis=1)
        return np.where(inside, index @ side ** np.arange(dims), -1)

    return Law(log_prob(family.served, grid), float(width.prod()), block_of(grid), block_of)


def _mixed(family: TrainedFamily) -> Law:
    """Every value of each discrete column, a missing one among them, times 400 cells of each continuous column."""
    rows = family.folds.train.rows
    points: list[NDArray[np.float64]] = []
    volumes: list[NDArray[np.float64]] = []
    blocks: list[Callable[[NDArray[np.float64]], NDArray[np.int64]]] = []
    for i, column in enumerate(family.model.support.columns or ()):
        seen = rows[:, i][~np.isnan(rows[:, i])]
        if column.base_measure == "lebesgue":
            centre, half = (seen.min() + seen.max()) / 2, 3 * (seen.max() - seen.min())
            width = 2 * half / 400
            values, volume = centre - half + (np.arange(400) + 0.5) * width, width
            cut = np.quantile(seen, np.linspace(0, 1, 9)[1:-1])
            cut = centre - half + np.round((cut - centre + half) / width) * width  # between cells
        else:
            most = {"binary": 1, "count": 60}.get(column.kind, (column.levels or len(column.categories or ())) - 1)
            values, volume, cut = np.arange(most + 1.0), 1.0, np.arange(0.5, 6)
        if column.missing_allowed:
            values = np.append(values, np.nan)
        points.append(values)
        volumes.append(np.where(np.isnan(values), 1.0, volume))
        blocks.append(lambda x, cut=cut: np.where(np.isnan(x), len(cut) + 1, np.searchsorted(cut, x)))
    grid = np.stack(np.meshgrid(*points, indexing="ij"), axis=-1).reshape(-1, len(points))
    volume = np.prod(np.stack(np.meshgrid(*volumes, indexing="ij"), axis=-1), axis=-1).reshape(-1)

    def block_of(x: Array) -> NDArray[np.int64]:
        index = np.zeros(len(x), dtype=np.int64)
        for i, block in enumerate(blocks):
            index = index * 10 + block(x[:, i])
        return index

    return Law(log_prob(family.served, grid), volume, block_of(grid), block_of)


def _states(family: TrainedFamily) -> Law:
    support = family.model.support
    x = every_state(support)
    assert support.element is not None
    weights = (support.element.levels or 2) ** np.arange(support.size)

    def block_of(x: Array) -> NDArray[np.int64]:
        return x.reshape(len(x), -1).astype(np.int64) @ weights

    # A bound is all but the law itself once K is large.
    samples = LARGE_K if kind_of(family.name) == "lower_bound" else None
    values = run_program(family.served, "log_prob", {"x": x}, steps=samples)["log_prob"]
    return Law(values, 1.0, block_of(x), block_of)


@having("log_prob", kind="exact")
def test_an_exact_law_integrates_or_sums_to_one(family: TrainedFamily) -> None:
    assert abs(law_of(family.name).mass.sum() - 1.0) < 1e-3


@having("sample", "log_prob", kind="exact")
def test_the_entropy_of_the_draws_is_the_law_s(family: TrainedFamily) -> None:
    surprise = -log_prob(family.served, draw(family.served, DRAWS))
    error = surprise.std(ddof=1) / DRAWS**0.5
    assert abs(surprise.mean() - law_of(family.name).entropy) < 4 * error


@having("sample", "log_prob", kind="exact")
def test_draws_fall_where_the_law_puts_them(family: TrainedFamily) -> None:
    law = law_of(family.name)
    count = law.blocks.max() + 1
    expected = np.bincount(law.blocks, weights=law.mass, minlength=count) * DRAWS
    block = law.block_of(draw(family.served, DRAWS))
    observed = np.bincount(block[block >= 0], minlength=count).astype(np.float64)
    rare = expected < 5  # pooled, with what lies outside
    observed = np.append(observed[~rare], DRAWS - observed[~rare].sum())
    expected = np.append(expected[~rare], DRAWS - expected[~rare].sum())
    assert len(observed) > 50
    assert stats.chisquare(observed, expected).pvalue > DETERMINED


@having("sample", "log_prob", kind="exact")
def test_the_log_prob_of_draws_has_the_law_s_distribution(family: TrainedFamily) -> None:
    # The probability integral transform of log p(X): uniform, once ties are broken at random.
    law = law_of(family.name)
    order = np.argsort(law.log_prob, kind="stable")
    levels, below = law.log_prob[order], np.append(0.0, np.cumsum(law.mass[order]))
    values = log_prob(family.served, draw(family.served, DRAWS))
    slack = 1e-9 * np.abs(values)
    least, most = (below[np.searchsorted(levels, values + shift * slack)] for shift in (-1, 1))
    broken = least + (most - least) * np.random.default_rng(0).random(DRAWS)
    assert stats.kstest(broken, "uniform").pvalue > DETERMINED


# -- lower bounds ----------------------------------------------------------------------------------------------------


@having("log_prob", kind="lower_bound")
def test_a_bound_is_tighter_with_more_samples_and_never_passes_the_law(family: TrainedFamily) -> None:
    # Few rows, each asked under many seeds: a bound holds in expectation.
    law, seeds, x = law_of(family.name), 300, family.folds.test.rows[:3]
    asked = {"x": np.repeat(x, seeds, axis=0), "seed": np.tile(np.arange(seeds), len(x))}
    draws = {
        samples: run_program(family.served, "log_prob", asked, steps=samples)["log_prob"].reshape(len(x), seeds)
        for samples in (1, 10, 100)
    }
    truth = law.log_prob[law.block_of(x)]
    error = {samples: values.std(axis=1, ddof=1) / seeds**0.5 for samples, values in draws.items()}
    gains = {pair: draws[pair[1]] - draws[pair[0]] for pair in ((1, 10), (10, 100), (1, 100))}
    for gain in gains.values():  # of the same seed, so that the draws of the one are among the other's
        assert (gain.mean(axis=1) > -4 * gain.std(axis=1, ddof=1) / seeds**0.5).all()
    total = gains[1, 100]
    assert total.mean() > 4 * total.std(ddof=1) / total.size**0.5, "over all rows the gain is beyond doubt"
    # The law is itself an estimate, by LARGE_K weights.
    spread = run_program(family.served, "log_prob", {"x": x}, steps=LARGE_K)["standard_error"]
    for samples, values in draws.items():
        assert (values.mean(axis=1) < truth + 4 * np.hypot(error[samples], spread)).all()


@having("log_prob", kind="lower_bound")
def test_the_standard_error_of_a_bound_is_its_spread_over_seeds(family: TrainedFamily) -> None:
    seeds, x = 500, family.folds.test.rows[:1]
    asked = {"x": np.repeat(x, seeds, axis=0), "seed": np.arange(seeds)}
    answer = run_program(family.served, "log_prob", asked, steps=200)
    claimed, found = np.sqrt(np.square(answer["standard_error"]).mean()), answer["log_prob"].std(ddof=1)
    assert 0.7 < claimed / found < 1.4
    # And in each row by itself it covers the law, which lies a little above.
    truth = law_of(family.name).log_prob[law_of(family.name).block_of(x)]
    covered = np.abs(answer["log_prob"] - truth) < 2 * answer["standard_error"]
    assert covered.mean() > 0.8


@having("sample", "log_prob", kind="lower_bound")
def test_draws_fall_at_least_where_the_bound_puts_them(family: TrainedFamily) -> None:
    law = law_of(family.name)
    assert 0.5 < law.mass.sum() < 1.02, "a bound on every state, so that all of them are at most one"
    observed = np.bincount(law.block_of(draw(family.served, DRAWS)), minlength=len(law.mass))
    # The law is known to a few per cent of each state.
    too_few = stats.binom.cdf(observed, DRAWS, np.minimum(law.mass * 0.95, 1.0))
    assert (too_few > DETERMINED / len(law.mass)).all()
    # Where draws are Bernoulli given the code, nothing is lost, and the two laws are one.
    if law.mass.sum() > 0.99:
        often = law.mass * DRAWS >= 5
        expected = np.append(law.mass[often], max(1.0 - law.mass[often].sum(), 1e-9)) * DRAWS
        counts = np.append(observed[often], DRAWS - observed[often].sum())
        assert often.sum() > 50
        assert stats.chisquare(counts, expected * (DRAWS / expected.sum())).pvalue > DETERMINED


@having("log_prob", kind="unnormalised")
def test_unnormalised_differences_match(family: TrainedFamily) -> None:
    # What is known up to a constant is known by its differences: between any two rows the graph's are torch's.
    x = np.concatenate([family.folds.test.rows[:40], draws_of_a_box(family, 40)])
    served = log_prob(family.served, x)
    with torch.no_grad():
        model = cast(Any, family.model).log_prob(torch.from_numpy(x)).numpy()
    assert np.allclose(served[:, None] - served, model[:, None] - model, rtol=1e-4, atol=1e-4)
    assert served.std() > 0.1
    # And nothing sells it as a law: the kind goes with every figure made of it.
    assert family.served.manifest.capabilities["log_prob"].outputs[0].kind == "unnormalised"
    figures = [metric for metric in family.served.manifest.metrics if metric.name == "test_log_prob"]
    assert [metric.kind for metric in figures] == ["unnormalised"]


def draws_of_a_box(family: TrainedFamily, n: int) -> Array:
    low, high = family.folds.train.rows.min(axis=0), family.folds.train.rows.max(axis=0)
    return np.random.default_rng(0).uniform(low, high, size=(n, *family.model.support.shape))


UNITLESS = [
    name for name, cls in registry().items() if issubclass(cls, HasFit) and kind_of(name) in ("exact", "unnormalised")
]


@pytest.mark.parametrize("family", UNITLESS, indirect=True)
def test_a_law_fitted_in_other_units_is_the_same_law(family: TrainedFamily) -> None:
    if not family.continuous.any():
        return  # counts and bits have no units
    # Powers of two, so that nothing is rounded.
    units = torch.from_numpy(np.where(family.continuous, [1024.0, 2.0**-7][: len(family.continuous)], 1.0))
    rows, x = torch.from_numpy(family.folds.train.rows), torch.from_numpy(family.folds.test.rows)
    laws = []
    for factor in (torch.ones_like(units), units):
        model = cast(Any, family.untrained())
        model.prepare(rows * factor)
        model.fit(rows * factor)
        laws.append(model.log_prob(x * factor))
    shift = laws[0] - laws[1]
    if cast(Any, family.model).log_prob_kind == "exact":
        assert torch.allclose(shift, units.log().sum().expand(len(x)), atol=1e-6)
    else:
        assert torch.allclose(shift, shift[0].expand(len(x)), atol=1e-6)


@having("sample")
def test_every_draw_is_a_row_that_the_support_allows(family: TrainedFamily) -> None:
    rows = draw(family.served, 500)
    assert np.array_equal(family.model.support.check(rows), rows, equal_nan=True)


# -- addresses -------------------------------------------------------------------------------------------------------

DRAWING: tuple[Capability, ...] = ("sample", "latent")


@pytest.mark.parametrize("capability", DRAWING)
def test_a_row_of_a_seed_is_the_same_in_any_batch(family: TrainedFamily, capability: Capability) -> None:
    if capability not in family.served.manifest.capabilities:
        assert capability in family.served.manifest.refusals
        return
    seed, row = np.full(300, 42), np.arange(300)
    whole = ask(family.served, capability, seed=seed, row=row)
    rng = np.random.default_rng(0)
    others = [np.array([7]), np.array([7, 7, 8]), np.arange(17), rng.permutation(300), rng.integers(0, 300, 33)]
    for rows in others:
        part = ask(family.served, capability, seed=seed[rows], row=row[rows])
        for name, value in part.items():
            assert value.tobytes() == whole[name][rows].tobytes()
    # Among rows of other seeds too.
    mixed = ask(family.served, capability, seed=np.array([1, 42, 2**53 - 1]), row=np.array([7, 7, 7]))
    for name, value in mixed.items():
        assert value[1].tobytes() == whole[name][7].tobytes()


@having("sample")
def test_a_row_of_a_seed_is_the_same_after_loading_again(family: TrainedFamily) -> None:
    again = load_model(open_bundle(family.served.bundle.folder))
    assert draw(again, 100).tobytes() == draw(family.served, 100).tobytes()


def test_every_answer_is_the_same_after_loading_again(family: TrainedFamily) -> None:
    assert verify(family.served.bundle.folder)["bit_equal"]


@having("sample")
def test_every_seed_and_row_has_a_draw_of_its_own(family: TrainedFamily) -> None:
    n = 100
    seeds = ask(family.served, "sample", seed=np.arange(n), row=np.zeros(n, dtype=np.int64))["x"]
    rows = draw(family.served, n)
    for drawn in (seeds, rows, np.concatenate([draw(family.served, n, seed=1), rows])):
        distinct = len(np.unique(drawn.reshape(len(drawn), -1), axis=0))
        # Of discrete draws some coincide by chance; the law says how many.
        expected = len(drawn)
        if family.model.support.discrete:
            mass = law_of(family.name).mass
            expected = float((1 - (1 - mass) ** len(drawn)).sum())
        assert distinct > expected - 4 * expected**0.5 if family.model.support.discrete else distinct == expected


@having("log_prob")
def test_an_answer_depends_on_no_neighbour(family: TrainedFamily) -> None:
    x = family.folds.test.rows[:60]
    for capability in ("log_prob", "encode", "score"):
        if capability in family.served.manifest.capabilities:
            whole = ask(family.served, cast(Capability, capability), x=x)
            for rows in ([7], [9, 7, 1], list(range(5, 38))):
                part = ask(family.served, cast(Capability, capability), x=x[rows])
                for name, value in part.items():
                    assert value.tobytes() == whole[name][rows].tobytes()


# -- one model in torch and in the graphs ----------------------------------------------------------------------------


def test_torch_and_the_graphs_agree(family: TrainedFamily) -> None:
    manifest = family.served.manifest
    in_torch = model_graphs(family.model)
    seed, row = np.full(50, 7), np.arange(1000, 1050)
    inputs: dict[str, Array] = {"seed": seed, "row": row, "x": family.folds.test.rows[-50:]}
    if "latent" in manifest.capabilities:
        inputs["z"] = ask(family.served, "latent", seed=seed, row=row)["z"]
    inputs["known"] = np.random.default_rng(0).random((50, *family.model.known_shape)) < 0.5
    for capability in capabilities(family.model):
        program, parity = manifest.capabilities[capability], manifest.parity[capability]
        asked = {part.name: inputs[part.name] for part in program.inputs if part.name in inputs}
        walk = Rows(program, asked)
        while (graph := walk.graph) is not None:
            walk.accept(in_torch[graph].run(walk.feeds()))
        for name, value in ask(family.served, capability, **asked).items():
            theirs = walk.result()[name]
            if value.dtype.kind == "f":
                assert np.allclose(value, theirs, rtol=parity.rtol, atol=parity.atol, equal_nan=True), capability
            else:
                assert (value != theirs).reshape(50, -1).any(axis=1).mean() <= parity.max_row_mismatch, capability


# -- codes -----------------------------------------------------------------------------------------------------------


@having("encode", "decode")
def test_decode_undoes_encode_and_encode_decode(family: TrainedFamily) -> None:
    x = family.folds.test.rows
    z = ask(family.served, "encode", x=x)["z"]
    back = ask(family.served, "decode", z=z)["x"]
    if not family.model.decode_undoes_encode:
        # A code that keeps part of a row: what it gives back is nearer to its own row than to another's.
        own, others = (np.abs(back.astype(float) - rows) for rows in (x, np.roll(x, 1, axis=0)))
        assert own.mean() < others.mean() - 4 * (own - others).std() / others.size**0.5
        return
    assert np.allclose(back, x, rtol=1e-4, atol=1e-4)
    if family.model.support.discrete:
        return  # many codes give one row
    drawn = ask(family.served, "latent", seed=np.full(200, 3), row=np.arange(200))["z"]
    back = ask(family.served, "encode", x=ask(family.served, "decode", z=drawn)["x"])["z"]
    if not family.continuous.all():  # of a count, many codes give one value
        back, drawn = back[:, family.continuous], drawn[:, family.continuous]
    assert np.allclose(back, drawn, rtol=1e-3, atol=1e-3)


@having("latent", "decode")
def test_a_sample_is_a_decoded_code(family: TrainedFamily) -> None:
    seed, row = np.full(20, 5), np.arange(20)
    z = ask(family.served, "latent", seed=seed, row=row)["z"]
    quiet = {}
    if isinstance(family.model, HasSample):
        # Beside the code it draws the row given the code, with a noise that can be left out.
        quiet = {"observation_noise": np.zeros(20)}
        assert family.served.program("sample").input("observation_noise") is not None
    x = ask(family.served, "sample", seed=seed, row=row, **quiet)["x"]
    assert ask(family.served, "decode", z=z)["x"].tobytes() == x.tobytes()


@having("encode", "log_prob", "latent", kind="exact")
def test_log_prob_is_the_code_s_plus_autodiff_s_log_det(family: TrainedFamily) -> None:
    model = cast(Any, family.model)
    if not family.continuous.all():
        return  # a count has no derivative
    x = torch.from_numpy(family.folds.test.rows[:30])
    jacobian = torch.autograd.functional.jacobian(lambda v: model.encode(v).sum(dim=0), x).transpose(0, 1)  # [n, d, d]
    expected = model.latent_log_prob(model.encode(x)) + torch.linalg.slogdet(jacobian).logabsdet
    assert torch.allclose(model.log_prob(x), expected, rtol=1e-4, atol=1e-4)


# -- training --------------------------------------------------------------------------------------------------------

TRAINED_BY_GRADIENTS = [name for name, cls in registry().items() if issubclass(cls, HasLosses)]


@pytest.mark.parametrize("family", TRAINED_BY_GRADIENTS, indirect=True)
def test_every_parameter_receives_a_gradient_and_changes(family: TrainedFamily) -> None:
    model = cast(Any, family.model)
    model.train().requires_grad_(True)
    try:
        rows = torch.from_numpy(family.folds.train.rows[:64])
        address = torch.arange(len(rows))
        losses = model.losses(rows, torch.zeros_like(address), address).total
        named = dict(model.named_parameters())
        gradients = torch.autograd.grad(sum(losses.values()), list(named.values()), allow_unused=True)
    finally:
        model.eval().requires_grad_(False)
    still = [name for name, g in zip(named, gradients, strict=True) if g is None or not g.abs().max() > 0]
    assert still == []
    assert [name for name, value in named.items() if torch.equal(value, family.start[name])] == []


@pytest.mark.parametrize("family", TRAINED_BY_GRADIENTS, indirect=True)
def test_the_best_weights_are_the_ones_that_ship(family: TrainedFamily) -> None:
    assert family.folds.validation is not None
    assert family.fit.best_epoch is not None
    assert family.fit.best_epoch < family.fit.epochs, "a contract recipe trains on past its best epoch"
    rows = torch.from_numpy(family.folds.validation.rows)
    loss = _validation_loss(family.model, rows, family.recipe.seed)
    if kind_of(family.name) == "exact":
        assert abs(loss + log_prob(family.served, family.folds.validation.rows).mean()) < 1e-4
    assert abs(loss - cast(float, family.fit.validation)) < 1e-4
    # And what was learnt is worth having: it beats what training started from.
    start = cast(Any, type(family.model)(family.model.support, **family.recipe.model))
    start.prepare(torch.from_numpy(family.folds.train.rows))
    with torch.no_grad():
        start.load_state_dict({**start.state_dict(), **_trainable(family.start, start)})
        if isinstance(start, HasFinish):
            start.finish(lambda done: None)
        before = _validation_loss(start.eval(), rows, family.recipe.seed)
    assert loss < before


@torch.no_grad()
def _validation_loss(model: Any, rows: torch.Tensor, seed: int) -> float:
    """What training validates by: minus the log-probability, or the losses of a family that has no such number."""
    if hasattr(model, "log_prob"):
        return -float(model.log_prob(rows).mean())
    place = torch.arange(len(rows))
    return float(sum(model.losses(rows, torch.full_like(place, seed), place).total.values()))


def _trainable(start: dict[str, torch.Tensor], model: torch.nn.Module) -> dict[str, torch.Tensor]:
    # What ``prepare`` set from the data is kept.
    prepared = {name for name, value in model.named_parameters() if not torch.equal(value, start[name])}
    return {name: value for name, value in start.items() if name not in prepared}


@pytest.mark.parametrize("family", [name for name in registry() if name not in TRAINED_BY_GRADIENTS], indirect=True)
def test_a_closed_form_is_fitted_to_the_rows(family: TrainedFamily) -> None:
    untouched = family.untrained()
    theirs = dict(family.model.state_dict())
    assert [name for name, value in untouched.state_dict().items() if torch.equal(value, theirs[name])] == []
    assert family.fit.epochs == 0


# -- anomaly scores --------------------------------------------------------------------------------------------------


@having("log_prob")
def test_p_values_are_super_uniform(family: TrainedFamily) -> None:
    # Exchangeable scores, each in turn the new one: the mean over that choice is the probability itself.
    assert family.folds.calibration is not None
    rows = np.concatenate([family.folds.calibration.rows, family.folds.test.rows])
    scores = ask(family.served, "score", x=rows)["score"]
    for pooled in (scores, np.round(scores, 1), np.round(scores)):
        p = np.array([p_values(np.sort(np.delete(pooled, i)), s) for i, s in enumerate(pooled)])
        levels = np.arange(1, len(pooled) + 1) / len(pooled)
        rate = (p[:, None] <= levels + 1e-12).mean(axis=0)
        assert (rate <= levels + 1e-12).all()
        if len(np.unique(pooled)) == len(pooled):
            assert np.allclose(rate, levels)
    assert len(np.unique(np.round(scores))) < len(scores), "there were ties"


@having("log_prob")
def test_calibration_scores_are_the_graphs_and_held_out_rows_keep_the_rate(family: TrainedFamily) -> None:
    assert family.folds.calibration is not None
    calibration = family.served.calibration_scores
    assert calibration is not None
    assert np.array_equal(calibration, np.sort(ask(family.served, "score", x=family.folds.calibration.rows)["score"]))
    p = p_values(calibration, ask(family.served, "score", x=family.folds.test.rows)["score"])
    n, m = len(calibration), len(p)
    for alpha in (0.05, 0.1, 0.2):
        k = alarm_rank(n, alpha)
        # The luck of the calibration draw is in the beta-binomial, not in the binomial.
        most = stats.betabinom.ppf(1 - DETERMINED, m, k, n + 1 - k)
        assert (p <= alpha).sum() <= most


@having("log_prob")
def test_a_row_far_from_all_others_is_the_strangest(family: TrainedFamily) -> None:
    if family.model.support.discrete:
        x = every_state(family.model.support)[[np.argmin(law_of(family.name).log_prob)]]
    else:
        # The continuous coordinates far away; all others as in some row.
        rows = family.folds.train.rows
        far = np.where(family.continuous, 1e6, 0.0)
        x = np.where(far > 0, np.nanmax(rows, axis=0), rows[0])[None] + far
    answer = ask(family.served, "score", x=x)
    calibration = family.served.calibration_scores
    assert calibration is not None
    if kind_of(family.name) == "lower_bound":
        # Of few draws: an ordinary row may, rarely, draw as low a bound by bad luck.
        assert (calibration >= answer["score"][0]).mean() < 0.02
    else:
        assert answer["score"][0] > calibration[-1]
    assert np.array_equal(answer["log_prob"], log_prob(family.served, x))


# -- refusals --------------------------------------------------------------------------------------------------------


def test_what_is_absent_is_refused_with_a_reason(family: TrainedFamily) -> None:
    manifest = family.served.manifest
    present = set(manifest.capabilities)
    assert set(capabilities(family.model)) | {"score"} == present
    assert set(manifest.refusals) == set(CAPABILITIES) - present
    assert all(len(reason.split()) > 5 for reason in manifest.refusals.values())
    for capability in manifest.refusals:
        with pytest.raises(KeyError):
            family.served.program(capability)


def test_what_keeps_training_rows_says_so(family: TrainedFamily) -> None:
    # A family that holds a value for each training row may hold the rows.
    n = len(family.folds.train)
    by_row = [name for name, value in family.model.state_dict().items() if value.dim() and value.shape[0] == n]
    assert family.served.manifest.provenance.contains_training_rows == bool(by_row)


def test_the_bundle_is_where_a_server_looks(family_bundle: Any, family: TrainedFamily) -> None:
    assert (family_bundle / family.recipe.name / "1" / "manifest.json").is_file()
