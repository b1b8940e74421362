"""The tables of benchmarks/tabular_density.py, as Markdown, from its lines alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.tools.tables import table

__all__ = ["BASELINE", "Difference", "mean_and_error", "paired", "write_table"]

BASELINE = "mixture-of-gaussians"

Line = Mapping[str, Any]
Measured = dict[str, dict[str, dict[int, float]]]
"""Test log-probability by family, set and seed."""


class Difference:
    """How much a family's mean test log-probability is above another's on one set, paired over splits.

    Attributes:
        mean: mean of the differences, nats a row.
        error: its standard error over the n splits that both have; NaN for one split.
        n: how many splits.
    """

    def __init__(self, ours: Mapping[int, float], theirs: Mapping[int, float]):
        seeds = sorted(set(ours) & set(theirs))
        self.n = len(seeds)
        self.mean, self.error = mean_and_error([ours[seed] - theirs[seed] for seed in seeds])

    @property
    def beats(self) -> bool:
        """Whether it is above zero by more than two standard errors."""
        return self.n > 1 and self.mean > 2.0 * self.error


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error over n values; NaN where there are none, or one."""
    n = len(values)
    mean = float(np.mean(values)) if n else math.nan
    return mean, float(np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def paired(measured: Measured, family: str, baseline: str = BASELINE) -> dict[str, Difference]:
    """The difference from the baseline on every set that both were measured on."""
    ours, theirs = measured.get(family, {}), measured.get(baseline, {})
    return {name: Difference(ours[name], theirs[name]) for name in sorted(set(ours) & set(theirs))}


def collect(lines: Sequence[Line]) -> tuple[Measured, dict[tuple[str, str, int], Line]]:
    """Values by family, set and seed, the last line of each counting, and those lines."""
    latest = {(line["family"], line["set"], line["seed"]): line for line in lines}
    measured: Measured = {}
    for (family, name, seed), line in latest.items():
        measured.setdefault(family, {}).setdefault(name, {})[seed] = line["test_log_prob"]
    return measured, latest


def write_table(lines: Sequence[Line]) -> str:
    """The page, of what was measured."""
    measured, latest = collect(lines)
    families = sorted(measured, key=lambda name: (name not in ("gaussian", BASELINE), name))
    sets = {line["set"]: line for line in latest.values()}
    parts = [_HEAD, _values(measured, families, sorted(sets))]
    others = [name for name in families if name != BASELINE] if BASELINE in measured else []
    if others:
        parts.append(_differences(measured, others))
    parts += [_sets(sets), _chosen(latest, families), _costs(latest, families)]
    return "\n\n".join(parts) + "\n"


_HEAD = """# Density of tables

Written by `python -m benchmarks.tabular_density`; do not edit.

Fifteen tables of the UCI repository, with the ten splits of T. Evans's collection (uci_datasets): features and target
together, one row of numbers. Each value is the mean log-likelihood of the test rows, in nats a row, in the units of the
file (higher is better); ± is one standard error over splits. Values of different sets say nothing about each other:
they depend on units and on the number of columns.

**What kind of number.** Every number of these files is rounded, and to a rounded number a density means nothing: it
grows without end where values repeat. So each number gets uniform noise as wide as its column's resolution, the least
distance between two different values; for all families the same noise. The mean log-density is then a lower bound on
log(probability of the row's cell / volume of the cell) of the rounded data, for every family here, and is called
that: `lower_bound`. All values on this page are of this kind, so they may be compared within a set.

**How it was measured.** The number of a split is also the seed of its noise and of the weights. A tenth of a split's
training rows is the validation fold: it chooses hyper-parameters and stops training, and nothing else does. The test
rows are looked at once. Rows of sets with fewer than 2,000 get several draws of noise, up to ten: to train, to validate
and to test. Columns that never vary, and columns that repeat another one, are left out."""


def _values(measured: Measured, families: Sequence[str], sets: Sequence[str]) -> str:
    lines = []
    for name in sets:
        cells = [_with_error(list(measured[family].get(name, {}).values())) for family in families]
        splits = sorted({len(measured[family].get(name, {})) for family in families} - {0})
        lines.append([name, " or ".join(map(str, splits)), *cells])
    note = "A dash: not measured."
    return f"## Mean test log-likelihood\n\n{table(['set', 'splits', *families], lines)}\n\n{note}"


def _differences(measured: Measured, others: Sequence[str]) -> str:
    found = {name: paired(measured, name) for name in others}
    sets = sorted({each for by_set in found.values() for each in by_set})
    lines = []
    for name in sets:
        cells = []
        for family in others:
            difference = found[family].get(name)
            cells.append("–" if difference is None else _signed(difference))
        lines.append([name, *cells])
    counts = [
        f"`{family}` is above the mixture by more than two standard errors on "
        f"{sum(each.beats for each in found[family].values())} of {len(found[family])} sets"
        for family in others
    ]
    return (
        f"## Against the mixture of Gaussians\n\nDifference from `{BASELINE}` on the same rows, the same noise and the "
        "same splits, in nats a row; ± is the standard error of the mean difference over splits, bold where the "
        "difference is above zero by more than two of them. Three splits tell a standard error only roughly.\n\n"
        f"{table(['set', *others], lines)}\n\n{'; '.join(counts)}."
    )


def _sets(sets: Mapping[str, Line]) -> str:
    lines = [
        [
            name,
            *(f"{line[key]:,}" for key in ("n", "d", "constant_columns", "repeated_columns", "repeated_rows", "draws")),
        ]
        for name, line in sorted(sets.items())
    ]
    headings = ["set", "rows", "columns", "constant columns", "columns that repeat one", "repeated rows", "draws"]
    return (
        "## The sets\n\nColumns are those that are modelled; the two kinds that are left out come after. Repeated rows "
        "equal an earlier one before the noise; the published splits do not keep them together, so that some test rows "
        f"have a twin among the training rows. Draws: of noise, for each row.\n\n{table(headings, lines)}"
    )


def _chosen(latest: Mapping[tuple[str, str, int], Line], families: Sequence[str]) -> str:
    lines = []
    for family in families:
        for name in sorted({name for of, name, _ in latest if of == family}):
            cells = [line for key, line in sorted(latest.items()) if key[:2] == (family, name)]
            varied = [_words(line["model"]) for line in cells]
            if any(varied):
                lines.append([family, name, "; ".join(varied)])
    if not lines:
        return "## What the validation fold chose\n\nNothing: no family here has hyper-parameters to choose."
    return (
        "## What the validation fold chose\n\nFor each split in turn.\n\n"
        f"{table(['family', 'set', 'chosen'], lines, left=3)}"
    )


def _words(model: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in model.items() if key not in ("starts", "max_iterations")}
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in shown.items())


