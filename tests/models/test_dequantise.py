"""Rounded columns: the bound is of the law of cells that is drawn, and becomes that law as draws grow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from contract.support import Column, Support
from models.base import GenerativeModel, has_bound
from models.gaussian import Gaussian
from models.maf import MAF
from models.mixture_of_gaussians import MixtureOfGaussians
from models.nets.dequantise import Cells
from models.nice import NICE
from models.nsf_autoregressive import NSFAutoregressive
from models.nsf_coupling import NSFCoupling
from models.realnvp import RealNVP
from training.graphs import answers_in_torch, model_programs

SUPPORT = Support(
    shape=(2,),
    columns=(
        Column(name="a", kind="real", base_measure="lebesgue", resolution=0.5),
        Column(name="b", kind="real", base_measure="lebesgue", resolution=0.25),
    ),
)
FAMILIES: dict[type[GenerativeModel], dict[str, Any]] = {
    Gaussian: {},
    MixtureOfGaussians: {"components": 2, "starts": 1},
    RealNVP: {"layers": 2, "hidden": [8]},
    NICE: {"layers": 2, "hidden": [8], "base": "normal"},
    MAF: {"layers": 2, "hidden": [8]},
    NSFCoupling: {"layers": 2, "hidden": [8], "bins": 4},
    NSFAutoregressive: {"layers": 1, "hidden": [8], "bins": 4},
}
parametrise = pytest.mark.parametrize("cls", FAMILIES, ids=lambda cls: cls.__name__)


def rows(n: int = 2000) -> Tensor:
    """Two correlated columns, their centres at multiples of 1/2 plus 0.2 and of 1/4."""
    g = torch.randn(n, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a, b = g[:, 0], 0.5 * g[:, 0] + 0.4 * g[:, 1]
    return torch.stack([torch.round((a - 0.2) / 0.5) * 0.5 + 0.2, torch.round(4.0 * b) / 4.0], dim=1)


def dequantised(cls: type[GenerativeModel]) -> Any:
    torch.manual_seed(0)
    model: Any = cls(SUPPORT, **FAMILIES[cls], dequantise=True)
    model.prepare(rows())
    if hasattr(model, "fit"):
        model.fit(rows())
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval().requires_grad_(False)


def grid() -> Tensor:
    a, b = 0.2 + 0.5 * torch.arange(-16, 17), 0.25 * torch.arange(-30, 31)
    return torch.cartesian_prod(a.double(), b.double())


@parametrise
class TestDequantised:
    def test_a_large_k_is_the_law_of_the_cells_that_draws_fall_in(self, cls: type[GenerativeModel]) -> None:
        model, x = dequantised(cls), grid()
        answer = answers_in_torch(model, "log_prob", {"x": x.numpy()}, steps=60)
        mass = np.exp(answer["log_prob"]) * 0.125
        assert 0.99 < mass.sum() < 1.005, "a bound, and a close one"
        n = 6000
        drawn = answers_in_torch(model, "sample", {"seed": np.full(n, 5), "row": np.arange(n)})["x"]
        index = np.rint((drawn - [0.2, 0.0]) / [0.5, 0.25]).astype(int) + np.array([16, 30])
        assert np.allclose(drawn, (index - [16, 30]) * [0.5, 0.25] + [0.2, 0.0])
        inside = ((index >= 0) & (index < [33, 61])).all(axis=1)
        observed = np.bincount(index[inside] @ [61, 1], minlength=len(mass))
        often = mass * n >= 5
        # What the bound still lacks it lacks in the tails.
        assert abs(observed[often].sum() - mass[often].sum() * n) < 4 * n**0.5 * 0.5
        expected = mass[often] * (observed[often].sum() / mass[often].sum())
        assert stats.chisquare(observed[often], expected).pvalue > 1e-4

    def test_few_draws_are_a_bound_and_more_are_tighter(self, cls: type[GenerativeModel]) -> None:
        model, x = dequantised(cls), np.tile(rows(50).numpy(), (240, 1))
        asked = {"x": x, "seed": np.arange(12000) // 50}
        few, many = (answers_in_torch(model, "log_prob", asked, steps=k)["log_prob"] for k in (1, 10))
        gain = (many - few).reshape(240, 50).mean(axis=1)
        assert gain.mean() > 4 * gain.std(ddof=1) / 240**0.5
        program = model_programs(model)["log_prob"]
        assert program.outputs[0].kind == model.log_prob_kind == "lower_bound"
        assert program.steps.default == 16

    def test_the_code_of_a_row_gives_the_row_back(self, cls: type[GenerativeModel]) -> None:
        model = dequantised(cls)
        if hasattr(model, "decode"):
            assert torch.equal(model.decode(model.encode(rows())), model.cells.centre(rows()))
            assert torch.allclose(model.cells.centre(rows()), rows(), atol=1e-12)

    def test_without_the_word_coarse_columns_are_refused_and_fine_ones_are_exact(
        self, cls: type[GenerativeModel]
    ) -> None:
        model: Any = cls(SUPPORT, **FAMILIES[cls])
        assert model.log_prob_kind == "exact"
        assert not has_bound(model)
        with pytest.raises(ValueError, match=r"needs dequantisation, say dequantise: true"):
            (model.fit if hasattr(model, "fit") else model.prepare)(rows())
        smooth = Support(shape=(1,), columns=(Column(name="a", kind="real", base_measure="lebesgue"),))
        if cls.accepts(smooth) is None:
            model = cls(smooth, **FAMILIES[cls], dequantise=True)
            assert model.log_prob_kind == "exact", "nothing is rounded"


def test_the_normal_law_of_cells_is_the_normal_distribution_s_differences() -> None:
    model = dequantised(Gaussian)
    mean, covariance = model.whiten.mean.numpy(), (model.whiten.factor @ model.whiten.factor.T).numpy()
    # Spreading over cells adds their variance to that of the rows.
    expected = np.cov(rows().numpy().T, bias=True) + np.diag([0.25, 0.0625]) / 12
    assert np.allclose(covariance, expected, rtol=0.03, atol=0.005)
    x = rows(20).numpy()
    law, half = stats.multivariate_normal(mean, covariance), np.array([0.25, 0.125])
    corners = [(sign, law.cdf(x + half * np.array(sign))) for sign in ((1, 1), (-1, 1), (1, -1), (-1, -1))]
    chance = sum(np.prod(sign) * cdf for sign, cdf in corners)
    answer = answers_in_torch(model, "log_prob", {"x": x}, steps=400)
    assert np.allclose(answer["log_prob"], np.log(chance / 0.125), atol=0.08)


# -- cells -----------------------------------------------------------------------------------------------------------


def cells(kind: Any, resolution: float | None, at: float) -> Cells:
    made = Cells([Column(name="a", kind=kind, base_measure="lebesgue", resolution=resolution)])
    made.fit(torch.tensor([[at]], dtype=torch.float64))
    return made


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(["real", "positive"]),
    digits=st.integers(-2, 6),
    index=st.integers(1, 10**5),
    shift=st.floats(0.0, 0.99),
    u=st.floats(0.0, 1 - 2**-24, width=32),
)
def test_a_spread_value_lies_in_its_own_cell(kind: str, digits: int, index: int, shift: float, u: float) -> None:
    step = float(f"1e{-digits}")
    x = torch.tensor([[(index + shift) * step]], dtype=torch.float64)
    made = cells(kind, step, x.item())
    value, log_share = made.spread(x, torch.tensor([[u]]))
    assert abs(value.item() - x.item()) <= step * (0.5 + 2e-6)
    assert log_share.item() <= 1e-9
    assert kind == "real" or value.item() > 0
    if 1e-3 < u < 1 - 1e-3:
        assert torch.allclose(made.centre(value), x, rtol=0.0, atol=1e-6 * step)


def test_a_cell_that_zero_cuts_off_is_smaller() -> None:
    made = cells("positive", 1.0, 0.25)  # centres 0.25, 1.25 ...: the lowest cell is 0 to 0.75
    x = torch.tensor([[0.25], [1.25]], dtype=torch.float64)
    u = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0))
    value, log_share = made.spread(x.repeat(2000, 1), u.reshape(-1, 1))
    low, high = value.reshape(2000, 2).unbind(1)
    assert stats.kstest(low.numpy(), stats.uniform(0.0, 0.75).cdf).pvalue > 1e-3
    assert stats.kstest(high.numpy(), stats.uniform(0.75, 1.0).cdf).pvalue > 1e-3
    assert torch.allclose(log_share[:2], torch.tensor([0.75, 1.0]).double().log())
    assert made.centre(torch.tensor([[1e-9], [-5.0]]).double()).tolist() == [[0.25], [0.25]]


def test_decimals_come_back_as_data_write_them() -> None:
    made = cells("real", 0.0001, 0.3938)
    values = torch.tensor([[float(f"{i}e-4")] for i in range(-5000, 5000)], dtype=torch.float64)
    assert torch.equal(made.centre(values + 2e-5), values)


def test_a_column_that_is_not_rounded_passes() -> None:
    made = cells("real", None, 0.3)
    x = torch.tensor([[0.1234567]], dtype=torch.float64)
    assert torch.equal(made.centre(x), x)
    assert torch.equal(made.spread(x, torch.zeros(1, 1))[0], x)


def test_the_law_of_cells_that_zero_cuts_off_adds_up_to_one() -> None:
    column = Column(name="a", kind="positive", base_measure="lebesgue", resolution=1.0)
    support = Support(shape=(1,), columns=(column,))
    g = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (torch.exp(0.5 * g) - 0.25).round().clamp(min=0.0) + 0.25  # many in the lowest cell, 0 to 0.75
    model = MAF(support, layers=1, hidden=[4], dequantise=True)
    model.prepare(x)
    every, seeds = np.arange(60.0)[:, None] + 0.25, 40
    asked = {"x": np.tile(every, (seeds, 1)), "seed": np.repeat(np.arange(seeds), 60)}
    answer = answers_in_torch(model.eval().requires_grad_(False), "log_prob", asked, steps=50)
    mass = np.exp(answer["log_prob"]).reshape(seeds, 60).mean(axis=0)  # of the weights, unbiased
    assert abs(mass.sum() - 1.0) < 0.02
    assert mass[0] > 0.1
