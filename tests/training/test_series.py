"""A series in time: levels, windows in blocks that share no sample, folds by block, and errors that name the line."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.blocks import clustered_error, held_out_alarms
from contract.conformal import alarm_rank
from runtime.model import load_model
from tests.training.runs import train_quietly
from training.calibrate import calibration_rows
from training.data import Dataset
from training.data.load import load_data
from training.data.series import quantised, window_starts
from training.errors import DataError, RecipeError
from training.evaluate import answers
from training.folds import cross_fit_parts, make_folds
from training.recipe import FoldPlan, parse_recipe
from training.report import reevaluate
from training.train import prepare_data

RECIPE = """
name: rides
title: These rides did not happen
description: A sine, for tests.
licence: none
family: wavenet
data:
  loader: series
  file: rides.csv
  window: {window}
  stride: {stride}
  block: {block}
  levels: {levels}
  low: {low}
  high: {high}
  description: a sine with noise
model:
  width: 8
  skip: 8
  layers: 2
training:
  max_epochs: 2
  batch_size: 32
  learning_rate: 0.01
"""


def recipe(**given_: Any) -> str:
    return RECIPE.format(**{"window": 6, "stride": 2, "block": 20, "levels": 8, "low": -2, "high": 2, **given_})


def text_of(values: list[float], *, skip: set[int] = frozenset()) -> str:  # type: ignore[assignment]
    start = datetime(2014, 7, 1)
    lines = [f"{start + timedelta(minutes=30 * i)},{value!r}" for i, value in enumerate(values) if i not in skip]
    return "\n".join(["timestamp,value", *lines]) + "\n"


def sine(n: int) -> list[float]:
    noise = np.random.default_rng(0).normal(scale=0.1, size=n)
    return [float(v) for v in np.sin(np.arange(n) / 3) + noise]


def loaded(folder: Path, text: str, **given_: Any) -> Dataset:
    (folder / "rides.csv").write_text(text, encoding="utf-8")
    return load_data(parse_recipe(recipe(**given_)), folder)


# -- levels ------------------------------------------------------------------------------------------------------------


@given(st.floats(-100, 100), st.floats(0.1, 50), st.integers(2, 256), st.floats(0, 1))
def test_a_level_holds_the_value_that_it_was_made_of(low: float, span: float, levels: int, share: float) -> None:
    high = low + span
    value = min(max(low + share * span, low), high)
    level = int(quantised(np.array([value]), low, high, levels)[0])
    width = (high - low) / levels
    assert 0 <= level < levels
    assert low + level * width - 1e-9 * span - 1e-12 <= value <= low + (level + 1) * width + 1e-9 * span + 1e-12


def test_rows_are_the_levels_of_the_samples_in_order(tmp_path: Path) -> None:
    values = sine(50)
    data = loaded(tmp_path, text_of(values), stride=6)
    assert data.rows.dtype == np.uint8
    assert data.support.shape == (6,)
    # Blocks of 20 samples: three windows in each, the last block too short for more than one.
    starts = [0, 6, 12, 20, 26, 32, 40]
    assert data.rows.tolist() == [[int((v + 2) * 2) for v in values[start : start + 6]] for start in starts]
    assert data.groups is not None
    assert data.groups.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert "level l of 8 holds the values from -2 + 0.5 l" in data.description


# -- windows and folds -------------------------------------------------------------------------------------------------


@given(
    runs=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 60)), min_size=1, max_size=4),
    window=st.integers(2, 8),
    stride=st.integers(1, 9),
    more=st.integers(0, 20),
)
def test_windows_of_different_blocks_share_no_sample(
    runs: list[tuple[int, int]], window: int, stride: int, more: int
) -> None:
    edges, at = [], 0
    for gap, length in runs:
        edges.append((at + gap, at + gap + length))
        at += gap + length
    starts, blocks = window_starts(edges, window, stride, window + more)
    owner: dict[int, int] = {}
    for start, block in zip(starts.tolist(), blocks.tolist(), strict=True):
        assert any(first <= start and start + window <= last for first, last in edges), "no window spans a gap"
        for sample in range(start, start + window):
            assert owner.setdefault(sample, block) == block
    # And no block that could hold a window is passed over.
    assert len(set(blocks.tolist())) == sum(
        min(begin + window + more, last) - begin >= window
        for first, last in edges
        for begin in range(first, last, window + more)
    )


@pytest.mark.parametrize("key", range(5))
def test_disjoint_folds_share_no_sample(tmp_path: Path, key: int) -> None:
    # Every sample has a value of its own, so that windows say where they lie.
    text = text_of([float(i) for i in range(250)])
    data = loaded(tmp_path, text, low=0, high=256, levels=256, block=12)
    folds = make_folds(data, FoldPlan(key=key), calibrated=True, validated=True).named()
    parts = [set(fold.rows.ravel().tolist()) for fold in folds.values()]
    assert sum(len(fold) for fold in folds.values()) == len(data.rows)
    assert len(folds) == 4
    assert sum(len(part) for part in parts) == len(set.union(*parts)), "a sample is in one fold at most"
    for rest, held in cross_fit_parts(data.fold, FoldPlan(key=key), parts=3):
        assert not set(rest.rows.ravel().tolist()) & set(held.rows.ravel().tolist())
    # Two folds that are put together again still know their blocks.
    both = folds["train"] + folds["validation"]
    assert both.groups is not None
    assert len(both.groups) == len(both)


def test_a_gap_ends_a_block(tmp_path: Path) -> None:
    data = loaded(tmp_path, text_of([float(i) for i in range(60)], skip={25}), low=0, high=64, levels=64)
    assert not any({24, 26} <= set(row) for row in data.rows.tolist())
    assert 26 in {row[0] for row in data.rows.tolist()}, "blocks begin anew after the gap"


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "wrong", "words"),
    [
        (3, "2014-07-01 01:00:00,nothing", "line 3, column 'value': expected a finite number, got 'nothing'"),
        (4, "2014-07-01 01:30:00,2.5", "line 4, column 'value': expected a value from -2 to 2"),
        (5, "yesterday,0.5", "line 5, column 'timestamp': expected a time such as"),
        (6, "2014-06-01 01:30:00,0.5", "line 6, column 'timestamp': expected a later time"),
        (7, "2014-07-01 03:00:00", "line 7: expected 2 values, as in the header, got 1"),
        (1, "when,value", "line 1: expected one column 'timestamp', got 'when', 'value'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: int, wrong: str, words: str) -> None:
    lines = text_of(sine(30)).splitlines()
    lines[line - 1] = wrong
    with pytest.raises(DataError, match=words):
        loaded(tmp_path, "\n".join(lines))


def test_what_holds_no_window_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no window of 6"):
        loaded(tmp_path, text_of(sine(5)))
    with pytest.raises(DataError, match="no samples"):
        loaded(tmp_path, "timestamp,value\n")
    with pytest.raises(DataError, match="no such file"):
        load_data(parse_recipe(recipe()), tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("given_", "words"), [({"low": 3}, "low is the lower"), ({"block": 5}, "holds no window"), ({"levels": 300}, "256")]
)
def test_a_recipe_that_makes_no_rows_is_refused(given_: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        parse_recipe(recipe(**given_))


ANOMALY = """
anomaly:
  rows: hours of a made series
  direction: low
