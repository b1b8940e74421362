"""A lone question beside long samples, and what it gains that samples which overlap share their steps.

A caller asks for one log-probability at a time, waits a few milliseconds, asks again: first alone, then while 16 others
draw digits, 784 steps each, as fast as they get them. Then 64 digits are asked for one after the other, and another 64
at random times within the time that one of them takes alone.

    make bench BENCH=mixed_load

The last line: the lone caller's latency in both cases, and digits a second at random times over those one by one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Iterator

import numpy as np
import uvloop

from benchmarks.tools.callers import Caller, Pool, Reply, closed_loop, milliseconds, post
from benchmarks.tools.processes import Server, shipped

DIGITS = 64
REFUSED = 503


def digits(n: int, first: int) -> Iterator[bytes]:
    """Requests for other samples each."""
    for seed in itertools.count(first):
        yield post("/sample", {"model": "digits", "n": n, "seed": seed})


async def lone_caller(server: Server, seconds: float) -> list[Reply]:
    """One question every 5 ms and its latency."""
    requests = (
        post("/log_prob", {"model": "moons-gaussian", "rows": [[0.5, i % 1000 / 1000]]}) for i in itertools.count()
    )
    return await closed_loop(server.port, requests, connections=1, seconds=seconds, pause=0.005)


async def one_by_one(server: Server, requests: list[bytes]) -> tuple[float, float]:
    """Seconds for all, and the median of one."""
    caller = Caller(server.port)
    started = time.perf_counter()
    replies = [await caller.ask(request) for request in requests]
    caller.close()
    assert all(reply.good for reply in replies)
    return time.perf_counter() - started, milliseconds(replies, 50) / 1e3


async def at_random(server: Server, requests: list[bytes], span: float) -> tuple[float, list[Reply]]:
    """Seconds from the first arrival to the last reply, and the replies; arrivals are uniform over ``span`` seconds."""
    due = np.sort(np.random.default_rng(0).uniform(0.0, span, len(requests)))
    with Pool(server.port) as pool:

        async def one(request: bytes, seconds: float) -> Reply:
            await asyncio.sleep(seconds)
            return await pool.ask(request)

        replies = await asyncio.gather(*(one(*pair) for pair in zip(requests, due, strict=True)))
    ended = max(reply.asked + reply.seconds for reply in replies)
    return ended - min(reply.asked for reply in replies), replies


async def measure(server: Server, options: argparse.Namespace) -> None:
    await lone_caller(server, 1.0)
    alone = await lone_caller(server, options.seconds)
    stop = asyncio.Event()
    load = asyncio.create_task(
        closed_loop(server.port, digits(options.n, 0), connections=16, seconds=600.0, until=stop.is_set)
    )
    await asyncio.sleep(2.0)
    beside = await lone_caller(server, options.seconds)
    stop.set()
    drawn = await load
    failed = sum(not reply.good for reply in [*alone, *beside, *drawn])
    first, second = ([next(requests) for _ in range(DIGITS)] for requests in (digits(1, 10**6), digits(1, 10**7)))
    serial, each = await one_by_one(server, first)
    print(f"one digit alone {1e3 * each:.0f} ms; {DIGITS} one by one {serial:.2f} s", flush=True)
    together, replies = await at_random(server, second, each)
    answered, refused = sum(reply.good for reply in replies), sum(reply.status == REFUSED for reply in replies)
    failed += DIGITS - answered - refused
    p = {name: [milliseconds(part, q) for q in (50, 99)] for name, part in (("a", alone), ("b", beside))}
    print(
        f"mixed load: lone /log_prob p50 {p['a'][0]:.2f} ms, p99 {p['a'][1]:.2f} ms alone; p50 {p['b'][0]:.2f} ms, p99 "
        f"{p['b'][1]:.2f} ms beside 784-step samples at saturation (p99 x{p['b'][1] / p['a'][1]:.1f}); {DIGITS} digits "
        f"one by one {DIGITS / serial:.1f}/s, at random times {answered / together:.1f}/s (x"
        f"{serial / together * answered / DIGITS:.1f}), {refused} refused; {failed} failed"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of the lone caller's two measurements")
    parser.add_argument("--n", type=int, default=4, help="digits a request of the others")
    parser.add_argument("--version", type=int, default=1, help="of digits: 1 is a MADE, 2 a Gated PixelCNN")
    options = parser.parse_args()
    with shipped(f"digits/{options.version}", "moons-gaussian") as server:
        uvloop.run(measure(server, options))


if __name__ == "__main__":
    main()
