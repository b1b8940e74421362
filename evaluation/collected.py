"""Measured lines by detector, set and seed, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.bootstrap import Interval, bootstrap
from evaluation.cells import ALL, OURS, PROTOCOL
from evaluation.detectors import DETECTORS
from evaluation.labelled import source_of

__all__ = [
    "Comparison",
    "Measured",
    "best_of_the_others",
    "collect",
    "compare",
    "failures",
    "figures_of",
    "ours_of",
    "shared",
]

Line = Mapping[str, Any]
Measured = dict[str, dict[str, dict[int, Line]]]
"""Lines by detector, set and seed."""


def collect(lines: Sequence[Line], part: str, setting: str) -> Measured:
    """The lines of a part and a setting; of two of one cell, the last counts, and of ours those of the last default."""
    default = next((line.get("default") for line in reversed(lines) if line.get("detector") == OURS), None)
    found: Measured = {}
    for line in lines:
        if (line["part"], line.get("setting"), line.get("protocol")) == (part, setting, PROTOCOL):
            if line["detector"] == OURS and line.get("default") != default:
                continue
            found.setdefault(line["detector"], {}).setdefault(line["set"], {})[line["seed"]] = line
    return {name: found[name] for name in ALL if name in found}


def ours_of(measured: Measured) -> list[Line]:
    """All lines of ours."""
    return [line for seeds in measured[OURS].values() for line in seeds.values()]


def _value(line: Line, figure: str) -> float:
    """A figure of a line; of a detector that failed, what a lot would have: 0.5, or the share of anomalies."""
    if "error" not in line:
        return float(line[figure])
    return 0.5 if figure == "auroc" else line["n_strange"] / (line["n_strange"] + line["n_ordinary"])


def shared(measured: Measured) -> dict[str, list[int]]:
    """The seeds of each set that every detector has, in order; sets without such a seed are left out."""
    by_set = {name for sets in measured.values() for name in sets}
    seeds = {
        name: sorted(set.intersection(*(set(sets.get(name, {})) for sets in measured.values())))
        for name in sorted(by_set, key=_in_order)
    }
    return {name: found for name, found in seeds.items() if found}


def figures_of(measured: Measured, detector: str, figure: str) -> dict[str, list[float]]:
    """A detector's figure by set, in the order of the seeds that every detector has."""
    return {
        name: [_value(measured[detector][name][seed], figure) for seed in seeds]
        for name, seeds in shared(measured).items()
    }


@dataclass(frozen=True)
class Comparison:
    """A detector beside ours over all sets.

    Attributes:
        detector: its name.
        mean: of its figure over sets.
        difference: of ours minus its, sets drawn by themselves; None for ours.
        by_source: the same, sets of one source drawn together.
        wins: on how many sets the mean of ours is higher.
    """

    detector: str
    mean: Interval
    difference: Interval | None = None
    by_source: Interval | None = None
    wins: int = 0


def compare(measured: Measured, figure: str) -> list[Comparison]:
    """Every detector's mean and our difference from it, ours first and then the best of the others."""
    by_detector = {name: figures_of(measured, name, figure) for name in measured}
    ours = by_detector[OURS]
    sources = {name: source_of(name) for name in ours}
    found = []
    for name, theirs in by_detector.items():
        if name == OURS:
            found.append(Comparison(name, bootstrap(theirs)))
            continue
        difference = {key: [a - b for a, b in zip(ours[key], theirs[key], strict=True)] for key in ours}
        wins = sum(float(np.mean(seeds)) > 0 for seeds in difference.values())
        about = bootstrap(difference), bootstrap(difference, sources)
        found.append(Comparison(name, bootstrap(theirs), *about, wins))
    return sorted(found, key=lambda one: (one.detector != OURS, -one.mean.mean))


def failures(measured: Measured) -> list[str]:
    """Which cells a detector failed in, and how."""
    return [
        f"{detector} on {name}, seed {seed}, setting {line['setting']}: {line['error']}"
        for detector, sets in measured.items()
        for name, seeds in sets.items()
        for seed, line in seeds.items()
        if "error" in line
    ]


def best_of_the_others(measured: Measured) -> str | None:
    """The detector of PyOD with the best mean AUROC over the sets; None where none was measured."""
    means = {
        name: float(np.mean([np.mean(seeds) for seeds in figures_of(measured, name, "auroc").values()]))
        for name in measured
        if name in DETECTORS
    }
    return max(means, key=lambda name: means[name]) if means else None


def _in_order(name: str) -> tuple[int, str]:
    head = name.partition("_")[0]
    return (int(head) if head.isdecimal() else 0, name)
