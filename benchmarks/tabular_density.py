"""Mean test log-likelihood of families over fifteen tables of the UCI repository, with their published splits.

    python -m benchmarks.tabular_density DATA --families gaussian,mixture-of-gaussians
    python -m benchmarks.tabular_density DATA --families maf,nsf-coupling --minutes 60   # goes on where it stopped
    python -m benchmarks.tabular_density --table-only                                    # the table, of what there is

DATA is the folder with airfoil.npz ... yacht.npz, or the data folder above it (else NONESUCH_DATA). For each set,
split and family one line of JSON is added to --out; lines that are there are not measured again, and a fit that was
interrupted goes on. The table, docs/results-tabular.md, is written from the lines alone.

Features and target are modelled together. Every number in these files is rounded, so that rows get uniform noise of
each column's own resolution, the same for all families: see benchmarks/tools/rounded.py. Hyper-parameters are chosen
by a tenth of the split's training rows, and the test rows are looked at once, by the candidate that was chosen.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.tools.density_plan import draws_for, ladders, plan_digest, training_section
from benchmarks.tools.density_table import write_table
from benchmarks.tools.lines import add_line, read_lines
from benchmarks.tools.machine import ROOT
from benchmarks.tools.rounded import SPLITS, Table, dequantised, read_table
from contract.support import Column, Support
from models.base import GenerativeModel, registry
from training.data import Dataset, Fold
from training.errors import TrainingError, TrainingInputError
from training.folds import make_folds
from training.loop import FitReport, fit_model
from training.progress import Bar, Reporter
from training.recipe import FoldPlan, Recipe, build_model

__all__ = ["Cell", "main", "measure_cell"]

SETS = (
    "airfoil", "autompg", "bike", "concrete", "elevators", "energy", "housing", "kin40k", "pol", "protein",
    "skillcraft", "sml", "stock", "wine", "yacht",
)  # fmt: skip
RESULTS = ROOT / "docs" / "results-tabular.md"
_VALIDATION = 0.1
_BATCH = 2000

Array = NDArray[Any]


@dataclass(frozen=True)
class Cell:
    """One set, one split (whose number is also the seed of noise and weights) and one family."""

    set: str
    seed: int
    family: str

    def __str__(self) -> str:
        return f"{self.set} {self.seed} {self.family}"


@dataclass(frozen=True)
class Rows:
    """Dequantised rows of a split, float64 [n draws, d]; the draws of a row are neighbours."""

    support: Support
    train: Fold
    validation: Fold
    test: Fold
    draws: int


def split_rows(table: Table, seed: int) -> Rows:
    """The rows of a split with their noise: a function of table and seed, whatever the family."""
    columns = tuple(
        Column(name=f"x{i}", kind="real", base_measure="lebesgue", resolution=float(r))
        for i, r in enumerate(table.resolutions)
    )
    rounded = Support(shape=(len(columns),), columns=columns)
    # With noise on them numbers are no longer rounded.
    support = rounded.model_copy(update={"columns": tuple(c.model_copy(update={"resolution": None}) for c in columns)})
    test = table.test_mask[:, seed]
    data = Dataset(table.rows[~test], rounded, f"{table.name}, split {seed}", test=table.rows[test])
    # Repeats apart: the published splits do not keep equal rows together, and their test rows are the test rows.
    plan = FoldPlan(key=seed, validation=_VALIDATION, repeats="apart")
    folds = make_folds(data, plan, calibrated=False, validated=True)
    assert folds.validation is not None
    draws = draws_for(len(table.rows))
    noisy = [
        Fold(dequantised(fold.rows, table.resolutions, draws, np.random.default_rng([seed, place])))
        for place, fold in enumerate((folds.train, folds.validation, folds.test))
    ]
    return Rows(support, *noisy, draws)


def measure_cell(table: Table, cell: Cell, *, steps: int, runs: Path, bar: Bar | None = None, done: int = 0) -> Any:
    """Fit every candidate, choose by the validation fold, and look at the test rows: the cell's line, as a dict.

    Raises:
        TrainingError: no candidate could be fitted.
    """
    started = time.monotonic()
    rows = split_rows(table, cell.seed)
    plan = plan_digest(cell.family, steps)
    folder = runs / cell.set / str(cell.seed) / f"{cell.family}-{plan}"
    best: tuple[float, GenerativeModel, dict[str, Any], FitReport] | None = None
    tried, failures, seconds = 0, [], 0.0
    for ladder in ladders(cell.family):
        before = -math.inf
        for hyper in ladder:
            if bar is not None:
                bar.update(done, f"{cell}: {json.dumps(hyper)}")
            tried += 1
            try:
                model, report = _fitted(cell, hyper, rows, steps, folder)
            except (TrainingError, TrainingInputError) as error:
                failures.append(f"{json.dumps(hyper)}: {error}")
                break
            seconds += report.seconds
            value = float(_log_prob(model, rows.validation).mean())
            if best is None or value > best[0]:
                best = value, model, hyper, report
            if not value > before:
                break
            before = value
    if best is None:
        raise TrainingError(f"{cell}: {failures[0]}")
    validation, model, hyper, report = best
    by_row = _log_prob(model, rows.test).reshape(-1, rows.draws).mean(axis=1)
    shutil.rmtree(folder, ignore_errors=True)
    n_test, d = len(by_row), table.rows.shape[1]
    return {
        "set": cell.set, "seed": cell.seed, "family": cell.family, "plan": plan,
        "test_log_prob": float(by_row.mean()),
        "standard_error_over_rows": float(by_row.std(ddof=1) / math.sqrt(n_test)),
        "validation_log_prob": validation, "model": hyper, "kind": "lower_bound", "units": "nats",
        "n": len(table.rows), "d": d, "n_train": len(rows.train) // rows.draws, "n_test": n_test, "draws": rows.draws,
        "constant_columns": table.constant, "repeated_columns": table.repeated, "repeated_rows": table.repeated_rows,
        "epochs": report.epochs, "tried": tried, "failures": failures, "steps": steps if report.epochs else None,
        "fit_seconds": seconds, "seconds": time.monotonic() - started, "hardware": report.hardware,
    }  # fmt: skip


def _fitted(
    cell: Cell, hyper: dict[str, Any], rows: Rows, steps: int, folder: Path
) -> tuple[GenerativeModel, FitReport]:
    recipe = Recipe.model_validate(
        {
            "name": cell.set,
            "title": cell.set,
            "description": str(cell),
            "licence": "none: it is not shipped",
            "family": cell.family,
            "data": {"loader": "npz", "file": f"{cell.set}.npz", "rows": "X", "description": cell.set},
            "model": hyper,
            "training": training_section(cell.family, len(rows.train), steps),
            "seed": cell.seed,
        }
    )
    torch.manual_seed(recipe.seed)
    model = build_model(recipe, rows.support)
    if getattr(model, "log_prob_kind", None) not in ("exact", "lower_bound"):
        raise TrainingInputError(f"{cell.family} has no exact log-probability, nor a bound on it, to compare")
    name = hashlib.sha256(json.dumps(hyper, sort_keys=True).encode()).hexdigest()[:12]
    report = fit_model(
        model,
        recipe.training,
        rows.train,
        rows.validation,
        seed=recipe.seed,
        folder=folder / name,
        reporter=Reporter(Console(quiet=True)),
        label=str(cell),
    )
    return model, report


@torch.no_grad()
def _log_prob(model: Any, fold: Fold) -> NDArray[np.float64]:
    parts = torch.from_numpy(fold.rows).split(_BATCH)
    return torch.cat([model.log_prob(part) for part in parts]).double().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path(os.environ.get("NONESUCH_DATA", "data")))
    parser.add_argument("--families", default="gaussian,mixture-of-gaussians", help="names, separated by commas")
    parser.add_argument("--sets", default=",".join(SETS), help="names, separated by commas")
    parser.add_argument("--seeds", default="0,1,2", help=f"splits, 0 to {SPLITS - 1}; also seeds of noise and weights")
    parser.add_argument("--steps", type=int, default=6000, help="most optimisation steps of a candidate")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further cell after this long")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--out", type=Path, default=Path("runs") / "tabular-density.jsonl", help="lines, added to")
    parser.add_argument("--runs", type=Path, default=Path("runs") / "tabular-density", help="interrupted fits")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the table")
    parser.add_argument("--table-only", action="store_true", help="measure nothing, and write the table")
    options = parser.parse_args()
    if not options.table_only:
        _measure(parser, options)
    lines = read_lines(options.out)
    if not lines:
        parser.error(f"{options.out}: nothing was measured yet")
    options.results.write_text(write_table(lines), encoding="utf-8")
    print(options.results)


def _measure(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    sets, families = options.sets.split(","), options.families.split(",")
    try:
        seeds = [int(seed) for seed in options.seeds.split(",")]
    except ValueError:
        parser.error(f"--seeds: whole numbers separated by commas, not {options.seeds!r}")
    if wrong := [seed for seed in seeds if not 0 <= seed < SPLITS]:
        parser.error(f"--seeds: there are splits 0 to {SPLITS - 1}, and none {wrong[0]}")
    for what, given, known in (("sets", sets, SETS), ("families", families, tuple(registry()))):
        if unknown := sorted(set(given) - set(known)):
            parser.error(f"--{what}: there is no {unknown[0]!r}; there are {', '.join(known)}")
    folder = options.data / "tabular-density"
    folder = folder if folder.is_dir() else options.data
    if missing := [name for name in sets if not (folder / f"{name}.npz").is_file()]:
        parser.error(f"{folder}: there is no {missing[0]}.npz; name the data folder, or set NONESUCH_DATA")
    torch.set_num_threads(options.threads)
    have = {(line["set"], line["seed"], line["family"], line["plan"]) for line in read_lines(options.out)}
    plans = {name: plan_digest(name, options.steps) for name in families}
    cells = [Cell(name, seed, kind) for name in sets for seed in seeds for kind in families]
    cells = [cell for cell in cells if (cell.set, cell.seed, cell.family, plans[cell.family]) not in have]
    reporter, end = Reporter(), time.monotonic() + 60 * options.minutes
    with reporter.bar("cells", len(cells), unit="cell") as bar:
        for done, cell in enumerate(cells):
            if time.monotonic() > end:
                reporter.line(f"time is up: {len(cells) - done} cells are left; the same command goes on")
                break
            table = read_table(folder / f"{cell.set}.npz")
            try:
                line = measure_cell(table, cell, steps=options.steps, runs=options.runs, bar=bar, done=done)
            except (TrainingError, TrainingInputError) as error:
                reporter.line(f"{cell}: {error}")
                continue
            add_line(options.out, line)
            value, error = line["test_log_prob"], line["standard_error_over_rows"]
            reporter.line(f"{cell}: {value:.3f} ± {error:.3f} over rows, {line['model']}, {line['seconds']:.0f} s")


if __name__ == "__main__":
    main()
