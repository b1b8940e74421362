"""RealNVP as a whole: a bijection in original units, with the density that goes with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models.realnvp import RealNVP
from tests.models.supports import pictures, table

KINDS = ("real", "positive", "real", "positive")


def rows(n: int = 200) -> Tensor:
    """Two real and two positive columns, correlated, in units far apart."""
    g = torch.randn(n, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    g = g @ torch.tensor([[1, 0.5, 0, 0.2], [0, 1, 0.3, 0], [0, 0, 1, 0.7], [0, 0, 0, 0.5]]).double()
    return torch.stack([1000 + 300 * g[:, 0], g[:, 1].exp() * 1e-3, g[:, 2] - 5, (2 * g[:, 3]).exp()], dim=1)


def flow(preprocess: str = "standardise", **others: Any) -> RealNVP:
    torch.manual_seed(0)
    model = RealNVP(table(*KINDS), **{"layers": 4, "hidden": [16], "preprocess": preprocess, **others})
    model.prepare(rows())
    for parameter in model.couplings.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("preprocess", ["standardise", "whiten"])
class TestFlow:
    def test_decode_undoes_encode(self, preprocess: str) -> None:
        model, x = flow(preprocess), rows()
        z = model.encode(x)
        assert z.dtype == model.decode(z).dtype == torch.float64
        assert torch.allclose(model.decode(z), x, rtol=1e-4, atol=1e-4)
        assert torch.allclose(model.encode(model.decode(z)), z, atol=1e-3)

    def test_log_prob_is_the_base_law_and_autodiff_s_determinant(self, preprocess: str) -> None:
        model, x = flow(preprocess), rows(20)
        jacobian = torch.autograd.functional.jacobian(lambda v: model.encode(v).sum(dim=0), x).transpose(0, 1)
        expected = model.latent_log_prob(model.encode(x)) + torch.linalg.slogdet(jacobian).logabsdet
        assert torch.allclose(model.log_prob(x), expected, rtol=1e-3, atol=1e-3)

    def test_every_draw_is_positive_where_the_column_is(self, preprocess: str) -> None:
        model = flow(preprocess)
        z = model.latent(torch.full((500,), 3), torch.arange(500), torch.full((500,), 2.0).double())
        assert (model.decode(z)[:, [1, 3]] > 0).all()


def test_a_change_of_units_shifts_log_prob_by_its_logarithm() -> None:
    units = torch.tensor([10.0, 0.01, 7.0, 1e3], dtype=torch.float64)
    other = flow()
    other.prepare(rows() * units)
    shift = other.log_prob(rows() * units) - flow().log_prob(rows())
    assert torch.allclose(shift, -units.log().sum().expand(200), atol=1e-4)


def test_whitening_starts_from_the_maximum_likelihood_normal() -> None:
    from models.gaussian import Gaussian

    x = rows()[:, [0, 2]]
    model = RealNVP(table("real", "real"), preprocess="whiten")
    model.prepare(x)
    normal = Gaussian(table("real", "real"))
    normal.fit(x)
    assert torch.allclose(model.log_prob(x), normal.log_prob(x), atol=1e-4)


@pytest.mark.parametrize("dims", [2, 3, 7])
def test_neighbouring_layers_move_complementary_columns(dims: int) -> None:
    model = RealNVP(table(*["real"] * dims), layers=6, hidden=[4])
    moved = [set(layer.order[layer.kept :].tolist()) for layer in model.couplings]
    for first, second in zip(moved[::2], moved[1::2], strict=True):
        assert first | second == set(range(dims))
    if dims > 2:
        assert len({tuple(layer.order.tolist()) for layer in model.couplings}) == 6
    again = RealNVP(table(*["real"] * dims), layers=6, hidden=[4])
    assert [a.order.tolist() for a in again.couplings] == [a.order.tolist() for a in model.couplings]


def test_a_row_beyond_single_precision_is_impossible_and_not_a_nan() -> None:
    x = rows(3)
    x[1, 0] = 1e300
    values = flow().log_prob(x)
    assert values[1] == -torch.inf
    assert values[[0, 2]].isfinite().all()


def test_refuses_one_column_pictures_and_coarse_columns() -> None:
    assert "at least two columns" in (RealNVP.accepts(table("real")) or "")
    assert "not a table" in (RealNVP.accepts(pictures(3, 3)) or "")
    assert RealNVP.accepts(table("real", "positive")) is None
    model = RealNVP(table("real", "real", resolution=1.0), layers=2, hidden=[4])
    with pytest.raises(ValueError, match="needs dequantisation"):
        model.prepare((torch.randn(300, 2) * 3).round())
