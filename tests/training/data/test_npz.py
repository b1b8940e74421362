"""Arrays in npz and npy files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.data.test_tables import kinds, load
from training.errors import DataError, RecipeError

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(30, 3))
PICTURES = RNG.integers(0, 256, (8, 4, 5, 3), dtype=np.uint8)


def save(folder: Path, **arrays: Any) -> None:
    np.savez(folder / "a.npz", **arrays)


def test_a_table_with_labels(tmp_path: Path) -> None:
    y = np.arange(30) % 3 == 0
    save(tmp_path, X=TABLE, y=y.astype(np.int64))
    rest = "npz, file: a.npz, rows: X, labels: y, label_names: [well, ill], names: [a, b, c], description: d}"
    data = load(tmp_path, rest + ", ordinary: well")
    assert np.array_equal(data.rows, TABLE[~y])
    assert np.array_equal(data.anomalies["ill"], TABLE[y])
    assert kinds(data) == {"a": "real", "b": "real", "c": "real"}
    unnamed = load(tmp_path, "npz, file: a.npz, rows: X, labels: y, description: d}, ordinary: 0")
    assert list(unnamed.anomalies) == ["1"]
    assert kinds(unnamed) == {"x0": "real", "x1": "real", "x2": "real"}


def test_a_table_is_inspected_as_a_csv_file_is(tmp_path: Path) -> None:
    x = np.stack([TABLE[:, 0], np.arange(30) % 2, np.full(30, 7.0), np.where(TABLE[:, 1] > 0, TABLE[:, 1], np.nan)], 1)
    save(tmp_path, X=x)
    data = load(tmp_path, "npz, file: a.npz, rows: X, columns: {x0: {kind: real, resolution: 0.1}}, description: d}")
    assert kinds(data)["x1"] == "binary"
    assert data.left_out == {"x2": "left out: the same in every row, '7'"}
    first, _, last = data.support.columns or ()
    assert first.resolution == 0.1
    assert last.missing_allowed
    assert np.array_equal(data.rows, x[:, [0, 1, 3]], equal_nan=True)


def test_pictures_grey_in_colour_and_black_and_white(tmp_path: Path) -> None:
    names = np.array(["cat", "dog"])
    save(tmp_path, x=PICTURES, y=np.arange(8)[:, None] % 2, names=names, grey=PICTURES[..., 0], bits=PICTURES > 127)
    data = load(tmp_path, "npz, file: a.npz, rows: x, labels: y, label_names: names, description: d}, condition: label")
    assert data.support.shape == (4, 5, 3)
    assert data.support.element is not None
    assert (data.support.element.kind, data.support.element.levels, data.support.dtype) == ("ordinal", 256, "uint8")
    assert np.array_equal(data.rows, PICTURES)
    assert data.label_names == ("cat", "dog")
    assert load(tmp_path, "npz, file: a.npz, rows: grey, description: d}").support.shape == (4, 5)
    bits = load(tmp_path, "npz, file: a.npz, rows: bits, description: d}").support
    assert bits.element is not None
    assert bits.element.kind == "binary"
    drawn = load(tmp_path, "npz, file: a.npz, rows: grey, description: d}, binarise: {seed: 0}")
    assert set(np.unique(drawn.rows)) == {0, 1}


def test_an_official_test_file_has_the_same_keys(tmp_path: Path) -> None:
    save(tmp_path, x=TABLE, y=np.repeat(["a", "b"], 15))
    np.savez(tmp_path / "t.npz", x=TABLE[:4] + 1, y=np.array(["b", "a", "a", "b"]))
    rest = "npz, file: a.npz, test: t.npz, rows: x, labels: y, description: d}, condition: label"
    data = load(tmp_path, rest)
    assert data.test is not None
    assert np.array_equal(data.test, TABLE[:4] + 1)
    assert data.test_labels is not None
    assert data.test_labels.tolist() == [1, 0, 0, 1]
    np.savez(tmp_path / "t.npz", x=TABLE[:4], y=np.array(["b", "a", "c", "b"]))
    with pytest.raises(DataError, match=r"t.npz: labels: expected one of 'a', 'b', got 'c'"):
        load(tmp_path, rest)
    np.savez(tmp_path / "t.npz", x=TABLE[:4, :2], y=np.array(["b", "a", "c", "b"]))
    with pytest.raises(DataError, match=r"t.npz: rows of float64 \[4, 2\], but those of .*a.npz are float64 \[30, 3\]"):
        load(tmp_path, rest)


def test_an_npy_file_holds_one_array(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", TABLE)
    assert np.array_equal(load(tmp_path, "npz, file: a.npy, description: d}").rows, TABLE)
    with pytest.raises(RecipeError, match="an npy file holds one array, and no keys"):
        load(tmp_path, "npz, file: a.npy, rows: x, description: d}")


@pytest.mark.parametrize(
    ("arrays", "rest", "message"),
    [
        ({"y": TABLE}, "", "no array 'x'; there are 'y'"),
        ({"x": TABLE[0]}, "", r"rows: expected numbers \[n, d\], or pictures .*, got float64 \[3\]"),
        ({"x": np.array([["a"]])}, "", "rows: expected numbers"),
        ({"x": PICTURES.astype(float)}, "", "rows: expected pictures of unsigned bytes"),
        ({"x": np.zeros((3, 2, 2, 4), np.uint8)}, "", r"rows: expected 3 channels, the last axis, got uint8"),
        ({"x": PICTURES}, ", names: [a]", "pictures have no columns"),
        ({"x": TABLE}, ", names: [a]", "names: 1 names for 3 columns"),
        ({"x": TABLE, "n": TABLE}, ", names: n", "names: expected different strings, got float64"),
        (
            {"x": TABLE, "y": np.zeros(29)},
            ", labels: y",
            "labels: expected .* for each of 30 rows, got",
        ),
        ({"x": TABLE, "y": np.full(30, 0.5)}, ", labels: y", "labels: expected whole numbers, got 0.5"),
        ({"x": TABLE, "y": np.full(30, 2)}, ", labels: y, label_names: [a, b]", "labels: from 2 to 2, but there are 2"),
        (
            {"x": np.where(TABLE > 1, np.inf, TABLE)},
            ", columns: {x1: real}",
            r"row \d+, column 'x1': expected",
        ),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any], rest: str, message: str) -> None:
    save(tmp_path, **arrays)
    ordinary = ", ordinary: '0'" if "labels" in rest else ""
    with pytest.raises(DataError, match=rf"a.npz: {message}") as error:
        load(tmp_path, f"npz, file: a.npz, rows: x{rest}, description: d}}{ordinary}")
    assert "\n" not in str(error.value)


def test_what_would_have_to_be_unpickled_is_refused(tmp_path: Path) -> None:
    save(tmp_path, x=np.array([{"a": 1}], dtype=object), y=TABLE)
    assert load(tmp_path, "npz, file: a.npz, rows: y, description: d}").rows.shape == (30, 3)
    with pytest.raises(DataError, match=r"a.npz: cannot be read: Object arrays cannot be loaded"):
        load(tmp_path, "npz, file: a.npz, rows: x, description: d}")
    (tmp_path / "a.npz").write_bytes(b"PK or so")
    with pytest.raises(DataError, match=r"a.npz: cannot be read"):
        load(tmp_path, "npz, file: a.npz, rows: x, description: d}")
    with pytest.raises(DataError, match=r"b.npz: no such file"):
        load(tmp_path, "npz, file: b.npz, rows: x, description: d}")
