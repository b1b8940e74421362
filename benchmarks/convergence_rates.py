"""How fast the error of a density estimate falls with the number of rows, in one dimension, on a law that is known.

    python -m benchmarks.convergence_rates                                # all four
    python -m benchmarks.convergence_rates --families histogram           # adds one to what was measured
    python -m benchmarks.convergence_rates --table-only

Rows are drawn from 0.6 N(-1.5, 0.6^2) + 0.4 N(1.5, 1). The error is the root of the mean integrated squared error, the
integral taken over [-8, 8]. Textbook rates of it: n^-1/2 for the maximum-likelihood estimate of a model that holds the
truth, n^-1/3 for the histogram, n^-2/5 for the kernel estimate (L. Wasserman, "All of Nonparametric Statistics", 2006,
chapter 6). The estimates are the project's families; each chooses its smoothing by cross-validation of the same error.
Writes docs/convergence-rates.md and docs/convergence-rates.svg, from the lines in --out.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.tools.least_squares_cv import best_bandwidth, best_neighbour
from benchmarks.tools.lines import add_line, read_lines
from benchmarks.tools.machine import ROOT
from benchmarks.tools.tables import table
from contract.support import Column, Support
from models.base import family, registry
from training.progress import Reporter

__all__ = ["ESTIMATES", "draw", "main", "slope", "squared_error", "truth"]

WEIGHTS, MEANS, DEVIATIONS = np.array([0.6, 0.4]), np.array([-1.5, 1.5]), np.array([0.6, 1.0])
LOW, HIGH, CELLS = -8.0, 8.0, 1024
SIZES = (100, 316, 1000, 3162, 10_000, 31_623, 100_000)
FROM = 1000
"""Slopes are those from this many rows on: rates are about many."""

_AT_ONCE = 4_000_000  # distances in memory
_RESAMPLES = 2000
_SUPPORT = Support(shape=(1,), columns=(Column(name="x", kind="real", base_measure="lebesgue"),))

Array = NDArray[np.float64]
Errors = dict[str, dict[int, list[float]]]
"""Integrated squared errors by family and number of rows."""


class Estimate:
    """One way to estimate a density.

    Attributes:
        title: for the table.
        rate: the textbook's exponent of the root of the mean integrated squared error.
        smoothing: hyper-parameters of the family for rows [n].
        how: how they are chosen, in words.
    """

    def __init__(self, title: str, rate: float, how: str, smoothing: Callable[[Array], dict[str, Any]]):
        self.title, self.rate, self.how, self.smoothing = title, rate, how, smoothing


def _bandwidth(rows: Array) -> dict[str, Any]:
    return {"bandwidth": best_bandwidth(rows) / float(rows.std())}  # the family's unit is the standard deviation


ESTIMATES = {
    "mixture-of-gaussians": Estimate(
        "parametric: two normals, by maximum likelihood",
        -1 / 2,
        "nothing to smooth: five parameters, by EM",
        lambda rows: {"components": 2, "least_variance": 1e-9, "starts": 1, "tolerance": 1e-9},
    ),
    "kernel-density": Estimate("kernel estimate", -2 / 5, "bandwidth by least-squares cross-validation", _bandwidth),
    "histogram": Estimate(
        "histogram", -1 / 3, "bin width by least-squares cross-validation, inside the family", lambda rows: {}
    ),
    "nearest-neighbours": Estimate(
        "k nearest neighbours",
        -2 / 5,
        "k by least-squares cross-validation",
        lambda rows: {"k": best_neighbour(rows, LOW, HIGH)},
    ),
}


def truth(x: Array) -> Array:
    """The density that rows are drawn from: float64 [n] -> [n]."""
    z = (x[:, None] - MEANS) / DEVIATIONS
    return np.asarray((WEIGHTS * np.exp(-0.5 * z**2) / (DEVIATIONS * math.sqrt(2 * math.pi))).sum(axis=1))


def draw(n: int, repetition: int) -> Array:
    """n rows, float64 [n]; the same for every family."""
    generator = np.random.default_rng([n, repetition])
    part = (generator.random(n) > WEIGHTS[0]).astype(np.int64)
    return np.asarray(MEANS[part] + DEVIATIONS[part] * generator.standard_normal(n))


def grid() -> Array:
    """Midpoints of the cells of the integrals, float64 [CELLS]."""
    return np.asarray(LOW + (HIGH - LOW) * (np.arange(CELLS) + 0.5) / CELLS)


@torch.no_grad()
def squared_error(name: str, rows: Array) -> tuple[float, dict[str, Any]]:
    """Integrated squared error of a family fitted to rows [n], and the hyper-parameters that were chosen for them."""
    chosen = ESTIMATES[name].smoothing(rows)
    torch.manual_seed(0)
    model: Any = family(name)(_SUPPORT, **chosen)
    x = torch.from_numpy(rows)[:, None]
    model.prepare(x)
    model.fit(x)
    parts = torch.from_numpy(grid())[:, None].split(max(1, _AT_ONCE // len(rows)))
    density = torch.cat([model.log_prob(part) for part in parts]).exp().numpy()
    return float(np.square(density - truth(grid())).mean() * (HIGH - LOW)), chosen


def slope(errors: Mapping[int, Sequence[float]], resamples: int = _RESAMPLES) -> tuple[float, float, float]:
    """Slope of log root-mean error against log n by least squares, and the ends of its 95 % bootstrap interval.

    Args:
        errors: integrated squared errors of the repetitions, by n; two sizes at least.
        resamples: how often the repetitions of each size are drawn anew, with replacement.
    """
    sizes = sorted(errors)
    x = np.log(sizes)
    x = x - x.mean()
    generator = np.random.default_rng(0)

    def slopes(means: Array) -> Array:
        return np.asarray(0.5 * np.log(means) @ x / (x @ x))

    found = slopes(np.array([np.mean(errors[n]) for n in sizes]))
    again = [
        np.asarray(errors[n])[generator.integers(len(errors[n]), size=(resamples, len(errors[n])))].mean(axis=1)
        for n in sizes
    ]
    low, high = np.quantile(slopes(np.stack(again, axis=1)), [0.025, 0.975])
    return float(found), float(low), float(high)


def root_mean(values: Sequence[float]) -> tuple[float, float]:
    """Root of a mean over repetitions and its standard error, by the delta method."""
    root = math.sqrt(float(np.mean(values)))
    return root, float(np.std(values, ddof=1) / math.sqrt(len(values)) / (2 * root))


def collect(lines: Sequence[Mapping[str, Any]]) -> Errors:
    """The lines of JSON by family and number of rows."""
    errors: Errors = {}
    for line in lines:
        errors.setdefault(line["family"], {}).setdefault(line["n"], []).append(line["squared_error"])
    return errors


def page(errors: Errors, lines: Sequence[Mapping[str, Any]]) -> str:
    """The results as Markdown."""
    names = [name for name in ESTIMATES if name in errors]
    sizes = sorted({n for name in names for n in errors[name]})
    repetitions = sorted({len(values) for name in names for values in errors[name].values()})
    rates = []
    for name in names:
        found, low, high = slope({n: values for n, values in errors[name].items() if n >= FROM})
        whole = slope(errors[name])[0]
        estimate = ESTIMATES[name]
        interval = f"{low:.3f} to {high:.3f}"
        rates.append([estimate.title, f"`{name}`", f"{estimate.rate:.3f}", f"{found:.3f}", interval, f"{whole:.3f}"])
    headings = ["estimate", "family", "textbook", f"slope from n = {FROM:,}", "95 % interval", "slope of all"]
    values = []
    for n in sizes:
        cells = []
        for name in names:
            root, error = root_mean(errors[name][n]) if n in errors[name] else (math.nan, math.nan)
            cells.append("–" if math.isnan(root) else f"{root:.5f} ± {error:.5f}")
        values.append([f"{n:,}", *cells])
    chosen = [[ESTIMATES[name].title, ESTIMATES[name].how, _typical(lines, name)] for name in names]
    absent = [f"`{name}`" for name in ESTIMATES if name not in errors]
    missing = f"\n\nNot measured yet: {', '.join(absent)}." if absent else ""
    return _PAGE.format(
        repetitions=" or ".join(map(str, repetitions)),
        rates=table(headings, rates, left=2),
        values=table(["n", *(f"`{name}`" for name in names)], values),
        chosen=table(["estimate", "smoothing", f"median at n = {sizes[-1]:,}"], chosen, left=3),
        resamples=f"{_RESAMPLES:,}",
        low=f"{LOW:g}",
        high=f"{HIGH:g}",
        missing=missing,
    )


def _typical(lines: Sequence[Mapping[str, Any]], name: str) -> str:
    mine = [line for line in lines if line["family"] == name]
    largest = [line["chosen"] for line in mine if line["n"] == max(line["n"] for line in mine)]
    words = {"bandwidth": "h = {:.3g} standard deviations", "k": "k = {:,.0f}"}
    found = [
        text.format(float(np.median([each[key] for each in largest])))
        for key, text in words.items()
        if key in largest[0]
    ]
    return ", ".join(found) or "–"


_PAGE = """# Convergence rates, measured

