"""Nonesuch beside a naive FastAPI server and beside ONNX Runtime by itself, in one run on one machine.

    make bench                                  # all scenarios, three rounds of eight seconds
    make bench ARGS="--rounds 1 --seconds 2 --scenarios S1,S2a"

Two models are made from a fixed seed and packed by `nonesuch pack`. Each round starts each server anew, in an order of
its own, checks its answers against ONNX Runtime in this process, and loads it with wrk; client and server share the
cores. Ours serves with validation, limits and metrics, as always; its cache is off, so that every row is computed. A
window in which something else used the machine is measured again, and left out where there are quiet ones.

    scenario  model    rows a request  connections  body
    S1        tabular  1               1            JSON
    S2a       tabular  1               32           JSON
    S2b       tabular  1               128          JSON
    S3        tabular  256             4            JSON
    S4        image    256             2            JSON
    S3x, S4x  the same, as npy; naive has no such thing, so that its JSON stands beside it
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.tools.machine import description, wait_until_quiet
from benchmarks.tools.models import COLUMNS, example, make_models, pack_models, reference
from benchmarks.tools.processes import Server, naive, nonesuch
from benchmarks.tools.questions import Question, Wire, read_answer, write_question
from benchmarks.tools.raw import Rate, RawRuntime
from benchmarks.tools.tables import figure, table
from benchmarks.tools.wrk import Window, need_wrk, wrk

TOLERANCE = 1e-4  # of single precision over a few hundred additions
FOREIGN = 0.2  # cores

Measured = TypeVar("Measured", Window, Rate)


@dataclass(frozen=True)
class Scenario:
    """What is asked, and by how many at once."""

    model: str
    rows: int
    connections: int
    wire: Wire = "json"


SCENARIOS = {
    "S1": Scenario("tabular", 1, 1),
    "S2a": Scenario("tabular", 1, 32),
    "S2b": Scenario("tabular", 1, 128),
    "S3": Scenario("tabular", 256, 4),
    "S4": Scenario("image", 256, 2),
    "S3x": Scenario("tabular", 256, 4, "npy"),
    "S4x": Scenario("image", 256, 2, "npy"),
}


@dataclass(frozen=True)
class Contender:
    """A server to measure: how it starts, the path of a model, and what it reads."""

    start: Callable[[], Server]
    path: str
    wires: tuple[Wire, ...]

    def question(self, scenario: Scenario, seed: int) -> Question:
        x = example(scenario.model, scenario.rows, seed)
        return write_question(self.path.format(model=scenario.model), x, scenario.wire)


@dataclass
class Figures:
    """All that was measured of one server, or of none: windows by scenario, peak and end memory, seconds to start."""

    windows: dict[str, list[Window]]
    peak_mib: list[float]
    pss_mib: list[float]
    start_seconds: list[float]

    def used(self, scenario: str) -> list[Window]:
        """The quiet windows, or all where none was quiet."""
        return quiet(self.windows.get(scenario, []))

    def median(self, scenario: str, name: str) -> float | None:
        values = [getattr(window, name) for window in self.used(scenario)]
        return statistics.median(values) if values else None


def check(server: Server, contender: Contender, models: Path) -> None:
    """Hold its answers against those of ONNX Runtime in this process.

    Raises:
        RuntimeError: one is wrong.
    """
    for model in COLUMNS:
        for wire in contender.wires:
            for rows in (1, 7, 256):
                question = contender.question(Scenario(model, rows, 1, wire), seed=99)
                status, body = server.ask("POST", question.path, question.headers, question.body)
                if status != 200:
                    raise RuntimeError(f"{question.path}: {status} {body[:200]!r}")
                got, wanted = read_answer(body), reference(models, model, example(model, rows, 99))
                if got.shape != wanted.shape or not np.allclose(got, wanted, rtol=TOLERANCE, atol=TOLERANCE):
                    raise RuntimeError(f"{question.path}, {rows} rows as {wire}: not what ONNX Runtime answers")


def one_round(contender: Contender, figures: Figures, wanted: list[str], options: argparse.Namespace) -> None:
    """Start it, check it, load it, stop it."""
    questions = {
        name: [contender.question(SCENARIOS[name], seed) for seed in range(64 if SCENARIOS[name].rows == 1 else 4)]
        for name in wanted
        if SCENARIOS[name].wire in contender.wires
    }
    wait_until_quiet(patience=options.patience)
    with contender.start() as server, tempfile.TemporaryDirectory() as bodies:

        def answers() -> bool:
            firsts = (contender.question(Scenario(model, 1, 1), 0) for model in COLUMNS)
            return all(server.ask("POST", one.path, one.headers, one.body)[0] == 200 for one in firsts)

        figures.start_seconds.append(server.wait(answers))
        check(server, contender, options.models)
        for name, asked in questions.items():
            connections = SCENARIOS[name].connections
            wrk(server, asked, Path(bodies), connections=connections, seconds=1)
            for _ in range(2):
                wait_until_quiet(patience=options.patience)
                window = wrk(server, asked, Path(bodies), connections=connections, seconds=options.seconds)
                figures.windows.setdefault(name, []).append(window)
                print(
                    f"    {name:4}{window.requests_per_second:9.0f} requests/s   p50 {window.p50:7.2f} ms   "
                    f"p99 {window.p99:7.2f} ms   {window.cpu_us:7.0f} µs of CPU a request   "
                    f"foreign load {window.foreign:.2f}" + f"   {window.errors} ERRORS" * bool(window.errors),
                    flush=True,
                )
                if window.foreign < FOREIGN:
                    break
        peak, pss = server.memory()
        figures.peak_mib.append(peak)
        figures.pss_mib.append(pss)


def raw_round(raw: RawRuntime, rates: dict[str, list[Rate]], wanted: list[str], options: argparse.Namespace) -> None:
    """Measure what each scenario asks for, without a server."""
    shapes = {(SCENARIOS[name].model, SCENARIOS[name].rows) for name in wanted}
    for model, rows in sorted(shapes):
        for _ in range(2):
            wait_until_quiet(patience=options.patience)
            rate = raw.measure(model, rows, options.seconds / 2)
            print(
                f"    {model:8}{rows:4} rows {rate.calls_per_second * rows:9.0f} rows/s   "
                f"foreign load {rate.foreign:.2f}",
                flush=True,
            )
            for name in wanted:
                if (SCENARIOS[name].model, SCENARIOS[name].rows) == (model, rows):
                    rates.setdefault(name, []).append(rate)
            if rate.foreign < FOREIGN:
                break


def quiet(measured: list[Measured]) -> list[Measured]:
    """What was measured while nothing else used the machine, or all where that never was."""
    return [each for each in measured if each.foreign < FOREIGN] or measured


def summary(measured: dict[str, Figures], rates: dict[str, list[Rate]], wanted: list[str]) -> str:
    """The table: medians over the rounds, and their ratios."""
    ours, other = measured["nonesuch"], measured["naive"]
    lines = []
    for name in wanted:
        scenario = SCENARIOS[name]
        lone = scenario.connections == 1
        field = "p50" if lone else "requests_per_second"
        raws = quiet(rates[name])
        raw = statistics.median(rate.calls_per_second for rate in raws)
        values = [ours.median(name, field), other.median(beside := name.removesuffix("x"), field), raw]
        if lone:
            values[2] = 1e3 / raw
        elif scenario.rows > 1:
            values = [value and value * scenario.rows for value in values]
        ratios = [values[0] and value and (value / values[0] if lone else values[0] / value) for value in values[1:]]
        pair = [(ours, name), (other, beside)]
        used: list[Window | Rate] = [*ours.used(name), *other.used(beside), *raws]
        noisy = any(each.foreign >= FOREIGN for each in used)
        unit = "ms, p50" if lone else "rows/s" if scenario.rows > 1 else "requests/s"
        tails = [figures.median(which, "p99") for figures, which in pair]
        lines.append([name + "~" * noisy, unit, *(_cell(value) for value in (*values, *ratios, *tails))])
    for heading, unit, field in (("peak memory", "MiB", "peak_mib"), ("cold start", "s", "start_seconds")):
        both = [statistics.median(getattr(figures, field)) for figures in (ours, other)]
        lines.append([heading, unit, *map(_cell, (*both, None, both[1] / both[0], None, None, None))])
    headings = ["", "", "nonesuch", "naive", "raw, 1 thread", "to naive", "to raw", "p99 ms", "naive's p99 ms"]
    notes = [f"~ no window with less than {FOREIGN} cores of foreign load"] * any("~" in line[0] for line in lines)
    for name, figures in measured.items():
        if failed := sum(window.errors for windows in figures.windows.values() for window in windows):
            notes.append(f"{failed} requests to {name} FAILED")
    return "\n\n".join([table(headings, lines, left=2), *notes])


def _cell(value: float | None) -> str:
    return figure(value) if value is not None else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a measurement")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="some of them, separated by commas")
    parser.add_argument(
        "--patience", type=float, default=20.0, help="seconds to wait before each for the machine to be quiet"
    )
    parser.add_argument("--json", type=Path, help="file for the raw figures")
    options = parser.parse_args()
    wanted = options.scenarios.split(",")
    if unknown := set(wanted) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    need_wrk()
    with tempfile.TemporaryDirectory() as name:
        models, bundles = Path(name) / "models", Path(name) / "bundles"
        options.models = models
        make_models(models)
        pack_models(models, bundles)
        raw = RawRuntime(models)
        contenders = {
            "nonesuch": Contender(lambda: nonesuch(bundles), "/log_prob?model={model}", ("json", "npy")),
            "naive": Contender(lambda: naive(models), "/{model}", ("json",)),
        }
        measured = {name: Figures({}, [], [], []) for name in contenders}
        rates: dict[str, list[Rate]] = {}
        # Naive's JSON stands beside our npy.
        asked = {"nonesuch": wanted, "naive": list(dict.fromkeys(name.removesuffix("x") for name in wanted))}
        for number in range(options.rounds):
            order = [*contenders, "raw"]
            random.Random(number).shuffle(order)
            for name in order:
                print(f"round {number + 1}: {name}", flush=True)
                if name == "raw":
                    raw_round(raw, rates, wanted, options)
                else:
                    one_round(contenders[name], measured[name], asked[name], options)
    print(f"\n{description()}")
    print(f"medians of {options.rounds} rounds of {options.seconds:g} s; ratios above 1: ours is better\n")
    print(summary(measured, rates, wanted))
    if options.json is not None:
        figures = {name: asdict(found) for name, found in measured.items()}
        content = {"machine": description(), "rounds": options.rounds, "seconds": options.seconds}
        options.json.write_text(json.dumps({**content, "servers": figures, "raw": rates}, indent=1))


if __name__ == "__main__":
    main()
