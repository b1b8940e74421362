"""A new version of a model appears and takes the old one's place, while clients ask for the model without a pause.

    make bench BENCH=reload

The last line: requests that failed; the 99th percentile of the latency before the new version's files were there, from
then until the first answer of the new version, and after; how long that took.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from pathlib import Path

import uvloop

from benchmarks.tools.callers import closed_loop, milliseconds, post
from benchmarks.tools.models import copies, example, make_models, pack_models
from benchmarks.tools.processes import Server, nonesuch


async def measure(server: Server, bundles: Path, options: argparse.Namespace) -> None:
    bodies = [{"model": "tabular", "rows": example("tabular", 1, seed).tolist()} for seed in range(64)]
    requests = itertools.cycle([post("/log_prob", body) for body in bodies])
    await closed_loop(server.port, requests, connections=options.connections, seconds=1.0)
    load = asyncio.create_task(
        closed_loop(
            server.port,
            requests,
            connections=options.connections,
            seconds=3 * options.seconds + 30.0,
            until=lambda: time.perf_counter() > end[0],
            pause=options.pause / 1e3,
        )
    )
    end = [float("inf")]
    await asyncio.sleep(options.seconds)
    written = time.perf_counter()
    await asyncio.to_thread(copies, bundles / "tabular" / "1", bundles, ["tabular"], 2)
    path = "/readyz"
    while b'"version":2' not in (await asyncio.to_thread(server.ask, "GET", path, {}, b""))[1]:
        await asyncio.sleep(0.02)
    end[0] = time.perf_counter() + options.seconds
    replies = await load
    new = [reply for reply in replies if reply.digest and reply.digest != replies[0].digest]
    swapped = min(reply.asked + reply.seconds for reply in new)
    failed = [reply for reply in replies if not reply.good]
    before = [reply for reply in replies if reply.asked + reply.seconds < written]
    after = [reply for reply in replies if reply.asked > swapped]
    during = [reply for reply in replies if reply.asked + reply.seconds >= written and reply.asked <= swapped]
    stale = [reply for reply in after if reply.digest == replies[0].digest]
    worst = max(1e3 * reply.seconds for reply in during)
    print(
        f"reload: {len(replies)} requests from {options.connections} clients, {len(failed)} failed; p99 "
        f"{milliseconds(before, 99):.1f} ms before, {milliseconds(during, 99):.1f} ms during (worst {worst:.1f} ms), "
        f"{milliseconds(after, 99):.1f} ms after; swapped {swapped - written:.1f} s after the files were written, "
        f"{len(stale)} answers of the old version since"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of the load before and after")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument(
        "--pause", type=float, default=5.0, help="ms between an answer and a caller's next question; 0 saturates"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bundles = Path(name) / "bundles"
        make_models(Path(name) / "models")
        pack_models(Path(name) / "models", bundles)
        with nonesuch(bundles) as server:
            server.wait()
            uvloop.run(measure(server, bundles, options))


if __name__ == "__main__":
    main()