Written by `python -m benchmarks.convergence_rates`; do not edit.

How fast does the error of a density estimate fall as rows are added? In one dimension the textbook answer (L.
Wasserman, *All of Nonparametric Statistics*, 2006) is n^-1/2 for maximum likelihood in a model that holds the truth,
n^-1/3 for a histogram and n^-2/5 for a kernel estimate. Here the project's own families are measured.

![error against the number of rows, both axes logarithmic](convergence-rates.svg)

Rows are drawn from 0.6 N(−1.5, 0.6²) + 0.4 N(1.5, 1), {repetitions} times for each n, the same rows for every family.
The error is the root of the mean over repetitions of the integrated squared error, ∫(p̂ − p)² from {low} to {high}, by
the midpoint rule. It is a distance of functions, so that it is there for a k-nearest-neighbour density too, which
is no law: its integral over the line is infinite.

## Rates

{rates}

The slope is that of log error against log n by least squares; its interval is the bootstrap's, the repetitions of each
n drawn anew {resamples} times. It says how much the slope would vary with other rows, and not how far n still is from
infinity.

What to make of the neighbours: n^-2/5 is the rate at a point, or over an interval in which the density is not small.
Over the whole line the tails spoil it. Beyond the outermost rows the estimate falls like 1/x from a mass of some k/n,
which adds about (k/n)² to the squared error; against a variance of about 1/k the best k is then of the order n^2/3
rather than n^4/5, and the error of the order n^-1/3, like a histogram's.

