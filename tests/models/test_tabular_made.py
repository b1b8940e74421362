"""The masked autoregressive law of mixed columns: against laws that are known, and over any table."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from contract.support import Column, Support
from models.nets.columns import NumberScales
from models.tabular_made import TabularMADE
from tests.families import trained
from training.data.made import tables

NAN = float("nan")


def table(*columns: dict[str, Any]) -> Support:
    given = [
        Column.model_validate(
            {
                "name": f"c{i}",
                "base_measure": "lebesgue" if column["kind"] in ("real", "positive") else "counting",
                **column,
            }
        )
        for i, column in enumerate(columns)
    ]
    return Support(shape=(len(given),), columns=tuple(given))


def fitted(support: Support, rows: Any, **hyper: Any) -> TabularMADE:
    torch.manual_seed(0)
    model = TabularMADE(support, **{"hidden": [16], "components": 3, **hyper})
    model.prepare(torch.tensor(rows, dtype=torch.float64))
    for parameter in model.parameters():  # away from independent columns
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


def mass(model: TabularMADE, rows: np.ndarray) -> np.ndarray:
    return model.log_prob(torch.from_numpy(np.asarray(rows, dtype=np.float64))).exp().numpy()


RNG = np.random.default_rng(0)


def test_what_was_fitted_is_near_the_law_that_made_the_rows() -> None:
    family = trained("tabular-made")
    rows = family.folds.test.rows
    truth = tables()["visits"].log_prob(rows)
    with torch.no_grad():
        ours = family.model.log_prob(torch.from_numpy(rows)).numpy()  # type: ignore[operator]
    gap = truth - ours
    error = gap.std(ddof=1) / len(gap) ** 0.5
    assert -4 * error < gap.mean() < 0.15
    # The columns do tell of each other, and the model knows: independent columns are farther away.
    alone = TabularMADE(family.model.support, **family.recipe.model)
    alone.prepare(torch.from_numpy(family.folds.train.rows))
    assert gap.mean() < (truth - alone.log_prob(torch.from_numpy(rows)).detach().numpy()).mean() - 0.1


@pytest.mark.parametrize("kind", ["real", "positive"])
def test_a_continuous_column_integrates_to_one(kind: str) -> None:
    rows = np.exp(RNG.normal(1, 0.5, size=(200, 1)))
    model = fitted(table({"kind": kind}), rows)
    total, _ = integrate.quad(lambda x: mass(model, [[x]])[0], 1e-9 if kind == "positive" else -60, 60, limit=500)
    assert total == pytest.approx(1.0, abs=1e-3)


def test_heavy_tails_are_found_and_integrate_to_one() -> None:
    rows = stats.t(1.5).rvs((500, 1), random_state=1) * 10 + 5
    model = fitted(table({"kind": "real"}), rows)
    assert bool(model.scales.heavy[0])
    v = np.linspace(-40, 40, 40_001)
    x = np.sinh(v)
    assert np.trapezoid(mass(model, x[:, None]) * np.cosh(v), v) == pytest.approx(1.0, abs=2e-3)
    far = model.log_prob(torch.tensor([[1e6], [1e12]], dtype=torch.float64))
    assert torch.isfinite(far).all()
    assert far[0] - far[1] < 60  # polynomial tails: a million times as far is no 10^6 nats less likely


def test_a_rounded_column_is_the_mass_of_its_cell_over_the_width() -> None:
    rows = np.round(RNG.normal(10, 2, size=(300, 1)) * 2) / 2
    model = fitted(table({"kind": "real", "resolution": 0.5}), rows)
    grid = np.arange(-40, 60, 0.5)
    assert (mass(model, grid[:, None]) * 0.5).sum() == pytest.approx(1.0, abs=1e-6)
    inside = mass(model, np.array([[9.8], [10.0], [10.2]]))
    assert np.allclose(inside, inside[0])  # constant over the cell: a density, wherever in it one asks


def test_a_rounded_positive_column_has_no_mass_below_zero() -> None:
    rows = np.maximum(np.round(RNG.lognormal(0, 1, size=(300, 1)), 1), 0.1)
    model = fitted(table({"kind": "positive", "resolution": 0.1}), rows)
    grid = 0.1 * np.arange(1, 4000)
    assert (mass(model, grid[:, None]) * 0.1).sum() == pytest.approx(1.0, abs=1e-3)


def test_counts_sum_to_one() -> None:
    model = fitted(table({"kind": "count"}), RNG.poisson(3, size=(300, 1)))
    assert mass(model, np.arange(3000.0)[:, None]).sum() == pytest.approx(1.0, abs=1e-3)


def test_a_missing_value_is_one_more_value() -> None:
    support = table({"kind": "categorical", "categories": ["a", "b", "c"], "missing_allowed": True}, {"kind": "binary"})
    rows = np.array([[0, 1], [1, 0], [2, 1], [NAN, 0], [NAN, 1]])
    model = fitted(support, rows)
    states = np.array([[a, b] for a in (0, 1, 2, NAN) for b in (0, 1)])
    assert mass(model, states).sum() == pytest.approx(1.0, abs=1e-9)


def test_the_start_is_the_independent_law() -> None:
    support = table({"kind": "binary"}, {"kind": "ordinal", "levels": 4, "missing_allowed": True})
    rows = np.stack([RNG.integers(0, 2, 400), RNG.choice([0, 1, 2, 3, NAN], 400)], axis=1)
    model = TabularMADE(support, hidden=[8])
    model.prepare(torch.from_numpy(rows))
    value = model.log_prob(torch.tensor([[1.0, NAN]], dtype=torch.float64)).item()
    wanted = log((rows[:, 0] == 1).mean()) + log(np.isnan(rows[:, 1]).mean())
    assert value == pytest.approx(wanted, abs=0.02)


def test_a_column_sees_those_before_it_and_no_other() -> None:
    support = tables()["people"].support
    model = fitted(support, tables()["people"].draw(300, 0))
    x = torch.from_numpy(tables()["people"].draw(1, 5))
    features = model._features(x).requires_grad_()
    owners = torch.cat([model.numbers, model.code_of[0].long(), model.holes])
    numbers, classes, holes = model._laws(features)
    for outputs, places in ((numbers, model.numbers), (classes, model.classes), (holes, model.holes)):
        for i, place in enumerate(places.tolist()):
            (gradient,) = torch.autograd.grad(outputs[:, i].clamp(-1e9, 1e9).sum(), features, retain_graph=True)
            assert (gradient[0][owners >= place] == 0).all()


@pytest.mark.parametrize(
    ("support", "rows", "message"),
    [
        (table({"kind": "real"}), [[1.0], [1.0]], "'c0' is constant"),
        (table({"kind": "binary"}), [[0.0], [0.0]], "'c0' is constant"),
        (table({"kind": "real", "missing_allowed": True}), [[NAN], [NAN]], "'c0' is constant"),
    ],
)
def test_what_there_is_nothing_to_model_in_is_refused(support: Support, rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TabularMADE(support).prepare(torch.tensor(rows, dtype=torch.float64))


def test_pictures_are_refused() -> None:
    element = Column(name="pixel", kind="binary", base_measure="counting")
    with pytest.raises(ValueError, match="not a table"):
        TabularMADE(Support(shape=(2, 2), element=element))


KINDS = st.sampled_from(
    [
        {"kind": "real"},
        {"kind": "real", "resolution": 0.25},
        {"kind": "positive"},
        {"kind": "positive", "resolution": 2.0},
        {"kind": "count"},
        {"kind": "binary"},
        {"kind": "ordinal", "levels": 3},
        {"kind": "categorical", "categories": ("a", "b", "c", "d")},
    ]
)
COLUMNS = st.lists(st.tuples(KINDS, st.booleans()), min_size=1, max_size=4)


@settings(max_examples=25)
@given(COLUMNS, st.integers(0, 2**32 - 1))
def test_any_table_is_drawn_from_within_its_support_and_every_draw_has_a_probability(
    columns: list[tuple[dict[str, Any], bool]], seed: int
) -> None:
    support = table(*({**kind, "missing_allowed": missing} for kind, missing in columns))
    rng = np.random.default_rng(seed)
    values = []
    for kind, missing in columns:
        value = {
            "real": rng.standard_t(2, 50) * 10,
            "positive": rng.lognormal(0, 2, 50) + 2,
            "count": rng.poisson(3, 50),
            "binary": rng.integers(0, 2, 50),
            "ordinal": rng.integers(0, 3, 50),
            "categorical": rng.integers(0, 4, 50),
        }[kind["kind"]].astype(np.float64)
        step = kind.get("resolution")
        value = np.round(value / step) * step if step else value
        value[:2] = [value.min(), value.max() + 2] if kind["kind"] in ("real", "positive", "count") else [0, 1]
        values.append(np.where((rng.random(50) < 0.3) & (np.arange(50) > 1), NAN, value) if missing else value)
    model = fitted(support, np.stack(values, axis=1))
    seeds, rows = torch.full((64,), seed), torch.arange(64)
    state = model.sample_init(seeds, rows)
    for t in range(model.sample_steps):
        state = model.sample_step(seeds, rows, torch.full((64,), t), *state)
    drawn = model.sample_final(*state)
    support.check(drawn.numpy())
    assert torch.isfinite(model.log_prob(drawn)).all()


def test_a_rounded_value_is_the_double_that_is_written() -> None:
    column = Column(name="share", kind="real", base_measure="lebesgue", resolution=0.0001)
    scales = NumberScales([column])
    values = torch.tensor([[0.3938], [0.1831], [0.7], [-2.0006]], dtype=torch.float64)
    scales.fit(values)
    assert scales.inverse(scales(values)).tolist() == values.tolist()


def test_scales_come_back() -> None:
    columns = tables()["people"].support.columns or ()
    numbers = [i for i, column in enumerate(columns) if column.kind in ("real", "positive", "count")]
    rows = torch.from_numpy(tables()["people"].draw(500, 0)[:, numbers])
    scales = NumberScales([columns[i] for i in numbers])
    scales.fit(rows)
    back = scales.inverse(scales(rows))
    assert torch.allclose(back, rows, rtol=1e-9, atol=1e-7, equal_nan=True)
