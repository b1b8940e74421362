"""What the page says of alarms and discoveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation import words
from evaluation.bootstrap import bootstrap
from evaluation.cells import OURS
from evaluation.collected import Alarms, Measured, alarms_of, ours_of
from evaluation.figures import ALPHAS, FDR, alarm_interval, simulated_discoveries, simulated_training_conditional
from evaluation.plots import alarms_plot
from evaluation.words import table

__all__ = ["alarm_blocks", "discovery_blocks"]

Line = Mapping[str, Any]

_PROMISED = 0.03  # share of cells outside of a 99 % interval
_SIMULATED = 4000  # calibration sets
_REQUESTS = ((499, 100, 10, False), (499, 100, 10, True), (2000, 1000, 50, False), (99, 100, 30, False))


def alarm_blocks(measured: Measured, out: Path) -> list[str]:
    """How often ordinary rows alarm: a table, and a plot beside the page."""
    ours = measured[OURS]
    marginal, conditional = alarms_of(ours, "marginal"), alarms_of(ours, "training_conditional")
    if not marginal:
        return ["No calibration set was large enough for any of these rates."]
    plot = out.with_name(f"{out.stem}-alarms.svg")
    alarms_plot(plot, _points(ours))
    outside, cells = sum(one.above + one.below for one in marginal), sum(one.cells for one in marginal)
    headings = ["α", "cells", "mean share that alarms", "above the interval", "below", "begins at 0 for ties"]
    headings.append("anomalies that alarm")
    rows = []
    for one in marginal:
        counts = (one.cells, f"{one.share:.4f}", one.above, one.below, one.tied, f"{one.detected:.3f}")
        rows.append([f"{one.alpha:g}", *map(str, counts)])
    kept = "kept" if outside <= _PROMISED * cells else "**not kept**"
    refused = sum(line.get("refused_ordinary", 0) for line in ours_of(measured))
    looked_at = sum(line["n_ordinary"] for line in ours_of(measured))
    blocks = [
        f"![Shares of alarms]({plot.name})",
        table(headings, rows),
        f"Outside lie {outside} of {cells} cells, {100 * outside / cells:.1f} %. Promised are at most 3 %: {kept}. "
        f"A bundle would have refused {refused:,} of the {looked_at:,} ordinary rows, because a value is none that its "
        "column was seen to have; they count as alarms.",
        "### Training-conditional",
        words.CONDITIONAL,
    ]
    return [*blocks, *_conditional(conditional)]


def _conditional(conditional: Sequence[Alarms]) -> list[str]:
    if not conditional:
        return ["No calibration set was large enough for any of these rates."]
    headings = [
        "α",
        "cells",
        "mean share that alarms",
        "at most α alarm",
        "expected without ties",
        "shown to break it",
        "promise",
    ]
    rows = [
        [
            f"{one.alpha:g}",
            str(one.cells),
            f"{one.share:.4f}",
            f"{100 * one.kept:.1f} %",
            f"{100 * one.by_chance:.1f} %",
            f"{100 * one.doubtless:.1f} %",
            "kept" if one.doubtless <= 0.05 else "**not kept**",
        ]
        for one in conditional
    ]
    made = [
        [f"{n:,}", f"{alpha:g}", f"{100 * simulated_training_conditional(n, alpha, _SIMULATED, 0):.1f} %"]
        for n in (99, 500, 2000)
        for alpha in ALPHAS[1:] + ((ALPHAS[0],) if n > 400 else ())
    ]
    return [
        table(headings, rows),
        f"With made scores, whose realised rate is known exactly, over {_SIMULATED:,} calibration sets:",
        table(["calibration rows", "α", "sets that keep it"], made),
    ]


def _points(ours: Mapping[str, Mapping[int, Line]]) -> dict[float, list[tuple[float, float, float]]]:
    found: dict[float, list[tuple[float, float, float]]] = {}
    for seeds in ours.values():
        for line in seeds.values():
            for alpha, counts in line.get("marginal", {}).items():
                m = line["n_ordinary"]
                low, high = alarm_interval(m, line["n_calibration"], counts["rank"], line["tied"])
                found.setdefault(float(alpha), []).append((counts["false_alarms"] / m, low / m, high / m))
    return dict(sorted(found.items()))


def discovery_blocks(measured: Measured) -> list[str]:
    """How often a discovery is false: on the sets, and with made scores."""
    by_set = {
        name: [line["discoveries"] for line in seeds.values() if line.get("discoveries")]
        for name, seeds in measured[OURS].items()
    }
    by_set = {name: found for name, found in by_set.items() if found}
    blocks = []
    if by_set:
        false = bootstrap({name: [found["false"] for found in seeds] for name, seeds in by_set.items()})
        true = bootstrap({name: [found["found"] for found in seeds] for name, seeds in by_set.items()})
        n = sum(len(seeds) for seeds in by_set.values())
        kept = "kept" if false.low <= FDR else "**not kept**"
        blocks.append(
            f"Over {n} cells of {len(by_set)} sets the mean share of ordinary rows among the discoveries is {false} "
            f"where {FDR:g} was asked: {kept}. Of the planted anomalies {true} are discovered."
        )
    rows = []
    for n, m, planted, rounded in _REQUESTS:
        false_rate, error, found = simulated_discoveries(n, m, planted, rounded=rounded, repetitions=_SIMULATED, seed=0)
        bound = FDR * (m - planted) / m
        kept = "within" if false_rate - 2.58 * error <= bound else "**above**"
        scores = "rounded to tenths" if rounded else "no ties"
        rate = f"{false_rate:.4f} ± {error:.4f}"
        rows.append([f"{n:,}", f"{m:,}", str(planted), scores, rate, f"{bound:.4f}", kept, f"{found:.3f}"])
    headings = ["calibration", "rows", "planted", "scores", "false discovery rate", "bound", "99 %", "discovered"]
    return [*blocks, f"With made scores, over {_SIMULATED:,} calibration sets and requests:", table(headings, rows)]
