"""A Redis Stream, a real Redis, and scorers that are killed: every entry is answered once."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from scoring.scorer import Scorer, Scores
from scoring.stream import StreamScorer, connect
from tests.service.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-W", "error", "-c", "from commands.main import main; main()", "score"]
SECONDS = 60.0


def rows(n: int) -> list[list[Any]]:
    rng = np.random.default_rng(6)
    return [
        [float(rng.normal()), float(rng.gamma(2.0)), int(rng.integers(2)), None, int(rng.integers(40)), "blue"]
        for _ in range(n)
    ]


def put(server: RedisServer, given: Sequence[Any], start: int = 1) -> None:
    with server.client() as client, client.pipeline(transaction=False) as pipeline:
        for i, row in enumerate(given, start):
            pipeline.xadd("rows", {"row": json.dumps(row)}, id=f"{i}-0")
        pipeline.execute()


def answered(server: RedisServer) -> list[dict[str, str]]:
    with server.client() as client:
        found = client.xrange("scores")
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in found]


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < limit, "it took too long"
        time.sleep(0.005)


def count(server: RedisServer) -> int:
    with contextlib.suppress(redis.RedisError), server.client() as client:
        return int(client.xlen("scores"))
    return -1


def consumer_of(scorer: Scorer, server: RedisServer, name: str = "a", **options: Any) -> StreamScorer:
    return StreamScorer(
        scorer, connect(server.url), source="rows", target="scores", group="g", consumer=name, **options
    )


@contextlib.contextmanager
def consuming(scorer: Scorer, server: RedisServer, name: str = "a", **options: Any) -> Iterator[StreamScorer]:
    """A consumer in a thread of this process, which ends without an error."""
    failures: list[BaseException] = []
    consumer = consumer_of(scorer, server, name, **options)

    def run() -> None:
        try:
            consumer.run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield consumer
    finally:
        consumer.stop()
        thread.join(SECONDS)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


class Slow(Scorer):
    """Takes its time."""

    def try_score(self, x: Any, labels: Sequence[str] | None = None) -> Scores:
        time.sleep(0.15)
        return super().try_score(x, labels)


def test_entries_are_answered_and_acknowledged(table: Scorer, redis_server: RedisServer) -> None:
    given = rows(700)
    put(redis_server, [*given[:500], "no row", *given[500:]])
    with consuming(table, redis_server, batch=64) as consumer:
        until(lambda: count(redis_server) == 701)
    found = answered(redis_server)
    assert [answer["id"] for answer in found] == [f"{i}-0" for i in range(1, 702)]
    assert "error" in found.pop(500)
    scores = table.score(table.support.rows_to_array(given))
    assert [float(answer["score"]) for answer in found] == scores.score.tolist()
    assert [float(answer["p_value"]) for answer in found] == scores.p_value.tolist()
    assert (consumer.report.rows, consumer.report.alarms, consumer.report.unscored) == (701, scores.alarms, 1)
    with redis_server.client() as client:
        assert client.xpending("rows", "g")["pending"] == 0
        assert client.xinfo_consumers("rows", "g") == []  # it took its leave


def test_what_a_dead_consumer_left_is_claimed_in_time(table: Scorer, redis_server: RedisServer) -> None:
    put(redis_server, rows(10))
    with redis_server.client() as client:
        client.xgroup_create("rows", "g", id="0")
        client.xreadgroup("g", "the dead", {"rows": ">"}, count=7)
    with consuming(table, redis_server, idle_seconds=3600.0):
        until(lambda: count(redis_server) == 3)
    assert {answer["id"] for answer in answered(redis_server)} == {"8-0", "9-0", "10-0"}
    with consuming(table, redis_server, idle_seconds=0.01, batch=2):
        until(lambda: count(redis_server) == 10)
    assert Counter(answer["id"] for answer in answered(redis_server)) == Counter(f"{i}-0" for i in range(1, 11))


def test_who_comes_back_goes_on_where_it_stopped(table: Scorer, redis_server: RedisServer) -> None:
    put(redis_server, rows(10))
    with redis_server.client() as client:
        client.xgroup_create("rows", "g", id="0")
        client.xreadgroup("g", "a", {"rows": ">"}, count=7)
        client.xdel("rows", "3-0")  # and one of them is gone
    with consuming(table, redis_server, idle_seconds=3600.0, batch=2):
        until(lambda: count(redis_server) == 10)
    found = {answer["id"]: answer for answer in answered(redis_server)}
    assert len(found) == 10
    assert [id_ for id_, answer in found.items() if "error" in answer] == ["3-0"]


def test_two_that_scored_an_entry_write_one_answer(table: Scorer, redis_server: RedisServer) -> None:
    put(redis_server, rows(20))
    slow = Slow(table.model)
    # Each takes from the others whatever they have in hand.
    with contextlib.ExitStack() as stack:
        for name in "abc":
            stack.enter_context(consuming(slow, redis_server, name, idle_seconds=0.02, batch=5))
        until(lambda: count(redis_server) >= 20)
        time.sleep(0.5)  # for whoever still has one in hand
    assert Counter(answer["id"] for answer in answered(redis_server)) == Counter(f"{i}-0" for i in range(1, 21))


def test_a_redis_that_lost_everything_is_started_with_anew(table: Scorer, redis_server: RedisServer) -> None:
    said: list[str] = []
    put(redis_server, rows(5))
    with consuming(table, redis_server, say=said.append):
        until(lambda: count(redis_server) == 5)
        redis_server.restart()
        put(redis_server, rows(8))
        until(lambda: count(redis_server) == 8)
        with redis_server.client() as client:
            client.xgroup_destroy("rows", "g")  # all that is there is read again
        until(lambda: count(redis_server) == 16)
    assert len({(answer["id"], answer["score"]) for answer in answered(redis_server)}) == 8
    assert "Redis is lost" in said[0]
    assert said[1] == "Redis is back"


def test_a_redis_that_is_full_is_waited_for(table: Scorer, redis_server: RedisServer) -> None:
    put(redis_server, rows(50))
    said: list[str] = []
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        client.config_set("maxmemory-policy", "noeviction")
    with consuming(table, redis_server, say=said.append):
        until(lambda: bool(said))
        with redis_server.client() as client:
            client.config_set("maxmemory", 0)
        until(lambda: count(redis_server) == 50)
    assert "Redis is lost" in said[0]


def test_what_no_waiting_helps_against_is_raised(table: Scorer, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.set("scores", "no stream")
    put(redis_server, rows(3))
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        consumer_of(table, redis_server).run()
    with redis_server.client() as client:
        assert client.xpending("rows", "g")["pending"] == 3  # not lost
        client.config_set("requirepass", "secret")
    with pytest.raises(redis.AuthenticationError):
        consumer_of(table, redis_server).run()
    with pytest.raises(ValueError, match="scheme"):
        connect("http://localhost")


def scorer_process(root: Path, server: RedisServer, *flags: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NONESUCH_")}
    where = ["--stream", server.url, "--from", "rows", "--to", "scores", "--group", "g", "--bundles", str(root)]
    return subprocess.Popen(
        [*COMMAND, "table", *where, *flags],
        cwd=ROOT,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_nothing_is_lost_or_answered_twice_whoever_is_killed(table: Scorer, root: Path) -> None:
    n, chance, names = 3000, random.Random(6), itertools.count()
    given = rows(n)
    server = RedisServer("--appendonly", "yes")
    flags = ("--batch", "4", "--idle-seconds", "0.5")
    scorers: dict[str, subprocess.Popen[str]] = {}

    def start() -> None:
        name = f"scorer-{next(names)}"
        scorers[name] = scorer_process(root, server, *flags, "--consumer", name)

    def here() -> bool:
        with server.client() as client:
            known = {consumer["name"].decode() for consumer in client.xinfo_consumers("rows", "g")}
        return known >= scorers.keys()

    try:
        put(server, given[: 3 * n // 4])
        start()
        start()
        for kill in range(4):
            reached = (1 + 2 * kill) * n // 11 + chance.randrange(n // 11)
            until(lambda reached=reached: count(server) >= reached)
            if kill == 2:
                server.restart()  # SIGKILL, and back with what is in its append-only file
                put(server, given[3 * n // 4 :], start=3 * n // 4 + 1)
            else:
                killed = scorers.pop(min(scorers))
                killed.kill()
                killed.communicate()
                start()
        until(lambda: count(server) >= n and here())
        for process in scorers.values():
            process.send_signal(signal.SIGTERM)
        for process in scorers.values():
            out, err = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, err
            assert "rows" in out
            assert "Traceback" not in err
        found = answered(server)
        with server.client() as client:
            assert client.xpending("rows", "g")["pending"] == 0
    finally:
        for process in scorers.values():
            if process.poll() is None:
                process.kill()
                process.communicate()
        server.close()
    assert Counter(answer["id"] for answer in found) == Counter(f"{i}-0" for i in range(1, n + 1))
    scores = table.score(table.support.rows_to_array(given))
    assert {answer["id"]: float(answer["score"]) for answer in found} == {
        f"{i}-0": score for i, score in enumerate(scores.score.tolist(), 1)
    }
