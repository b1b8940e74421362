"""The cache of rows without Redis: what is computed, what is not, and who waits for whom."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.cache import CacheReport, RowCache
from service.cache_rows import row_keys
from service.memory_layer import ENTRY_OVERHEAD
from tests.service.clock import Clock
from tests.service.squares import LAYOUT, Asker, keys_of, settle

ROW_BYTES = 10 + ENTRY_OVERHEAD


def test_only_what_is_missing_is_computed():
    async def scenario():
        asker = Asker(RowCache())
        assert await asker.ask([1, 2, 3]) == CacheReport(misses=3)
        assert await asker.ask([3, 2, 1]) == CacheReport(hits_memory=3)
        assert await asker.ask([2, 5, 3, 4]) == CacheReport(hits_memory=2, misses=2)
        assert asker.computed == [[1, 2, 3], [5, 4]]
        assert dict(asker.cache.counters) == {"hits_memory": 5, "misses": 5}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("report", "outcome"),
    [
        (CacheReport(hits_memory=2, hits_redis=1), "hit"),
        (CacheReport(joined=2), "hit"),
        (CacheReport(misses=2), "miss"),
        (CacheReport(misses=2, hits_redis=1), "partial"),
        (CacheReport(misses=2, joined=1), "partial"),
    ],
)
def test_the_outcome_in_a_word(report, outcome):
    assert report.outcome == outcome


def test_the_same_row_twice_is_computed_once():
    async def scenario():
        asker = Asker(RowCache(memory_bytes=0))
        assert await asker.ask([7, 7, 8, 7]) == CacheReport(misses=2, joined=2)
        assert asker.computed == [[7, 8]]

    asyncio.run(scenario())


def test_no_rows_are_no_work():
    async def scenario():
        asker = Asker(RowCache())
        assert await asker.ask([]) == CacheReport()
        assert asker.computed == []

    asyncio.run(scenario())


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 12), max_size=6), min_size=1, max_size=8),
    st.sampled_from([0, 3 * ROW_BYTES, 2**20]),
)
def test_any_mixture_of_concurrent_fetches_gets_the_right_rows(requests, memory_bytes):
    async def scenario():
        asker = Asker(RowCache(memory_bytes=memory_bytes))
        for _ in range(2):
            await asyncio.gather(*(asker.ask(rows) for rows in requests))
        assert asker.cache.memory_used <= memory_bytes

    asyncio.run(scenario())


def test_more_rows_than_a_slice():
    async def scenario():
        asker = Asker(RowCache())
        rows = list(range(2500))
        await asyncio.gather(asker.ask(rows), asker.ask(rows[::-1]))
        assert sorted(row for call in asker.computed for row in call) == rows
        assert await asker.ask(rows) == CacheReport(hits_memory=2500)

    asyncio.run(scenario())


def test_keys_in_slices_are_the_keys_of_the_whole():
    async def scenario():
        cache = RowCache()
        question = {"program_digest": "0" * 64, "profile": "test", "operation": "square", "parameters": {"steps": 3}}
        x, t = np.arange(5002.0).reshape(2501, 2), np.ones(2501)
        assert await cache.keys(**question, inputs={"x": x, "t": t}) == row_keys(**question, inputs={"t": t, "x": x})
        assert await cache.keys(**question, inputs={"x": x[:0]}) == []
        for inputs in ({}, {"x": x, "t": t[:2000]}, {"x": x, "t": t[:-1]}):
            with pytest.raises(ValueError, match="common length"):
                await cache.keys(**question, inputs=inputs)

    asyncio.run(scenario())


def test_the_oldest_rows_leave_and_are_counted():
    async def scenario():
        asker = Asker(RowCache(memory_bytes=3 * ROW_BYTES))
        await asker.ask([1, 2, 3])
        await asker.ask([1])
        await asker.ask([4])  # 2 leaves, being used longest ago
        assert asker.cache.memory_rows == 3
        assert asker.cache.counters["evictions"] == 1
        assert await asker.ask([1, 3, 4]) == CacheReport(hits_memory=3)
        assert await asker.ask([2]) == CacheReport(misses=1)

    asyncio.run(scenario())


def test_rows_are_forgotten_in_time():
    async def scenario():
        clock = Clock()
        asker = Asker(RowCache(ttl_seconds=10.0, clock=clock))
        await asker.ask([1])
        clock.now += 9.9
        assert (await asker.ask([1])).outcome == "hit"
        clock.now += 0.1
        assert (await asker.ask([1])).outcome == "miss"

    asyncio.run(scenario())


def test_outputs_that_do_not_fit_are_refused_and_not_kept():
    async def scenario():
        cache = RowCache()

        async def wrong(positions):
            return {"square": np.zeros(len(positions) + 1), "even": np.zeros((len(positions), 2), np.uint8)}

        with pytest.raises(ValueError, match="'square'"):
            await cache.fetch(keys_of([1, 2]), LAYOUT, wrong)
        assert await Asker(cache).ask([1, 2]) == CacheReport(misses=2)

    asyncio.run(scenario())


def test_what_was_counted_is_told():
    async def scenario():
        told = []
        asker = Asker(RowCache(observe=lambda name, times: told.append((name, times))))
        await asker.ask([1, 2])
        await asker.ask([1, 2, 3])
        assert sorted(told) == [("hits_memory", 2), ("misses", 1), ("misses", 2)]

    asyncio.run(scenario())


# -- single flight -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_bytes", [0, 2**20])
def test_concurrent_twins_are_computed_once(memory_bytes):
    async def scenario():
        asker = Asker(RowCache(memory_bytes=memory_bytes))
        asker.gate = asyncio.Event()
        tasks = [asyncio.create_task(asker.ask([1, 2, 3])) for _ in range(20)]
        await settle()
        assert asker.computed == [[1, 2, 3]]
        asker.gate.set()
        reports = await asyncio.gather(*tasks)
        assert reports.count(CacheReport(misses=3)) == 1
        assert reports.count(CacheReport(joined=3)) == 19
        assert asker.computed == [[1, 2, 3]]

    asyncio.run(scenario())


def test_fetches_that_overlap_crosswise_share_and_do_not_lock():
    async def scenario():
        asker = Asker(RowCache(memory_bytes=0))
        asker.gate = asyncio.Event()
        tasks = [asyncio.create_task(asker.ask(rows)) for rows in ([1, 2], [2, 3], [3, 1, 4], [4, 2, 1])]
        await settle()
        assert asker.computed == [[1, 2], [3], [4]]
        asker.gate.set()
        async with asyncio.timeout(30):
            reports = await asyncio.gather(*tasks)
        assert [report.misses for report in reports] == [2, 1, 1, 0]

    asyncio.run(scenario())


def test_when_the_leader_is_cancelled_one_follower_takes_over():
    async def scenario():
        asker = Asker(RowCache())
        asker.gate = asyncio.Event()
        leader, *followers = [asyncio.create_task(asker.ask([1, 2])) for _ in range(5)]
        await settle()
        leader.cancel()
        await settle()
        assert asker.computed == [[1, 2], [1, 2]]  # the leader's, then one follower's
        asker.gate.set()
        async with asyncio.timeout(30):
            reports = await asyncio.gather(*followers)
        assert leader.cancelled()
        assert sorted(report.misses for report in reports) == [0, 0, 0, 2]
        assert asker.computed == [[1, 2], [1, 2]]

    asyncio.run(scenario())


def test_a_follower_may_leave_without_disturbing_the_others():
    async def scenario():
        asker = Asker(RowCache())
        asker.gate = asyncio.Event()
        tasks = [asyncio.create_task(asker.ask([1, 2])) for _ in range(3)]
        await settle()
        tasks[1].cancel()
        await settle()
        asker.gate.set()
        reports = await asyncio.gather(tasks[0], tasks[2])
        assert [report.misses for report in reports] == [2, 0]
        assert asker.computed == [[1, 2]]

    asyncio.run(scenario())


def test_when_the_leader_fails_a_follower_computes():
    async def scenario():
        asker = Asker(RowCache())
        asker.gate = asyncio.Event()
        asker.error = RuntimeError("the leader's own")
        leader = asyncio.create_task(asker.ask([1, 2]))
        await settle()
        asker.error = None
        followers = [asyncio.create_task(asker.ask([1, 2])) for _ in range(4)]
        await settle()
        asker.gate.set()
        async with asyncio.timeout(30):
            with pytest.raises(RuntimeError, match="the leader's own"):
                await leader
            reports = await asyncio.gather(*followers)
        assert sorted(report.misses for report in reports) == [0, 0, 0, 2]

    asyncio.run(scenario())


def test_when_all_fail_each_hears_of_its_own_failure_and_nothing_is_left_behind():
    async def scenario():
        asker = Asker(RowCache())
        asker.error = RuntimeError("no luck")
        async with asyncio.timeout(30):
            results = await asyncio.gather(*(asker.ask([1, 2]) for _ in range(6)), return_exceptions=True)
        assert [str(result) for result in results] == ["no luck"] * 6
        # Nobody waits for one failure after another: after two, all try for themselves.
        assert len(asker.computed) == 6
        assert asker.most_at_once == 4
        asker.error = None
        assert await asker.ask([1, 2]) == CacheReport(misses=2)

    asyncio.run(scenario())


def test_rows_that_two_leaders_failed_to_deliver_are_computed_in_their_own_order():
    async def scenario():
        asker = Asker(RowCache())
        asker.gate = asyncio.Event()
        asker.error = RuntimeError("both leaders")
        leaders = [asyncio.create_task(asker.ask(rows)) for rows in ([2, 4], [1, 3])]
        await settle()
        asker.error = None
        follower = asyncio.create_task(asker.ask([1, 2, 3, 4]))
        await settle()
        asker.gate.set()
        assert await follower == CacheReport(misses=4)
        assert asker.computed[-1] == [1, 2, 3, 4]
        assert all(await asyncio.gather(*leaders, return_exceptions=True))

    asyncio.run(scenario())


def test_a_deadline_around_a_fetch_ends_its_waiting_only():
    async def scenario():
        asker = Asker(RowCache())
        asker.gate = asyncio.Event()
        leader = asyncio.create_task(asker.ask([1]))
        await settle()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asker.ask([1])
        asker.gate.set()
        assert await leader == CacheReport(misses=1)

    asyncio.run(scenario())


# -- is it worth asking? -----------------------------------------------------------------------------------------


def test_without_layers_looking_never_pays():
    cache = RowCache(memory_bytes=0)
    assert cache.lookup_seconds == math.inf
    assert cache.redis_state == "absent"
    assert not cache.worth_asking(1, math.inf)


def test_looking_pays_when_computing_costs_more_than_two_look_ups():
    cache = RowCache(clock=Clock())
    assert 0.0 < cache.lookup_seconds < math.inf
    price = cache.predicted_lookup_seconds(100)
    assert price > cache.lookup_seconds
    assert not cache.worth_asking(100, 2.0 * price)
    assert cache.worth_asking(100, 2.01 * price)


def test_a_layer_that_seemed_too_slow_is_looked_at_again():
    async def scenario():
        clock = Clock()
        cache = RowCache(clock=clock)
        assert not cache.worth_asking(1, 0.0)
        clock.now += 5.0
        assert cache.worth_asking(1, 0.0)
        await Asker(cache).ask([1])
        assert not cache.worth_asking(1, 0.0)

    asyncio.run(scenario())


def test_the_price_follows_what_look_ups_take(monkeypatch):
    async def scenario():
        cache = RowCache()
        before = cache.lookup_seconds
        clock = Clock()

        def slow():
            clock.now += 0.25  # each look at the clock comes a quarter of a second after the last
            return clock.now

        monkeypatch.setattr("service.cache.perf_counter", slow)
        asker = Asker(cache)
        for row in range(60):
            await asker.ask([row])
        assert cache.lookup_seconds > 1000.0 * before
        assert cache.lookup_seconds < 1.0

    asyncio.run(scenario())
