"""A new version of a bundle, calibrated with somebody's own ordinary rows; its graphs and all else stay as they are."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.bundle import CARD, Bundle, list_versions, open_bundle, write_arrays, write_bundle
from contract.conformal import tied_share
from contract.errors import BundleError, InputError
from contract.lock import read_lock
from contract.manifest import Calibration, CalibrationGroup
from runtime.card import recalibrated_card
from runtime.loop import run_program
from runtime.model import LoadedModel, load_model
from runtime.rows import NotConvergedError
from runtime.verify import verify

__all__ = ["recalibrate"]

Array = NDArray[Any]
Say = Callable[[str], None]

_BATCH = 500

# Figures of alarms, which a calibration gives; `training/evaluate.py` names them.
_OF_ALARMS = re.compile(r"(false_alarms|detected_.+)_at_[0-9.e-]+")


def recalibrate(
    folder: Path,
    rows: Array,
    out: Path,
    *,
    ordinary: str,
    source_sha256: str,
    contaminated: float = 0.0,
    labels: Sequence[str] | None = None,
    labelled_by: str | None = None,
    say: Say = print,
) -> Bundle:
    """Write the next version of a bundle to ``out/NAME/VERSION``, after it has passed the service's own verification.

    Its calibration scores are what the bundle's own score program gives the rows, which must not have been trained on.
    Every program digest stays, so that no sample moves; figures of alarms by the former calibration are left out.

    Args:
        folder: the bundle, ``…/NAME/VERSION``.
        rows: ordinary rows, [n, *shape] of the support's dtype.
        out: folder of bundles.
        ordinary: which rows count as ordinary, in words.
        source_sha256: SHA-256 of the file that the rows came in.
        contaminated: share of the rows, from 0 and below 1, of which some may be anomalies; p-values then hold whatever
            these score, as ``contract/conformal.py`` derives: floor(share n) rows are taken off the denominator.
            Where rows have labels, it is a share of the rows of each.
        labels: of the rows, [n], if p-values are to be had among the rows of each label.
        labelled_by: the column that held them.
        say: called with what is being done.

    Raises:
        BundleError: the bundle cannot be trusted or has no score, or a row's score is no number.
        InputError: the share is none, or leaves no ordinary row.
    """
    pin = read_lock(folder.parent.parent).get(f"{folder.parent.name}/{folder.name}")
    checked = verify(folder, pin)
    if not checked["ok"]:
        raise BundleError(checked["reason"])
    model = load_model(open_bundle(folder))
    manifest = model.manifest
    about = manifest.calibration
    if about is None:
        raise BundleError(
            f"{folder}: it has no score program, so there is nothing to calibrate: {manifest.reasons['score']}"
        )
    n, apart = len(rows), _at_most(contaminated, len(rows))
    say(f"score: {n:,} rows")
    found = _scores(model, rows)
    scores = np.sort(found)
    groups, arrays = _grouped(found, labels, contaminated)
    calibration = Calibration(
        file=about.file,
        n=n,
        statistics=about.statistics,
        law=about.law,
        rows=ordinary,
        source_sha256=source_sha256,
        tied=round(tied_share(scores), 4),
        contaminated=apart,
        labelled_by=labelled_by if groups else None,
        groups=groups,
    )
    dropped = [metric.name for metric in manifest.metrics if _OF_ALARMS.fullmatch(metric.name)]
    version = max([manifest.version, *list_versions(out).get(manifest.name, [])]) + 1
    fields = {
        **manifest.model_dump(mode="json", exclude={"files"}),
        "version": version,
        "metrics": tuple(metric for metric in manifest.metrics if metric.name not in dropped),
        "calibration": calibration,
    }
    files = {name: model.bundle.path(name).read_bytes() for name in manifest.files}
    files[about.file] = write_arrays({"scores": scores, **arrays})
    if CARD in files:
        files[CARD] = recalibrated_card(
            files[CARD].decode(),
            name=manifest.name,
            version=version,
            former=manifest.version,
            calibration=calibration,
            dropped=dropped,
        ).encode()
    say("verify: as the service will")
    with tempfile.TemporaryDirectory() as draft:
        verdict = verify(write_bundle(Path(draft), fields, files).folder)
        if not verdict["ok"]:
            raise BundleError(verdict["reason"])
    return write_bundle(out, fields, files)


def _grouped(
    scores: NDArray[np.float64], labels: Sequence[str] | None, contaminated: float
) -> tuple[tuple[CalibrationGroup, ...], dict[str, NDArray[np.float64]]]:
    """Groups by label, in the labels' order, and the sorted scores of each, by their names in the file."""
    if labels is None:
        return (), {}
    of = np.array(labels, dtype=object)
    groups, arrays = [], {}
    for i, label in enumerate(sorted(set(labels))):
        own = np.sort(scores[of == label])
        apart = _at_most(contaminated, len(own))
        groups.append(CalibrationGroup(label=label, n=len(own), tied=round(tied_share(own), 4), contaminated=apart))
        arrays[f"scores.{i}"] = own
    return tuple(groups), arrays


def _scores(model: LoadedModel, rows: Array) -> NDArray[np.float64]:
    """Scores of rows, [n]."""
    parts = []
    for start in range(0, len(rows), _BATCH):
        try:
            part = run_program(model, "score", {"x": rows[start : start + _BATCH]})["score"]
        except NotConvergedError as error:
            raise BundleError(f"{model.bundle.folder}: score: {error}") from None
        if np.isnan(part).any():
            row = start + int(np.argmax(np.isnan(part)))
            raise BundleError(f"{model.bundle.folder}: the score of calibration row {row} is NaN, so it has no rank")
        parts.append(part)
    return np.concatenate(parts)


def _at_most(share: float, n: int) -> int:
    """How many of n rows a share is, at the most; a rounding error below a whole number is one."""
    apart = math.floor(share * n + 1e-9) if 0.0 <= share < 1.0 else -1
    if not 0 <= apart < n:
        raise InputError(column="contaminated", expected="a share from 0 to below 1", got=f"{share:g}")
    return apart
