"""Whether a bundle that was trained on pictures finds pictures of another kind strange: all from its own graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.bundle import open_bundle
from evaluation.figures import ranking_figures
from runtime.model import LoadedModel, load_model
from training.data import read_idx, row_hashes
from training.data.npz import read_arrays
from training.errors import DataError
from training.evaluate import answers

__all__ = ["MOST_PICTURES", "measure_pictures", "read_pictures"]

MOST_PICTURES = 2000
"""Of each set: where there are more, a lot by hash decides which are looked at."""

Array = NDArray[Any]


def measure_pictures(
    bundle: Path, ordinary: str, strange: str, root: Path, most: int = MOST_PICTURES
) -> dict[str, Any]:
    """AUROC and AUPR of the bundle's score, and of its raw log-probability, where a low one is strange.

    Args:
        bundle: its folder, …/NAME/VERSION.
        ordinary: pictures like those that it was trained on, and not among them; ``FILE`` (idx) or ``FILE:KEY`` (npz).
        strange: pictures of another kind.
        root: folder that the files are relative to.
        most: pictures of each set.

    Raises:
        BundleError: the bundle cannot be trusted.
        DataError: it has no score, or a file does not hold pictures that it takes.
    """
    model = load_model(open_bundle(bundle))
    manifest = model.manifest
    if "score" not in manifest.capabilities or model.calibration_scores is None:
        raise DataError(f"{bundle}: it has no score program: {manifest.reasons['score']}")
    one, other = (_figures(model, _lot(model, read_pictures(name, root), most)) for name in (ordinary, strange))
    known = "log_prob" in manifest.capabilities
    kinds = {output.name: output.kind for output in manifest.capabilities["log_prob"].outputs} if known else {}
    return {
        "bundle": f"{manifest.name}/{manifest.version}",
        "digest": model.digest,
        "family": manifest.family,
        "ordinary": ordinary,
        "strange": strange,
        "statistics": [output.name for output in model.program("score").outputs if output.kind == "statistic"],
        "n_ordinary": len(one["score"]),
        "n_strange": len(other["score"]),
        "score": ranking_figures(one["score"], other["score"]),
        "log_prob": ranking_figures(-one["log_prob"], -other["log_prob"]) if known else None,
        "log_prob_kind": kinds.get("log_prob"),
        "law": manifest.calibration.law if manifest.calibration is not None else None,
    }


def _figures(model: LoadedModel, rows: Array) -> dict[str, Array]:
    """Score of each picture, and its log-probability where the bundle has one: [n] each."""
    found = answers(model, "score", rows)
    if "log_prob" not in found and "log_prob" in model.manifest.capabilities:
        found |= answers(model, "log_prob", rows)
    return found


def read_pictures(name: str, root: Path) -> Array:
    """Pictures of an idx file, or of the array KEY of an npz file named ``FILE:KEY``: uint8 [n, height, width(, 3)].

    Raises:
        DataError: no such file or array, or no pictures in it.
    """
    file, _, key = name.partition(":")
    path = root / file
    rows = read_arrays(path, [key])[key] if key else read_idx(path)
    if rows.ndim not in (3, 4) or rows.dtype != np.uint8:
        raise DataError(f"{path}: expected pictures of unsigned bytes, got {rows.dtype} {list(rows.shape)}")
    return rows


def _lot(model: LoadedModel, rows: Array, most: int) -> Array:
    """Some of the pictures, by the hash of their bytes, in the bundle's own dtype."""
    support = model.manifest.support
    if rows.shape[1:] != support.shape:
        raise DataError(
            f"{model.bundle.folder}: it takes pictures of shape {list(support.shape)}, not {list(rows.shape[1:])}"
        )
    chosen = rows[np.argsort(row_hashes(rows, apart=True), kind="stable")[:most]]
    try:
        support.check(chosen)
    except ValueError as error:
        raise DataError(f"{model.bundle.folder}: {error}") from None
    return chosen
