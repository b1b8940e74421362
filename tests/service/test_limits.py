"""The budget of bytes: what is taken is given back, and no more than there is."""

from __future__ import annotations

import pytest

from service.errors import Overloaded
from service.limits import ByteBudget


def test_room_is_taken_and_given_back() -> None:
    budget = ByteBudget(100)
    with budget.reserve(60) as room:
        room.grow(40)
        assert budget.held == 100
    assert budget.held == 0


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    budget = ByteBudget(100)
    with budget.reserve(60):
        with pytest.raises(Overloaded) as refused:
            budget.reserve(41)
        assert refused.value.retry_after > 0
        assert budget.held == 60
        with budget.reserve(40) as room, pytest.raises(Overloaded):
            room.grow(1)
        assert budget.held == 60
    assert budget.held == 0


def test_room_is_given_back_when_the_work_fails() -> None:
    budget = ByteBudget(100)
    with pytest.raises(RuntimeError), budget.reserve(100):
        raise RuntimeError
    assert budget.held == 0


def test_room_is_given_back_once() -> None:
    budget = ByteBudget(100)
    room = budget.reserve(70)
    with budget.reserve(20):
        room.close()
        room.close()
        assert budget.held == 20
