"""How cost grows: with the rows of a request, with connections, with the models served, with the steps of a chain.

    make bench BENCH=growth                          # all four
    make bench BENCH=growth ARGS="--only rows,steps"

Prints a table each and writes a plot each to docs/performance/. The models are those of against_others; the chain is a
small residual network. Latencies are medians over a few seconds; client and server share the cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import uvloop

from benchmarks.tools.callers import Reply, closed_loop, milliseconds, post
from benchmarks.tools.chains import MOST_STEPS, pack_chain, raw_step
from benchmarks.tools.machine import ROOT, description
from benchmarks.tools.models import copies, example, make_models, pack_models
from benchmarks.tools.plots import plot
from benchmarks.tools.processes import Server, nonesuch
from benchmarks.tools.questions import JSON, Question, Wire, write_question
from benchmarks.tools.tables import figure, table
from benchmarks.tools.wrk import need_wrk, wrk

ROWS = (1, 10, 100, 1000, 10_000, 100_000)
JSON_ROWS = 10_000  # beyond it the body is larger than NONESUCH_MAX_JSON_BYTES
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
MODELS = (1, 5, 10, 25, 50)
STEPS = (1, 10, 100, 1000)


def lone(ask: Callable[[], None], seconds: float) -> float:
    """Median seconds of one call over a while, five calls at least."""
    ask()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        started = time.perf_counter()
        ask()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def rows(folder: Path, seconds: float, plots: Path) -> None:
    with nonesuch(folder / "bundles") as server:
        server.wait()
        found: dict[str, list[tuple[int, float]]] = {"json": [], "npy": []}
        wires: tuple[Wire, ...] = ("json", "npy")
        for n in ROWS:
            for wire in wires:
                if wire == "json" and n > JSON_ROWS:
                    continue
                question = write_question("/log_prob?model=tabular", example("tabular", n, 0), wire)

                def ask(question=question) -> None:  # type: ignore[no-untyped-def]
                    status, body = server.ask("POST", question.path, question.headers, question.body)
                    if status != 200:
                        raise RuntimeError(f"{status} {body[:200]!r}")

                found[wire].append((n, 1e3 * lone(ask, seconds)))
    by_wire = {wire: dict(pairs) for wire, pairs in found.items()}
    lines = [
        [
            f"{n:,}",
            *(figure(by_wire[wire][n]) if n in by_wire[wire] else "-" for wire in wires),
            *(figure(1e3 * by_wire[wire][n] / n) if n in by_wire[wire] else "-" for wire in wires),
        ]
        for n in ROWS
    ]
    print(table(["rows a request", "JSON ms", "npy ms", "JSON µs a row", "npy µs a row"], lines))
    curves = {wire: ([n for n, _ in pairs], [1e3 * value / n for n, value in pairs]) for wire, pairs in found.items()}
    plot(plots / "rows.svg", "rows a request", "µs a row", curves, log_y=True)


def connections(folder: Path, seconds: float, plots: Path) -> None:
    need_wrk()
    questions = [write_question("/log_prob?model=tabular", example("tabular", 1, seed), "json") for seed in range(64)]
    with nonesuch(folder / "bundles") as server, tempfile.TemporaryDirectory() as bodies:
        server.wait()
        wrk(server, questions, Path(bodies), connections=16, seconds=1)
        found = [wrk(server, questions, Path(bodies), connections=each, seconds=seconds) for each in CONNECTIONS]
    lines = [
        [str(each), figure(window.requests_per_second), figure(window.p50), figure(window.p99), str(window.errors)]
        for each, window in zip(CONNECTIONS, found, strict=True)
    ]
    print(table(["connections", "requests/s", "p50 ms", "p99 ms", "errors"], lines))
    curves = {"requests a second": (CONNECTIONS, [window.requests_per_second for window in found])}
    plot(plots / "connections.svg", "connections", "requests a second", curves, log_y=False)


def models(folder: Path, seconds: float, plots: Path) -> None:
    need_wrk()
    lines, found = [], []
    for count in MODELS:
        root = folder / f"bundles-{count}"
        names = [f"tabular-{i}" for i in range(count)]
        copies(folder / "bundles" / "tabular" / "1", root, names)
        questions = [
            Question("/log_prob", JSON, json.dumps({"model": name, "rows": example("tabular", 1, 0).tolist()}).encode())
            for name in names
        ]
        with nonesuch(root) as server, tempfile.TemporaryDirectory() as bodies:
            start = server.wait()
            wrk(server, questions, Path(bodies), connections=1, seconds=1)
            one = wrk(server, questions[:1], Path(bodies), connections=1, seconds=seconds)
            many = wrk(server, questions, Path(bodies), connections=32, seconds=seconds)
            if one.errors or many.errors:
                raise RuntimeError("a request failed")
            _, pss = server.memory()
        found.append(start)
        values = (start, pss, one.p50, many.requests_per_second, many.p50, many.p99)
        lines.append([str(count), *(figure(value) for value in values)])
    headings = ["models", "start s", "memory MiB (PSS)", "one connection p50 ms"]
    print(table([*headings, "32 connections, all models: requests/s", "p50 ms", "p99 ms"], lines))
    plot(plots / "models.svg", "models", "seconds until ready", {"start": (MODELS, found)}, log_y=False)


async def turns(server: Server, requests: list[bytes], callers: int, seconds: float) -> list[Reply]:
    """Ask each in turn; every answer must be good."""
    replies = await closed_loop(server.port, itertools.cycle(requests), connections=callers, seconds=seconds)
    if not all(reply.good for reply in replies):
        raise RuntimeError("a request failed")
    return replies


def steps(folder: Path, seconds: float, plots: Path) -> None:
    pack_chain(folder / "chain", folder / "chains")
    session = raw_step(folder / "chain")
    lines = []
    curves: dict[str, tuple[list[float], list[float]]] = {}
    with nonesuch(folder / "chains") as server:
        server.wait()
        for n in (1, 64):
            x = np.zeros((n, 64), dtype=np.float32)
            raw = lone(lambda x=x: session.run(None, {"x": x}), 1.0)  # type: ignore[misc]
            for count in STEPS:
                body = {"model": "chain", "n": n, "seed": 1, "parameters": {"steps": count}}
                replies = uvloop.run(turns(server, [post("/sample", body)], 1, seconds))
                each = milliseconds(replies, 50)
                per_step = 1e3 * each / count
                lines.append([f"{n}", f"{count:,}", figure(each), figure(per_step), figure(1e6 * raw)])
                xs, ys = curves.setdefault(f"{n} row{'s' * (n > 1)}", ([], []))
                xs.append(count)
                ys.append(per_step)
    print(table(["rows", "steps", "p50 ms", "µs a step", "the graph by itself, µs"], lines))
    plot(plots / "steps.svg", f"steps, of {MOST_STEPS} allowed", "µs a step", curves, log_y=True)


PARTS = {"rows": rows, "connections": connections, "models": models, "steps": steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="some of them, separated by commas")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a measurement")
    parser.add_argument("--plots", type=Path, default=ROOT / "docs" / "performance")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    print(description())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_models(folder / "models")
        pack_models(folder / "models", folder / "bundles")
        for part in wanted:
            print(f"\n{part}\n", flush=True)
            PARTS[part](folder, options.seconds, options.plots)


if __name__ == "__main__":
    main()
