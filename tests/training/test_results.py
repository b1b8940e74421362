"""The table of results: what may stand in one ranking, what is said of a bundle, and what was not measured."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from contract.bundle import open_bundle, write_bundle
from contract.manifest import Manifest, Metric
from runtime.model import load_model
from tests import bundles
from tests.training.runs import ROOT
from tests.training.test_commands import one_line_error, run
from training.errors import DataError
from training.hardware import cpu_name
from training.measured import (
    Measured,
    SamplingTime,
    count_parameters,
    keep,
    measured_bundles,
    read_measured,
    time_sampling,
    write_measured,
)
from training.progress import Reporter
from training.published import published_sets
from training.results import results_page, value_with_error
from training.train import Trained

DIGITS = open_bundle(ROOT / "bundles" / "digits" / "1")
MOONS = open_bundle(ROOT / "bundles" / "moons" / "1").manifest


def line(manifest: Manifest, sampling: SamplingTime | None = None) -> Measured:
    """What the table says of a manifest."""
    return Measured.of(manifest, digest=None, parameters=1, sampling=sampling)


def entry(manifest: Manifest, called: str, /, fold: str | None = None, **metric: Any) -> Measured:
    """A manifest under another name, with one metric, changed."""
    first = manifest.metrics[0].model_copy(update=metric)
    folds = {**manifest.provenance.folds, "test": {"n": 9, "sha256": fold}} if fold else manifest.provenance.folds
    provenance = manifest.provenance.model_copy(update={"folds": folds})
    return line(manifest.model_copy(update={"name": called, "metrics": (first,), "provenance": provenance}))


def tables(page: str) -> list[list[str]]:
    """Names of the bundles in each table that has bundles, from top to bottom."""
    found: list[list[str]] = []
    for block in page.split("\n\n"):
        lines = block.splitlines()
        if lines and lines[0].startswith("| family "):
            found.append([line.split(" | ")[1].rsplit(" ", 1)[0] for line in lines[2:]])
    return found


def test_values_of_one_kind_are_sorted_best_first() -> None:
    found = [entry(MOONS, name, value=value) for name, value in (("low", -3.0), ("high", -1.0), ("mid", -2.0))]
    assert tables(results_page(found)) == [["high", "mid", "low"]]


def test_of_bits_per_dimension_less_is_better() -> None:
    bits = {"name": "test_bits_per_dimension", "units": "bits"}
    found = [entry(MOONS, name, value=value, **bits) for name, value in (("more", 3.0), ("less", 1.0))]
    assert tables(results_page(found)) == [["less", "more"]]


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "lower_bound"},
        {"kind": "estimate"},
        {"kind": "unnormalised"},
        {"units": "bits"},
        {"name": "test_log_prob_given_label"},
        {"fold": "f" * 64},
    ],
    ids=lambda other: next(iter(other)) + " " + str(next(iter(other.values())))[:12],
)
def test_what_is_not_alike_is_never_in_one_table(other: dict[str, Any]) -> None:
    page = results_page([entry(MOONS, "one"), entry(MOONS, "two", **other)])
    assert sorted(tables(page)) == [["one"], ["two"]]


def test_published_values_stand_beside_their_own_kind_alone() -> None:
    def page(kind: str) -> str:
        return results_page([entry(DIGITS.manifest, "ours", kind=kind)])

    values = next(each for each in published_sets() if each.title == "Binarised MNIST").values
    pages = {kind: page(kind) for kind in ("exact", "lower_bound", "estimate")}
    for kind, text in pages.items():
        for value in values:
            assert (f"| {value.model} | {value.value:g} | {value.source} |" in text) == (value.kind == kind)
    row = next(line for line in pages["exact"].splitlines() if line.startswith("| `made`"))
    assert "-88.4 (MADE, 1 hidden layer, 1 mask; Germain et al. 2015, MADE)" in row


def test_published_values_are_not_shown_for_other_test_rows() -> None:
    page = results_page([entry(DIGITS.manifest, "other", fold="0" * 64)])
    assert "Germain" not in page


def test_the_published_sets_are_those_of_bundles_that_ship() -> None:
    folds = {open_bundle(ROOT / "bundles" / name / "1").manifest.provenance.folds["test"]["sha256"] for name in
             ("digits", "garments")}  # fmt: skip
    assert folds <= {fold for each in published_sets() for fold in each.test_folds}


def test_parameters_of_made_are_its_weights_and_biases() -> None:
    d, hidden = 784, 720
    assert count_parameters(DIGITS) == 2 * d * hidden + d * d + hidden + d


def test_equal_tensors_count_twice_in_one_graph_and_once_in_two(tmp_path: Path) -> None:
    manifest, files = bundles.affine()
    once = count_parameters(write_bundle(tmp_path / "a", manifest, files))
    graph = onnx.load_from_string(files["log_prob.onnx"])
    twin = numpy_helper.from_array(np.ones(7, dtype=np.float32), "twin")
    for name in ("first", "second"):
        graph.graph.initializer.append(TensorProto.FromString(twin.SerializeToString()))
        graph.graph.initializer[-1].name = name
        graph.graph.node.append(helper.make_node("Neg", [name], [f"minus_{name}"]))
    graph.graph.initializer.append(numpy_helper.from_array(np.arange(5), "whole"))
    graph.graph.initializer.append(numpy_helper.from_array(np.array(2.0), "constant"))
    graph.graph.node.append(helper.make_node("Mul", ["constant", "constant"], ["square"]))
    graph.graph.node.append(helper.make_node("Neg", ["whole"], ["minus_whole"]))
    files["log_prob.onnx"] = graph.SerializeToString()
    assert count_parameters(write_bundle(tmp_path / "b", manifest, files)) == once + 14


def test_a_trained_bundle_says_how_long_its_fit_took_and_on_what(flow: Trained) -> None:
    provenance = flow.bundle.manifest.provenance
    assert provenance.training_seconds is not None
    assert provenance.training_seconds == pytest.approx(flow.fit.seconds, abs=1e-3)
    assert provenance.training_seconds > 0
    assert provenance.hardware == flow.fit.hardware
    assert cpu_name() in str(provenance.hardware)
    assert socket.gethostname() not in str(provenance.hardware)


def test_a_bundle_from_before_says_nothing_and_keeps_its_digest() -> None:
    assert MOONS.provenance.training_seconds is None
    assert "hardware" not in MOONS.model_dump(mode="json")["provenance"]
    page = results_page([entry(MOONS, "old")])
    assert page.count("| not recorded | not recorded |") == 1


def test_a_cpu_without_a_name_is_called_by_its_architecture(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Some CPU @ 1 GHz\nmodel name\t: Some CPU @ 1 GHz\n")
    assert cpu_name(tmp_path / "cpuinfo") == "Some CPU @ 1 GHz"
    assert cpu_name(tmp_path / "absent")


def test_sampling_is_timed_where_a_bundle_samples(flow: Trained, tmp_path: Path) -> None:
    timed = time_sampling(load_model(flow.bundle))
    assert timed is not None
    assert min(timed.alone, timed.in_batch) > 0
    silent = load_model(write_bundle(tmp_path, *bundles.affine()))
    assert time_sampling(silent) is None


def test_a_time_stands_in_columns_of_its_own_and_names_the_processor() -> None:
    timed = line(MOONS, SamplingTime(alone=0.0123, in_batch=4.56e-4, on="Some CPU @ 1 GHz"))
    untimed = entry(MOONS, "untimed")
    silent = entry(MOONS, "silent").model_copy(update={"samples": False})
    page = results_page([timed, untimed, silent])
    assert "| 12.3 ms | 456 µs |" in page
    assert "one thread of Some CPU @ 1 GHz," in page
    assert page.count("| not timed | not timed |") == page.count("| does not sample | does not sample |") == 1
    assert "Sampling was timed" not in results_page([untimed, silent])
    assert "sampled on" not in page
    other = SamplingTime(alone=0.5, in_batch=0.25, on="Another")
    page = results_page([timed, entry(MOONS, "other").model_copy(update={"sampling": other})])
    assert "one thread of Another or Some CPU @ 1 GHz," in page
    assert "| 12.3 ms | 456 µs | Some CPU @ 1 GHz |" in page
    assert "| 500 ms | 250 ms | Another |" in page


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-2046.239, 178.12, "−2046 ± 180"),
        (0.940406, 0.014989, "0.940 ± 0.015"),
        (-89.70918, 0.2298, "−89.71 ± 0.23"),
        (1.5, 0.0, "1.5"),
        (1.5, None, "1.5"),
    ],
)
def test_a_value_has_the_digits_that_its_error_allows(value: float, error: float | None, text: str) -> None:
    assert value_with_error(value, error) == text


def test_a_bundle_that_is_in_two_folders_counts_once(flow: Trained) -> None:
    root = flow.bundle.folder.parent.parent
    quiet = Reporter(Console(quiet=True))
    found = measured_bundles([root, root], sampling=False, reporter=quiet)
    assert [each.title for each in found] == ["contract-realnvp 1"]
    assert [each.digest for each in found] == [flow.bundle.digest]


def test_evaluate_table_writes_a_page_of_folders(
    flow: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.md"
    (tmp_path / "results-tabular.md").write_text("# Density of tables\n")
    root = flow.bundle.folder.parent.parent
    assert run("evaluate", "--table", ROOT / "bundles", root, "--out", out) == 0
    text = out.read_text(encoding="utf-8")
    metric = next(metric for metric in flow.bundle.manifest.metrics if metric.name == "test_log_prob")
    assert value_with_error(metric.value, metric.standard_error) in text
    assert "(results-tabular.md)" in text
    assert "convergence-rates.md" not in text
    assert any(sorted(set(names)) == ["moons", "moons-gaussian"] for names in tables(text))
    assert str(out) in capsys.readouterr().out.replace("\n", "")


def test_figures_of_a_bundle_that_is_gone_stay_on_the_page(flow: Trained, tmp_path: Path) -> None:
    out = tmp_path / "results.md"
    root = flow.bundle.folder.parent.parent
    assert run("evaluate", "--table", ROOT / "bundles", root, "--out", out) == 0
    whole = out.read_text(encoding="utf-8")
    assert run("evaluate", "--table", ROOT / "bundles", "--out", out) == 0
    assert out.read_text(encoding="utf-8") == whole
    assert "contract-realnvp 1" in whole
    kept = [each for each in read_measured(tmp_path / "results.jsonl") if each.name != "contract-realnvp"]
    write_measured(tmp_path / "results.jsonl", kept)
    assert run("evaluate", "--table", ROOT / "bundles", "--out", out) == 0
    assert "contract-realnvp 1" not in out.read_text(encoding="utf-8")


def test_a_bundle_that_is_made_anew_takes_the_place_of_its_figures() -> None:
    other = entry(MOONS, "other")
    before = [line(MOONS), other]
    now = entry(MOONS, "moons", value=7.0)
    assert keep(before, [now]) == [now, other]


@pytest.mark.parametrize(("digest", "kept"), [("a", True), ("b", False)], ids=["the same bundle", "another one"])
def test_a_time_is_kept_with_the_bundle_that_it_is_of(digest: str, kept: bool) -> None:
    time = SamplingTime(alone=1.0, in_batch=0.5, on="Some CPU")
    before = line(MOONS, time).model_copy(update={"digest": "a"})
    (found,) = keep([before], [line(MOONS).model_copy(update={"digest": digest})])
    assert found.sampling == (time if kept else None)
    again = SamplingTime(alone=2.0, in_batch=1.0, on="Some CPU")
    (found,) = keep([before], [line(MOONS, again).model_copy(update={"digest": digest})])
    assert found.sampling == again


def test_figures_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    lines = [entry(MOONS, "b"), line(DIGITS.manifest, SamplingTime(alone=1.0, in_batch=0.1, on="Some CPU"))]
    write_measured(tmp_path / "lines.jsonl", lines)
    assert read_measured(tmp_path / "lines.jsonl") == lines
    assert read_measured(tmp_path / "absent.jsonl") == []


def test_a_line_that_is_no_figures_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    write_measured(path, [line(MOONS)])
    path.write_text(path.read_text() + line(MOONS).model_dump_json().replace('"parameters":1', '"parameters":-1'))
    with pytest.raises(DataError, match=r"lines\.jsonl: line 2: parameters: .* greater than or equal to 0"):
        read_measured(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--table", "--out", "results.jsonl"], "results.jsonl: expected a page's name"),
        (["--table", "absent"], "absent: no bundles there"),
        ([], "expected one bundle, got 0"),
        (["one", "two"], "expected one bundle, got 2"),
        (["one", "--time-sampling"], "--time-sampling goes with --table"),
    ],
)
def test_evaluate_says_in_one_line_what_it_cannot_do(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run("evaluate", *arguments) == 2
    assert words in one_line_error(capsys, "evaluate")


def test_a_metric_that_is_no_result_is_left_to_the_card() -> None:
    alarms = Metric(name="false_alarms_at_0.05", value=0.05, kind="rank", units="1", fold="test", n=9)
    page = results_page([line(MOONS.model_copy(update={"metrics": (alarms,)}))])
    assert tables(page) == []
    assert "moons 1: the family has no number to measure" in page
