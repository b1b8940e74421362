"""A file scored on a Ray cluster: a single process's rows, order and bits, also where a worker is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from scoring.files import score_file
from scoring.scorer import Scorer
from scoring.sources import open_source
from scoring.tables import TableScorer

ROOT = Path(__file__).parents[2]
SCORE = [sys.executable, "-c", "from commands.main import main; main()", "score"]
N = 60_000

# Several files on one cluster: starting one takes seconds. Prints what became of each, as JSON.
CASES = """
import json, sys
from pathlib import Path
from contract.errors import InputError
from scoring.cluster import connected, score_file_on
from scoring.rows import ClusterError, FileError
from scoring.scorer import Scorer
from scoring.sources import open_source
from scoring.tables import TableScorer

told = {}
with connected(None, 2) as workers:
    for name, case in json.loads(sys.argv[1]).items():
        scorer = Scorer.open(Path(case["bundle"]), case.get("alpha", 0.05), label=case.get("label"), verify=False)
        reading = case.get("reading", {})
        table_scorer = TableScorer(scorer, **case.get("scoring", {}))
        source = open_source(Path(case["file"]), **reading)
        if "moved" in case:
            Path(case["bundle"]).rename(case["moved"])
        missing = case.get("scoring", {}).get("missing", ())
        seen = []
        try:
            report = score_file_on(
                source, reading, table_scorer, Path(case["out"]), workers=workers, missing=missing,
                progress=lambda report, share: seen.append([report.rows, share]),
            )
            told[name] = [report.rows, report.alarms, report.unscored, seen]
        except (InputError, FileError, ClusterError) as error:
            told[name] = f"{type(error).__name__}: {error}"
