"""The whole of it on two tiny sets: measured with PyOD's detectors beside ours, gone on with, and written as a page."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands.main import main
from evaluation.cells import OURS, PROTOCOL, Cell, cells_of, measure, missing
from evaluation.collected import collect
from evaluation.detectors import DETECTORS, DetectorError, scores_of
from evaluation.labelled import Labelled, deal
from evaluation.lines import read_lines
from evaluation.page import write_page
from training.errors import DataError, TrainingInputError
from training.evaluate import auroc


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--anomaly", *(str(argument) for argument in arguments)])
    return ended.value.code if isinstance(ended.value.code, int) else 0


def cross(n: int, strange: int, seed: int) -> Labelled:
    """Rows about a line, and anomalies off it whose columns, each by itself, are like any other's."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(n + strange, 1)) * [1.0, 1.0] + 0.1 * generator.normal(size=(n + strange, 2))
    rows[n:, 1] *= -1.0
    labels = np.arange(n + strange) >= n
    return Labelled(f"{seed}_cross", rows, labels, str(seed))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lines and page of two sets, one seed, both settings."""
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "data" / "tabular-anomaly").mkdir(parents=True)
    for seed in (1, 2):
        table = cross(150, 20, seed)
        np.savez(folder / "data" / "tabular-anomaly" / f"{table.name}.npz", X=table.rows, y=table.strange.astype(int))
    assert run(*arguments(folder)) == 0
    return folder


def arguments(folder: Path) -> list[object]:
    where: list[object] = ["--data", folder / "data", "--lines", folder / "lines.jsonl", "--out", folder / "page.md"]
    return [*where, "--parts", "tables", "--seeds", 1, "--detectors", "nonesuch,KNN,IForest"]


def test_a_line_for_each_cell(measured: Path) -> None:
    lines = read_lines(measured / "lines.jsonl")
    cells = {(line["set"], line["seed"], line["setting"], line["detector"]) for line in lines}
    assert len(lines) == len(cells) == 2 * 2 * 3
    for line in lines:
        assert 0 <= line["auroc"] <= 1, line
        assert 0 <= line["aupr"] <= 1
        assert line["d"] == 2
        assert (line["n_train"], line["contaminated"]) == ((75, 0) if line["setting"] == "A" else (85, 10))
        if line["detector"] == OURS:
            assert line["n_calibration"] >= 19
            assert set(line["marginal"]) == {"0.05", "0.1"}  # so few rows cannot reach 0.01
            assert line["refused_ordinary"] == 0
    best = [line["auroc"] for line in lines if line["detector"] == "KNN" and line["setting"] == "A"]
    assert min(best) > 0.8  # off the line, though no column says so


def test_what_was_measured_is_not_measured_again(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (measured / "lines.jsonl").read_bytes()
    assert run(*arguments(measured)) == 0
    assert (measured / "lines.jsonl").read_bytes() == before
    assert "12 of 12 cells are measured already" in capsys.readouterr().out


def test_a_run_that_was_cut_short_goes_on_and_gives_the_same_figures(measured: Path, tmp_path: Path) -> None:
    lines = (measured / "lines.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"detector": "KNN"' not in line]
    shutil.copytree(measured / "data", tmp_path / "data")
    (tmp_path / "lines.jsonl").write_text("".join(kept) + '{"part": "tab')
    assert run(*arguments(tmp_path)) == 0

    def figures(folder: Path) -> dict[Any, Any]:
        found = read_lines(folder / "lines.jsonl")
        return {(line["set"], line["setting"], line["detector"]): line["auroc"] for line in found}

    assert figures(tmp_path) == figures(measured)
    assert len(read_lines(tmp_path / "lines.jsonl")) == 12


def test_another_file_of_the_same_name_is_measured_anew(measured: Path, tmp_path: Path) -> None:
    shutil.copytree(measured, tmp_path / "copy")
    folder = tmp_path / "copy"
    table = cross(150, 20, 3)
    np.savez(folder / "data" / "tabular-anomaly" / "1_cross.npz", X=table.rows, y=table.strange.astype(int))
    more: list[object] = ["--detectors", "KNN", "--sets", "1_cross"]
    assert run(*arguments(folder), *more) == 0
    assert len(read_lines(folder / "lines.jsonl")) == 14


def test_another_default_is_measured_anew(measured: Path, tmp_path: Path) -> None:
    lines = read_lines(measured / "lines.jsonl")
    cells = cells_of("tables", ["1_cross", "2_cross"], [0], ["nonesuch", "KNN"])
    digests = {line["set"]: line["sha256"] for line in lines}
    assert missing(cells, lines, digests) == []
    assert missing(cells, [*lines, {"part": "pictures", "protocol": PROTOCOL}], digests) == []
    other = [{**line, "default": "0"} if line["detector"] == OURS else line for line in lines]
    assert missing(cells, other, digests) == [cell for cell in cells if cell.detector == OURS]
    both = [*other, *(line for line in lines if (line["detector"], line["set"]) == (OURS, "1_cross"))]
    assert list(collect(both, "tables", "A")[OURS]) == ["1_cross"]  # what is of the default before stays out


def test_the_page_says_what_was_measured(measured: Path) -> None:
    page = (measured / "page.md").read_text()
    lines = read_lines(measured / "lines.jsonl")
    for name in ("nonesuch", "KNN", "IForest"):
        of = [line["auroc"] for line in lines if (line["detector"], line["setting"]) == (name, "A")]
        assert f"{np.mean(of):.3f} (" in page
    assert "The best of the seven by mean AUROC is KNN." in page
    assert "Promised are at most 3 %" in page
    assert (measured / "page-auroc.svg").read_text().startswith("<?xml")
    assert (measured / "page-alarms.svg").is_file()
    assert len((measured / "page.csv").read_text().splitlines()) == 1 + 12
    before = {path.name: path.read_bytes() for path in measured.glob("page*")}
    write_page(lines, measured / "page.md")
    assert {path.name: path.read_bytes() for path in measured.glob("page*")} == before


def test_the_page_shows_the_raw_log_probability_beside_the_score_of_each_pair(measured: Path, tmp_path: Path) -> None:
    def figures(auroc: float) -> dict[str, float]:
        return {"auroc": auroc, "auroc_standard_error": 0.002}

    before = {
        "part": "pictures",
        "bundle": "cups/1",
        "digest": "0123456789",
        "family": "independent",
        "ordinary": "a.npz:x",
        "strange": "b.npz:x",
        "n_ordinary": 1000,
        "n_strange": 900,
        "score": figures(0.7),
        "log_prob": figures(0.1),
        "log_prob_kind": "lower_bound",
    }
    again = {**before, "statistics": ["log_prob", "complexity"], "score": figures(0.95)}
    other = {**before, "strange": "c.npz:x", "log_prob": None}
    write_page([*read_lines(measured / "lines.jsonl"), before, other, again], tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    shown = "| cups/1 (01234567) | independent | log_prob, complexity | a.npz:x (1,000) | b.npz:x (900) "
    assert f"{shown}| 0.950 ± 0.002 | 0.100 ± 0.002 (lower bound) |" in page
    assert "| cups/1 (01234567) | independent |  | a.npz:x (1,000) | c.npz:x (900) | 0.700 ± 0.002 |  |" in page
    assert page.count("| cups/1 ") == 2


def test_a_failure_is_listed_and_counts_as_a_guess(measured: Path, tmp_path: Path) -> None:
    lines = read_lines(measured / "lines.jsonl")
    failed = {
        key: value for key, value in lines[0].items() if key in ("part", "seed", "protocol", "n_ordinary", "n_strange")
    }
    lines += [
        {**failed, "set": f"{seed}_cross", "setting": "A", "detector": "LOF", "error": "too alike"} for seed in (1, 2)
    ]
    write_page(lines, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "- LOF on 1_cross, seed 0, setting A: too alike" in page
    assert "| LOF | 0.500 (0.500 to 0.500) |" in page


def test_a_page_needs_something_of_ours(measured: Path, tmp_path: Path) -> None:
    others = [line for line in read_lines(measured / "lines.jsonl") if line["detector"] != OURS]
    with pytest.raises(DataError, match="nothing of ours"):
        write_page(others, tmp_path / "page.md")


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_finds_rows_that_lie_far_off(name: str) -> None:
    generator = np.random.default_rng(0)
    rows = np.concatenate([generator.normal(size=(100, 3)), generator.normal(size=(10, 3)) + 8.0]) * [1.0, 100.0, 0.01]
    rows = np.concatenate([rows, np.ones((110, 1))], axis=1)  # a column that does not vary has no scale
    split = deal(Labelled("far", rows, np.arange(110) >= 100, ""), 0, "A")
    scores = scores_of(name, split)
    assert auroc(scores[~split.labels], scores[split.labels])[0] > 0.95
    assert (scores == scores_of(name, split)).all()


def test_scores_that_are_no_numbers_are_a_failure_and_no_crash() -> None:
    split = deal(Labelled("alike", np.zeros((40, 2)), np.arange(40) >= 30, ""), 0, "A")
    line = measure(Cell("tables", "alike", 0, "A", OURS), split)
    assert "error" in line
    assert "auroc" not in line
    with pytest.raises(DetectorError, match="PCA: "):
        scores_of("PCA", split)


def test_without_pyod_it_says_how_to_install_it(
    measured: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyod", None)
    assert run(*arguments(measured)) == 2
    said = capsys.readouterr().err
    assert "pip install 'nonesuch[training,benchmark]'" in said
    assert said.count("\n") == 1
    monkeypatch.setitem(sys.modules, "pyod.models.knn", None)
    with pytest.raises(TrainingInputError, match="pyod"):
        scores_of("KNN", deal(cross(20, 4, 0), 0, "A"))
    assert run(*arguments(measured), "--detectors", "nonesuch") == 0  # ours alone needs none


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--sets", "none"], "no set 'none'; there are 1_cross, 2_cross"),
        (["--detectors", "ABOD"], "there is no detector 'ABOD'"),
        (["--parts", "tales"], "there is no part 'tales'"),
        (["--parts", "series"], "combined_windows.json: no such file"),
        (["--data", "absent"], "no npz files of labelled rows"),
        (["--table"], "--table and --anomaly are two pages"),
        (["--time-sampling"], "--time-sampling does not go with it"),
        (["a-bundle"], "a-bundle does not go with it"),
    ],
)
def test_what_the_user_got_wrong_is_one_line(
    measured: Path, more: list[object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments(measured), *more) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_windows_of_series_are_measured_too(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "timeseries" / "nab"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    values = np.sin(np.arange(1600) / 5) + 0.1 * generator.normal(size=1600)
    values[800:830] += 4.0
    minutes = [f"2014-07-{1 + place // 1440:02d} {place // 60 % 24:02d}:{place % 60:02d}:00" for place in range(1600)]
    rows = [f"{time},{value:.4f}" for time, value in zip(minutes, values, strict=True)]
    (folder / "one.csv").write_text("\n".join(["timestamp,value", *rows]) + "\n")
    labelled = {"one.csv": [[minutes[800], minutes[829]]], "two.csv": []}
    (folder / "combined_windows.json").write_text(json.dumps(labelled))
    options = ["--data", tmp_path / "data", "--lines", tmp_path / "lines.jsonl", "--out", tmp_path / "page.md"]
    assert run(*options, "--parts", "series", "--detectors", "KNN") == 2  # measured, but no page without ours
    (line,) = read_lines(tmp_path / "lines.jsonl")
    assert (line["part"], line["set"], line["setting"], line["d"]) == ("series", "one.csv", "A", 16)
    assert line["auroc"] > 0.95
