"""What a family says of itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from contract.capabilities import CAPABILITIES, UNASKED
from contract.support import Support
from models import base
from models.base import GenerativeModel, capabilities, family, register, registry
from tests.models.supports import table


def test_the_three_families_are_found_by_name() -> None:
    assert {"gaussian", "made", "realnvp"} <= set(registry())
    assert family("gaussian") is registry()["gaussian"]


def test_an_unknown_family_is_named_with_those_that_are_known() -> None:
    with pytest.raises(KeyError, match=r"'gauss'.*gaussian, .*made, .*realnvp"):
        family("gauss")


@pytest.mark.parametrize("name", sorted(registry()))
def test_a_family_refuses_with_a_reason_what_it_lacks_and_nothing_else(name: str) -> None:
    cls = registry()[name]
    lacks = set(CAPABILITIES) - set(capabilities(cls)) - {"score"}  # a score comes with a calibration
    # Some models of a family lack what others have, such as labels.
    assert lacks - set(UNASKED) <= set(cls.refusals) <= lacks
    assert all(len(reason) > 20 for reason in cls.refusals.values())


def test_two_families_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="two families are called 'made'"):
        register("made")(GenerativeModel)


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.baked = False

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.weight if self.baked else 2 * self.weight)

    @torch.no_grad()
    def bake(self) -> None:
        self.weight.mul_(2)
        self.baked = True


class Doubler(GenerativeModel):
    def __init__(self, support: Support):
        super().__init__(support)
        self.layer = Doubling()

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        return None if support.size == 2 else "it has other than two columns"


def test_baking_leaves_the_model_and_its_answers_alone() -> None:
    model = Doubler(table("real", "real")).train()
    baked = model.baked()
    x = torch.randn(3, 2)
    assert torch.equal(baked.layer(x), model.layer(x))
    assert baked.layer.baked
    assert not model.layer.baked
    assert model.training
    assert not baked.training
    assert not any(parameter.requires_grad for parameter in baked.parameters())


def test_a_support_that_the_family_refuses_is_an_error() -> None:
    with pytest.raises(ValueError, match="Doubler cannot model this support: it has other than two columns"):
        Doubler(table("real"))


def test_capabilities_are_read_off_the_class() -> None:
    assert capabilities(Doubler) == ()
    assert capabilities(registry()["made"]) == ("sample", "log_prob", "inpaint")
    assert set(capabilities(registry()["gaussian"])) == set(CAPABILITIES) - {"score", "classify"}
    assert base.capabilities(Doubler(table("real", "real"))) == ()
