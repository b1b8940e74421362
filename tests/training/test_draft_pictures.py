"""A recipe by inspection of pictures: of a folder, of arrays, of an idx file; what is refused, and what to do then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.training.test_draft import command, drafted
from training.data import load_data
from training.draft import draft_recipe, is_data
from training.draft_pictures import picture_statistics
from training.errors import TrainingInputError
from training.recipe import parse_recipe

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (64, 6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (70, 6, 5, 3), dtype=np.uint8)
LABELS = np.array(["cup"] * 62 + ["jug"] * 8)


def save(folder: Path, pictures: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:03}.png")
    return folder


def idx(path: Path, pictures: np.ndarray) -> Path:
    header = b"\0\0\x08" + bytes([pictures.ndim]) + b"".join(size.to_bytes(4, "big") for size in pictures.shape)
    path.write_bytes(header + pictures.tobytes())
    return path


def test_a_folder_an_array_and_an_idx_file_of_the_same_pictures_are_drafted_alike(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", GREY)
    np.savez(tmp_path / "arrays.npz", x=GREY, y=np.arange(64), real=GREY / 255)
    paths = [
        save(tmp_path / "folder", GREY),
        tmp_path / "array.npy",
        tmp_path / "arrays.npz",
        idx(tmp_path / "p-idx3-ubyte", GREY),
    ]
    sections, digests, drafts = [], set(), []
    for path in paths:
        assert is_data(path)
        draft, recipe = drafted(path, purpose="anomaly", name="same")
        data = load_data(recipe, draft.data)
        assert np.array_equal(data.rows, GREY)
        assert draft.about == "64 pictures of 6 × 5 pixels, in 256 levels of grey"
        digests.add(data.sha256)
        given: dict[str, Any] = yaml.safe_load(draft.text)
        sections.append(given.pop("data")["loader"])
        drafts.append({**given, "title": "", "description": "", "anomaly": {**given["anomaly"], "rows": ""}})
    assert sections == ["folder", "npz", "npz", "idx"]
    assert len(digests) == 1
    assert drafts.count(drafts[0]) == 4


def test_what_scores_a_picture_by_default(tmp_path: Path) -> None:
    _, recipe = drafted(save(tmp_path / "cups", COLOUR), purpose="anomaly")
    assert (recipe.name, recipe.family, recipe.training) == ("cups", "independent", None)
    assert recipe.anomaly is not None
    directions = {"log_prob": "both", "complexity": "both", "neighbours": "high", "local_outlier_factor": "high"}
    assert recipe.anomaly.directions == directions
    assert recipe.anomaly.reference == "cross-fit"
    assert recipe.folds.repeats == "apart", "calibration rows are to be dealt as the rows that come are drawn"


def test_of_large_pictures_fewer_are_kept() -> None:
    def kept(size: int) -> list[int]:
        return [part["rows"] for part in picture_statistics(size) if not isinstance(part, str)]

    assert kept(28 * 28) == []
    assert kept(32 * 32 * 3) == [1365, 1365]
    assert kept(64 * 64 * 3) == [341, 341]


def test_a_sub_folder_or_a_label_says_which_pictures_are_ordinary(tmp_path: Path) -> None:
    save(tmp_path / "both" / "cup", COLOUR[:62])
    save(tmp_path / "both" / "jug", COLOUR[62:])
    np.savez(tmp_path / "both.npz", x=COLOUR, kind=LABELS)
    for path, options in ((tmp_path / "both", {}), (tmp_path / "both.npz", {"label": "kind"})):
        draft, recipe = drafted(path, purpose="anomaly", ordinary="cup", **options)
        data = load_data(recipe, draft.data)
        assert np.array_equal(data.rows, COLOUR[:62])
        assert np.array_equal(data.anomalies["jug"], COLOUR[62:])
        assert "62 pictures of both" in recipe.description
    all_of_them, recipe = drafted(tmp_path / "both", purpose="anomaly")
    assert len(load_data(recipe, tmp_path).rows) == 70
    assert all_of_them.about.endswith("in 256 levels of three colours, in sub-folders cup, jug")


def test_one_array_of_several_is_named_behind_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", rgb=COLOUR, alpha=COLOUR[..., 0] > 9)
    with pytest.raises(TrainingInputError, match=r"'rgb', 'alpha' are pictures: name one, as two\.npz:rgb"):
        drafted(tmp_path / "two.npz", purpose="anomaly")
    draft, recipe = drafted(tmp_path / "two.npz:alpha", purpose="anomaly")
    assert np.array_equal(load_data(recipe, tmp_path).rows, COLOUR[..., 0] > 9)
    assert draft.name == "two"
    assert draft.about == "70 pictures of 6 × 5 pixels, of black and white"


def test_pictures_of_a_folder_that_differ_in_size_or_are_large_are_resized(tmp_path: Path) -> None:
    save(tmp_path / "sizes", GREY)
    Image.fromarray(GREY[0, :, :4]).save(tmp_path / "sizes" / "narrow.png")
    draft, recipe = drafted(tmp_path / "sizes", purpose="anomaly")
    assert load_data(recipe, draft.data).rows.shape == (65, 6, 5)
    save(tmp_path / "large", np.zeros((60, 40, 160), dtype=np.uint8))
    draft, recipe = drafted(tmp_path / "large", purpose="anomaly")
    assert load_data(recipe, draft.data).rows.shape == (60, 32, 128)


def test_the_data_folder_is_that_of_the_command_where_the_pictures_are_in_it(tmp_path: Path) -> None:
    save(tmp_path / "data" / "a" / "cups", COLOUR)
    draft = draft_recipe(tmp_path / "data" / "a" / "cups", data_root=tmp_path / "data", purpose="anomaly")
    assert yaml.safe_load(draft.text)["data"]["folder"] == "a/cups"
    assert draft.data == tmp_path / "data"
    cups = tmp_path / "data" / "a" / "cups"
    draft = draft_recipe(cups, data_root=cups, purpose="anomaly")  # which cannot be relative to itself
    assert yaml.safe_load(draft.text)["data"]["folder"] == "cups"


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("few", {}, "59 pictures to model; at least 60 are needed"),
        ("cups", {"ordinary": "cup"}, "--ordinary: these pictures have no labels"),
        ("cups", {"label": "kind", "ordinary": "cup"}, "the label of a picture is the sub-folder"),
        ("cups", {"drop": ["x"]}, "--drop: pictures have no columns to leave out"),
        ("both.npz", {"label": "kind", "ordinary": "pan"}, "--ordinary: no label 'pan'; there are cup, jug"),
        ("both.npz", {"label": "kind"}, "--label and --ordinary go together; name --ordinary VALUE"),
        ("both.npz:y", {}, "no array 'y'; there are 'x', 'kind'"),
        ("none.npz", {}, r"no pictures, unsigned bytes .*; there are real \(float64 \[64, 6, 5\]\)"),
        ("table.npy", {}, "a table; give it as a CSV or Parquet file"),
        ("table.npy:x", {}, "an npy file holds one array, and no keys"),
        ("wide.npy", {}, "pictures of 8 × 600 pixels, and at most 4,096"),
        ("damaged.npz", {}, "damaged.npz: cannot be read"),
        ("damaged.npz:x", {}, "damaged.npz: cannot be read"),
        ("p-idx3-ubyte", {"ordinary": "3"}, "an idx file of pictures holds no labels"),
        ("absent.npz", {}, "absent.npz: no such file"),
        ("empty", {}, "no pictures; they end in .png"),
    ],
)
def test_what_pictures_are_not_drafted_for(tmp_path: Path, path: str, options: dict[str, object], message: str) -> None:
    match path.partition(":")[0]:
        case "few":
            save(tmp_path / "few", GREY[:59])
        case "cups":
            save(tmp_path / "cups", COLOUR)
        case "empty":
            (tmp_path / "empty").mkdir()
        case "both.npz":
            np.savez(tmp_path / "both.npz", x=COLOUR, kind=LABELS)
        case "none.npz":
            np.savez(tmp_path / "none.npz", real=GREY / 255)
        case "table.npy":
            np.save(tmp_path / "table.npy", RNG.normal(size=(80, 3)))
        case "wide.npy":
            np.save(tmp_path / "wide.npy", np.zeros((60, 8, 600), dtype=np.uint8))
        case "damaged.npz":
            (tmp_path / "damaged.npz").write_bytes(b"PK\3\4 and no more")
        case "p-idx3-ubyte":
            idx(tmp_path / "p-idx3-ubyte", GREY)
    with pytest.raises(TrainingInputError, match=message) as error:
        drafted(tmp_path / path, purpose="anomaly", **options)
    assert "\n" not in str(error.value)


def test_no_density_of_pictures_is_drafted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "cups", COLOUR)
    monkeypatch.chdir(tmp_path)
    assert command("cups") == 2
    assert "say --for anomaly; for draws and log-probabilities write a recipe" in capsys.readouterr().err
    (tmp_path / "recipes").mkdir()
    assert command("recipes") == 2
    assert "no pictures; they end in .png" in capsys.readouterr().err
    assert command("cups", "--for", "anomaly", "--recipe-only") == 0
    said = capsys.readouterr().out
    assert "cups: 70 pictures of 6 × 5 pixels, in 256 levels of three colours" in said
    assert parse_recipe((tmp_path / "cups.yaml").read_text(encoding="utf-8")).family == "independent"