"""


def test_a_series_becomes_a_bundle_that_is_calibrated_by_whole_blocks(tmp_path: Path) -> None:
    (tmp_path / "rides.csv").write_text(text_of(sine(300)), encoding="utf-8")
    (tmp_path / "rides.yaml").write_text(recipe() + ANOMALY, encoding="utf-8")
    done, _ = train_quietly(tmp_path / "rides.yaml", tmp_path)
    manifest, card = done.bundle.manifest, (done.bundle.folder / "card.md").read_text(encoding="utf-8")
    assert "each row's block of the series" in card
    assert "level l of 8 holds the values" in card
    outputs = manifest.capabilities["log_prob"].outputs
    assert [(part.name, part.shape) for part in outputs] == [("log_prob", ()), ("trace", (6,))]

    _, folds = prepare_data(parse_recipe(recipe() + ANOMALY), tmp_path)
    calibration, test = folds.calibration, folds.test
    assert calibration is not None
    assert calibration.groups is not None
    assert test.groups is not None
    about = manifest.calibration
    assert about is not None
    assert (about.n, about.blocks, about.blocked_by) == (32, 4, "blocks of 20 samples of the series")
    assert len(set(calibration.groups.tolist())) == 4
    for name, fold in folds.named().items():
        assert fold.groups is not None
        assert name == "calibration" or not set(fold.groups.tolist()) & set(calibration.groups.tolist())
    model = load_model(done.bundle)
    scores = answers(model, "score", calibration.rows)["score"]
    assert np.array_equal(np.sort(scores), model.calibration_scores)
    figures = {metric.name: metric for metric in manifest.metrics}
    assert "false_alarms_by_block_at_0.01" not in figures, "24 rows beside a block do not reach it"
    for alpha in (0.05, 0.1):
        found, figure = (
            held_out_alarms(scores, calibration.groups, alpha),
            figures[f"false_alarms_by_block_at_{alpha:g}"],
        )
        assert found is not None
        assert (figure.value, figure.standard_error) == (found.mean, found.standard_error)
        assert (figure.fold, figure.n, figure.blocks) == ("calibration", 32, 4)
        assert f"| {alpha:g} | {figure.value:.3f} ± {figure.standard_error:.2g} |" in card
        tested = figures[f"false_alarms_at_{alpha:g}"]
        flagged = answers(model, "score", test.rows)["score"] > np.sort(scores)[-alarm_rank(32, alpha)]
        assert tested.value == flagged.mean()
        assert tested.standard_error == clustered_error(flagged, test.groups)
        assert (tested.n, tested.blocks) == (len(test), len(set(test.groups.tolist())))
        assert f"| test | {tested.n} in {tested.blocks} blocks |" in card
    values = answers(model, "log_prob", test.rows)["log_prob"]
    likely = figures["test_log_prob"]
    assert likely.value == values.mean()
    assert likely.standard_error == clustered_error(values, test.groups)
    assert likely.blocks == figures["test_bits_per_dimension"].blocks == len(set(test.groups.tolist()))
    assert "**No guarantee: dependent data.**" in card
    assert "realised rate of false alarms |" not in card
    again = {line.name: line for line in reevaluate(done.bundle.folder, tmp_path)}
    assert again.keys() == figures.keys()
    assert all(line.measured == line.manifest for line in again.values())


def test_a_calibration_fold_of_one_block_is_refused(tmp_path: Path) -> None:
    data = loaded(tmp_path, text_of(sine(300)), block=100)
    with_anomaly = parse_recipe(recipe(block=100) + ANOMALY)
    fold = data.fold
    assert fold.groups is not None
    one = fold[fold.groups == 0]
    with pytest.raises(
        DataError, match=r"rides: the calibration fold: expected rows of at least two blocks \(blocks of 100"
    ):
        calibration_rows(with_anomaly, data, one, np.zeros(len(one)))
