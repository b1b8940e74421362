"""The files of a bundle: written whole, read without trusting them."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as npst

from contract.bundle import (
    CALIBRATION,
    CARD,
    GOLDENS,
    MANIFEST,
    Bundle,
    list_versions,
    open_bundle,
    read_arrays,
    write_arrays,
    write_bundle,
)
from contract.digest import bundle_digest, sha256
from contract.errors import BundleError
from tests.contract.examples import SCORES, files, manifest_fields


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path, manifest_fields(), files())


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest of a bundle on disk, its other files as they are."""
    fields = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(fields)
    (folder / MANIFEST).write_text(json.dumps(fields), encoding="utf-8")


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Change a file and the manifest with it, as someone who builds a bundle can."""
    (folder / name).write_bytes(data)
    rewrite_manifest(folder, lambda fields: fields["files"].update({name: {"size": len(data), "sha256": sha256(data)}}))


# -- written and opened -------------------------------------------------------------------------------------------


def test_a_written_bundle_opens(bundle: Bundle, tmp_path: Path) -> None:
    assert bundle.folder == tmp_path / "example" / "1"
    assert bundle.manifest.title == manifest_fields()["title"]
    assert set(bundle.manifest.files) == set(files())
    for name, data in files().items():
        assert bundle.path(name).read_bytes() == data
    again = open_bundle(bundle.folder)
    assert again == bundle
    assert again.digest == bundle_digest(bundle.manifest)
    np.testing.assert_array_equal(bundle.calibration_scores(), SCORES)


def test_the_digest_ignores_how_the_manifest_is_laid_out(bundle: Bundle) -> None:
    path = bundle.folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=7), encoding="utf-8")
    assert open_bundle(bundle.folder).digest == bundle.digest


def test_equal_bundles_are_equal_bytes(tmp_path: Path) -> None:
    first = write_bundle(tmp_path / "a", manifest_fields(), files())
    second = write_bundle(tmp_path / "b", manifest_fields(), dict(reversed(files().items())))
    assert first.digest == second.digest
    for name in (MANIFEST, *files()):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_a_version_is_never_written_twice(bundle: Bundle, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.folder.iterdir()}
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(tmp_path, manifest_fields(), {**files(), CARD: b"another"})
    assert {path.name: path.read_bytes() for path in bundle.folder.iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"weights": "lost.bin"},
        {"metrics": [{**manifest_fields()["metrics"][0], "value": float("nan")}]},
        {"opset": 2**60},
    ],
    ids=["version", "missing file", "not a number", "beyond JSON"],
)
def test_an_incoherent_bundle_is_not_written(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(BundleError):
        write_bundle(tmp_path, {**manifest_fields(), **change}, files())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", no_space)
    with pytest.raises(OSError, match="No space"):
        write_bundle(tmp_path, manifest_fields(), files())
    assert list((tmp_path / "example").iterdir()) == []


def test_the_manifest_does_not_list_itself_or_what_is_outside(bundle: Bundle) -> None:
    for name in (MANIFEST, "../1/card.md", "lost.bin"):
        with pytest.raises(BundleError, match="does not list"):
            bundle.path(name)


# -- tampered with ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(files()))
@pytest.mark.parametrize("how", ["flipped bit", "one byte more", "emptied"])
def test_a_changed_file_is_named(bundle: Bundle, name: str, how: str) -> None:
    path = bundle.folder / name
    data = bytearray(path.read_bytes())
    if how == "flipped bit":
        data[len(data) // 2] ^= 1
    elif how == "one byte more":
        data.append(0)
    else:
        data.clear()
    path.write_bytes(bytes(data))
    with pytest.raises(BundleError, match=f"'{name}' is corrupt"):
        open_bundle(bundle.folder)


@pytest.mark.parametrize("name", sorted(files()))
def test_a_missing_file_is_named(bundle: Bundle, name: str) -> None:
    (bundle.folder / name).unlink()
    with pytest.raises(BundleError, match=f"'{name}' is missing"):
        open_bundle(bundle.folder)


def test_a_surplus_file_is_named(bundle: Bundle) -> None:
    (bundle.folder / "extra.pkl").write_bytes(b"")
    with pytest.raises(BundleError, match=r"'extra.pkl' is not listed"):
        open_bundle(bundle.folder)


@pytest.mark.parametrize("name", [CARD, "weights.bin", "surplus"])
def test_a_link_is_refused(bundle: Bundle, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(files().get(name, b""))
    (bundle.folder / name).unlink(missing_ok=True)
    (bundle.folder / name).symlink_to(outside)
    with pytest.raises(BundleError, match=f"'{name}' is not a plain file"):
        open_bundle(bundle.folder)


def test_a_linked_manifest_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.folder / MANIFEST).rename(tmp_path / "outside")
    (bundle.folder / MANIFEST).symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match=f"no {MANIFEST}"):
        open_bundle(bundle.folder)


def test_a_folder_inside_is_refused(bundle: Bundle) -> None:
    (bundle.folder / "inner").mkdir()
    with pytest.raises(BundleError, match="'inner' is not a plain file"):
        open_bundle(bundle.folder)


@pytest.mark.parametrize("target", ["example/2", "other/1", "example/01"])
def test_a_bundle_under_another_name_is_refused(bundle: Bundle, tmp_path: Path, target: str) -> None:
    (tmp_path / target).parent.mkdir(exist_ok=True)
    bundle.folder.rename(tmp_path / target)
    with pytest.raises(BundleError, match="the manifest says example/1"):
        open_bundle(tmp_path / target)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match=f"no {MANIFEST}"):
            open_bundle(folder)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"format": 1, "format": 2}',
        b"[" * 100_000,
    ],
    ids=["empty", "cut", "list", "no fields", "not text", "twice", "deep"],
)
def test_a_manifest_that_cannot_be_read_is_refused(bundle: Bundle, text: bytes) -> None:
    (bundle.folder / MANIFEST).write_bytes(text)
    with pytest.raises(BundleError, match=MANIFEST):
        open_bundle(bundle.folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**60], ids=str)
def test_a_manifest_without_a_canonical_form_is_refused(bundle: Bundle, value: float) -> None:
    def change(fields: dict[str, Any]) -> None:
        if isinstance(value, int):
            fields["opset"] = value
        else:
            fields["metrics"][0]["value"] = value

    rewrite_manifest(bundle.folder, change)
    with pytest.raises(BundleError, match=MANIFEST):
        open_bundle(bundle.folder)


# -- calibration scores -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"scores": SCORES[::-1]}, "ascending"),
        ({"scores": np.array([0.0, 1.0, 2.0, np.nan])}, "ascending"),
        ({"scores": SCORES[:3]}, "must hold 4"),
        ({"scores": SCORES.astype(np.float32)}, "must hold 4"),
        ({"scores": SCORES[:, None]}, "must hold 4"),
        ({"other": SCORES}, "must hold 4"),
    ],
    ids=["descending", "not a number", "too few", "float32", "column", "another name"],
)
def test_calibration_scores_must_be_sorted_numbers(
    bundle: Bundle, arrays: dict[str, np.ndarray[Any, Any]], message: str
) -> None:
    replace_file(bundle.folder, CALIBRATION, write_arrays(arrays))
    with pytest.raises(BundleError, match=message):
        open_bundle(bundle.folder).calibration_scores()


def test_scores_of_labels_must_be_sorted_numbers_too(tmp_path: Path) -> None:
    fields = manifest_fields()
    groups = [{"label": "a", "n": 1}, {"label": "b", "n": 3}]
    fields["calibration"] |= {"labelled_by": "kind", "groups": groups}
    arrays = {"scores": SCORES, "scores.0": SCORES[:1], "scores.1": SCORES[1:]}
    bundle = write_bundle(tmp_path, fields, files() | {CALIBRATION: write_arrays(arrays)})
    found = bundle.group_scores()
    assert {label: scores.tolist() for label, scores in found.items()} == {"a": [-1.5], "b": [0.0, 0.0, 2.25]}
    for wrong, message in ((SCORES[:2], "must hold 3 float64 'scores.1'"), (SCORES[:0:-1], "ascending")):
        replace_file(bundle.folder, CALIBRATION, write_arrays(arrays | {"scores.1": wrong}))
        with pytest.raises(BundleError, match=message):
            open_bundle(bundle.folder).group_scores()


def test_infinite_calibration_scores_are_in_order(bundle: Bundle) -> None:
    scores = np.array([-np.inf, 0.0, np.inf, np.inf])
    replace_file(bundle.folder, CALIBRATION, write_arrays({"scores": scores}))
    np.testing.assert_array_equal(open_bundle(bundle.folder).calibration_scores(), scores)


def test_a_bundle_without_a_score_has_no_calibration(tmp_path: Path) -> None:
    fields, data = manifest_fields(), files()
    del fields["calibration"], fields["capabilities"]["score"], fields["parity"]["score"], data[CALIBRATION]
    fields["refusals"]["score"] = "none"
    assert write_bundle(tmp_path, fields, data).calibration_scores() is None


# -- arrays -------------------------------------------------------------------------------------------------------


@given(
    npst.arrays(npst.floating_dtypes() | npst.integer_dtypes() | npst.boolean_dtypes(), npst.array_shapes(min_dims=0))
)
def test_arrays_round_trip(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray[Any, Any]) -> None:
    path = tmp_path_factory.mktemp("arrays") / "a.npz"
    path.write_bytes(write_arrays({"a": array, "b": array.T}))
    back = read_arrays(path)
    assert list(back) == ["a", "b"]
    for name, expected in (("a", array), ("b", array.T)):
        assert back[name].dtype == expected.dtype
        assert back[name].shape == expected.shape
        assert back[name].tobytes() == expected.tobytes()


def test_equal_arrays_give_equal_bytes() -> None:
    first = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros(2, np.int64)}
    second = {"b": np.zeros(2, np.int64), "a": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    assert write_arrays(first) == write_arrays(second)


class Harmful:
    """Unpickling this makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_objects_are_never_written() -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        write_arrays({"a": np.array([object()])})


