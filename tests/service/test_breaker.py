"""The circuit breaker's states."""

from __future__ import annotations

from service.breaker import Breaker
from tests.service.clock import Clock


def test_one_failure_opens_it_and_one_trial_closes_it():
    clock = Clock()
    breaker = Breaker(clock, pause=1.0)
    assert breaker.closed
    assert not breaker.try_half_open()
    breaker.failed()
    assert breaker.state == "open"
    clock.now += 0.9
    assert not breaker.try_half_open()
    clock.now += 0.1
    assert breaker.try_half_open()
    assert breaker.state == "half-open"
    assert not breaker.closed
    assert not breaker.try_half_open()  # one trial at a time
    breaker.trial_succeeded()
    assert breaker.closed


def test_the_pause_doubles_up_to_a_limit_and_starts_again_after_a_success():
    clock = Clock()
    breaker = Breaker(clock, pause=1.0, longest_pause=4.0)
    breaker.failed()
    for pause in (1.0, 2.0, 4.0, 4.0):
        clock.now += pause - 0.01
        assert not breaker.try_half_open()
        clock.now += 0.01
        assert breaker.try_half_open()
        breaker.failed()
    clock.now += 4.0
    assert breaker.try_half_open()
    breaker.trial_succeeded()
    breaker.succeeded()
    breaker.failed()
    clock.now += 1.0
    assert breaker.try_half_open()


def test_calls_under_way_when_it_opens_do_not_lengthen_the_pause():
    clock = Clock()
    breaker = Breaker(clock, pause=1.0)
    for _ in range(8):
        breaker.failed()
    breaker.succeeded()  # an answer that came late says nothing about now
    assert breaker.state == "open"
    clock.now += 1.0
    assert breaker.try_half_open()
