"""Putting a bundle together: manifest, graphs, calibration, goldens and card, verified before it is seen."""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import nn

from contract.bundle import CALIBRATION, CARD, GOLDENS, Bundle, list_versions, write_arrays, write_bundle
from contract.calibration import CalibrationRows
from contract.capabilities import CAPABILITIES, UNASKED
from contract.manifest import Metric, Provenance
from models.base import GenerativeModel
from runtime.model import LoadedModel, load_model
from runtime.profile import numeric_profile
from runtime.verify import verify
from training.card import write_card
from training.data import Dataset
from training.errors import TrainingError
from training.export import Exported
from training.folds import Folds
from training.loop import FitReport
from training.onnx_files import WEIGHTS
from training.parity import Verified, graph_file
from training.recipe import Recipe
from training.statistics.score import AnomalyScore

__all__ = ["Parts", "draft_bundle", "keeps_rows", "next_version", "provenance_of", "ship"]

_TOOLS = ("lightning", "numpy", "onnx", "onnxruntime", "onnxscript", "scikit-learn", "torch")

Array = NDArray[Any]


@dataclass(frozen=True)
class Parts:
    """What a bundle is put together from.

    Attributes:
        recipe: the recipe.
        model: the fitted model, which says what it refuses.
        data: the data, which say what a row is.
        exported: the graphs, with ``score`` if the recipe has an anomaly section.
        verified: what was found of the graphs.
        law: the anomaly law in words, if there is one.
        law_rows: the rows that it was fitted on, in words.
        provenance: where it all came from.
    """

    recipe: Recipe
    model: GenerativeModel
    data: Dataset
    exported: Exported
    verified: Verified
    law: str | None
    law_rows: str | None
    provenance: Provenance


def provenance_of(
    recipe_text: str,
    model: GenerativeModel,
    data: Dataset,
    folds: Folds,
    fit: FitReport | None = None,
    *,
    keeps_rows: bool = False,
) -> Provenance:
    """Where a bundle comes from; without the fit's report, how long it took is not said.

    Args:
        recipe_text: the recipe.
        model: the fitted model.
        data: the data.
        folds: the folds.
        fit: how the fit went.
        keeps_rows: whether training rows are in the graph ``score``.
    """
    return Provenance(
        recipe=recipe_text,
        data="; ".join([data.description, *(f"column {name!r} {why}" for name, why in data.left_out.items())]),
        data_sha256=data.sha256,
        folds=folds.provenance(),
        commit=_commit(),
        contains_training_rows=model.contains_training_rows or keeps_rows,
        training_seconds=round(fit.seconds, 3) if fit is not None else None,
        hardware=fit.hardware if fit is not None else None,
    )


def keeps_rows(law: nn.Module | None) -> bool:
    """Whether training rows are in the graph of the scores."""
    return isinstance(law, AnomalyScore) and law.statistics.keeps_rows


def next_version(root: Path, name: str) -> int:
    """One more than the highest version of that name under a folder of bundles."""
    return max(list_versions(root).get(name, []), default=0) + 1


def draft_bundle(parts: Parts, folder: Path, scores: Array | None) -> LoadedModel:
    """A bundle to measure with: the graphs as they will ship, calibration scores and no more of them, no figures.

    Args:
        parts: what it is put together from.
        folder: where to write it; what is there is replaced.
        scores: calibration scores, which may be provisional, [n], if the recipe has an anomaly section.
    """
    _empty(folder)
    files = _graph_files(parts.exported)
    rows = None if scores is None else CalibrationRows(scores)
    if rows is not None:
        files[CALIBRATION] = write_arrays(rows.arrays())
    return load_model(write_bundle(folder, _manifest(parts, 1, (), rows), files))


def ship(
    parts: Parts,
    root: Path,
    folder: Path,
    *,
    metrics: tuple[Metric, ...],
    calibration: CalibrationRows | None,
    goldens: bytes,
) -> Bundle:
    """Write ``root/NAME/NEXT_VERSION``, after the same bundle was verified in a folder of its own.

    Args:
        parts: what it is put together from.
        root: folder of bundles.
        folder: where to try it first; what is there is replaced.
        metrics: what was measured.
        calibration: the calibration rows, scored, if the recipe has an anomaly section.
        goldens: bytes of ``goldens.npz``.

    Raises:
        TrainingError: it does not pass its own verification.
    """
    version = next_version(root, parts.recipe.name)
    manifest = _manifest(parts, version, metrics, calibration)
    card = write_card(
        parts.recipe,
        version=version,
        programs=manifest["capabilities"],
        refusals=manifest["refusals"],
        metrics=metrics,
        calibration=manifest["calibration"],
        law_rows=parts.law_rows,
        provenance=parts.provenance,
        tools=manifest["tools"],
    )
    files = {**_graph_files(parts.exported), GOLDENS: goldens, CARD: card.encode()}
    if calibration is not None:
        files[CALIBRATION] = write_arrays(calibration.arrays())
    _empty(folder)
    found = verify(write_bundle(folder, manifest, files).folder)
    if not found["ok"] or not found["bit_equal"]:
        raise TrainingError(found["reason"] or f"{found['folder']}: its answers are not its goldens, bit for bit")
    return write_bundle(root, manifest, files)


def _manifest(parts: Parts, version: int, metrics: tuple[Metric, ...], rows: CalibrationRows | None) -> dict[str, Any]:
    recipe = parts.recipe
    has = {name: parts.exported.programs[name] for name in CAPABILITIES if name in parts.exported.programs}
    reasons = {
        **UNASKED,
        "score": "this bundle was made without calibration rows",
        **type(parts.model).refusals,
        **parts.model.lacks,
    }
    calibration = None
    if rows is not None:
        assert recipe.anomaly is not None
        statistics = tuple(part.name for part in has["score"].outputs if part.kind == "statistic")
        calibration = rows.calibration(file=CALIBRATION, statistics=statistics, law=parts.law, rows=recipe.anomaly.rows)
    return {
        "name": recipe.name,
        "version": version,
        "title": recipe.title,
        "description": recipe.description.strip(),
        "family": recipe.family,
        "support": parts.data.support,
        "capabilities": has,
        "refusals": {name: reasons[name] for name in CAPABILITIES if name not in has},
        "graphs": parts.verified.graphs,
        "weights": WEIGHTS if parts.exported.weights is not None else None,
        "opset": parts.exported.opset,
        "tools": {"python": platform.python_version(), **{name: version_of(name) for name in _TOOLS}},
        "profile": numeric_profile(),
        "parity": parts.verified.parity,
        "metrics": metrics,
        "calibration": calibration,
        "provenance": parts.provenance,
        "licence": recipe.licence.strip(),
    }


def _graph_files(exported: Exported) -> dict[str, bytes]:
    files = {graph_file(name): data for name, data in exported.graphs.items()}
    if exported.weights is not None:
        files[WEIGHTS] = exported.weights
    return files


def _empty(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _commit() -> str:
    """Commit of this source tree, ``+changes`` if a module differs from it; 'unknown' outside a work tree."""
    tree = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(tree), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != tree:
            return "unknown"  # installed inside somebody else's work tree
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--", "contract", "models", "runtime", "training")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit}+changes" if changed else commit
