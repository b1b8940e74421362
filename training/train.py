"""From a recipe to a bundle: fit, export, verify, evaluate, calibrate, write. Whole or not at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from contract.bundle import Bundle
from contract.digest import sha256
from models.base import GenerativeModel
from runtime.goldens import make_goldens
from training import processes
from training.bundling import Parts, draft_bundle, keeps_rows, provenance_of, ship
from training.calibrate import calibration_rows, calibration_scores, fit_law, law_rows, scores_in_torch
from training.checkpoints import write_whole
from training.data import Dataset, load_data
from training.errors import TrainingInputError
from training.evaluate import measure
from training.export import export_model, export_score
from training.folds import Folds, make_folds
from training.loop import FitReport, fit_model
from training.parity import verify_export
from training.progress import Reporter
from training.recipe import Recipe, build_model, load_recipe

__all__ = ["Trained", "help_train", "prepare_data", "train"]

_STATE = "run.json"


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        bundle: what it wrote.
        fit: how the fit went.
    """

    bundle: Bundle
    fit: FitReport


def prepare_data(recipe: Recipe, root: Path) -> tuple[Dataset, Folds]:
    """The data of a recipe and their folds.

    Args:
        recipe: the recipe.
        root: data folder that its paths are relative to.

    Raises:
        TrainingInputError: a file is missing or damaged, or there are too few rows.
    """
    data = load_data(recipe, root)
    folds = make_folds(
        data,
        recipe.folds,
        calibrated=recipe.anomaly is not None,
        validated=recipe.training is not None,
        referenced=recipe.anomaly is None or recipe.anomaly.reference == "fold",
    )
    return data, folds


def train(
    path: Path, *, data_root: Path, out: Path, runs: Path, fresh: bool = False, reporter: Reporter | None = None
) -> Trained:
    """Train a recipe into a bundle ``out/NAME/NEXT_VERSION``.

    A run keeps its state in ``runs/NAME``. If it is killed, the next one of the same recipe and data goes on where it
    stopped; once a bundle is written, or when recipe or data have changed, the next one starts anew, and says so.

    Args:
        path: the recipe.
        data_root: data folder.
        out: folder of bundles.
        runs: folder of runs.
        fresh: start anew in any case.
        reporter: where to say how it goes.

    Raises:
        TrainingInputError: the recipe, the data or a path is at fault; the message is one line.
        TrainingError: training diverged, or the bundle does not pass its own verification.
        ExportError: the graphs do not compute what the model computes.
    """
    reporter = reporter or Reporter()
    recipe, text = load_recipe(path)
    reporter.line(f"data: {recipe.data.loader}")
    data, folds = prepare_data(recipe, data_root)
    for name, why in data.left_out.items():
        reporter.line(f"  column {name!r} {why}")
    reporter.line("  " + ", ".join(f"{name} {len(fold):,}" for name, fold in folds.named().items()))
    model = _untrained(recipe, data)
    run = _open_run(runs / recipe.name, {"recipe": sha256(text.encode()), "data": data.sha256}, fresh, reporter)
    processes.agree(data.sha256)  # the others wait for this, and then for the fit

    among = f", {processes.count()} processes" if processes.count() > 1 else ""
    reporter.line(f"fit: {recipe.family}, {sum(p.numel() for p in model.parameters()):,} parameters{among}")
    fit, law = _fit(model, recipe, folds, run, reporter)
    exported, provisional = export_model(model), None
    if law is not None:
        assert folds.calibration is not None
        exported = export_score(law, exported)
        provisional = scores_in_torch(model, law, folds.calibration)
    reporter.line("export: verified against torch, and a row alone against a row in a batch")
    parts = Parts(
        recipe=recipe,
        model=model,
        data=data,
        exported=exported,
        verified=verify_export(model, exported, folds.test.rows[:64], law=law),
        law=str(law.words) if law is not None else None,
        law_rows=law_rows(recipe, folds),
        provenance=provenance_of(text, model, data, folds, fit, keeps_rows=keeps_rows(law)),
    )
    draft = draft_bundle(parts, run / "draft", provisional)
    calibration = None
    if folds.calibration is not None:
        reporter.line("calibrate: with the exported graphs")
        scores = calibration_scores(draft, folds.calibration)
        calibration = calibration_rows(recipe, data, folds.calibration, scores)
        draft = draft_bundle(parts, run / "draft", scores)
    reporter.line("evaluate: with the exported graphs")
    metrics = measure(draft, folds.test, data.anomalies, calibration)
    unknown = sorted(set(recipe.tolerance) - {metric.name for metric in metrics})
    if unknown:
        measured = ", ".join(metric.name for metric in metrics)
        raise TrainingInputError(f"{path}: tolerance: {unknown[0]} is not measured; measured are {measured}")
    goldens = make_goldens(draft, folds.test.rows)
    reporter.line("write: the bundle, after it has passed its own verification")
    bundle = ship(parts, out, run / "draft", metrics=metrics, calibration=calibration, goldens=goldens)
    _write_state(run, {"recipe": sha256(text.encode()), "data": data.sha256, "bundle": str(bundle.folder)})
    return Trained(bundle, fit)