@pytest.mark.parametrize("form", ["npz of objects", "npy of objects", "pickle"])
def test_a_pickle_is_never_read(tmp_path: Path, form: str) -> None:
    marker, path = tmp_path / "unpickled", tmp_path / "a.npz"
    harmful = np.array([Harmful(marker)], dtype=object)
    with path.open("wb") as file:
        if form == "npz of objects":
            np.savez(file, scores=harmful)
        elif form == "npy of objects":
            np.save(file, harmful)
        else:
            pickle.dump(Harmful(marker), file)
    with pytest.raises(BundleError):
        read_arrays(path)
    assert not marker.exists()


def not_arrays() -> dict[str, bytes]:
    whole = write_arrays({"scores": np.arange(50.0)})
    npy = io.BytesIO()
    np.save(npy, np.arange(3.0))
    text_member = io.BytesIO()
    with zipfile.ZipFile(text_member, "w") as archive:
        archive.writestr("scores", "1, 2, 3")
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w") as archive:
        member = io.BytesIO()
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
        archive.writestr("scores.npy", member.getvalue())
    corrupt = bytearray(whole)
    corrupt[60] ^= 0xFF
    return {
        "empty": b"",
        "text": b"scores = 1, 2, 3",
        "cut": whole[: len(whole) // 2],
        "corrupt": bytes(corrupt),
        "no directory": whole[:4],
        "one array": npy.getvalue(),
        "a member that is no array": text_member.getvalue(),
        "more than it holds": huge.getvalue(),
    }


@pytest.mark.parametrize("name", not_arrays())
def test_what_is_no_npz_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(not_arrays()[name])
    with pytest.raises(BundleError, match=r"a\.npz"):
        read_arrays(path)


def test_a_missing_file_of_arrays_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=GOLDENS):
        read_arrays(tmp_path / GOLDENS)


# -- versions -----------------------------------------------------------------------------------------------------


def test_versions_are_listed_by_number(tmp_path: Path) -> None:
    for folder in ("moons/10", "moons/2", "moons/.3-draft", "moons/01", "moons/x", ".hidden/1", "empty", "digits/1"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "moons" / "4").write_text("a file")
    (tmp_path / "bundles.lock").write_text("")
    assert list_versions(tmp_path) == {"digits": [1], "moons": [2, 10]}


def test_no_folder_holds_no_versions(tmp_path: Path) -> None:
    assert list_versions(tmp_path / "nowhere") == {}
