"""Files in, Parquet out: the service's own numbers, row by row, and nothing half done."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from contract.errors import InputError
from scoring.files import FileReport, score_file
from scoring.rows import FileError
from scoring.scorer import Scorer
from scoring.sources import open_source
from scoring.tables import TableScorer
from tests.scoring.bundles import CATEGORIES

N = 3000
RNG = np.random.default_rng(6)
COLUMNS = {
    "person": pa.array([f"p{i}" for i in range(N)]),
    "class": pa.array([None if i % 11 == 0 else CATEGORIES[i % 4] for i in range(N)]).dictionary_encode(),
    "count": pa.array(RNG.integers(0, 40, N), pa.int16()),
    "ordinal": pa.array(RNG.integers(0, 3, N), pa.int64(), mask=RNG.random(N) < 0.1),
    "binary": pa.array(RNG.random(N) < 0.5),
    "positive": pa.array(RNG.gamma(2.0, size=N), mask=RNG.random(N) < 0.1),
    "real": pa.array(RNG.normal(size=N)),
    "remark": pa.array(["with, a comma\nand a line"] * N),
}
NAMES = ["real", "positive", "binary", "ordinal", "count", "class"]
HEADER = "real,positive,binary,ordinal,count,class\n"
GOOD = "0.5,1.5,1,2,3,red\n"
ONE_OF, ABOVE, WHOLE = (
    "one of 'red', 'blue', '7', 'true'",
    "a finite number above 0",
    "a whole number from 0 to 2",
)
Row = dict[str, Any]


def scored(
    scorer: Scorer, file: Path, out: Path, *, keep: Sequence[str] = (), skip: bool = False, **reading: Any
) -> tuple[list[Row], FileReport]:
    table_scorer = TableScorer(scorer, keep=keep, on_error="skip" if skip else "fail")
    report = score_file(open_source(file, **reading), table_scorer, out, promise="words")
    return pq.read_table(out).to_pylist(), report


def text(folder: Path, content: str, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_text(content)
    return path


@pytest.fixture(scope="module")
def answer(service: httpx.Client) -> dict[str, Any]:
    records = [{name: row[name] for name in NAMES} for row in pa.table(COLUMNS).to_pylist()]
    answered = service.post("/anomaly-score", json={"model": "table", "records": records})
    assert answered.status_code == 200, answered.text
    body: dict[str, Any] = answered.json()
    return body


@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz", "csv.zst", "parquet", "small pages"])
def test_scores_are_the_service_s(table: Scorer, answer: dict[str, Any], tmp_path: Path, kind: str) -> None:
    columns = pa.table(COLUMNS)
    path = tmp_path / f"rows.{'parquet' if kind == 'small pages' else kind}"
    if kind == "parquet":
        pq.write_table(columns, path)
    elif kind == "small pages":
        pq.write_table(columns, path, row_group_size=700, data_page_size=512, use_dictionary=False)
    else:
        options = pyarrow.csv.WriteOptions(delimiter="\t" if kind == "tsv" else ",")
        words = columns.set_column(1, "class", columns["class"].cast(pa.string()))
        with pa.output_stream(str(path), compression="detect") as stream:
            pyarrow.csv.write_csv(words, stream, options)
    rows, report = scored(table, path, tmp_path / "scores.parquet", keep=["person", "count"])
    assert [row["row"] for row in rows] == list(range(N))
    assert [row["person"] for row in rows] == COLUMNS["person"].to_pylist()
    assert [row["score"] for row in rows] == answer["score"]
    assert [row["p_value"] for row in rows] == answer["p_value"]
    assert [row["is_anomaly"] for row in rows] == answer["is_anomaly"]
    assert [row["log_prob"] for row in rows] == answer["statistics"]["log_prob"]
    assert report == FileReport(rows=N, alarms=sum(answer["is_anomaly"]), unscored=0)
    assert 0 < report.alarms < N
    assert list(rows[0]) == ["row", "person", "count", "score", "p_value", "is_anomaly", "log_prob"]
    about = json.loads(pq.read_schema(tmp_path / "scores.parquet").metadata[b"nonesuch"])
    same = ("model", "version", "digest", "profile", "alpha", "guarantee", "n_calibration", "ordinary_rows")
    assert {name: about[name] for name in same} == {name: answer[name] for name in same}
    assert about["promise"] == "words"


def test_what_cannot_reach_alpha_flags_nobody_either_way(root: Path, tmp_path: Path) -> None:
    few = Scorer.open(root / "few" / "1", verify=False)
    rows, report = scored(few, text(tmp_path, HEADER + GOOD), tmp_path / "o.parquet")
    assert rows[0]["is_anomaly"] is None
    assert rows[0]["p_value"] > 0
    assert report.alarms == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0.5,1.5,1,2,3,pink\n", f"column 'class': expected {ONE_OF}, or no value, got the string 'pink'"),
        ("x,1.5,1,2,3,red\n", "column 'real': expected a finite number, got the string 'x'"),
        ("inf,1.5,1,2,3,red\n", "column 'real': expected a finite number, got the string 'inf'"),
        ("0.5,-1,1,2,3,red\n", f"column 'positive': expected {ABOVE}, or no value, got the string '-1'"),
        ("0.5,1.5,,2,3,red\n", "column 'binary': expected 0 or 1, got no value"),
        ("0.5,1.5,1,2.5,3,red\n", f"column 'ordinal': expected {WHOLE}, or no value, got the string '2.5'"),
    ],
    ids=["unknown category", "word", "infinite", "negative", "missing", "between two levels"],
)
def test_a_value_that_is_none_is_named(table: Scorer, tmp_path: Path, line: str, words: str) -> None:
    path, out = text(tmp_path, HEADER + GOOD * 3 + line + GOOD), tmp_path / "o.parquet"
    with pytest.raises(InputError) as refusal:
        scored(table, path, out)
    assert str(refusal.value) == f"row 3, {words}"
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.csv"]
    rows, report = scored(table, path, out, skip=True)
    assert [row["error"] for row in rows] == [None, None, None, words, None]
    lost = rows.pop(3)
    assert {lost[name] for name in ("score", "p_value", "is_anomaly", "log_prob")} == {None}
    assert {row["score"] for row in rows} == {rows[0]["score"]}
    assert report == FileReport(rows=5, alarms=0, unscored=1)


def test_rows_are_counted_through_all_pieces(table: Scorer, tmp_path: Path) -> None:
    line = GOOD.replace("0.5", "0." + "5" * 300)  # some thousand rows a piece
    lines = [line] * 20_000
    bad = [0, 1, 5, 3400, 9999, 10_000, 19_999]
    broken = [2, 3, 3401, 10_001, 19_998]
    for row in bad:
        lines[row] = "x" + line
    for row in broken:
        lines[row] = "1,2\n" if row % 2 else line.strip() + ",9\n"
    lines[100] = "\n" + lines[100]  # an empty line is no row
    path, out = text(tmp_path, HEADER + "".join(lines)), tmp_path / "o.parquet"
    assert path.stat().st_size > 4 * 2**20
    rows, report = scored(table, path, out, skip=True)
    assert [row["row"] for row in rows] == list(range(20_000))
    assert [row["row"] for row in rows if row["error"] is not None] == sorted(bad + broken)
    assert "expected 6 values, as in the line of names, got 7" in rows[2]["error"]
    assert report == FileReport(rows=20_000, alarms=0, unscored=len(bad) + len(broken))
    with pytest.raises(InputError, match="row 0, column 'real'"):
        scored(table, path, out)
    for row in bad:
        lines[row] = line
    with pytest.raises(InputError, match="row 2: expected 6 values, as in the line of names, got 7"):
        scored(table, text(tmp_path, HEADER + "".join(lines)), out)


def test_a_row_in_a_late_piece_of_parquet_is_named_by_its_place(table: Scorer, tmp_path: Path) -> None:
    n = 100_000
    columns = {name: pa.array(np.ones(n)) for name in NAMES}
    real = np.ones(n)
    real[90_000] = np.inf
    pq.write_table(pa.table({**columns, "real": real}), tmp_path / "rows.parquet", row_group_size=30_000)
    with pytest.raises(InputError, match="row 90000, column 'real': expected a finite number, got inf"):
        scored(table, tmp_path / "rows.parquet", tmp_path / "o.parquet")


def test_columns_that_are_not_there_are_named(table: Scorer, tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    path = text(tmp_path, HEADER.replace("positive", "negative") + GOOD)
    with pytest.raises(FileError, match=r"column 'positive': .* got no such column, only 'real', 'negative', 'binary'"):
        scored(table, path, out, skip=True)  # no row could be scored, so nothing is skipped
    with pytest.raises(FileError, match="no column 'person' to keep"):
        scored(table, text(tmp_path, HEADER + GOOD), out, keep=["person"])
    with pytest.raises(FileError, match="column 'real': expected one column of that name, got two"):
        scored(table, text(tmp_path, "real," + HEADER + "1," + GOOD), out)
    with pytest.raises(FileError, match="two columns are called 'a'"):
        scored(table, text(tmp_path, "a,a," + HEADER + "1,1," + GOOD), out, keep=["a"])
    with pytest.raises(InputError, match="column 'score'"):
        TableScorer(table, keep=["score"])
    assert not out.exists()


def test_files_without_rows(table: Scorer, tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    rows, report = scored(table, text(tmp_path, HEADER), out)
    assert (rows, report) == ([], FileReport())
    assert pq.read_schema(out).names == ["row", "score", "p_value", "is_anomaly", "log_prob"]
    empty = pa.table({name: pa.array([], pa.float64()) for name in NAMES})
    pq.write_table(empty, tmp_path / "rows.parquet")
    assert scored(table, tmp_path / "rows.parquet", out) == ([], FileReport())
    with pytest.raises(FileError, match="an empty file"):
        scored(table, text(tmp_path, ""), out)


def test_files_that_are_none(table: Scorer, tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    with pytest.raises(FileError, match="no such file"):
        scored(table, tmp_path / "rows.csv", out)
    with pytest.raises(FileError, match=r"expected a file \.csv"):
        scored(table, text(tmp_path, HEADER, "rows.xlsx"), out)
    with pytest.raises(FileError, match="cannot be read"):
        scored(table, text(tmp_path, HEADER, "rows.parquet"), out)
    with pytest.raises(FileError, match="cannot be read"):
        scored(table, text(tmp_path, HEADER, "rows.csv.gz"), out)
    whole = gzip.compress((HEADER + GOOD * 100_000).encode())
    (tmp_path / "rows.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match="cannot be read"):
        scored(table, tmp_path / "rows.csv.gz", out)
    latin = tmp_path / "rows.csv"
    latin.write_bytes((HEADER + GOOD.replace("red", "röt")).encode("latin-1"))
    with pytest.raises(FileError, match="it is not utf-8; name its encoding"):
        scored(table, latin, out)
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))


def test_another_encoding_and_delimiter(table: Scorer, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(("ärzte," + HEADER + "Jörg," + GOOD).replace(",", ";").encode("latin-1"))
    rows, _ = scored(table, path, tmp_path / "o.parquet", keep=["ärzte"], delimiter=";", encoding="latin-1")
    assert rows[0]["ärzte"] == "Jörg"
    path.write_bytes(b"\xef\xbb\xbf" + (HEADER + GOOD).encode())  # a byte-order mark
    assert scored(table, path, tmp_path / "o.parquet")[0][0]["score"] == rows[0]["score"]


def test_a_model_without_column_names_takes_lists_or_columns_in_order(root: Path, tmp_path: Path) -> None:
    traced, out = Scorer.open(root / "traced" / "1", verify=False), tmp_path / "o.parquet"
    wanted = [{"row": i, "score": i / 2, "trace": [i / 2, -1.0]} for i in range(5)]
    lists = pa.array([[i / 2, -1.0] for i in range(5)])
    for column in (lists, lists.cast(pa.list_(pa.float32(), 2)), pa.array([json.dumps(v) for v in lists.to_pylist()])):
        pq.write_table(pa.table({"row": column, "id": range(5)}), tmp_path / "rows.parquet")
        rows, _ = scored(traced, tmp_path / "rows.parquet", out, keep=["id"])
        assert [{name: row[name] for name in ("row", "score", "trace")} for row in rows] == wanted
    path = text(tmp_path, "id,a,b\n" + "".join(f"{i},{i / 2},-1\n" for i in range(5)))
    rows, _ = scored(traced, path, out, keep=["id"])
    assert [{name: row[name] for name in ("row", "score", "trace")} for row in rows] == wanted
    with pytest.raises(FileError, match="a column 'row' of lists of 2 numbers, or 2 columns of numbers, got 3"):
        scored(traced, path, out)
    path = text(tmp_path, 'row\n"[1.0, 2.0]"\n"[1.0]"\nhello\n"[1.0, ""a""]"\n')
    rows, report = scored(traced, path, out, skip=True)
    assert [row["score"] for row in rows] == [2.0, None, None, None]
    assert [row["trace"] for row in rows] == [[1.0, 2.0], None, None, None]
    assert "expected a list of 2 numbers, as JSON, got 'hello'" in rows[2]["error"]
    assert "column '[1]': expected a finite number, got the string 'a'" in rows[3]["error"]
    assert report.unscored == 3
    with pytest.raises(InputError, match="row 1: expected 2 values"):
        scored(traced, path, out)


def test_rows_that_have_no_score_are_skipped_or_named(root: Path, tmp_path: Path) -> None:
    restless, out = Scorer.open(root / "restless" / "1", verify=False), tmp_path / "o.parquet"
    path = text(tmp_path, "width,height\n0,4\nx,4\n9,4\n0,-1\n0,9\n")
    rows, report = scored(restless, path, out, skip=True)
    assert [row["score"] for row in rows] == [2.0, None, None, None, 3.0]
    assert "converge" in rows[2]["error"]
    assert rows[3]["error"] == "expected a row whose score is a number, got NaN"
    assert report.unscored == 3
    with pytest.raises(InputError, match="row 1: expected a row whose steps converge"):
        scored(restless, text(tmp_path, "width,height\n0,4\n9,4\n"), out)


def test_an_output_stays_until_another_is_whole(table: Scorer, tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    scored(table, text(tmp_path, HEADER + GOOD), out)
    before = out.read_bytes()
    with pytest.raises(InputError):
        scored(table, text(tmp_path, HEADER + GOOD * 9 + "x" + GOOD), out)
    assert out.read_bytes() == before

    def no_more(report: FileReport, share: float) -> None:
        assert 0.0 <= share <= 1.0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_file(open_source(text(tmp_path, HEADER + GOOD)), TableScorer(table), out, progress=no_more)
    assert out.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["o.parquet", "rows.csv"]
    with pytest.raises(OSError, match="nowhere"):
        scored(table, text(tmp_path, HEADER + GOOD), tmp_path / "nowhere" / "o.parquet")


def test_a_batch_of_a_cluster_s_is_scored_like_a_file(table: Scorer) -> None:
    batch = pa.table(COLUMNS).slice(10, 50).combine_chunks().to_batches()[0]
    found, scores = TableScorer(table, keep=["person"])(batch)
    assert found.column("row").to_pylist() == list(range(50))
    assert found.column("person").to_pylist() == [f"p{i}" for i in range(10, 60)]
    assert found.column("score").to_pylist() == scores.score.tolist()
