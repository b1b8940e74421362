"""Which measurements there are to make, made one by one: a set, a seed, a setting and a detector each."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import detectors, ours
from evaluation.figures import ALPHAS, FDR, alarm_figures, false_discoveries, ranking_figures
from evaluation.labelled import MOST_ROWS, SETTINGS, Labelled, Setting, Split, deal
from evaluation.lines import add_line, read_lines
from training.errors import TrainingError, TrainingInputError
from training.progress import Reporter

__all__ = ["ALL", "OURS", "PROTOCOL", "Cell", "cells_of", "measure", "measure_all", "missing"]

OURS = "nonesuch"
ALL = (OURS, *detectors.DETECTORS)
"""Ours, and the seven."""

PROTOCOL = hashlib.sha256(json.dumps([2, MOST_ROWS, ALPHAS, FDR, SETTINGS]).encode()).hexdigest()[:8]
"""Changes with how cells are measured, so that old lines are not taken for new ones."""


@dataclass(frozen=True)
class Cell:
    """One measurement to make."""

    part: str
    set: str
    seed: int
    setting: Setting
    detector: str

    def __str__(self) -> str:
        return f"{self.set} {self.seed}{self.setting} {self.detector}"


def cells_of(
    part: str,
    sets: Sequence[str],
    seeds: Iterable[int],
    which: Sequence[str],
    settings: Sequence[Setting] = tuple(SETTINGS),
) -> list[Cell]:
    """All cells of some sets: seed by seed, so that a run that is cut short has fewer seeds rather than fewer sets."""
    return [
        Cell(part, name, seed, setting, detector)
        for seed in seeds
        for setting in settings
        for name in sets
        for detector in which
    ]


def missing(cells: Sequence[Cell], lines: Sequence[dict[str, Any]], digests: dict[str, str]) -> list[Cell]:
    """The cells that no line holds, of the same file and protocol, and of ours of the same default."""
    default = ours.default_digest() if any(cell.detector == OURS for cell in cells) else None
    have = {
        (line["part"], line["set"], line["seed"], line["setting"], line["detector"])
        for line in lines
        if line.get("protocol") == PROTOCOL and line.get("set") in digests and line["sha256"] == digests[line["set"]]
        if line["detector"] != OURS or line.get("default") == default
    }
    return [cell for cell in cells if (cell.part, cell.set, cell.seed, cell.setting, cell.detector) not in have]


def measure_all(
    cells: Sequence[Cell],
    read: Callable[[str], Labelled],
    digests: dict[str, str],
    out: Path,
    *,
    minutes: float,
    scores: Path | None,
    reporter: Reporter,
) -> None:
    """Measure the cells that ``out`` lacks, and add a line for each.

    Args:
        cells: what there is to measure.
        read: name of a set -> ``Labelled``.
        digests: SHA-256 of each set's file.
        out: lines.
        minutes: begin no further cell after so long.
        scores: folder that our scores are kept in, to look at again; None: nowhere.
        reporter: where to say how it goes.
    """
    left = missing(cells, read_lines(out), digests)
    reporter.line(f"{len(cells) - len(left)} of {len(cells)} cells are measured already")
    end = time.monotonic() + 60.0 * minutes
    split = lru_cache(maxsize=1)(lambda name, seed, setting: deal(read(name), seed, setting))
    with reporter.bar("cells", len(left), unit="cell") as bar:
        for done, cell in enumerate(left):
            if time.monotonic() > end:
                reporter.line(f"time is up: {len(left) - done} cells are left; the same command goes on")
                break
            bar.update(done, str(cell))
            line = measure(cell, split(cell.set, cell.seed, cell.setting), scores)
            add_line(out, {**line, "sha256": digests[cell.set]})
            said = line.get("error") or f"AUROC {line['auroc']:.3f}, AUPR {line['aupr']:.3f}"
            reporter.line(f"{cell}: {said}, {line['seconds']:.1f} s")


def measure(cell: Cell, split: Split, scores: Path | None = None) -> dict[str, Any]:
    """A cell's line: what was measured, on how many rows; or the error, where the detector failed.

    Raises:
        TrainingInputError: PyOD is needed and is not installed.
    """
    started = time.monotonic()
    if cell.detector != OURS:
        detectors.pyod_version()
    line: dict[str, Any] = {
        "part": cell.part, "set": cell.set, "seed": cell.seed, "setting": cell.setting, "detector": cell.detector,
        "protocol": PROTOCOL, "n_train": len(split.train), "contaminated": split.contaminated,
        "d": split.train.shape[1], "n_ordinary": len(split.ordinary), "n_strange": len(split.strange),
    }  # fmt: skip
    try:
        if cell.detector == OURS:
            line["default"] = ours.default_digest()
        figures = _ours(cell, split, scores) if cell.detector == OURS else _theirs(cell, split)
    except (detectors.DetectorError, TrainingError, TrainingInputError) as error:
        figures = {"error": str(error)}
    return {**line, **figures, "seconds": round(time.monotonic() - started, 2)}


def _theirs(cell: Cell, split: Split) -> dict[str, Any]:
    scores, m = detectors.scores_of(cell.detector, split), len(split.ordinary)
    return {**ranking_figures(scores[:m], scores[m:]), "version": detectors.pyod_version()}


def _ours(cell: Cell, split: Split, folder: Path | None) -> dict[str, Any]:
    m = len(split.ordinary)
    scores = ours.scores_of("table", split)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            folder / f"{cell.set.replace('/', '-')}-{cell.seed}-{cell.setting}.npz",
            test=scores.test,
            log_prob=scores.log_prob,
            calibration=scores.calibration,
            n_ordinary=m,
        )
    ordinary, strange = scores.test[:m], scores.test[m:]
    low = ranking_figures(-scores.log_prob[:m], -scores.log_prob[m:])
    return {
        **ranking_figures(ordinary, strange),
        "auroc_log_prob": low["auroc"],
        "family": scores.family,
        "recipe_sha256": hashlib.sha256(scores.recipe.encode()).hexdigest(),
        "refused_ordinary": int(np.isinf(ordinary).sum()),
        "refused_strange": int(np.isinf(strange).sum()),
        **alarm_figures(scores.calibration, ordinary, strange),
        "discoveries": false_discoveries(scores.calibration, ordinary, strange, split.seed),
    }
