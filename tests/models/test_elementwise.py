"""Maps of single numbers: monotone, invertible, and with the slope that autodiff finds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.nets.elementwise import Additive, Affine, Elementwise, RationalQuadratic, softly_bounded

MAPS: dict[str, Elementwise] = {
    "additive": Additive(),
    "affine": Affine(bound=5.0),
    "spline": RationalQuadratic(bins=8, bound=4.0),
    "two bins": RationalQuadratic(bins=2, bound=1.0),
}
numbers = st.floats(-1e3, 1e3)


def parameters(element: Elementwise, n: int, *, spread: float = 2.0, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return spread * torch.randn(n, 3, element.size, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("name", MAPS)
class TestMap:
    @settings(max_examples=60, deadline=None)
    @given(values=st.lists(numbers, min_size=3, max_size=3), seed=st.integers(0, 999), spread=st.floats(0.0, 30.0))
    def test_inverse_undoes_forward_and_gives_the_same_slope(
        self, name: str, values: list[float], seed: int, spread: float
    ) -> None:
        element, x = MAPS[name], torch.tensor([values], dtype=torch.float64)
        raw = parameters(element, 1, spread=spread, seed=seed)
        y, log_slope = element.forward(x, raw)
        back, same = element.inverse(y, raw)
        assert y.isfinite().all()
        # Where a map is a thousand times as steep in the neighbouring bin, a last place of y is more than one of x.
        assert torch.allclose(back, x, rtol=1e-6, atol=1e-6)
        assert torch.allclose(log_slope, same, rtol=1e-3, atol=1e-3)

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 999), spread=st.floats(0.0, 30.0))
    def test_grows_from_end_to_end(self, name: str, seed: int, spread: float) -> None:
        element = MAPS[name]
        x = torch.linspace(-6, 6, 301, dtype=torch.float64)[:, None].expand(-1, 3)
        raw = parameters(element, 1, spread=spread, seed=seed).expand(301, -1, -1)
        y, log_slope = element.forward(x, raw)
        assert (y.diff(dim=0) > 0).all()
        assert log_slope.isfinite().all()

    def test_the_slope_is_autodiff_s(self, name: str) -> None:
        element = MAPS[name]
        x = (3.0 * torch.randn(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).requires_grad_()
        y, log_slope = element.forward(x, parameters(element, 50))
        (slope,) = torch.autograd.grad(y.sum(), x)
        assert torch.allclose(log_slope, slope.log(), atol=1e-8)

    def test_no_parameters_are_the_identity(self, name: str) -> None:
        element = MAPS[name]
        x = torch.linspace(-9, 9, 60, dtype=torch.float64).reshape(20, 3)
        y, log_slope = element.forward(x, torch.zeros(20, 3, element.size))
        assert torch.allclose(y, x, atol=1e-12)
        assert torch.allclose(log_slope, torch.zeros(20, 3).double(), atol=1e-12)


def test_a_spline_joins_its_tails_with_their_slope() -> None:
    element = RationalQuadratic(bins=5, bound=2.0)
    raw = parameters(element, 4)
    edge = torch.tensor([[-2.0, 2.0, 2.0]], dtype=torch.float64).expand(4, -1)
    inside, slope = element.forward(edge * (1 - 1e-9), raw)
    assert torch.allclose(inside, edge, atol=1e-6)
    assert torch.allclose(slope, torch.zeros(4, 3).double(), atol=1e-5)
    outside, slope = element.forward(edge * 3, raw)
    assert torch.equal(outside, edge * 3)
    assert torch.equal(slope, torch.zeros(4, 3).double())


def test_numbers_beyond_everything_pass_a_spline_s_tails() -> None:
    element = RationalQuadratic(bins=5, bound=2.0)
    x = torch.tensor([[1e300, -1e300, torch.inf]], dtype=torch.float64)
    for direction in (element.forward, element.inverse):
        y, slope = direction(x, parameters(element, 1))
        assert torch.equal(y, x)
        assert torch.equal(slope, torch.zeros(1, 3).double())


def test_parameters_without_bound_leave_maps_bounded() -> None:
    raw = torch.full((1, 3, 2), 1e30)
    assert Affine(bound=5.0).forward(torch.zeros(1, 3), raw)[1].max() <= 5.0
    spline = RationalQuadratic(bins=3, bound=2.0)
    wild = torch.tensor([1e30, -1e30, 1e30, -1e30, 1e30, -1e30, 1e30, -1e30]).expand(1, 3, 8)
    slope = spline.forward(torch.tensor([[-1.9, 0.0, 1.9]]), wild)[1]
    assert slope.abs().max() < 3 * torch.tensor(1000.0).log() + 1
    assert softly_bounded(torch.tensor([-1e30, 1e30]), 3.0).tolist() == [-3.0, 3.0]


def test_refuses_maps_that_are_none() -> None:
    with pytest.raises(ValueError, match="two bins or more"):
        RationalQuadratic(bins=1, bound=1.0)
    with pytest.raises(ValueError, match="between 0 and 30"):
        Affine(bound=0.0)