print(json.dumps(told))
"""


def environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NONESUCH_", "RAY_"))}
    return {**clean, "TERM": "dumb", "COLUMNS": "120", "OMP_NUM_THREADS": "1"}


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, arguments)), cwd=ROOT, env=environment(), capture_output=True, text=True)


def alone(
    bundle: Path, file: Path, out: Path, alpha: float = 0.05, label: str | None = None, **scoring: Any
) -> pa.Table:
    table_scorer = TableScorer(Scorer.open(bundle, alpha, label=label, verify=False), **scoring)
    score_file(open_source(file), table_scorer, out)
    return pq.read_table(out)


def same(one: pa.Table, other: pa.Table) -> bool:
    return bool(one.equals(other)) and one.schema.equals(other.schema, check_metadata=False)


def traced_file(path: Path) -> Path:
    rng = np.random.default_rng(20)
    columns = {"left": rng.normal(size=N) * 9, "right": rng.normal(size=N), "0": np.arange(N)}
    pyarrow.csv.write_csv(pa.table(columns), path)
    return path


@pytest.mark.slow
def test_files_are_scored_as_by_one_process(root: Path, tmp_path: Path) -> None:
    table, traced, restless = (root / name / "1" for name in ("table", "traced", "restless"))
    header = "real,positive,binary,ordinal,count,class,score of old\n"
    line = "{},1.5,1,2,{},red,{}\n"
    broken = tmp_path / "broken.csv"
    with broken.open("w") as file:
        file.write(header)
        for row in range(60_000):  # some pieces
            wrong = row in (3, 7, 31_000, 59_999)
            file.write("7,7\n" if wrong else line.format("none of it" if row == 40_000 else row / 7, row % 90, row))
    wild = tmp_path / "wild.parquet"
    steps = np.where(np.arange(5000) == 4321, 9.0, 1.0)
    pq.write_table(pa.table({"width": steps, "height": np.arange(5000.0)}), wild)
    dates = tmp_path / "dates.parquet"
    pq.write_table(pa.table({"width": pa.array([0], pa.date32()), "height": [1.0]}), dates)
    damaged = tmp_path / "damaged.csv"
    damaged.write_bytes(header.encode() + line.format(1, 1, 1).encode() * 60_000 + b"\xff\xfe,1,1,1,1,1,1\n")
    shifts = tmp_path / "shifts.csv"
    with shifts.open("w") as file:
        file.write("shift," + header)
        for row in range(30_000):
            shift = "dusk" if row == 20_001 else ("day", "few", "night")[row % 3]
            file.write(f"{shift}," + line.format(row / 7, row % 90, row))
    gone = tmp_path / "few" / "1"
    shutil.copytree(root / "few" / "1", gone)
    skip, keep = {"on_error": "skip"}, ["score of old"]
    cases: dict[str, dict[str, Any]] = {
        "csv": {"bundle": traced, "file": traced_file(tmp_path / "a.csv"), "scoring": {"keep": ["0"]}},
        "skip": {"bundle": table, "file": broken, "scoring": {**skip, "keep": keep}},
        "fail": {"bundle": table, "file": broken},
        "wild": {"bundle": restless, "file": wild},
        "wild skipped": {"bundle": restless, "file": wild, "scoring": skip, "alpha": 0.2},
        "by label": {"bundle": root / "labelled" / "1", "file": shifts, "label": "shift", "scoring": skip},
        "dates": {"bundle": restless, "file": dates},
        "damaged": {"bundle": table, "file": damaged},
        "gone": {"bundle": gone, "file": broken, "moved": tmp_path / "moved"},
    }
    for name, case in cases.items():
        case["out"] = tmp_path / f"{name}.out"
    done = run(sys.executable, "-c", CASES, json.dumps(cases, default=str))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for name in ("csv", "skip", "wild skipped", "by label"):
        case = cases[name]
        wanted = alone(
            case["bundle"],
            case["file"],
            tmp_path / "alone.parquet",
            case.get("alpha", 0.05),
            case.get("label"),
            **case.get("scoring", {}),
        )
        found = pq.read_table(case["out"])
        assert same(found, wanted), name
        rows, alarms, unscored, seen = told[name]
        assert rows == wanted.num_rows == seen[-1][0]
        assert alarms == sum(filter(None, wanted["is_anomaly"].to_pylist()))
        assert unscored == wanted["score"].null_count
        assert [share for _, share in seen] == sorted(share for _, share in seen)
        assert seen[-1][1] == 1.0
    assert told["skip"][2] == 5
    assert told["by label"][2] == 1
    assert len(told["csv"][3]) > 1, "one piece would show nothing of the order"
    assert told["fail"] == "InputError: row 3: expected 7 values, as in the line of names, got 2"
    assert told["wild"].startswith("InputError: row 4321: expected a row whose steps converge")
    assert "column 'width': expected a column of numbers" in told["dates"]
    assert told["damaged"].startswith(f"FileError: {damaged}: it is not utf-8")
    assert told["gone"].startswith("ClusterError: a worker on ")
    assert str(gone) in told["gone"]
    left = [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")]
    assert not left
    assert not any(cases[name]["out"].exists() for name in ("fail", "wild", "dates", "damaged", "gone"))


@pytest.mark.slow
def test_what_a_killed_worker_held_is_scored_again(root: Path, tmp_path: Path) -> None:
    bundle, file = root / "table" / "1", tmp_path / "rows.csv"
    with file.open("w") as lines:
        lines.write("real,positive,binary,ordinal,count,class\n")
        lines.writelines(f"{row / 7},{1 + row % 13},1,2,{row % 90},red\n" for row in range(300_000))
    out = tmp_path / "cluster.parquet"
    command = [*SCORE, str(bundle), str(file), "-o", str(out), "--ray", "--workers", "2"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), text=True, stdout=-1, stderr=-1) as process:
        killed = _kill_one_at_work(psutil.Process(process.pid))
        assert process.poll() is None, "it ended before anybody was killed"
        said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert said.splitlines()[-1].startswith(f"{out}: 300,000 rows")  # after what Ray said of a worker
    assert not killed.is_running()
    assert same(pq.read_table(out), alone(bundle, file, tmp_path / "alone.parquet"))


def _kill_one_at_work(driver: psutil.Process) -> psutil.Process:
    """Kill an actor that has been scoring for a moment."""
    until = time.monotonic() + 240
    idle: dict[int, float] = {}
    while driver.is_running() and time.monotonic() < until:
        for child in driver.children(recursive=True):
            try:
                if "_Worker" in " ".join(child.cmdline()):
                    used = child.cpu_times().user
                    if used > idle.setdefault(child.pid, used) + 0.5:
                        child.send_signal(signal.SIGKILL)
                        child.wait(30)
                        return child
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.02)
    pytest.fail("no worker was seen at work")


def test_a_cluster_that_cannot_be_is_refused_in_a_sentence(root: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "rows.csv", tmp_path / "scores.parquet"
    file.write_text("left,right\n1,2\n")
    without = "import sys; sys.modules['ray'] = None; from commands.main import main; main()"
    done = run(sys.executable, "-c", without, "score", root / "traced" / "1", file, "-o", out, "--ray")
    assert done.returncode == 2
    assert "--ray needs Ray, which is not installed here" in done.stderr
    assert "pip install 'nonesuch[ray]'" in done.stderr
    done = run(*SCORE, root / "traced" / "1", file, "-o", out, "--workers", "2")
    assert (done.returncode, done.stderr) == (2, "nonesuch score: --workers goes with --ray\n")
    assert not out.exists()


def test_a_cluster_that_is_not_there_is_named(root: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "rows.csv", tmp_path / "scores.parquet"
    file.write_text("left,right\n1,2\n")
    done = run(*SCORE, root / "traced" / "1", file, "-o", out, "--ray", "--ray-address", "127.0.0.1:1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("nonesuch score: no Ray cluster at 127.0.0.1:1: ")
    assert not out.exists()
