"""Rows held against the calibration rows of their own label, in files, batches and streams; and rows in blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.conformal import p_values
from contract.errors import InputError
from scoring.entries import answers
from scoring.files import score_file
from scoring.rows import FileError
from scoring.scorer import Scorer
from scoring.sources import open_source
from scoring.tables import TableScorer
from tests.scoring.bundles import CATEGORIES, LABELLED, score_of

N = 400
RNG = np.random.default_rng(39)
NAMES = ["real", "positive", "binary", "ordinal", "count", "class"]
ROWS = np.stack(
    [RNG.normal(size=N), RNG.gamma(2.0, size=N), *(RNG.integers(0, k, N) for k in (2, 3, 50, 4))], axis=1
).astype(np.float64)
SHIFTS = [("night", "few", "day")[i % 3] for i in range(N)]
CLASSES = [CATEGORIES[int(place)] for place in ROWS[:, 5]]
TABLE = pa.table({**dict(zip(NAMES, [*ROWS.T[:5], CLASSES], strict=True)), "shift": SHIFTS})


@pytest.fixture(scope="module")
def by_shift(root: Path) -> Scorer:
    return Scorer.open(root / "labelled" / "1", 0.1, label="shift", verify=False)


@pytest.fixture(scope="module")
def answered(service: httpx.Client) -> list[dict[str, Any]]:
    """What the service says of each row, asked with its label."""
    found: list[dict[str, Any]] = [{}] * N
    for label in LABELLED:
        places = [i for i in range(N) if SHIFTS[i] == label]
        asked = {"model": "labelled", "rows": ROWS[places].tolist(), "label": label, "alpha": 0.05}
        answer = service.post("/anomaly-score", json=asked)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        alarms = body["is_anomaly"] or [None] * len(places)
        for i, *values in zip(places, body["score"], body["p_value"], alarms, strict=True):
            found[i] = dict(zip(("score", "p_value", "is_anomaly"), values, strict=True))
    return found


def file_of(folder: Path, kind: str) -> Path:
    path = folder / f"rows.{kind}"
    if kind == "csv":
        pyarrow.csv.write_csv(TABLE, path)
    else:
        words = TABLE.column("shift").combine_chunks().dictionary_encode()
        pq.write_table(TABLE.set_column(6, "shift", words), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("keep", [[], ["shift"]])
def test_a_file_s_rows_have_the_answers_that_the_service_gives_with_their_labels(
    root: Path, tmp_path: Path, answered: list[dict[str, Any]], kind: str, keep: list[str]
) -> None:
    scorer = Scorer.open(root / "labelled" / "1", label="shift", verify=False)
    out = tmp_path / "scores.parquet"
    report = score_file(open_source(file_of(tmp_path, kind)), TableScorer(scorer, keep=keep), out)
    found = pq.read_table(out).to_pylist()
    assert [{name: row[name] for name in answered[0]} for row in found] == answered
    assert [row.get("shift") for row in found] == (SHIFTS if keep else [None] * N)
    assert {row["is_anomaly"] for row, shift in zip(found, SHIFTS, strict=True) if shift == "few"} == {None}
    assert report.alarms == sum(row["is_anomaly"] is True for row in found) > 0
    assert scorer.can_alarm


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(LABELLED)), st.floats(-10, 30)), min_size=1, max_size=20))
def test_each_row_is_ranked_among_those_of_its_label(by_shift: Scorer, rows: list[tuple[str, float]]) -> None:
    x = np.zeros((len(rows), 6))
    x[:, :2] = [(10.0 * value, 1.0) for _, value in rows]
    scores = by_shift.score(by_shift.support.check(x), [label for label, _ in rows])
    assert scores.is_anomaly is not None
    for (label, _), score, p, alarm in zip(rows, scores.score, scores.p_value, scores.is_anomaly, strict=True):
        assert p == p_values(LABELLED[label], score)
        assert alarm == (p <= 0.1 + 1e-12)
    assert scores.undecided is not None
    assert not scores.undecided.any(), "nine rows reach one in ten"


def test_labels_are_of_every_row_or_of_none(by_shift: Scorer, table: Scorer) -> None:
    for scorer, labels in ((by_shift, None), (by_shift, ["day"]), (table, ["day", "day"])):
        with pytest.raises(ValueError, match="each row has a label"):
            scorer.try_score(ROWS[:2], labels)
    with pytest.raises(InputError, match=r"row 1, column 'shift': .*'day', 'few', 'night', got the string 'dusk'"):
        by_shift.score(ROWS[:2], ["day", "dusk"])


def test_a_bundle_without_labels_takes_none(root: Path) -> None:
    with pytest.raises(InputError, match=r"column 'shift': expected no labels, for this version was calibrated"):
        Scorer.open(root / "table" / "2", label="shift", verify=False)


def test_rows_without_a_label_or_with_another_one_are_named(by_shift: Scorer, tmp_path: Path) -> None:
    path, out = tmp_path / "rows.csv", tmp_path / "scores.parquet"
    shifts = ["day", "NA", "dusk", "night", "day", "NA"]
    lines = [
        ",".join(NAMES) + ",shift",
        *(f"0.5,{-1.5 if i > 3 else 1.5},1,2,3,red,{s}" for i, s in enumerate(shifts)),
    ]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match="row 1, column 'shift': expected a label, got no value"):
        score_file(open_source(path), TableScorer(by_shift), out)
    path.write_text("\n".join(line for line in lines if "NA" not in line) + "\n")
    with pytest.raises(InputError, match="row 3, column 'positive'"):  # what is no row is known before it is scored
        score_file(open_source(path), TableScorer(by_shift), out)
    path.write_text("\n".join(line for line in lines if "NA" not in line and "-" not in line) + "\n")
    with pytest.raises(InputError, match="row 1, column 'shift': expected one of the labels of the calibration rows"):
        score_file(open_source(path), TableScorer(by_shift), out)
    assert not out.exists()
    path.write_text("\n".join(lines) + "\n")
    report = score_file(open_source(path), TableScorer(by_shift, on_error="skip"), out)
    assert (report.rows, report.unscored) == (6, 4)
    found = pq.read_table(out).to_pylist()
    assert [row["score"] is None for row in found] == [False, True, True, False, True, True]
    assert [row["log_prob"] is None for row in found] == [False, True, True, False, True, True]
    assert found[1]["error"] == "column 'shift': expected a label, got no value"
    assert found[2]["error"].endswith("'day', 'few', 'night', got the string 'dusk'")
    assert found[4]["error"] == found[5]["error"], "what is no row is said before what it is called"
    assert found[4]["error"].startswith("column 'positive': ")
    bare = tmp_path / "bare.csv"
    bare.write_text(",".join(NAMES) + "\n")
    with pytest.raises(FileError, match="no column 'shift' to keep"):
        score_file(open_source(bare), TableScorer(by_shift), out)


def test_entries_of_a_stream_have_labels_too(root: Path) -> None:
    scorer = Scorer.open(root / "labelled" / "1", label="shift", verify=False)
    row = {b"row": b'[0.5, 1.5, 1, 2, 30, "red"]'}
    given = [{**row, b"shift": label} for label in (b"day", b"few", b" night ", b"dusk", b"")]
    entries = [(f"{i}-0".encode(), fields) for i, fields in enumerate([*given, row, {b"shift": b"day"}, None])]
    found = [dict(zip(answer.fields[::2], answer.fields[1::2], strict=True)) for answer in answers(scorer, entries)]
    score = score_of(np.array([[0.5, 1.5, 1.0, 2.0, 30.0, 0.0]]))
    for answer, label in zip(found, ("day", "few", "night"), strict=False):
        assert answer[b"label"] == label.encode()
        assert float(answer[b"p_value"]) == p_values(LABELLED[label], score)[0]
    assert [answer.get(b"is_anomaly") for answer in found[:3]] == [b"true", b"null", b"false"]
    assert b"one of the labels of the calibration rows: 'day'" in found[3][b"error"]
    assert found[4][b"error"] == b"column 'shift': expected a label, got no value"
    assert found[5][b"error"] == b"column 'shift': expected a label, got no such field"
    assert b"'row'" in found[6][b"error"], "what is no row is said first"
    assert b"deleted" in found[7][b"error"]


# -- rows in blocks ----------------------------------------------------------------------------------------------------


def test_rows_in_blocks_are_ranked_as_by_the_service(root: Path, service: httpx.Client, tmp_path: Path) -> None:
    scorer, out = Scorer.open(root / "blocked" / "1", 0.1, verify=False), tmp_path / "scores.parquet"
    score_file(open_source(file_of(tmp_path, "csv")), TableScorer(scorer), out)
    answer = service.post("/anomaly-score", json={"model": "blocked", "rows": ROWS.tolist(), "alpha": 0.1}).json()
    assert (answer["guarantee"], answer["n_blocks"]) == (None, 20)
    found = pq.read_table(out)
    for name in ("score", "p_value", "is_anomaly"):
        assert found.column(name).to_pylist() == answer[name]
    about = pq.read_schema(out).metadata[b"nonesuch"]
    assert b'"guarantee": null, "n_calibration": 199, "n_blocks": 20' in about


def test_rows_in_blocks_keep_no_guarantee(root: Path) -> None:
    with pytest.raises(InputError, match="column 'guarantee': expected no such guarantee"):
        Scorer.open(root / "blocked" / "1", guarantee="training_conditional", verify=False)
