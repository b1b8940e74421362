"""The files of a bundle: a folder NAME/VERSION, read without trusting it, written whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from contract.digest import CanonicalizationError, bundle_digest, sha256
from contract.errors import BundleError
from contract.manifest import FileEntry, Manifest

__all__ = [
    "CALIBRATION",
    "CARD",
    "GOLDENS",
    "MANIFEST",
    "Bundle",
    "list_versions",
    "open_bundle",
    "read_arrays",
    "write_arrays",
    "write_bundle",
]

MANIFEST = "manifest.json"
CARD = "card.md"
GOLDENS = "goldens.npz"
CALIBRATION = "calibration.npz"


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files have the sizes and hashes that its manifest lists."""

    folder: Path
    manifest: Manifest
    digest: str

    def path(self, file: str) -> Path:
        """Path of a file that the manifest lists.

        Raises:
            BundleError: the manifest does not list it.
        """
        if file not in self.manifest.files:
            raise BundleError(f"{self.folder}: the manifest does not list {file!r}")
        return self.folder / file

    def calibration_scores(self) -> NDArray[np.float64] | None:
        """Calibration scores, sorted ascending, [n]; None where the bundle has none.

        Raises:
            BundleError: they are not n sorted numbers.
        """
        calibration = self.manifest.calibration
        if calibration is None:
            return None
        return self._scores(calibration.file, "scores", calibration.n)

    def group_scores(self) -> dict[str, NDArray[np.float64]]:
        """Calibration scores of the rows of each label, sorted ascending; errors as for ``calibration_scores``."""
        calibration = self.manifest.calibration
        if calibration is None:
            return {}
        groups = enumerate(calibration.groups)
        return {group.label: self._scores(calibration.file, f"scores.{i}", group.n) for i, group in groups}

    def _scores(self, file: str, name: str, n: int) -> NDArray[np.float64]:
        scores = read_arrays(self.path(file)).get(name)
        if scores is None or scores.dtype != np.float64 or scores.shape != (n,):
            raise BundleError(f"{self.folder}: {file} must hold {n} float64 {name!r}")
        if np.isnan(scores).any() or (scores[1:] < scores[:-1]).any():
            raise BundleError(f"{self.folder}: the calibration {name} must be numbers in ascending order")
        return scores


def open_bundle(folder: Path) -> Bundle:
    """Read a bundle and check its files against its manifest.

    Raises:
        BundleError: no manifest, an invalid one, a missing, surplus, changed or linked file, or a folder whose name
            is not the version or whose parent is not the name.
    """
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"{folder}: no {MANIFEST}")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
        digest = bundle_digest(manifest)
    except (ValidationError, CanonicalizationError) as error:
        raise BundleError(f"{folder}: {MANIFEST}: {_words(error)}") from None
    if (folder.parent.name, folder.name) != (manifest.name, str(manifest.version)):
        raise BundleError(f"{folder}: the manifest says {manifest.name}/{manifest.version}")
    present = set()
    for entry in folder.iterdir():
        if entry.is_symlink() or not entry.is_file():
            raise BundleError(f"{folder}: {entry.name!r} is not a plain file")
        present.add(entry.name)
    for name in sorted(present ^ (set(manifest.files) | {MANIFEST})):
        raise BundleError(f"{folder}: {name!r} is {'not listed in the manifest' if name in present else 'missing'}")
    for name, entry_of in manifest.files.items():
        data = (folder / name).read_bytes()
        if len(data) != entry_of.size or sha256(data) != entry_of.sha256:
            raise BundleError(f"{folder}: {name!r} is corrupt: its size or SHA-256 differs from the manifest's")
    return Bundle(folder, manifest, digest)


def _words(error: ValidationError | CanonicalizationError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the manifest"
    return f"{where}: {first['msg']}"


def list_versions(root: Path) -> dict[str, list[int]]:
    """Versions by name under a folder of bundles, read off folder names alone; dot-names are passed over."""
    found: dict[str, list[int]] = {}
    if not root.is_dir():
        return found
    for name in sorted(root.iterdir()):
        if name.name.startswith(".") or not name.is_dir():
            continue
        versions = sorted(
            int(entry.name) for entry in name.iterdir() if re.fullmatch(r"[1-9]\d{0,8}", entry.name) and entry.is_dir()
        )
        if versions:
            found[name.name] = versions
    return found


def write_bundle(root: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> Bundle:
    """Write ``root/NAME/VERSION`` whole: under a dot-name first, then renamed.

    Args:
        root: folder of bundles.
        manifest: the manifest's fields, without ``files``.
        files: contents of every other file.

    Raises:
        BundleError: the version exists already, or the manifest is incoherent.
    """
    entries = {name: FileEntry(size=len(data), sha256=sha256(data)) for name, data in sorted(files.items())}
    try:
        checked = Manifest.model_validate({**manifest, "files": entries})
        bundle_digest(checked)
    except (ValidationError, CanonicalizationError) as error:
        raise BundleError(f"{MANIFEST}: {_words(error)}") from None
    target = root / checked.name / str(checked.version)
    if target.exists():
        raise BundleError(f"{target} exists already; a version is never written twice")
    draft = root / checked.name / f".{checked.version}-{uuid.uuid4().hex[:8]}"
    draft.mkdir(parents=True)
    try:
        for name, data in files.items():
            (draft / name).write_bytes(data)
        text = json.dumps(checked.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False)
        (draft / MANIFEST).write_text(text + "\n", encoding="utf-8")
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return open_bundle(target)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of an npz file, never pickles.

    Raises:
        BundleError: not an npz file, or one with objects in it.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # numpy, zipfile and zlib raise a dozen kinds of error over bytes that are no npz file
        raise BundleError(f"{path}: not a readable npz file of arrays: {error}") from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise BundleError(f"{path}: {name!r} is not an array")
    return arrays


def write_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An npz file's bytes; equal arrays give equal bytes, since zip members carry no time."""
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(arrays[name], order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0)), member.getvalue())
    return buffer.getvalue()
