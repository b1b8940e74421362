"""How sets are split: who trains, who is looked at, and that the order of rows does not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.labelled import SETTINGS, Labelled, Setting, deal, read_labelled, read_sets, source_of
from training.data import row_hashes
from training.errors import DataError


def made(ordinary: int, strange: int, *, repeats: bool = False, seed: int = 0) -> Labelled:
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(ordinary + strange, 2))
    rows = np.round(rows) + 0.0 if repeats else rows
    labels = np.arange(ordinary + strange) >= ordinary
    order = generator.permutation(len(rows))
    return Labelled("made", rows[order], labels[order], "0")


def as_sets(*parts: np.ndarray) -> list[list[tuple[float, ...]]]:
    return [sorted(map(tuple, part.tolist())) for part in parts]


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 60), st.integers(2, 20), st.sampled_from("AB"), st.integers(0, 3), st.booleans())
def test_every_row_trains_or_is_held_out(
    ordinary: int, strange: int, setting: Setting, seed: int, repeats: bool
) -> None:
    table = made(ordinary, strange, repeats=repeats)
    split = deal(table, seed, setting)
    assert as_sets(np.concatenate([split.train, split.ordinary, split.strange])) == as_sets(table.rows)
    assert as_sets(split.test[split.labels]) == as_sets(split.strange)
    if setting == "A":
        assert split.contaminated == 0
        assert len(split.strange) == strange
        assert len(split.train) == -(-ordinary // 2)
    else:
        half = -(-(ordinary + strange) // 2)
        assert len(split.train) == half
        assert abs(split.contaminated - half * strange / (ordinary + strange)) <= 1
        assert len(split.strange) + split.contaminated == strange


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_split_is_of_the_rows_and_not_of_their_order(setting: Setting) -> None:
    table = made(50, 8)
    order = np.random.default_rng(5).permutation(58)
    other = Labelled("made", table.rows[order], table.strange[order], "0")
    one, two = deal(table, 1, setting), deal(other, 1, setting)
    assert as_sets(one.train, one.ordinary, one.strange) == as_sets(two.train, two.ordinary, two.strange)
    assert as_sets(one.train) != as_sets(deal(table, 2, setting).train)


def test_no_more_rows_than_the_most_are_taken() -> None:
    split = deal(made(100, 10), 0, "A", most=20)
    assert (len(split.train), len(split.ordinary), len(split.strange)) == (20, 20, 10)
    split = deal(made(100, 10), 0, "B", most=20)
    assert (len(split.train), split.contaminated, len(split.ordinary), len(split.strange)) == (20, 2, 20, 8)


@pytest.mark.parametrize("setting", SETTINGS)
def test_groups_do_not_part(setting: Setting) -> None:
    groups = np.repeat(np.arange(20), 5)
    strange = np.zeros(100, dtype=np.bool_)
    strange[[3, 42, 43, 71, 88]] = True
    table = Labelled("made", np.stack([groups, np.arange(100)], axis=1).astype(float), strange, "0", groups)
    split = deal(table, 0, setting)
    trained, held = set(split.train[:, 0]), set(split.test[:, 0])
    assert not trained & held
    assert len(split.train) + len(split.test) == 100
    assert len(trained) == (8 if setting == "A" else 10)
    if setting == "A":
        assert split.contaminated == 0
        assert {0, 8, 14, 17} <= held


@pytest.mark.parametrize(("ordinary", "strange"), [(1, 3), (10, 0)])
def test_a_part_that_would_be_empty_is_an_error(ordinary: int, strange: int) -> None:
    with pytest.raises(DataError, match=r"made: .* leave no (ordinary test rows|anomalies)"):
        deal(made(ordinary, strange), 0, "A")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"X": np.zeros(3), "y": np.zeros(3)}, "X: expected numbers"),
        ({"X": np.zeros((3, 2)), "y": np.array([0, 1, 2])}, "y: expected 0 or 1 for each of 3 rows"),
        ({"X": np.array([[0.0, np.nan]]), "y": np.zeros(1)}, "X: row 0, column 1: expected a finite number"),
        ({"X": np.zeros((3, 2))}, "no array 'y'"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(DataError, match=words):
        read_labelled(tmp_path / "set.npz")


def test_sets_are_found_by_name_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10_b", "2_a"):
        np.savez(tmp_path / f"{name}.npz", X=np.zeros((2, 1)), y=np.array([0, 1]))
    assert [path.stem for path in read_sets(tmp_path)] == ["2_a", "10_b"]
    assert [path.stem for path in read_sets(tmp_path, ["10_b"])] == ["10_b"]
    with pytest.raises(DataError, match="no set 'c'; there are 2_a, 10_b"):
        read_sets(tmp_path, ["c"])
    with pytest.raises(DataError, match="no npz files"):
        read_sets(tmp_path / "absent")


def test_sets_that_were_cut_out_of_one_table_are_known() -> None:
    assert source_of("30_satellite") == source_of("19_landsat")
    assert source_of("29_Pima") == "29_Pima"


@pytest.mark.parametrize("seed", range(5))
def test_the_pipeline_s_own_folds_do_not_follow_the_split(seed: int) -> None:
    # One row in fifty is like no other; all others are alike.
    generator = np.random.default_rng(0)
    rows = np.zeros((10_000, 1))
    alone = generator.permutation(10_000)[:200]
    rows[alone, 0] = 1.0 + np.arange(200)
    table = Labelled("made", np.append(rows, [[-1.0]], axis=0), np.arange(10_001) == 10_000, "0")
    train = deal(table, seed, "A").train
    for key in range(3):  # of folds, of what validates, of cross-fits
        ranked = train[np.argsort(row_hashes(train, key, apart=True))]
        first, n = (ranked[:2500] != 0).sum(), (train != 0).sum()
        assert abs(first - n / 2) < 4.5 * (n / 4) ** 0.5
