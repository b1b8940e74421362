"""Quotas: so many rows a minute and no more, shared through a real Redis, and kept by each process when it is gone."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from service.errors import OverQuota
from service.quotas import WINDOW_SECONDS, Quotas, Standing, Window, seconds_until
from tests.service.clock import Clock
from tests.service.redis_server import RedisServer

ACCOUNT = "key:alice"


@pytest.fixture(autouse=True)
def wall(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the counters in memory take for the time of day; no minute ends unless a test says so."""
    clock = Clock()
    clock.now = 1_700_000_041.0  # a second after a minute has begun
    monkeypatch.setattr("limits.aio.storage.memory.time", SimpleNamespace(time=clock))
    return clock


def run(use: Callable[[Quotas], Awaitable[Any]], **options: Any) -> Any:
    """Use quotas in an event loop of their own, patient with a busy machine."""

    async def whole() -> Any:
        quotas = Quotas(timeout_seconds=10.0, **options)
        try:
            return await use(quotas)
        finally:
            await quotas.close()

    return asyncio.run(whole())


async def refused(quotas: Quotas, limit: int, rows: int) -> OverQuota:
    with pytest.raises(OverQuota) as found:
        await quotas.take(ACCOUNT, limit, rows)
    return found.value


async def _use_up(quotas: Quotas) -> None:
    first = await quotas.take(ACCOUNT, 10, 4)
    assert (first.limit, first.remaining) == (10, 6)
    assert (await quotas.take(ACCOUNT, 10, 6)).remaining == 0
    over = await refused(quotas, 10, 1)
    assert over.retry_after is not None
    assert 0 < over.retry_after <= 2 * WINDOW_SECONDS
    assert over.headers["RateLimit-Limit"] == "10"
    assert over.headers["RateLimit-Remaining"] == "0"
    assert 0 < int(over.headers["RateLimit-Reset"]) <= 2 * WINDOW_SECONDS
    assert over.headers["RateLimit-Policy"] == "10;w=60"
    assert (await quotas.take("key:bob", 10, 10)).remaining == 0, "another's quota is another's"


def test_a_quota_is_used_up_in_memory() -> None:
    run(_use_up)


def test_a_quota_is_used_up_in_redis(redis_server: RedisServer) -> None:
    run(_use_up, redis_url=redis_server.url)


def test_what_is_refused_is_not_counted(redis_server: RedisServer) -> None:
    async def use(quotas: Quotas) -> None:
        await quotas.take(ACCOUNT, 10, 8)
        for _ in range(5):
            await refused(quotas, 10, 3)
        assert (await quotas.take(ACCOUNT, 10, 2)).remaining == 0

    run(use)
    run(use, redis_url=redis_server.url)


@pytest.mark.parametrize("used", [[10], [4, 6], [7]])
def test_what_is_refused_fits_after_the_seconds_that_were_told(wall: Clock, used: list[int]) -> None:
    async def use(quotas: Quotas) -> None:
        for rows in used:
            await quotas.take(ACCOUNT, 10, rows)
        wall.now += 50.0
        with suppress(OverQuota):  # in the next minute something of this one still counts
            await quotas.take(ACCOUNT, 10, 3)
        over = await refused(quotas, 10, 5)
        assert over.retry_after is not None
        wall.now += over.retry_after - 0.5
        again = await refused(quotas, 10, 5)
        assert again.retry_after == pytest.approx(0.5)
        wall.now += 0.501
        await quotas.take(ACCOUNT, 10, 5)

    run(use)


def test_everything_is_free_again_when_it_was_said(wall: Clock) -> None:
    async def use(quotas: Quotas) -> None:
        standing = await quotas.take(ACCOUNT, 10, 10)
        wall.now += standing.reset_seconds
        await quotas.take(ACCOUNT, 10, 10)

    run(use)


def test_more_at_once_than_the_quota_never_fits() -> None:
    async def use(quotas: Quotas) -> None:
        over = await refused(quotas, 10, 11)
        assert over.retry_after is None
        assert (await quotas.take(ACCOUNT, 10, 10)).remaining == 0

    run(use)


