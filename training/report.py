"""What a person reads at the end: a trained bundle's figures, or a bundle's figures beside its manifest's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from contract.bundle import open_bundle
from runtime.model import load_model
from training.calibrate import calibration_rows, calibration_scores
from training.card import figure
from training.errors import DataError
from training.evaluate import measure, tolerated
from training.recipe import parse_recipe
from training.train import Trained, prepare_data

__all__ = ["Compared", "compared_table", "reevaluate", "trained_table"]


@dataclass(frozen=True)
class Compared:
    """One metric, measured again.

    Attributes:
        name: the metric's.
        manifest: what the manifest says.
        measured: what was measured now.
        tolerance: how far they may be apart; None where the recipe says nothing.
        within: whether they are not further apart; None where the recipe says nothing.
    """

    name: str
    manifest: float
    measured: float
    tolerance: float | None
    within: bool | None


def reevaluate(folder: Path, data_root: Path) -> list[Compared]:
    """Measure a bundle's metrics again, on the test fold of the recipe in its manifest.

    Args:
        folder: ``…/NAME/VERSION``.
        data_root: data folder.

    Raises:
        BundleError: the bundle cannot be read.
        TrainingInputError: the data are missing, or are not those that the bundle was made from.
    """
    model = load_model(open_bundle(folder.resolve()))
    manifest = model.manifest
    recipe = parse_recipe(manifest.provenance.recipe, f"{folder}: its recipe")
    data, folds = prepare_data(recipe, data_root)
    if data.sha256 != manifest.provenance.data_sha256:
        raise DataError(f"{folder}: the data are not those that it was made from: their SHA-256 differs")
    if folds.provenance()["test"] != manifest.provenance.folds["test"]:
        raise DataError(f"{folder}: the test fold is not the one that it was measured on: its SHA-256 differs")
    calibration = None
    if recipe.anomaly is not None and folds.calibration is not None:
        scores = calibration_scores(model, folds.calibration)
        calibration = calibration_rows(recipe, data, folds.calibration, scores)
    measured = {metric.name: metric for metric in measure(model, folds.test, data.anomalies, calibration)}
    compared = []
    for metric in manifest.metrics:
        if metric.name not in measured:
            raise DataError(f"{folder}: the metric {metric.name} cannot be measured from its recipe")
        value = measured[metric.name].value
        within = tolerated(metric.name, value, metric.value, recipe.tolerance)
        compared.append(Compared(metric.name, metric.value, value, recipe.tolerance.get(metric.name), within))
    return compared


def compared_table(folder: Path, compared: list[Compared]) -> Table:
    """Figures beside the manifest's."""
    table = Table(title=f"{folder.parent.name} {folder.name}")
    for heading in ("figure", "manifest", "measured", "tolerance", ""):
        table.add_column(heading, justify="left" if heading in ("figure", "") else "right")
    for line in compared:
        words = {True: "within", False: "[bold red]outside[/]", None: ""}[line.within]
        tolerance = "" if line.tolerance is None else f"{line.tolerance:g}"
        table.add_row(line.name, f"{line.manifest:.6g}", f"{line.measured:.6g}", tolerance, words)
    return table


def trained_table(trained: Trained) -> Table:
    """Figures of a bundle that was just written."""
    manifest = trained.bundle.manifest
    table = Table(title=f"{manifest.name} {manifest.version}: {manifest.title}")
    for heading in ("figure", "value", "kind", "fold", "rows"):
        table.add_column(heading, justify="right" if heading in ("value", "rows") else "left")
    for metric in manifest.metrics:
        table.add_row(metric.name, figure(metric), metric.kind.replace("_", " "), metric.fold, f"{metric.n:,}")
    table.add_section()
    size = sum(entry.size for entry in manifest.files.values())
    table.add_row("size", f"{size / 1e6:.2f} MB", "", "", "")
    table.add_row("fitting time", f"{trained.fit.seconds:.1f} s", "", "", "")
    table.add_row("digest", f"{trained.bundle.digest[:12]}…", "", "", "")
    return table
