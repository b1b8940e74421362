"""Series cut into windows: which are strange, and which are dealt together."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from evaluation.series import BLOCK, STRIDE, WINDOW, read_series, series_names
from training.errors import DataError

START = datetime(2014, 7, 1)


def write(folder: Path, values: list[float], stretches: list[tuple[int, int]]) -> None:
    times = [START + timedelta(minutes=5 * place) for place in range(len(values))]
    lines = [f"{time},{value}" for time, value in zip(times, values, strict=True)]
    (folder / "real").mkdir(parents=True, exist_ok=True)
    (folder / "real" / "one.csv").write_text("\n".join(["timestamp,value", *lines]) + "\n")
    labelled = [[f"{times[start]}.000000", f"{times[end]}.000000"] for start, end in stretches]
    (folder / "combined_windows.json").write_text(json.dumps({"real/one.csv": labelled, "real/none.csv": []}))


def test_a_window_is_strange_where_it_touches_a_labelled_stretch(tmp_path: Path) -> None:
    write(tmp_path, [float(place) for place in range(3 * BLOCK)], [(70, 72)])
    assert series_names(tmp_path) == ["real/one.csv"]
    table = read_series(tmp_path, "real/one.csv")
    starts = table.rows[:, 0].astype(int)
    assert (table.rows == starts[:, None] + np.arange(WINDOW)).all()
    assert (table.strange == ((starts + WINDOW > 70) & (starts <= 72))).all()
    assert table.groups is not None
    assert (table.groups == starts // BLOCK).all()
    assert (np.diff(starts)[np.diff(table.groups) == 0] == STRIDE).all()
    assert (starts // BLOCK == (starts + WINDOW - 1) // BLOCK).all()  # no window leaves its block


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    write(tmp_path, [1.0] * WINDOW, [(0, 1)])
    file = tmp_path / "real" / "one.csv"
    file.write_text(file.read_text().replace("00:10:00,1.0", "00:10:00,high"))
    with pytest.raises(DataError, match=r"one\.csv: line 4: expected columns timestamp and value"):
        read_series(tmp_path, "real/one.csv")


def test_series_without_labels_or_windows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file: it says where"):
        series_names(tmp_path)
    write(tmp_path, [1.0] * (WINDOW - 1), [(0, 1)])
    with pytest.raises(DataError, match=f"hold no window of {WINDOW}"):
        read_series(tmp_path, "real/one.csv")
