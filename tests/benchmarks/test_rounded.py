"""Rounded numbers: their resolution, and noise that makes a density's mean a bound on the probability of cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from benchmarks.tabular_density import split_rows
from benchmarks.tools.rounded import Table, dequantised, read_table, resolution, tidied


@given(
    st.integers(1, 40).map(lambda k: k / 20),
    st.lists(st.integers(-300, 300), min_size=5, max_size=60, unique=True),
    st.floats(-1, 1),
)
def test_cells_of_the_resolution_do_not_overlap_and_hold_their_values(
    step: float, places: list[int], centre: float
) -> None:
    places = [min(places), min(places) + 1, *places]  # two values are neighbours on the grid
    printed = np.array([float(f"{step * place + centre:.5g}") for place in places])
    values = tidied(printed)
    found = resolution(values)
    # Five digits of numbers up to 600 are known to a hundredth.
    assert found == pytest.approx(step, abs=0.021)
    gaps = np.diff(np.unique(values))
    assert gaps[gaps > 1e-9].min() >= found * (1 - 1e-9)


def test_a_column_that_never_varies_has_no_resolution() -> None:
    with pytest.raises(ValueError, match="never varies"):
        resolution(np.full(9, 1.5))


def test_copies_of_a_row_lie_in_its_cell_and_fill_it() -> None:
    rows, widths = np.array([[1.0, -20.0], [3.0, 40.0]]), np.array([2.0, 0.5])
    noisy = dequantised(rows, widths, 2000, np.random.default_rng(0))
    offset = noisy.reshape(2, 2000, 2) - rows[:, None]
    assert (np.abs(offset) <= widths / 2).all()
    assert offset.std(axis=(0, 1)) == pytest.approx(widths / np.sqrt(12), rel=0.03)


def test_the_mean_log_density_of_noisy_rows_bounds_the_probability_of_cells() -> None:
    # A coarse column: the bound is visibly below the truth, and the truth is the normal law's mass in each cell.
    width = 1.5
    rows = np.round(np.random.default_rng(1).standard_normal(400) / width)[:, None] * width
    noisy = dequantised(rows, np.array([width]), 200, np.random.default_rng(2))
    bound = norm.logpdf(noisy).mean()
    cells = np.log((norm.cdf(rows + width / 2) - norm.cdf(rows - width / 2)) / width).mean()
    assert cells - 0.2 < bound < cells - 0.01


def write_table(path: Path) -> None:
    generator = np.random.default_rng(3)
    x = np.round(generator.standard_normal((60, 4)), 2)
    x[:, 1] = 7.0  # constant
    x[:, 3] = x[:, 0]  # a repeat
    x[5] = x[4]
    y = np.round(generator.standard_normal(60), 1)
    y[5] = y[4]
    mask = np.zeros((60, 10), dtype=np.bool_)
    mask[np.arange(60), np.arange(60) % 10] = True
    np.savez(path, X=x, y=y, test_mask=mask)


def test_a_table_is_read_without_constant_and_repeated_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "small.npz")
    table = read_table(tmp_path / "small.npz")
    assert table.rows.shape == (60, 3)
    assert table.resolutions == pytest.approx([0.01, 0.01, 0.1])
    assert (table.constant, table.repeated, table.repeated_rows) == (1, 1, 1)


@pytest.mark.parametrize("wrong", ["y", "test_mask"])
def test_what_is_no_such_table_is_refused(tmp_path: Path, wrong: str) -> None:
    write_table(tmp_path / "small.npz")
    arrays = dict(np.load(tmp_path / "small.npz"))
    np.savez(tmp_path / "absent.npz", **{name: value for name, value in arrays.items() if name != wrong})
    np.savez(tmp_path / "short.npz", **{**arrays, wrong: arrays[wrong][1:]})
    with pytest.raises(ValueError, match=rf"absent\.npz: no array '{wrong}'"):
        read_table(tmp_path / "absent.npz")
    with pytest.raises(ValueError, match=r"short\.npz: expected X"):
        read_table(tmp_path / "short.npz")


def cells_of(rows: np.ndarray, table: Table) -> list[tuple[int, ...]]:
    return [tuple(row) for row in np.round(rows / table.resolutions).astype(int)]


def test_the_test_rows_are_those_of_the_split_and_no_row_is_lost(tmp_path: Path) -> None:
    write_table(tmp_path / "small.npz")
    table = read_table(tmp_path / "small.npz")
    rows = split_rows(table, 2)
    wanted = sorted(cells_of(table.rows[table.test_mask[:, 2]], table))
    assert sorted(cells_of(rows.test.rows[:: rows.draws], table)) == wanted
    together = np.concatenate([part.rows[:: rows.draws] for part in (rows.train, rows.validation, rows.test)])
    assert sorted(cells_of(together, table)) == sorted(cells_of(table.rows, table))
    assert np.array_equal(split_rows(table, 2).train.rows, rows.train.rows)
    assert all(column.resolution is None for column in rows.support.columns or ())
