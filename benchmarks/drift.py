"""How quiet the alarm of drift is on ordinary traffic, how soon it notices a shift, and what it costs.

    make bench BENCH=drift, or python -m benchmarks.drift [--weeks 10] [--streams 400] [--rows 20000] [--repeats 12]

Scores of ordinary rows are drawn from the normal law that the calibration scores are drawn from, anew for each watch:
the test's law does not depend on which law that is. A week is 6,048,000 rows, ten a second.
A shift moves the mean by so many standard deviations, after so many ordinary rows. Needs no server.
"""

from __future__ import annotations

import argparse
import copy
import time

import numpy as np

from contract.drift import CHUNK
from service.drift import Watch

WEEK = 7 * 24 * 3600 * 10
PIECE = 2**16
LEVEL = 0.001
LEVELS = (0.1, 0.01, 0.001)
CALIBRATIONS = (99, 500, 2000)
SHIFTS = (0.1, 0.25, 0.5, 1.0)
BEFORE = (0, 2000, 500_000)
MOST = 30_000
"""Shifted rows after which a watch is given up."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weeks", type=int, default=10, help="weeks of ordinary rows, for each number of scores")
    parser.add_argument("--streams", type=int, default=400, help="streams of ordinary rows, for each number of scores")
    parser.add_argument("--rows", type=int, default=20_000, help="rows of a stream")
    parser.add_argument("--repeats", type=int, default=12, help="watches that each shift is tried on")
    options = parser.parse_args()
    print(f"ordinary rows: watches that alarmed at the levels {LEVELS}")
    for n in CALIBRATIONS:
        for name, rows, times in (("weeks", WEEK, options.weeks), ("streams", options.rows, options.streams)):
            highest = np.array([highest_of(n, rows, seed) for seed in range(times)])
            alarms = [int((highest >= -np.log10(level)).sum()) for level in LEVELS]
            print(f"n = {n:5}: {', '.join(map(str, alarms))} of {times} {name}", flush=True)
    print(f"level {LEVEL}: rows until the alarm, median (nine tenths within) of {options.repeats}; - where less do")
    print(f"{'':28}" + "".join(f"{f'{shift:g} sd':>16}" for shift in SHIFTS))
    for n in CALIBRATIONS:
        for before in BEFORE:
            rows = rows_until(n, before, options.repeats)
            cells = [f"{shown(np.median(row))} ({shown(np.quantile(row, 0.9, method='higher'))})" for row in rows.T]
            print(f"n = {n:5}, after {before:8,d}" + "".join(f"{cell:>16}" for cell in cells), flush=True)
    print("microseconds of processor time a row, by rows a request:")
    print("  ".join(f"{size}: {cost(size):.2f}" for size in (1, 10, 100, 1000)))


def new_watch(n: int, random: np.random.Generator) -> Watch:
    """A watch with a calibration of its own."""
    return Watch(np.sort(random.normal(size=n)), seed=int(random.integers(2**62)), level=LEVEL)


def serve(watch: Watch, rows: int, random: np.random.Generator, shift: float = 0.0) -> None:
    """Let a watch see so many rows."""
    while rows:
        some = min(rows, PIECE)
        watch.add(random.normal(size=some) + shift)
        watch.look()
        rows -= some


def highest_of(n: int, rows: int, seed: int) -> float:
    """How high the martingale comes on so many ordinary rows, as log10."""
    random = np.random.default_rng([seed, n, rows])
    watch = new_watch(n, random)
    serve(watch, rows, random)
    return watch.log10_highest


def rows_until(n: int, before: int, repeats: int) -> np.ndarray:
    """Rows from a shift to the alarm, infinite where it never comes, [repeats, shifts]."""
    found = np.full((repeats, len(SHIFTS)), np.inf)
    for repeat in range(repeats):
        random = np.random.default_rng([repeat, n, before])
        quiet = new_watch(n, random)
        serve(quiet, before, random)
        for i, shift in enumerate(SHIFTS):
            watch = copy.deepcopy(quiet)
            while watch.alarm_at is None and watch.rows < before + MOST:
                serve(watch, 1000, random, shift)
            if watch.alarm_at is not None and watch.alarm_at > before:
                found[repeat, i] = watch.alarm_at - before
    return found


def shown(rows: float) -> str:
    return f"{rows:.0f}" if np.isfinite(rows) else "-"


def cost(size: int, rows: int = 200_000) -> float:
    """Microseconds of processor time a row, beside 2,000 calibration scores."""
    random = np.random.default_rng(0)
    watch, scores = new_watch(2000, random), random.normal(size=(rows // size, size))
    started = time.process_time()
    for some in scores:
        watch.add(some)
        if watch.waiting >= CHUNK:
            watch.look(4 * CHUNK)
    return 1e6 * (time.process_time() - started) / rows


if __name__ == "__main__":
    main()
