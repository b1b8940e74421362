"""Elementwise functions in whole vectors."""

from __future__ import annotations

import pytest
import torch

from models.nets.lanes import LANES, full_lanes, row_sum


@pytest.mark.parametrize("width", [1, 2, 15, 16, 17, 32])
def test_the_function_sees_whole_vectors_and_the_caller_what_it_asked_for(width: int) -> None:
    widths = []

    def add(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        widths.append(a.shape[-1])
        return a + 2 * b

    a, b = torch.randn(3, width), torch.randn(3, width)
    assert torch.equal(full_lanes(add, a, b), a + 2 * b)
    assert widths[0] % LANES == 0
    assert widths[0] - width < LANES


@pytest.mark.parametrize("width", [1, 16, 30])
def test_a_row_s_sum_is_its_sum(width: int) -> None:
    x = torch.randn(4, width, dtype=torch.float64)
    assert torch.allclose(row_sum(x), x.sum(dim=1))