def _costs(latest: Mapping[tuple[str, str, int], Line], families: Sequence[str]) -> str:
    lines = []
    for family in families:
        cells = [line for key, line in latest.items() if key[0] == family]
        hardware = sorted({line["hardware"] or "not recorded" for line in cells})
        steps = sorted({line["steps"] for line in cells if line["steps"] is not None})
        budget = ", ".join(f"at most {each:,} steps" for each in steps) or "until it converges, or a closed form"
        minutes = sum(line["fit_seconds"] for line in cells) / 60
        lines.append([family, str(len(cells)), budget, f"{minutes:.1f}", "; ".join(hardware)])
    failures = sum(len(line["failures"]) for line in latest.values())
    note = f"\n\n{failures} candidates could not be fitted, and were passed over." if failures else ""
    return (
        "## What it cost\n\nMinutes of fitting, of all candidates and splits together; the processor was shared.\n\n"
        f"{table(['family', 'splits of sets', 'budget of a candidate', 'minutes', 'on'], lines, left=1)}{note}"
    )


def _with_error(values: Sequence[float]) -> str:
    if not values:
        return "–"
    mean, error = mean_and_error(values)
    return f"{mean:.3f}" if math.isnan(error) else f"{mean:.3f} ± {error:.3f}"


def _signed(difference: Difference) -> str:
    error = "" if math.isnan(difference.error) else f" ± {difference.error:.3f}"
    text = f"{difference.mean:+.3f}{error}".replace("-", "−")
    return f"**{text}**" if difference.beats else text
