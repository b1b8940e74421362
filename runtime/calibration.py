"""A new version of a bundle, calibrated with somebody's own ordinary rows; its graphs and all else stay as they are."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.bundle import CARD, Bundle, list_versions, open_bundle, write_arrays, write_bundle
from contract.calibration import CalibrationRows
from contract.errors import BundleError
from contract.lock import read_lock
from runtime.card import recalibrated_card
from runtime.loop import run_program
from runtime.model import LoadedModel, load_model
from runtime.rows import NotConvergedError
from runtime.verify import verify

__all__ = ["recalibrate"]

Array = NDArray[Any]
Say = Callable[[str], None]

_BATCH = 500

# Figures of alarms, which a calibration gives; `training/evaluate.py` and `contract/calibration.py` name them.
_OF_ALARMS = re.compile(r"(false_alarms|false_alarms_by_block|detected_.+)_at_[0-9.e-]+")


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
    blocks: Sequence[str] | None = None,
    blocked_by: str | None = None,
    say: Say = print,
) -> Bundle:
    """Write the next version of a bundle to ``out/NAME/VERSION``, after it has passed the service's own verification.

    Its calibration scores are what the bundle's own score program gives the rows, which must not have been trained on.
    Every program digest stays, so that no sample moves; figures of alarms by the former calibration are left out. Rows
    in blocks give some of their own, of blocks held out.

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
        blocks: of each row the name of its block, [n], if the rows of a block depend on each other; nothing is promised
            of alarms then.
        blocked_by: what the rows of a block have in common, in words.
        say: called with what is being done.

    Raises:
        BundleError: the bundle cannot be trusted or has no score, or a row's score is no number.
        InputError: the share is none, or leaves no ordinary row; rows in one block alone, or in blocks and
            contaminated.
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
    say(f"score: {len(rows):,} rows")
    found = CalibrationRows(
        _scores(model, rows),
        labels=labels,
        labelled_by=labelled_by,
        blocks=blocks,
        blocked_by=blocked_by,
        contaminated=contaminated,
    )
    calibration = found.calibration(
        file=about.file, statistics=about.statistics, law=about.law, rows=ordinary, source_sha256=source_sha256
    )
    dropped = [metric.name for metric in manifest.metrics if _OF_ALARMS.fullmatch(metric.name)]
    version = max([manifest.version, *list_versions(out).get(manifest.name, [])]) + 1
    fields = {
        **manifest.model_dump(mode="json", exclude={"files"}),
        "version": version,
        "metrics": (*(metric for metric in manifest.metrics if metric.name not in dropped), *found.metrics()),
        "calibration": calibration,
    }
    files = {name: model.bundle.path(name).read_bytes() for name in manifest.files}
    files[about.file] = write_arrays(found.arrays())
    if CARD in files:
        files[CARD] = recalibrated_card(
            files[CARD].decode(),
            name=manifest.name,
            version=version,
            former=manifest.version,
            calibration=calibration,
            dropped=dropped,
            metrics=found.metrics(),
        ).encode()
    say("verify: as the service will")
    with tempfile.TemporaryDirectory() as draft:
        verdict = verify(write_bundle(Path(draft), fields, files).folder)
        if not verdict["ok"]:
            raise BundleError(verdict["reason"])
    return write_bundle(out, fields, files)


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
