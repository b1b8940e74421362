"""The comparison over tables: what is chosen by validation, and what counts as better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.tabular_density import Cell, measure_cell
from benchmarks.tools import density_plan
from benchmarks.tools.density_table import Difference, collect, paired, write_table
from benchmarks.tools.rounded import Table


def two_clusters() -> Table:
    generator = np.random.default_rng(0)
    rows = np.round(generator.standard_normal((300, 2)) + 5.0 * (np.arange(300) % 2)[:, None], 2)
    mask = np.zeros((300, 10), dtype=np.bool_)
    mask[np.arange(300), generator.permutation(300) % 10] = True
    return Table("clusters", rows, np.array([0.01, 0.01]), mask, 0, 0, 0)


@pytest.fixture
def small_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    one_two: list[list[dict[str, Any]]] = [[{"components": k} for k in (1, 2)]]
    monkeypatch.setitem(density_plan._LADDERS, "mixture-of-gaussians", one_two)


@pytest.mark.usefixtures("small_plan")
def test_a_cell_chooses_by_validation_and_can_be_read_again(tmp_path: Path) -> None:
    lines = [
        measure_cell(two_clusters(), Cell("clusters", seed, family), steps=10, runs=tmp_path)
        for seed in (0, 1)
        for family in ("gaussian", "mixture-of-gaussians")
    ]
    lines = [json.loads(json.dumps(line)) for line in lines]
    mixtures = [line for line in lines if line["family"] == "mixture-of-gaussians"]
    assert [line["model"] for line in mixtures] == [{"components": 2}] * 2
    assert {(line["kind"], line["units"]) for line in lines} == {("lower_bound", "nats")}
    measured, _ = collect(lines)
    difference = paired(measured, "gaussian")["clusters"]
    assert difference.mean < 0
    page = write_table(lines)
    assert "| clusters |" in page
    assert "on 0 of 1 sets" in page
    assert not list(tmp_path.rglob("*.safetensors"))  # a fit that was used is not kept


def test_better_is_above_zero_by_more_than_two_standard_errors_of_paired_differences() -> None:
    theirs = {0: 0.0, 1: 10.0, 2: -10.0}  # splits differ far more than families do
    assert Difference({0: 1.0, 1: 11.1, 2: -9.1}, theirs).beats
    assert not Difference({0: 3.0, 1: 9.0, 2: -9.0}, theirs).beats
    assert not Difference({0: -1.0, 1: 8.9, 2: -11.1}, theirs).beats
    alone = Difference({0: 5.0}, theirs)
    assert (alone.n, alone.mean) == (1, 5.0)
    assert not alone.beats  # one split has no standard error


def test_the_last_line_of_a_cell_counts() -> None:
    old = {"family": "gaussian", "set": "wine", "seed": 0, "test_log_prob": -5.0}
    measured, _ = collect([old, {**old, "test_log_prob": -4.0}])
    assert measured == {"gaussian": {"wine": {0: -4.0}}}