def help_train(path: Path, *, data_root: Path, runs: Path) -> None:
    """Do one process's part of ``train``, of which another process is in the lead: fit along, and write nothing.

    Raises:
        TrainingInputError: as for ``train``; also where the data here are not those of the process in the lead.
        TrainingError: training diverged, or the process in the lead is gone.
    """
    recipe, _ = load_recipe(path)
    data, folds = prepare_data(recipe, data_root)
    model = _untrained(recipe, data)
    if processes.agree(data.sha256) != data.sha256:
        raise TrainingInputError(f"{path}: the data of process {processes.rank()} are not those of process 0")
    _fit(model, recipe, folds, runs / recipe.name, Reporter(Console(quiet=True)))


def _untrained(recipe: Recipe, data: Dataset) -> GenerativeModel:
    torch.manual_seed(recipe.seed)
    return build_model(recipe, data.support, data.label_names)


def _fit(
    model: GenerativeModel, recipe: Recipe, folds: Folds, run: Path, reporter: Reporter
) -> tuple[FitReport, nn.Module | None]:
    """Fit the model, and the law of its statistic if the recipe has an anomaly section."""
    fit = fit_model(
        model, recipe.training, folds.train, folds.validation, seed=recipe.seed, folder=run, reporter=reporter
    )
    if fit.best_epoch is not None:
        skipped = f", {fit.skipped} steps skipped" if fit.skipped else ""
        reporter.line(f"  epoch {fit.best_epoch} of {fit.epochs} kept, validation {fit.validation:.4f}{skipped}")
    if recipe.anomaly is None:
        return fit, None
    listed = ", ".join(recipe.anomaly.directions) or "the log-probability"
    reporter.line(f"law: of {listed} of ordinary rows")
    return fit, fit_law(model, recipe, folds, run, reporter)


def _open_run(folder: Path, key: dict[str, str], fresh: bool, reporter: Reporter) -> Path:
    """The run's folder: as an interrupted run of the same recipe and data left it, else empty."""
    state_file = folder / _STATE
    if folder.exists():
        if not state_file.is_file():
            raise TrainingInputError(f"{folder}: not a run's folder; name another with --runs, or remove it")
        state = json.loads(state_file.read_text(encoding="utf-8"))
        why = None
        if fresh:
            why = "as asked"
        elif "bundle" in state:
            why = f"the last one ended in {state['bundle']}"
        elif {name: state.get(name) for name in key} != key:
            why = "recipe or data have changed since the last one"
        if why is None:
            reporter.line(f"run: {folder}, going on")
            return folder
        reporter.line(f"run: {folder}, anew: {why}")
        shutil.rmtree(folder)
    else:
        reporter.line(f"run: {folder}")
    folder.mkdir(parents=True)
    _write_state(folder, key)
    return folder


def _write_state(folder: Path, state: dict[str, str]) -> None:
    write_whole(folder / _STATE, (json.dumps(state, indent=1) + "\n").encode())
