"""Flows over tables as wholes: bijections in original units, with the densities that go with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from models.iaf import IAF
from models.maf import MAF
from models.nets.autoregressive import MaskedAutoregressive, MaskedNetwork
from models.nets.elementwise import Affine, RationalQuadratic
from models.nets.flow import TabularFlow
from models.nice import NICE
from models.nsf_autoregressive import NSFAutoregressive
from models.nsf_coupling import NSFCoupling
from tests.models.supports import pictures, table

KINDS = ("real", "positive", "real", "positive")
FLOWS: list[type[TabularFlow]] = [NICE, MAF, IAF, NSFCoupling, NSFAutoregressive]
UNROLLED = [MAF, IAF, NSFAutoregressive]

parametrise = pytest.mark.parametrize("cls", FLOWS, ids=lambda cls: cls.__name__)


def rows(n: int = 200) -> Tensor:
    """Two real and two positive columns, correlated, in units far apart."""
    g = torch.randn(n, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    g = g @ torch.tensor([[1, 0.5, 0, 0.2], [0, 1, 0.3, 0], [0, 0, 1, 0.7], [0, 0, 0, 0.5]]).double()
    return torch.stack([1000 + 300 * g[:, 0], g[:, 1].exp() * 1e-3, g[:, 2] - 5, (2 * g[:, 3]).exp()], dim=1)


def flow(cls: type[TabularFlow], kinds: tuple[Any, ...] = KINDS, x: Tensor | None = None, **others: Any) -> TabularFlow:
    torch.manual_seed(0)
    model: Any = cls(table(*kinds), **{"layers": 3, "hidden": [16], **others})
    model.prepare(rows() if x is None else x)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


@parametrise
class TestFlow:
    def test_decode_undoes_encode(self, cls: type[TabularFlow]) -> None:
        model, x = flow(cls), rows()
        z = model.encode(x)
        assert z.dtype == model.decode(z).dtype == torch.float64
        assert torch.allclose(model.decode(z), x, rtol=1e-5, atol=1e-5)
        assert torch.allclose(model.encode(model.decode(z)), z, atol=1e-4)
        assert not torch.allclose(z, flow(cls, layers=1).encode(x))

    @pytest.mark.parametrize("preprocess", ["standardise", "whiten"])
    def test_log_prob_is_the_base_law_and_autodiff_s_determinant(self, cls: type[TabularFlow], preprocess: str) -> None:
        model, x = flow(cls, preprocess=preprocess).double(), rows(20)
        jacobian = torch.autograd.functional.jacobian(lambda v: model.encode(v).sum(dim=0), x).transpose(0, 1)
        expected = model.latent_log_prob(model.encode(x)) + torch.linalg.slogdet(jacobian).logabsdet
        assert torch.allclose(model.log_prob(x), expected, rtol=1e-7, atol=1e-7)

    def test_every_draw_is_positive_where_the_column_is(self, cls: type[TabularFlow]) -> None:
        model = flow(cls)
        z = model.latent(torch.full((500,), 3), torch.arange(500), torch.full((500,), 2.0).double())
        assert (model.decode(z)[:, [1, 3]] > 0).all()

    def test_a_change_of_units_shifts_log_prob_by_its_logarithm(self, cls: type[TabularFlow]) -> None:
        units = torch.tensor([10.0, 0.01, 7.0, 1e3], dtype=torch.float64)
        shift = flow(cls, x=rows() * units).log_prob(rows() * units) - flow(cls).log_prob(rows())
        assert torch.allclose(shift, -units.log().sum().expand(200), atol=1e-4)

    def test_a_row_beyond_everything_is_impossible_and_not_a_nan(self, cls: type[TabularFlow]) -> None:
        x = rows(3)
        x[1, 0] = 1e300
        values = flow(cls).log_prob(x)
        assert values[1] == -torch.inf
        assert values[[0, 2]].isfinite().all()

    def test_starts_from_independent_columns(self, cls: type[TabularFlow]) -> None:
        x = rows()[:, [0, 2]]
        model = cls(table("real", "real"))
        model.prepare(x)
        base = stats.logistic if cls is NICE else stats.norm
        mean, deviation = x.mean(dim=0).numpy(), x.std(dim=0, correction=0).numpy()
        expected = base.logpdf(x.numpy(), mean, deviation).sum(axis=1)
        assert np.allclose(model.log_prob(x).detach().numpy(), expected)

    def test_dropout_is_for_training_alone(self, cls: type[TabularFlow]) -> None:
        model, x = flow(cls, dropout=0.5), rows(5)
        assert torch.equal(model.log_prob(x), model.log_prob(x))
        model.train()
        assert not torch.equal(model.log_prob(x), model.log_prob(x))

    def test_refuses_pictures_and_coarse_columns(self, cls: type[TabularFlow]) -> None:
        assert "not a table" in (cls.accepts(pictures(2, 2)) or "")
        assert cls.accepts(table("real", "positive")) is None
        model = cls(table("real", "real", resolution=1.0))
        with pytest.raises(ValueError, match="needs dequantisation"):
            model.prepare((torch.randn(300, 2) * 3).round())


@pytest.mark.parametrize("cls", [NICE, NSFCoupling])
def test_couplings_need_two_columns(cls: type[TabularFlow]) -> None:
    assert "at least two columns" in (cls.accepts(table("real")) or "")


@pytest.mark.parametrize("cls", UNROLLED)
def test_passes_are_unrolled_up_to_64_columns(cls: type[TabularFlow]) -> None:
    def wide(d: int) -> str | None:
        support = table("real").model_copy(update={"shape": (d,), "columns": table("real").columns * d})  # type: ignore[operator]
        return cls.accepts(support)

    assert wide(64) is None
    assert "65 columns" in (wide(65) or "")


@pytest.mark.parametrize("cls", UNROLLED)
def test_one_column_has_a_flow_too(cls: type[TabularFlow]) -> None:
    x = rows()[:, [1]]
    model = flow(cls, kinds=("positive",), x=x)
    assert torch.allclose(model.decode(model.encode(x)), x)
    edges = torch.logspace(-6, 1, 200_001, dtype=torch.float64)
    assert abs(torch.trapezoid(model.log_prob(edges[:, None]).exp(), edges).item() - 1.0) < 1e-4


# -- parts -----------------------------------------------------------------------------------------------------------


def masked(order: list[int]) -> MaskedAutoregressive:
    torch.manual_seed(0)
    layer = MaskedAutoregressive(order, RationalQuadratic(bins=4, bound=3.0), hidden=[12, 9]).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.8)
    return layer.requires_grad_(False)


def test_an_autoregressive_layer_s_jacobian_is_triangular_in_its_order() -> None:
    order = [2, 0, 3, 1]
    layer = masked(order)
    x = torch.randn(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer.forward_and_log_det(v[None])[0][0], x)
    sorted_jacobian = jacobian[order][:, order]
    assert torch.equal(sorted_jacobian, sorted_jacobian.tril())
    assert (sorted_jacobian.tril() != 0).sum() == 10, "each column depends on every one before it"
    assert torch.allclose(layer.forward_and_log_det(x[None])[1], sorted_jacobian.diagonal().log().sum()[None])


def test_the_way_back_of_an_autoregressive_layer_is_its_inverse() -> None:
    layer = masked([2, 0, 3, 1])
    x = 2 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, there = layer.forward_and_log_det(x)
    back, here = layer.inverse_and_log_det(y)
    assert torch.allclose(back, x)
    assert torch.allclose(here, -there)


def test_one_column_s_outputs_are_those_of_all() -> None:
    torch.manual_seed(0)
    network = MaskedNetwork([1, 2, 0], hidden=[8, 8], outputs=5)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(7, 3)
    for column in range(3):
        assert torch.allclose(network.of_column(x, column)[:, 0], network(x)[:, column])


def test_a_column_that_is_not_known_yet_may_be_anything() -> None:
    layer = MaskedAutoregressive([0, 1], Affine(bound=5.0), hidden=[4])
    y = torch.tensor([[torch.inf, 1.0]], dtype=torch.float64)
    assert not layer.inverse_and_log_det(y)[0][0, 0].isnan()


# -- NICE ------------------------------------------------------------------------------------------------------------


def test_nice_couplings_preserve_volume_and_the_diagonal_does_not() -> None:
    model = flow(NICE)
    assert isinstance(model, NICE)
    x = rows(10)
    for transform in list(model.transforms)[:-1]:
        assert torch.equal(transform.forward_and_log_det(x)[1], torch.zeros(10).double())
    y, log_det = model.diagonal.forward_and_log_det(x)
    assert torch.allclose(log_det, (y / x).log().sum(dim=1))
    assert log_det[0] != 0


@pytest.mark.parametrize("base", ["logistic", "normal"])
def test_nice_draws_its_base_law_at_any_temperature(base: str) -> None:
    model = flow(NICE, base=base)
    law = stats.logistic if base == "logistic" else stats.norm
    n = 4000
    for temperature in (1.0, 0.5):
        z = model.latent(torch.full((n,), 1), torch.arange(n), torch.full((n,), temperature).double())
        assert stats.kstest(z.numpy().ravel() / temperature, law.cdf).pvalue > 1e-3
    assert np.allclose(model.latent_log_prob(z).numpy(), law.logpdf(z.numpy()).sum(axis=1))


def test_nice_refuses_another_base_law() -> None:
    with pytest.raises(ValueError, match="logistic or normal"):
        NICE(table("real", "real"), base="cauchy")  # type: ignore[arg-type]
