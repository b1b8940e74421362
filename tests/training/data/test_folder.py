"""Folders of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.data.test_tables import load
from training.errors import DataError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (4, 3, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (4, 3, 5, 3), dtype=np.uint8)
REST = "folder, folder: p, description: pictures"


def save(folder: Path, pictures: dict[str, np.ndarray]) -> None:
    for name, picture in pictures.items():
        path = folder / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def test_grey_pictures_in_the_order_of_their_names(tmp_path: Path) -> None:
    save(tmp_path, {"b.png": GREY[1], "a.png": GREY[0], "c.PNG": GREY[2]})
    (tmp_path / "p" / "notes.txt").write_text("no picture")
    data = load(tmp_path, REST + "}")
    assert np.array_equal(data.rows, GREY[:3])
    assert data.support.shape == (3, 5)
    assert data.support.dtype == "uint8"
    assert data.support.element is not None
    assert data.support.element.levels == 256
    assert data.label_names is None


def test_sub_folders_are_labels(tmp_path: Path) -> None:
    save(tmp_path, {"dog/1.png": COLOUR[0], "cat/2.png": COLOUR[1], "cat/1.png": COLOUR[2]})
    data = load(tmp_path, REST + "}, condition: label")
    assert data.label_names == ("cat", "dog")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1]
    assert np.array_equal(data.rows, COLOUR[[2, 1, 0]])
    assert data.support.shape == (3, 5, 3)
    ordinary = load(tmp_path, REST + "}, ordinary: cat")
    assert np.array_equal(ordinary.anomalies["dog"], COLOUR[:1])


def test_one_picture_in_colour_makes_all_of_them_so(tmp_path: Path) -> None:
    save(tmp_path, {"a.png": GREY[0], "b.png": COLOUR[1]})
    data = load(tmp_path, REST + "}")
    assert np.array_equal(data.rows[0], GREY[0][..., None].repeat(3, axis=2))
    assert np.array_equal(data.rows[1], COLOUR[1])
    grey = load(tmp_path, REST + ", colour: grey}")
    assert grey.rows.shape == (2, 3, 5)
    assert np.array_equal(grey.rows[0], GREY[0])


def test_jpeg_palettes_and_what_shines_through(tmp_path: Path) -> None:
    flat = np.full((3, 5, 3), 77, dtype=np.uint8)
    save(tmp_path, {"a.jpg": flat, "b.jpeg": flat})
    clear = np.dstack([flat, np.array([[0] * 5, [255] * 5, [0] * 5], dtype=np.uint8)])
    save(tmp_path, {"c.png": clear})
    Image.fromarray(flat).convert("P").save(tmp_path / "p" / "d.png")
    rows = load(tmp_path, REST + "}").rows
    assert np.abs(rows[:2].astype(int) - 77).max() <= 2
    assert np.array_equal(rows[2], np.where(clear[..., 3:] == 255, flat, 255))
    assert rows[3].shape == (3, 5, 3)


def test_a_wrong_size_is_named_or_put_right(tmp_path: Path) -> None:
    save(tmp_path, {"a.png": GREY[0], "b.png": GREY[1][:2]})
    with pytest.raises(DataError, match=r"b.png: expected 3 × 5 pixels .*, as a.png has, got 2 × 5; .* name a size"):
        load(tmp_path, REST + "}")
    data = load(tmp_path, REST + ", size: [6, 4]}")
    assert data.rows.shape == (2, 6, 4)
    assert data.description == "pictures, resized to 6 × 4"


def test_an_official_test_folder_has_the_same_labels(tmp_path: Path) -> None:
    save(tmp_path, {"train/dog/1.png": GREY[0], "train/cat/1.png": GREY[1], "test/dog/9.png": GREY[2]})
    rest = "folder, folder: p/train, test: p/test, description: d}, condition: label"
    data = load(tmp_path, rest)
    assert data.test is not None
    assert np.array_equal(data.test, GREY[2:3])
    assert data.test_labels is not None
    assert data.test_labels.tolist() == [1]
    save(tmp_path, {"test/cow/1.png": GREY[3]})
    with pytest.raises(DataError, match=r"cow.1.png: expected a folder called 'cat' or 'dog'"):
        load(tmp_path, rest)


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="p: no such folder; name the data folder"):
        load(tmp_path, REST + "}")
    (tmp_path / "p").mkdir()
    with pytest.raises(DataError, match=r"p: no pictures; they end in .png, .jpg, .jpeg"):
        load(tmp_path, REST + "}")
    save(tmp_path, {"a.png": GREY[0], "b.png": GREY[1]})
    path = tmp_path / "p" / "b.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"b.png: cannot be read"):
        load(tmp_path, REST + "}")
    path.write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"b.png: expected a PNG or JPEG picture"):
        load(tmp_path, REST + "}")
    Image.fromarray(np.zeros((3, 5), dtype=np.uint16)).save(path)
    with pytest.raises(DataError, match=r"b.png: expected a picture of 8 bits a channel, got the mode 'I;16'"):
        load(tmp_path, REST + "}")
    save(tmp_path, {"dog/1.png": GREY[0]})
    with pytest.raises(DataError, match=r"a.png: a picture beside the sub-folder 'dog': which label has it"):
        load(tmp_path, REST + "}")
    path.unlink()
    (tmp_path / "p" / "dog" / "1.png").unlink()
    with pytest.raises(DataError, match="these data have no labels"):
        load(tmp_path, REST + "}, condition: label")
