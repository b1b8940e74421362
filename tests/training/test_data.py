"""Loaders: what rows are, that they are read as they are, and that binarising happens once."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits

from training.data import Fold, binarise, load_data, read_idx
from training.errors import DataError
from training.recipe import Recipe, parse_recipe

HEADER = "{name: a, title: t, description: d, licence: l, family: f, "


def recipe(rest: str) -> Recipe:
    return parse_recipe(HEADER + rest + "}")


def idx(pictures: NDArray[np.uint8]) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in pictures.shape)
    return bytes([0, 0, 8, pictures.ndim]) + sizes + pictures.tobytes()


PICTURES = np.random.default_rng(0).integers(0, 256, (7, 3, 4), dtype=np.uint8)
IDX = "data: {loader: idx, train: train.idx.gz, test: test.idx, description: pictures}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.idx.gz").write_bytes(gzip.compress(idx(PICTURES)))
    (tmp_path / "test.idx").write_bytes(idx(PICTURES[:2]))
    return tmp_path


# -- breast cancer -------------------------------------------------------------------------------------------------


def test_breast_cancer_rows_are_scikit_learns() -> None:
    data = load_data(recipe("data: {loader: sklearn, set: breast_cancer}, ordinary: benign"), Path())
    bunch = load_breast_cancer()
    assert data.support.columns is not None
    assert [column.name for column in data.support.columns] == list(bunch.feature_names)
    assert np.array_equal(data.rows, bunch.data[bunch.target == 1])
    assert list(data.anomalies) == ["malignant"]
    assert np.array_equal(data.anomalies["malignant"], bunch.data[bunch.target == 0])


def test_breast_cancer_columns_are_positive_exactly_where_no_value_is_zero() -> None:
    data = load_data(recipe("data: {loader: sklearn, set: breast_cancer}"), Path())
    for column, values in zip(data.support.columns or (), data.rows.T, strict=True):
        assert (column.kind == "positive") == (values.min() > 0), column.name
        assert column.kind in ("real", "positive")


def test_breast_cancer_values_lie_on_the_stated_resolution_and_on_none_coarser() -> None:
    data = load_data(recipe("data: {loader: sklearn, set: breast_cancer}"), Path())
    for column, values in zip(data.support.columns or (), data.rows.T, strict=True):
        assert column.resolution is not None
        steps = values / column.resolution
        assert np.allclose(steps, np.round(steps), rtol=1e-9, atol=1e-4), column.name
        coarser = values / (10 * column.resolution)
        assert not np.allclose(coarser, np.round(coarser), rtol=1e-9, atol=1e-4), column.name


def test_an_unknown_label_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(DataError, match=r"no label 'well'; they have benign, malignant"):
        load_data(recipe("data: {loader: sklearn, set: breast_cancer}, ordinary: well"), Path())


# -- moons and digits ----------------------------------------------------------------------------------------------


def test_moons_are_rounded_so_that_they_are_the_same_everywhere() -> None:
    data = load_data(recipe("data: {loader: moons, n: 500, noise: 0.1, seed: 3}"), Path())
    assert data.rows.shape == (500, 2)
    assert np.array_equal(np.round(data.rows, 6), data.rows)
    assert data.sha256 == load_data(recipe("data: {loader: moons, n: 500, noise: 0.1, seed: 3}"), Path()).sha256
    assert data.sha256 != load_data(recipe("data: {loader: moons, n: 500, noise: 0.1, seed: 4}"), Path()).sha256
    # Pinned: the folds of shipped bundles hang on these bytes.
    assert data.sha256.startswith("f353338053ffcbed")


def test_digits_can_be_cropped_and_binarised() -> None:
    data = load_data(recipe("data: {loader: sklearn, set: digits, crop: [2, 1, 3, 4]}, binarise: {seed: 0}"), Path())
    grey = load_digits().images[:, 2:5, 1:5]
    assert data.support.shape == (3, 4)
    assert data.support.dtype == "uint8"
    assert data.rows.shape == grey.shape
    assert set(np.unique(data.rows)) == {0, 1}
    assert (data.rows[grey == 0] == 0).all()
    assert (data.rows[grey == 16] == 1).all()
    assert "binar" in data.description or "drawn once" in data.description


# -- binarising ----------------------------------------------------------------------------------------------------


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.just(3), st.just(2)), elements=st.integers(0, 255)),
    st.integers(0, 2**53 - 1),
)
def test_a_picture_is_binarised_the_same_wherever_it_lies(rows: NDArray[np.uint8], seed: int) -> None:
    whole = binarise(rows, 256, seed)
    assert np.array_equal(whole, binarise(rows, 256, seed))
    for index in range(len(rows)):
        assert np.array_equal(binarise(rows[index : index + 1], 256, seed)[0], whole[index])


def test_pixels_are_on_as_often_as_they_are_bright() -> None:
    # Every row differs, or equal rows would be drawn alike: intensity 64 of 256 in all columns but the first two.
    rows = np.full((2000, 40), 64, dtype=np.uint8)
    rows[:, 0], rows[:, 1] = np.arange(2000) % 256, np.arange(2000) // 256
    drawn = binarise(rows, 256, seed=0)[:, 2:]
    p, n = 64 / 255, drawn.size
    assert abs(drawn.mean() - p) < 4.5 * np.sqrt(p * (1 - p) / n)
    columns = np.corrcoef(drawn.T.astype(float))
    assert np.abs(columns[~np.eye(38, dtype=bool)]).max() < 5.5 / np.sqrt(2000)
    other = binarise(rows, 256, seed=1)[:, 2:]
    assert abs((drawn == other).mean() - (p * p + (1 - p) ** 2)) < 0.01


def test_training_may_draw_pixels_anew_and_then_knows_their_chances() -> None:
    text = "data: {loader: sklearn, set: digits, crop: [2, 1, 3, 4]}, binarise: {seed: 0"
    once, anew = load_data(recipe(text + "}"), Path()), load_data(recipe(text + ", redraw: true}"), Path())
    assert once.chances is None
    assert np.array_equal(once.rows, anew.rows), "the folds are the same, so that figures are comparable"
    assert anew.chances is not None
    assert np.allclose(anew.chances, load_digits().images[:, 2:5, 1:5] / 16)
    assert "anew" in anew.description
    part = anew.fold[np.array([5, 2])] + anew.fold[:1]
    assert part.chances is not None
    assert np.array_equal(part.chances, anew.chances[[5, 2, 0]])
    with pytest.raises(ValueError, match="with chances and rows without"):
        once.fold + anew.fold
    with pytest.raises(ValueError, match="chances of shape"):
        Fold(once.rows, chances=anew.chances[:3])


# -- idx -----------------------------------------------------------------------------------------------------------


def test_idx_pictures_gzipped_or_not(folder: Path) -> None:
    data = load_data(recipe(IDX), folder)
    assert np.array_equal(data.rows, PICTURES)
    assert data.test is not None
    assert np.array_equal(data.test, PICTURES[:2])
    assert data.support.dtype == "uint8"
    assert data.support.element is not None
    assert data.support.element.levels == 256


def test_the_digest_of_the_data_sees_every_part(folder: Path) -> None:
    before = load_data(recipe(IDX), folder).sha256
    (folder / "train.idx.gz").write_bytes(gzip.compress(idx(PICTURES), compresslevel=1))
    assert load_data(recipe(IDX), folder).sha256 == before
    changed = PICTURES[:2].copy()
    changed[1, 2, 3] ^= 1
    (folder / "test.idx").write_bytes(idx(changed))
    assert load_data(recipe(IDX), folder).sha256 != before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an idx file"),
        (b"\x89PNG\r\n", "not an idx file"),
        (bytes([0, 0, 13, 3]) + bytes(12), "not an idx file"),  # floats
        (idx(PICTURES)[:-1], r"its header says shape \(7, 3, 4\), but 83 bytes follow"),
        (idx(PICTURES) + b"\0", "but 85 bytes follow"),
        (idx(PICTURES)[:9], "bytes follow"),
        (gzip.compress(idx(PICTURES))[:-9], "cannot be read"),
        (bytes([0, 0, 8, 1, 255, 255, 255, 255]), "bytes follow"),  # a negative size
    ],
)
def test_a_damaged_idx_file_is_refused_and_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "train.idx.gz"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as error:
        read_idx(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_says_how_to_name_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; name the data folder with --data or NONESUCH_DATA"):
        load_data(recipe(IDX), tmp_path)


def test_pictures_of_another_shape_are_refused(folder: Path) -> None:
    (folder / "test.idx").write_bytes(idx(np.zeros((2, 4, 4), dtype=np.uint8)))
    with pytest.raises(DataError, match=r"test.idx: its pictures are \(4, 4\), the others \(3, 4\)"):
        load_data(recipe(IDX), folder)
    (folder / "train.idx.gz").write_bytes(idx(np.zeros(5, dtype=np.uint8)))
    with pytest.raises(DataError, match=r"expected pictures \[n, height, width\]"):
        load_data(recipe(IDX), folder)


# -- labels --------------------------------------------------------------------------------------------------------

LABELLED_IDX = "data: {loader: idx, train: train.idx.gz, train_labels: labels.idx, description: pictures"


@pytest.fixture
def labelled_folder(folder: Path) -> Path:
    (folder / "labels.idx").write_bytes(idx(np.array([0, 1, 2, 2, 1, 0, 2], dtype=np.uint8)))
    (folder / "test-labels.idx").write_bytes(idx(np.array([2, 0], dtype=np.uint8)))
    return folder


def test_a_model_is_conditional_where_the_recipe_says_so(labelled_folder: Path) -> None:
    split = LABELLED_IDX + ", test: test.idx, test_labels: test-labels.idx, label_names: [boot, bag, coat]}"
    data = load_data(recipe(split + ", condition: label"), labelled_folder)
    assert data.label_names == ("boot", "bag", "coat")
    assert data.fold.labels is not None
    assert data.fold.labels.tolist() == [0, 1, 2, 2, 1, 0, 2]
    assert data.test_labels is not None
    assert data.test_labels.tolist() == [2, 0]
    plain = load_data(recipe(split), labelled_folder)
    assert plain.labels is plain.test_labels is plain.label_names is None
    assert plain.sha256 == load_data(recipe(IDX), labelled_folder).sha256 != data.sha256


def test_of_an_official_split_the_other_labels_are_anomalies(labelled_folder: Path) -> None:
    split = LABELLED_IDX + ", test: test.idx, test_labels: test-labels.idx}, ordinary: '2'"
    data = load_data(recipe(split), labelled_folder)
    assert np.array_equal(data.rows, PICTURES[[2, 3, 6]])
    assert data.test is not None
    assert np.array_equal(data.test, PICTURES[:1])
    assert list(data.anomalies) == ["0"]
    assert np.array_equal(data.anomalies["0"], PICTURES[1:2])


def test_labels_are_binarised_rows_own(labelled_folder: Path) -> None:
    data = load_data(recipe(LABELLED_IDX + "}, condition: label, binarise: {seed: 0}"), labelled_folder)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 2, 1, 0, 2]
    assert data.label_names == ("0", "1", "2")


def test_moons_are_labelled_by_the_arc_they_were_made_on() -> None:
    data = load_data(recipe("data: {loader: moons, n: 400, noise: 0.01, seed: 0}, condition: label"), Path())
    assert data.label_names == ("upper", "lower")
    centre = np.where((data.labels == 0)[:, None], [[0.0, 0.0]], [[1.0, 0.5]])
    assert np.allclose(np.linalg.norm(data.rows - centre, axis=1), 1.0, atol=0.06)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (
            LABELLED_IDX.replace("labels.idx", "train.idx.gz") + "}, ordinary: '1'",
            "expected a label for each of 7",
        ),
        (LABELLED_IDX.replace("labels.idx", "test-labels.idx") + "}, ordinary: '1'", r"got an array of shape \(2,\)"),
        (LABELLED_IDX + ", label_names: [boot, bag]}, ordinary: bag", "label 2, but the recipe names 2 labels"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labelled_folder: Path, rest: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(recipe(rest), labelled_folder)
