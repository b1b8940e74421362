"""SIGTERM while clients ask short and long questions: does anything fail that was taken, and how soon is it over?

Sixteen callers ask for log-probabilities, eight for digits, each of which takes 784 steps; all go on asking until
nobody listens any more.

    make bench BENCH=drain

The last line: what became of the requests that were under way at the signal or came later, and the time until the
process had ended. `cut off` within an answer is a failure. `unanswered` is a connection that was kept open and closed
by the server just as a question was on its way, which HTTP/1.1 allows at any time (RFC 9112, section 9.6); so is
`refused`, an answer 503, where there is more to do than time.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
import time
from collections.abc import Iterator

import uvloop

from benchmarks.tools.callers import Reply, closed_loop, post
from benchmarks.tools.processes import Server, shipped


def short() -> Iterator[bytes]:
    """Log-probabilities of two numbers."""
    for i in itertools.count():
        yield post("/log_prob", {"model": "moons-gaussian", "rows": [[0.5, i % 1000 / 1000]]})


def long(n: int) -> Iterator[bytes]:
    """Samples of 784 steps."""
    for seed in itertools.count():
        yield post("/sample", {"model": "digits", "n": n, "seed": seed})


async def measure(server: Server, options: argparse.Namespace) -> None:
    over = asyncio.Event()
    loops = [
        asyncio.create_task(
            closed_loop(server.port, requests, connections=connections, seconds=120.0, until=over.is_set, pause=pause)
        )
        for requests, connections, pause in ((short(), 16, 0.002), (long(options.n), 8, 0.0))
    ]
    await asyncio.sleep(options.seconds)
    signalled = time.perf_counter()
    server.send(signal.SIGTERM)
    ended = await asyncio.to_thread(server.exited, 60.0)
    over.set()
    replies: list[Reply] = [reply for replies in await asyncio.gather(*loops) for reply in replies]
    since = [reply for reply in replies if reply.asked + reply.seconds > signalled]
    counts = {
        "answered": sum(reply.good for reply in since),
        "refused": sum(reply.status == 503 for reply in since),
        "unanswered": sum(reply.fate == "unanswered" for reply in since),
        "cut off": sum(reply.fate == "cut off" for reply in since),
        "turned away while it served on": sum(
            reply.fate == "not connected" and reply.asked < signalled + options.drain for reply in since
        ),
        "other": sum(reply.fate == "answered" and reply.status not in (200, 503) for reply in since),
    }
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    exit_words = f"ended {ended - signalled:.1f} s after SIGTERM" if ended is not None else "NOT ended after 60 s"
    early = sum(not reply.good for reply in replies if reply.asked + reply.seconds <= signalled)
    print(
        f"drain: of {sum(counts.values())} requests under way at SIGTERM or later {words}; {exit_words}, of which "
        f"it served on for {options.drain:g} s as it should; {early} failed before"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of load before the signal")
    parser.add_argument("--drain", type=float, default=2.0, help="NONESUCH_DRAIN_SECONDS")
    parser.add_argument("--n", type=int, default=4, help="digits a request")
    options = parser.parse_args()
    with shipped("digits/1", "moons-gaussian", DRAIN_SECONDS=str(options.drain)) as server:
        uvloop.run(measure(server, options))


if __name__ == "__main__":
    main()