## Errors

± is one standard error over repetitions.

{values}

## Smoothing

{chosen}

Least-squares cross-validation estimates this very error from the rows alone.{missing}
"""


def draw_plot(path: Path, errors: Errors) -> None:
    """Error against n, with the textbook's slopes as dashed lines through the last point."""
    from benchmarks.tools.plots import rates_plot

    curves = {}
    for name in [each for each in ESTIMATES if each in errors]:
        found = [(n, *root_mean(values)) for n, values in sorted(errors[name].items())]
        curves[ESTIMATES[name].title] = (found, ESTIMATES[name].rate)
    rates_plot(path, "rows n", "root of the mean integrated squared error", curves)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(ESTIMATES), help="some of them, separated by commas")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="largest n, of the page too")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing new after this long")
    parser.add_argument("--out", type=Path, default=Path("runs") / "convergence-rates.jsonl", help="lines, added to")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where the page and the plot go")
    parser.add_argument("--table-only", action="store_true", help="measure nothing")
    options = parser.parse_args()
    names, known = options.families.split(","), registry()
    for name in names:
        if name not in ESTIMATES:
            parser.error(f"--families: there is no {name!r}; there are {', '.join(ESTIMATES)}")
    torch.set_num_threads(1)
    reporter, end = Reporter(), time.monotonic() + 60 * options.minutes
    have = {(line["family"], line["n"], line["repetition"]) for line in read_lines(options.out)}
    sizes = [n for n in SIZES if n <= options.most]
    cells = [(name, n, r) for n in sizes for name in names for r in range(options.repetitions)]
    for name in set(names) - set(known):
        reporter.line(f"{name}: there is no such family in this version; left out")
    cells = [cell for cell in cells if cell not in have and cell[0] in known and not options.table_only]
    with reporter.bar("fits", len(cells), unit="fit") as bar:
        for done, (name, n, repetition) in enumerate(cells):
            if time.monotonic() > end:
                reporter.line(f"time is up: {len(cells) - done} fits are left; the same command goes on")
                break
            bar.update(done, f"{name}, n = {n:,}")
            error, chosen = squared_error(name, draw(n, repetition))
            measured = {"family": name, "n": n, "repetition": repetition, "squared_error": error, "chosen": chosen}
            add_line(options.out, measured)
    lines = [line for line in read_lines(options.out) if line["n"] <= options.most]
    if not lines:
        parser.error(f"{options.out}: nothing was measured yet")
    errors = collect(lines)
    draw_plot(options.docs / "convergence-rates.svg", errors)
    (options.docs / "convergence-rates.md").write_text(page(errors, lines), encoding="utf-8")
    print(options.docs / "convergence-rates.md")


if __name__ == "__main__":
    main()
