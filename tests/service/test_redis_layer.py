"""The cache with a real Redis behind it: dead, hung, lying and full ones cost speed, never an answer."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager

import pytest

from service.cache import CacheReport, RowCache
from service.cache_rows import TAG_BYTES
from service.redis_layer import PREFIX
from tests.service.clock import Clock
from tests.service.redis_server import RedisServer
from tests.service.squares import Asker, keys_of, settle

# Far above what Redis takes, so that only a frozen one runs into it, however busy the machine is.
PATIENT = 2.0


@asynccontextmanager
async def asking(url, **options):
    """An asker whose cache looks in Redis alone, unless told otherwise."""
    cache = RowCache(**{"memory_bytes": 0, "redis_url": url, "redis_timeout_seconds": PATIENT, **options})
    try:
        yield Asker(cache)
    finally:
        await cache.close()


async def until(condition, seconds=30.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def test_rows_outlive_the_process(redis_server):
    async def scenario():
        async with asking(redis_server.url, memory_bytes=2**20) as asker:
            assert await asker.ask([1, 2, 3]) == CacheReport(misses=3)
        async with asking(redis_server.url, memory_bytes=2**20) as asker:
            assert await asker.ask([4, 3, 2]) == CacheReport(hits_redis=2, misses=1)
            assert asker.computed == [[4]]
            assert await asker.ask([2, 3]) == CacheReport(hits_memory=2)  # what Redis had is in memory now

    asyncio.run(scenario())


def test_keys_have_a_prefix_and_a_time_to_live(redis_server):
    async def scenario():
        async with asking(redis_server.url, ttl_seconds=100.0) as asker:
            await asker.ask([1, 2])
            await asker.cache.drain()
            assert asker.cache.counters["redis_writes"] == 2

    asyncio.run(scenario())
    with redis_server.client() as client:
        stored = client.keys()
        assert set(stored) == {PREFIX + key for key in keys_of([1, 2])}
        assert PREFIX == b"nonesuch:1:"
        assert all(90_000 < client.pttl(key) <= 100_000 for key in stored)


def test_more_rows_than_one_command_takes(redis_server):
    async def scenario():
        rows = list(range(3500))
        async with asking(redis_server.url) as asker:
            await asker.ask(rows)
            await asker.cache.drain()
            assert await asker.ask([*rows, -1]) == CacheReport(hits_redis=3500, misses=1)
        with redis_server.client() as client:
            assert client.info("commandstats")["cmdstat_mget"]["calls"] == 4 + 4

    asyncio.run(scenario())


def test_followers_of_a_row_found_in_redis_do_not_wait_for_its_neighbours(redis_server):
    async def scenario():
        async with asking(redis_server.url) as asker:
            await asker.ask([1])
            await asker.cache.drain()
            asker.gate = asyncio.Event()
            leader = asyncio.create_task(asker.ask([1, 2]))
            follower = asyncio.create_task(asker.ask([1]))
            async with asyncio.timeout(30):
                assert await follower == CacheReport(joined=1)
            assert not leader.done()
            asker.gate.set()
            assert await leader == CacheReport(hits_redis=1, misses=1)

    asyncio.run(scenario())


def test_cheap_rows_are_not_looked_for_in_redis(redis_server):
    async def scenario():
        async with asking(redis_server.url, memory_bytes=2**20, clock=Clock()) as asker:
            assert await asker.ask([1], compute_seconds=1e-6) == CacheReport(misses=1)
            await asker.cache.drain()
            assert asker.cache.counters["redis_writes"] == 0
            assert await asker.ask([1], compute_seconds=1e-6) == CacheReport(hits_memory=1)
        with redis_server.client() as client:
            assert "cmdstat_mget" not in client.info("commandstats")

    asyncio.run(scenario())


# -- lying -------------------------------------------------------------------------------------------------------


def flip(value):
    return value[:-1] + bytes([value[-1] ^ 1])


SPOILERS = {
    "a bit of the value": lambda client, mine, other: client.set(mine, flip(client.get(mine))),
    "a bit of the tag": lambda client, mine, other: client.set(mine, flip(client.get(mine)[::-1])[::-1]),
    "another row's value": lambda client, mine, other: client.set(mine, client.get(other)),
    "cut short": lambda client, mine, other: client.set(mine, client.get(mine)[:-1]),
    "too long": lambda client, mine, other: client.append(mine, b"\0"),
    "the tag alone": lambda client, mine, other: client.set(mine, client.get(mine)[:TAG_BYTES]),
    "empty": lambda client, mine, other: client.set(mine, b""),
    "a pickle": lambda client, mine, other: client.set(mine, b"\x80\x04K\x01."),
}


@pytest.mark.parametrize("secret", [b"", b"a secret"], ids=["no secret", "secret"])
@pytest.mark.parametrize("spoiler", SPOILERS)
def test_a_spoilt_value_is_a_miss_and_counted(redis_server, spoiler, secret):
    async def scenario():
        async with asking(redis_server.url, secret=secret) as asker:
            await asker.ask([1, 2])
            await asker.cache.drain()
            mine, other = (PREFIX + key for key in keys_of([1, 2]))
            with redis_server.client() as client:
                SPOILERS[spoiler](client, mine, other)
            assert await asker.ask([1, 2]) == CacheReport(hits_redis=1, misses=1)
            assert asker.cache.counters["redis_wrong_tag"] == 1
            assert asker.computed[-1] == [1]
            await asker.cache.drain()
            assert await asker.ask([1, 2]) == CacheReport(hits_redis=2)  # and it is mended

    asyncio.run(scenario())


def test_a_key_of_another_type_is_a_miss(redis_server):
    async def scenario():
        async with asking(redis_server.url) as asker:
            with redis_server.client() as client:
                client.rpush(PREFIX + keys_of([1])[0], "a list")
            assert await asker.ask([1]) == CacheReport(misses=1)
            await asker.cache.drain()
            assert await asker.ask([1]) == CacheReport(hits_redis=1)

    asyncio.run(scenario())


@pytest.mark.parametrize(("writer", "reader"), [(b"", b"mine"), (b"theirs", b"mine"), (b"mine", b"")])
def test_only_those_who_share_the_secret_share_rows(redis_server, writer, reader):
    async def scenario():
        async with asking(redis_server.url, secret=writer) as asker:
            await asker.ask([1])
        async with asking(redis_server.url, secret=reader) as asker:
            assert await asker.ask([1]) == CacheReport(misses=1)
            assert asker.cache.counters["redis_wrong_tag"] == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n" * 9, b"*1\r\n:1\r\n" * 9, b"-ERR no\r\n" * 9]
)
def test_something_that_is_no_redis_is_a_miss(tmp_path_factory, answer):
    async def scenario(path):
        connections = []

        async def babble(reader, writer):
            connections.append(writer)
            writer.write(answer)
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_unix_server(babble, path)
        async with asking(f"unix://{path}", clock=Clock()) as asker:
            for row in range(3):
                assert await asker.ask([row]) == CacheReport(misses=1)
            assert asker.cache.counters["redis_failures"] == 1
            assert len(connections) == 1  # no second try: it would be a second wait
        server.close()
        await server.wait_closed()

    asyncio.run(scenario(str(tmp_path_factory.mktemp("r") / "s")))


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        (b"+OK\r\n", "redis_failures"),
        (b"*0\r\n", "redis_failures"),
        (b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", "redis_failures"),
        (b"*-1\r\n", "redis_failures"),
        (b"-LOADING not yet\r\n", "redis_failures"),
        (b"what?\r\n", "redis_failures"),
        (b"*1\r\n:7\r\n", "redis_wrong_tag"),
        (b"*1\r\n*0\r\n", "redis_wrong_tag"),
    ],
)
def test_a_redis_that_answers_nonsense_is_a_miss(tmp_path_factory, answer, counted):
    async def scenario(path):
        async def talk(reader, writer):
            while data := await reader.read(2**16):
                writer.write(answer if b"MGET" in data else b"+OK\r\n" * data.count(b"\r\nCLIENT\r\n"))
            writer.close()

        server = await asyncio.start_unix_server(talk, path)
        async with asking(f"unix://{path}", clock=Clock()) as asker:
            assert await asker.ask([1]) == CacheReport(misses=1)
            assert asker.cache.counters[counted] == 1
        server.close()
        await server.wait_closed()

    asyncio.run(scenario(str(tmp_path_factory.mktemp("r") / "s")))


def test_a_bad_url_is_an_error_at_once():
    with pytest.raises(ValueError, match="URL"):
        RowCache(redis_url="http://127.0.0.1")


# -- dead, hung, full --------------------------------------------------------------------------------------------


def test_without_a_redis_everything_is_computed(tmp_path):
    async def scenario():
        clock = Clock()
        async with asking(f"unix://{tmp_path}/nothing", clock=clock) as asker:
            for row in range(5):
                assert await asker.ask([row]) == CacheReport(misses=1)
            assert asker.cache.counters["redis_failures"] == 1
            assert asker.cache.redis_state == "open"
            # What the first one found out too late is dropped; the others knew, and queued nothing.
            assert asker.cache.counters["redis_writes_dropped"] == 1

    asyncio.run(scenario())


def test_a_frozen_redis_costs_one_time_out_and_is_found_again(redis_server):
    async def scenario():
        clock = Clock()
        async with asking(redis_server.url, clock=clock, redis_timeout_seconds=0.5) as asker:
            await asker.ask([1])
            await asker.cache.drain()
            assert await asker.ask([1]) == CacheReport(hits_redis=1)
            redis_server.freeze()
            for row in range(50):
                assert await asker.ask([row]) == CacheReport(misses=1)
            assert asker.cache.counters["redis_failures"] == 1
            assert asker.cache.redis_state == "open"

            # A trial while it is still frozen costs no request anything, and fails.
            clock.now += 100.0
            assert await asker.ask([1]) == CacheReport(misses=1)
            assert asker.cache.redis_state == "half-open"
            assert await asker.ask([1]) == CacheReport(misses=1)
            await asker.cache.drain()
            assert asker.cache.redis_state == "open"

            redis_server.thaw()
            assert await asker.ask([1]) == CacheReport(misses=1)  # the pause is not over
            clock.now += 100.0
            assert await asker.ask([1]) == CacheReport(misses=1)  # this one starts the trial
            await asker.cache.drain()
            assert asker.cache.redis_state == "closed"
            assert await asker.ask([1]) == CacheReport(hits_redis=1)
            assert asker.cache.counters["redis_failures"] == 1

    asyncio.run(scenario())


def test_requests_at_the_moment_of_freezing_wait_together_not_in_turn(redis_server):
    async def scenario():
        async with asking(redis_server.url, clock=Clock(), redis_timeout_seconds=0.5) as asker:
            await asker.ask([0])
            redis_server.freeze()
            loop = asyncio.get_running_loop()
            started = loop.time()
            await asyncio.gather(*(asker.ask([row]) for row in range(60)))
            # Not a speed: sixty waits one after another, or in turns of eight, would take far longer than this.
            assert loop.time() - started < 60 / 8 * 0.5
            assert asker.cache.redis_state == "open"
            redis_server.thaw()

    asyncio.run(scenario())


def test_writes_to_a_frozen_redis_wait_in_a_bounded_queue(redis_server):
    async def scenario():
        async with asking(redis_server.url, redis_queue_bytes=3 * (10 + 200)) as asker:
            await asker.ask([0])
            await asker.cache.drain()
            assert asker.cache.counters["redis_writes_dropped"] == 0
            await asker.ask([1, 2, 3, 4])
            await asker.cache.drain()
            assert asker.cache.counters["redis_writes_dropped"] == 4  # more than fits even into an empty queue
            assert await asker.ask([0]) == CacheReport(hits_redis=1)

    asyncio.run(scenario())


def test_a_full_redis_still_answers_reads():
    async def scenario(server):
        async with asking(server.url) as asker:
            await asker.ask([1])
            await asker.cache.drain()
            with server.client() as client:
                client.config_set("maxmemory", "1")
            assert await asker.ask([1, 2]) == CacheReport(hits_redis=1, misses=1)
            await asker.cache.drain()
            assert asker.cache.counters["redis_writes_refused"] == 1
            assert asker.cache.redis_state == "closed"
            assert await asker.ask([1, 2]) == CacheReport(hits_redis=1, misses=1)

    server = RedisServer("--maxmemory-policy", "noeviction")
    try:
        asyncio.run(scenario(server))
    finally:
        server.close()


def test_fetches_cancelled_while_redis_is_asked_mix_nothing_up(redis_server):
    async def scenario():
        rng = random.Random(1)
        async with asking(redis_server.url) as asker:
            await asker.ask(range(40))
            await asker.cache.drain()
            for _ in range(150):
                task = asyncio.create_task(asker.ask(rng.sample(range(40), 5)))
                for _ in range(rng.randrange(12)):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() or task.exception() is None
            await asker.ask(range(40))
            assert asker.cache.counters["redis_wrong_tag"] == 0
            assert asker.cache._flights == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("memory_bytes", [0, 20 * 330], ids=["Redis alone", "a small memory too"])
def test_killed_frozen_and_back_under_load(redis_server, memory_bytes):
    async def scenario():
        async with asking(redis_server.url, memory_bytes=memory_bytes, redis_timeout_seconds=0.2) as asker:
            rng = random.Random(2)
            asked = 0
            stop = False

            async def client():
                nonlocal asked
                while not stop:
                    await asker.ask(rng.choices(range(100), k=rng.randrange(1, 8)))  # checks every row
                    asked += 1

            async def some(requests=60):
                goal = asked + requests
                await until(lambda: asked >= goal)

            clients = [asyncio.create_task(client()) for _ in range(6)]
            counters = asker.cache.counters
            try:
                await until(lambda: counters["hits_redis"] > 0)
                for disturb, repair in (
                    (redis_server.freeze, redis_server.thaw),
                    (redis_server.kill, redis_server.restart),
                    (redis_server.freeze, redis_server.restart),
                ):
                    await some()
                    await asyncio.to_thread(disturb)
                    await until(lambda: asker.cache.redis_state != "closed")
                    await some()
                    await asyncio.to_thread(repair)
                    await until(lambda: asker.cache.redis_state == "closed")
                    hits = counters["hits_redis"]
                    await until(lambda hits=hits: counters["hits_redis"] > hits)
            finally:
                stop = True
                await settle()
                await asyncio.gather(*clients)  # raises what a client met: a failed fetch or a wrong row
            assert counters["redis_failures"] >= 3
            assert counters["redis_wrong_tag"] == 0

    asyncio.run(scenario())


def test_closing_with_a_frozen_redis_ends(redis_server):
    async def scenario():
        async with asking(redis_server.url, redis_timeout_seconds=600.0) as asker:
            asker.gate = asyncio.Event()
            request = asyncio.create_task(asker.ask([1]))
            await until(lambda: asker.computed)
            redis_server.freeze()
            asker.gate.set()
            assert await request == CacheReport(misses=1)  # its write now hangs in the background
            async with asyncio.timeout(60):
                await asker.cache.close()

    asyncio.run(scenario())
