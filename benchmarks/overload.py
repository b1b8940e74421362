"""Ten times as many requests as the service can answer: what becomes of those it takes, of the others, and of itself?

First the capacity is measured: answers a second to 16 callers who ask for digits, each a chain of 784 steps. Then
requests arrive at Poisson times, ten times as many, each with a deadline, and wait for nobody (an open loop). Then the
16 callers ask again, second by second, and once more as long as in the beginning. Full speed is 90 % of what they get
before or at the end, whichever is less, for a machine's own speed may change within a minute; both are told.

    make bench BENCH=overload ARGS="--seconds 20"

The last line: of the requests that were taken (not answered with 503), the share that had its answer in time; the
99th percentile of the time until a refusal; peak and end memory as multiples of that before; seconds from the last
arrival until full speed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
from collections import Counter
from collections.abc import Iterator

import uvloop

from benchmarks.tools.callers import Reply, closed_loop, milliseconds, open_loop, post
from benchmarks.tools.processes import Server, shipped

FULL_SPEED = 0.9


def questions(model: str, n: int, deadline_ms: int, first: int) -> Iterator[bytes]:
    """Requests for other samples each."""
    for seed in itertools.count(first):
        yield post("/sample", {"model": model, "n": n, "seed": seed}, X_Timeout_Ms=str(deadline_ms))


async def rate_of(server: Server, requests: Iterator[bytes], seconds: float) -> float:
    """Good answers a second to 16 callers, by the time that the answers took."""
    replies = await closed_loop(server.port, requests, connections=16, seconds=seconds)
    good = [reply for reply in replies if reply.good]
    if not good:
        return 0.0
    started = min(reply.asked for reply in replies)
    return len(good) / (max(reply.asked + reply.seconds for reply in good) - started)


async def measure(server: Server, options: argparse.Namespace) -> None:
    model, n = options.model.partition("/")[0], options.n
    calm = questions(model, n, 60_000, first=0)
    await rate_of(server, calm, 1.0)
    capacity = await rate_of(server, calm, options.calm)
    peak_before, before = server.memory()  # warmed up, so that what grows from here on grows by the flood
    print(f"capacity: {capacity:.1f} requests/s of {n} {model}; {before:.0f} MiB", flush=True)
    if not capacity:
        sys.exit("no request was answered")
    flood = questions(model, n, options.deadline, first=10**6)
    replies = await open_loop(server.port, flood, rate=options.times * capacity, seconds=options.seconds)
    last = max(reply.asked for reply in replies)
    speeds: list[tuple[float, float]] = []  # (when its window began, as seconds after the last arrival; requests/s)
    loop = asyncio.get_running_loop()
    began = loop.time()
    ended = max(reply.asked + reply.seconds for reply in replies)
    while loop.time() - began < options.patience:
        since = ended - last + loop.time() - began
        speeds.append((since, await rate_of(server, calm, options.window)))
    peak, after = server.memory()
    capacity_after = await rate_of(server, calm, options.calm)
    print(f"capacity afterwards: {capacity_after:.1f} requests/s", flush=True)
    tell(replies, options.deadline)
    enough = FULL_SPEED * min(capacity, capacity_after)
    recovered = next((since for since, speed in speeds if speed >= enough), None)
    full = (
        f"NOT at full speed {options.patience:g} s after"
        if recovered is None
        else f"full speed {recovered:.1f} s after"
    )
    refused = [reply for reply in replies if reply.status == 503]
    # A question that crossed the closing of its idle connection was never there; the lines above count it.
    taken = [reply for reply in replies if reply.fate in ("answered", "cut off") and reply.status != 503]
    in_time = [reply for reply in taken if reply.good and 1e3 * reply.seconds <= options.deadline]
    share = f"{100 * len(in_time) / len(taken):.2f} %" if taken else "none"
    refusals = f"{len(refused)} refused, p99 {milliseconds(refused, 99):.0f} ms" if refused else "none refused"
    print(
        f"overload: {options.times:g} x {capacity:.1f} requests/s (afterwards {capacity_after:.1f}) for "
        f"{options.seconds:g} s: {len(taken)} taken, {share} of them in time; {refusals}; "
        f"memory x{peak / peak_before:.2f} at its peak, x{after / before:.2f} after; {full}"
    )


def tell(replies: list[Reply], deadline: int) -> None:
    """What became of the requests, by status."""
    fates = Counter(str(reply.status) if reply.fate == "answered" else reply.fate for reply in replies)
    for fate, count in sorted(fates.items()):
        some = [r for r in replies if (str(r.status) if r.fate == "answered" else r.fate) == fate]
        late = sum(1e3 * reply.seconds > deadline for reply in some)
        print(
            f"  {fate:14}{count:7}   p50 {milliseconds(some, 50):8.0f} ms   p99 {milliseconds(some, 99):8.0f} ms   "
            f"after the deadline: {late}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the flood")
    parser.add_argument("--times", type=float, default=10.0, help="arrivals as a multiple of the capacity")
    parser.add_argument("--deadline", type=int, default=2000, help="X-Timeout-Ms of each request, ms")
    parser.add_argument("--model", default="digits/1", help="a bundle that ships, or one version of it, as in digits/1")
    parser.add_argument("--n", type=int, default=1, help="samples a request")
    parser.add_argument("--calm", type=float, default=6.0, help="seconds over which the capacity is measured")
    parser.add_argument("--window", type=float, default=1.0, help="seconds over which speed is measured afterwards")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds to wait for full speed")
    options = parser.parse_args()
    with shipped(options.model) as server:
        uvloop.run(measure(server, options))


if __name__ == "__main__":
    main()
