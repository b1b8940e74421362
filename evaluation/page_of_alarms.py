"""What the page says of alarms and discoveries."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from contract.conformal import training_conditional_rank
from evaluation import words
from evaluation.alarms import alarm_cells, share_kept
from evaluation.bootstrap import bootstrap
from evaluation.cells import OURS
from evaluation.collected import Measured, ours_of
from evaluation.figures import ALPHAS, FDR, simulated_discoveries, simulated_training_conditional
from evaluation.plots import alarms_plot
from evaluation.words import table

__all__ = ["alarm_blocks", "discovery_blocks"]

_PROMISED = 0.03  # share of cells outside of a 99 % interval
_SIMULATED = 4000  # calibration sets
_REQUESTS = ((499, 100, 10, False), (499, 100, 10, True), (2000, 1000, 50, False), (99, 100, 30, False))


def alarm_blocks(measured: Measured, out: Path) -> list[str]:
    """How often ordinary rows alarm: a table, and a plot beside the page."""
    ours = measured[OURS]
    by_alpha = alarm_cells(ours, "marginal")
    if not by_alpha:
        return ["No calibration set was large enough for any of these rates."]
    plot = out.with_name(f"{out.stem}-alarms.svg")
    alarms_plot(plot, by_alpha)
    headings = ["α", "cells", "mean share that alarms", "above the interval", "below", "begins at 0 for ties"]
    headings.append("anomalies that alarm")
    rows = []
    for alpha, cells in by_alpha.items():
        counts = (sum(cell.above for cell in cells), sum(cell.below for cell in cells), sum(c.waived for c in cells))
        means = np.mean([cell.share for cell in cells]), np.mean([cell.detected for cell in cells])
        rows.append([f"{alpha:g}", str(len(cells)), f"{means[0]:.4f}", *map(str, counts), f"{means[1]:.3f}"])
    every = [cell for cells in by_alpha.values() for cell in cells]
    outside = [cell for cell in every if cell.above or cell.below]
    kept = "kept" if len(outside) <= _PROMISED * len(every) else "**not kept**"
    refused = sum(line.get("refused_ordinary", 0) for line in ours_of(measured))
    looked_at = sum(line["n_ordinary"] for line in ours_of(measured))
    says = (
        f"Outside lie {len(outside)} of {len(every)} cells, {100 * len(outside) / len(every):.1f} %. Promised are at "
        f"most 3 %: {kept}. A bundle would have refused {refused:,} of the {looked_at:,} ordinary rows, because a "
        "value is none that its column was seen to have; they count as alarms."
    )
    blocks = [f"![Shares of alarms]({plot.name})", table(headings, rows), says]
    blocks += ["Outside are:\n\n" + "\n".join(f"- {cell}" for cell in outside)] if outside else []
    return [*blocks, "### Training-conditional", words.CONDITIONAL, *_conditional(measured)]


def _conditional(measured: Measured) -> list[str]:
    by_alpha = alarm_cells(measured[OURS], "training_conditional")
    if not by_alpha:
        return ["No calibration set was large enough for any of these rates."]
    headings = ["α", "cells", "mean share that alarms", "cells in which at most α alarm (95 %)", "expected", "promise"]
    rows = []
    for alpha, cells in by_alpha.items():
        share, kept = float(np.mean([cell.share for cell in cells])), share_kept(cells)
        expected = float(np.mean([cell.kept_by_chance for cell in cells]))
        says = "kept" if kept.high >= expected else "**not kept**"
        rows.append([f"{alpha:g}", str(len(cells)), f"{share:.4f}", str(kept), f"{expected:.3f}", says])
    made = [
        [f"{n:,}", f"{alpha:g}", f"{100 * simulated_training_conditional(n, alpha, _SIMULATED, 0):.1f} %"]
        for n in (99, 500, 2000)
        for alpha in ALPHAS
        if training_conditional_rank(n, alpha)
    ]
    return [
        table(headings, rows),
        f"With made scores, whose realised rate is known exactly, over {_SIMULATED:,} calibration sets:",
        table(["calibration rows", "α", "sets that keep it"], made),
    ]


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