def test_two_services_share_a_redis_and_not_their_memories(redis_server: RedisServer) -> None:
    async def take(quotas: Quotas) -> int:
        return int((await quotas.take(ACCOUNT, 10, 4)).remaining)

    async def over(quotas: Quotas) -> OverQuota:
        return await refused(quotas, 10, 4)

    assert [run(take, redis_url=redis_server.url) for _ in range(2)] == [6, 2]
    run(over, redis_url=redis_server.url)
    assert [run(take) for _ in range(2)] == [6, 6]
    with redis_server.client() as client:
        keys = list(client.scan_iter())
        assert keys
        assert all(key.lstrip(b"{").startswith(b"nonesuch:quota:1") for key in keys)
        assert all(client.pttl(key) > 0 for key in keys), "nothing stays for ever"


def test_a_redis_that_is_gone_costs_no_answer_and_is_used_again(redis_server: RedisServer) -> None:
    clock, events = Clock(), Counter[str]()

    async def use(quotas: Quotas) -> None:
        await quotas.take(ACCOUNT, 10, 4)
        assert quotas.shared
        redis_server.kill()
        here = await quotas.take(ACCOUNT, 10, 9)
        assert here.remaining == 1, "this process counts by itself"
        assert not quotas.shared
        assert events == {"quota_redis_failures": 1}
        await refused(quotas, 10, 2)
        assert events == {"quota_redis_failures": 1}, "nobody waits for a Redis that is known to be gone"
        redis_server.restart()
        clock.now += 60.0
        await quotas.take("key:bob", 10, 1)  # this request starts the trial, and does not wait for it
        assert quotas._trial is not None
        await quotas._trial
        assert quotas.shared
        assert (await quotas.take(ACCOUNT, 10, 9)).remaining == 1

    run(use, redis_url=redis_server.url, clock=clock, observe=lambda event, times: events.update({event: times}))
    with redis_server.client() as client:
        assert any(b"alice" in key for key in client.scan_iter()), "it was Redis that counted in the end"


def test_a_redis_that_hangs_costs_no_answer(redis_server: RedisServer) -> None:
    async def whole() -> None:
        quotas = Quotas(redis_server.url, timeout_seconds=0.2)
        redis_server.freeze()
        try:
            assert (await quotas.take(ACCOUNT, 10, 4)).remaining == 6
            assert not quotas.shared
            assert (await quotas.take(ACCOUNT, 10, 4)).remaining == 2
        finally:
            redis_server.thaw()
            await quotas.close()

    asyncio.run(whole())


def test_a_redis_that_takes_no_writes_costs_no_answer() -> None:
    full = RedisServer("--maxmemory", "100kb", "--maxmemory-policy", "noeviction")
    try:
        with full.client() as client, pytest.raises(ResponseError, match="maxmemory"):
            client.set("more", b"x")
        assert run(lambda quotas: quotas.take(ACCOUNT, 10, 4), redis_url=full.url).remaining == 6
    finally:
        full.close()


def test_a_url_that_cannot_be_read_is_told_at_once() -> None:
    with pytest.raises(ValueError):
        Quotas("http://example.org")


# -- the arithmetic ------------------------------------------------------------------------------------------------


@given(
    limit=st.integers(1, 10_000),
    share=st.floats(0, 1),
    previous=st.integers(0, 10_000),
    current=st.integers(0, 10_000),
    left=st.floats(0.001, WINDOW_SECONDS),
)
def test_after_the_wait_it_fits_and_a_second_before_it_does_not(
    limit: int, share: float, previous: int, current: int, left: float
) -> None:
    """Held against the counter's own definition, looked at from any moment after now."""
    rows = max(1, round(share * limit))
    window = Window(min(previous, limit), left if previous else 0.0, min(current, limit), left if current else 0.0)

    def used_after(seconds: float) -> int:
        if seconds < window.current_left or not window.current:
            fading = max(0.0, window.previous_left - seconds)
            return math.floor(window.previous * fading / WINDOW_SECONDS) + window.current
        fading = max(0.0, window.current_left + WINDOW_SECONDS - seconds)
        return math.floor(window.current * fading / WINDOW_SECONDS)

    wait = seconds_until(rows, limit, window)
    assert 0.0 <= wait <= 2 * WINDOW_SECONDS
    assert used_after(wait + 1e-6) + rows <= limit
    if wait > 0.01:
        assert used_after(wait - 0.005) + rows > limit


def test_headers_are_whole_numbers() -> None:
    assert Standing(100, 40, 12.3).headers() == {
        "RateLimit-Limit": "100",
        "RateLimit-Remaining": "40",
        "RateLimit-Reset": "13",
        "RateLimit-Policy": "100;w=60",
    }
