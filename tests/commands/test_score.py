"""``nonesuch score`` as it is typed: a process that says what it did, and leaves nothing half done."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from commands.main import main
from tests.bundles import write
from tests.readme import examples, matches
from tests.scoring.bundles import LABELLED, write_bundles
from tests.service.redis_server import RedisServer
from tests.service.server_process import serving
from tests.service.whole import normal

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-W", "error", "-c", "from commands.main import main; main()", "score"]
HEADER = "real,positive,binary,ordinal,count,class\n"
GOOD = "0.5,1.5,1,2,3,red\n"
STRANGE = "0.5,1.5,1,2,90,red\n"
PEAK = """
import resource, sys
from commands.main import main
try:
    main(sys.argv[1:])
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    write_bundles(folder)
    return folder


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NONESUCH_")}
    return {**clean, "TERM": "dumb", "COLUMNS": "120", **more}


def run(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=ROOT, env=environment(**more), capture_output=True, text=True
    )


def test_the_last_line_says_what_was_found_and_what_is_promised(bundles: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "rows.csv", tmp_path / "scores.parquet"
    file.write_text(HEADER + GOOD * 7 + "x" + GOOD + STRANGE * 2)
    done = run("table/2", file, "-o", out, "--bundles", bundles, "--on-error", "skip", "--alpha", "0.1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nobody looks, so no bar
    with serving(bundles) as server, server.client() as client:
        asked = {"model": "table", "rows": [[0.5, 1.5, 1, 2, 3, "red"]], "alpha": 0.1}
        promise = client.post("/anomaly-score", json=asked).json()["promise"]
    line = f"{out}: 10 rows, 2 alarms at alpha = 0.1 (22.22 %), 1 not scored. {promise}\n"
    assert done.stdout == line
    assert json.loads(pq.read_schema(out).metadata[b"nonesuch"])["promise"] == promise
    few = run(bundles / "few" / "1", file, "-o", out, "--on-error", "skip")
    assert few.stdout.startswith(f"{out}: 10 rows, 1 not scored. 9 calibration rows cannot reach alpha = 0.05:")


def test_rows_are_held_against_their_labels_and_each_label_s_promise_is_said(bundles: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "rows.csv", tmp_path / "scores.parquet"
    file.write_text("shift," + HEADER + f"day,{STRANGE}night,{STRANGE}few,{STRANGE}")
    done = run("labelled", file, "-o", out, "--bundles", bundles, "--label", "shift")
    assert done.returncode == 0, done.stderr
    with serving(bundles) as server, server.client() as client:
        asked = {"model": "labelled", "rows": [[0.5, 1.5, 1, 2, 90, "red"]]}
        answers = {label: client.post("/anomaly-score", json={**asked, "label": label}).json() for label in LABELLED}
    first, *lines = done.stdout.splitlines()
    assert first == f"{out}: 3 rows, 2 alarms at alpha = 0.05 (66.67 %). By label:"
    assert lines == [f"  shift = {label}: {answer['promise']}" for label, answer in answers.items()]
    about = json.loads(pq.read_schema(out).metadata[b"nonesuch"])
    assert about["label"] == "shift"
    assert about["promise"] == {label: answer["promise"] for label, answer in answers.items()}
    alarms = dict(zip(("day", "night", "few"), pq.read_table(out)["is_anomaly"].to_pylist(), strict=True))
    assert alarms == {label: (answer["is_anomaly"] or [None])[0] for label, answer in answers.items()}


def test_rows_in_blocks_say_that_nothing_is_promised(bundles: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "rows.csv", tmp_path / "scores.parquet"
    file.write_text(HEADER + GOOD)
    done = run("blocked", file, "-o", out, "--bundles", bundles)
    assert done.returncode == 0, done.stderr
    assert (
        ". no guarantee: dependent data. The 199 calibration rows (rows made by hand) come in 20 blocks" in done.stdout
    )
    about = json.loads(pq.read_schema(out).metadata[b"nonesuch"])
    assert (about["guarantee"], about["n_blocks"]) == (None, 20)
    assert about["promise"].startswith("no guarantee: dependent data. ")
    refusal = run("blocked", file, "-o", out, "--bundles", bundles, "--guarantee", "training_conditional")
    assert refusal.returncode == 2
    assert "column 'guarantee': expected no such guarantee (no guarantee: dependent data)" in refusal.stderr
    labels = run("table", file, "-o", out, "--bundles", bundles, "--label", "shift")
    assert labels.returncode == 2
    assert "expected no labels, for this version was calibrated without any" in labels.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table", "rows.csv"], "expected a FILE and -o OUT.parquet, or --stream URL"),
        (["table", "rows.csv", "-o", "o.parquet", "--group", "g"], "--group goes with --stream URL"),
        (["table", "--stream", "redis://nowhere", "--from", "a"], "--stream needs --to, --group"),
        (["table", "rows.csv", "--stream", "redis://nowhere"], "a FILE does not go with --stream"),
        (["table", "--stream", "redis://nowhere", "--from", "a", "--to", "a", "--group", "g"], "the same stream"),
        (["table", "--stream", "http://nowhere", "--from", "a", "--to", "b", "--group", "g"], "--stream: "),
        (["chair", "rows.csv", "-o", "o.parquet"], "'chair' is neither a bundle's folder"),
        (["table", "rows.csv", "-o", "o.parquet", "--alpha", "1"], "'alpha': expected a number between 0 and 1"),
        (["table", "rows.csv", "-o", "o.parquet"], "rows.csv: row 1, column 'real': expected a finite number"),
        (["table", "rows.csv", "-o", "rows.csv"], "rows.csv is the file that is read"),
        (["table", "gone.csv", "-o", "o.parquet"], "gone.csv: no such file"),
        (["table", "rows.csv", "-o", "gone/o.parquet"], "gone"),
        (["table", "rows.csv", "-o", "o.parquet", "--keep", "score"], "column 'score': expected another name"),
        (["table", "rows.csv", "-o", "o.parquet", "--delimiter", "::"], "--delimiter"),
        (["table", "rows.csv", "-o", "o.parquet", "--encoding", "latin-99"], "latin-99"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    bundles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    (tmp_path / "rows.csv").write_text(HEADER + GOOD + "x" + GOOD)
    placed = [str(tmp_path / word) if word.endswith((".csv", ".parquet")) else word for word in arguments]
    monkeypatch.setenv("NONESUCH_BUNDLES", str(bundles))
    handled = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            main(["score", *placed])
    finally:
        signal.signal(signal.SIGTERM, handled)
    assert end.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.startswith("nonesuch score: ")
    assert said.err.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.csv"]


def test_without_arrow_it_says_what_to_install(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text('raise ModuleNotFoundError("No module named \'pyarrow\'", name="pyarrow")\n')
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = run("table", "rows.csv", "-o", "o.parquet", "--bundles", bundles, PYTHONPATH=path)
    assert done.returncode == 1
    assert "nonesuch score needs pyarrow, which is not installed here" in done.stderr
    assert "pip install 'nonesuch[scoring]'" in done.stderr
    assert "torch" not in done.stderr
    assert "Traceback" not in done.stderr


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    folder = write(tmp_path, normal()).folder
    line, file = "0.25,0.125," + "a remark that nobody asked for" * 8 + "\n", tmp_path / "rows.csv"
    peaks, sizes = [], []
    for n in (400_000, 900_000):  # the first fills all that is read ahead, however fast the machine
        with file.open("w") as text:
            text.write("width,height,remark\n")
            for _ in range(n // 1000):
                text.write(line * 1000)
        done = subprocess.run(
            [sys.executable, "-c", PEAK, "score", str(folder), str(file), "-o", str(tmp_path / "o.parquet")],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert f"{n:,} rows" in done.stdout
        peaks.append(int(done.stdout.rpartition("peak ")[2]) * 1024)
        sizes.append(file.stat().st_size)
    assert sizes[1] - sizes[0] > 110 * 2**20
    assert peaks[1] - peaks[0] < 40 * 2**20


def _hears_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background would not


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_file(bundles: Path, tmp_path: Path, number: signal.Signals) -> None:
    file, out = tmp_path / "rows.csv", tmp_path / "scores.parquet"
    file.write_text(HEADER + GOOD * 500_000)
    process = subprocess.Popen(
        [*COMMAND, "table", str(file), "-o", str(out), "--bundles", str(bundles)],
        preexec_fn=_hears_ctrl_c,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = time.monotonic() + 60.0
    while not list(tmp_path.glob(".scores.parquet.*.part")):
        assert time.monotonic() < limit
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    said, err = process.communicate(timeout=60.0)
    assert process.returncode not in (0, None)
    assert "rows" not in said
    assert "Traceback" not in err
    assert not out.exists()
    if number != signal.SIGKILL:
        assert [entry.name for entry in tmp_path.iterdir()] == ["rows.csv"]


@pytest.fixture
def stream(bundles: Path) -> Iterator[tuple[RedisServer, list[str]]]:
    server = RedisServer()
    try:
        yield server, ["--stream", server.url, "--from", "rows", "--to", "scores", "--group", "g"]
    finally:
        server.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_ends_with_its_batch(
    bundles: Path, stream: tuple[RedisServer, list[str]], number: signal.Signals
) -> None:
    server, flags = stream
    process = subprocess.Popen(
        [*COMMAND, "table", *flags, "--bundles", str(bundles), "--missing", "nothing"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    with server.client() as client:
        for row in ('[0.5, 1.5, 1, 2, 3, "red"]', '[0.5, 1.5, 1, 2, 90, "red"]', "[]"):
            client.xadd("rows", {"row": row})
        fields = {"real": 0.5, "positive": "nothing", "binary": 1, "ordinal": "", "count": 3, "class": "red"}
        client.xadd("rows", fields)
        limit = time.monotonic() + 60.0
        while client.xlen("scores") < 4:
            assert time.monotonic() < limit
            time.sleep(0.01)
    process.send_signal(number)
    said, err = process.communicate(timeout=60.0)
    assert process.returncode == 0, err
    assert re.match(
        r"nonesuch score: table/2 \([0-9a-f]{12}\) scores rows into scores as \S+ of g, until Ctrl-C\. ", first
    )
    assert "is flagged with probability at most 0.05" in first
    assert said == "scores: 4 rows, 1 alarm at alpha = 0.05 (33.33 %), 1 not scored.\n"
    assert err == ""


def test_the_readme_s_commands_print_what_it_shows(tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = page[page.index("## Scoring files and streams") :]
    shown = shown[: shown.index("\n## ", 1)]
    for name, command in (("nonesuch", "-m commands.main"), ("python", "")):
        (tmp_path / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        (tmp_path / name).chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    files = [example for example in examples(shown) if "redis" not in example.command]
    assert any(example.command.startswith("nonesuch score") for example in files)
    for example in files:
        done = subprocess.run(
            ["/bin/sh", "-c", example.command],
            cwd=tmp_path,
            env=environment(PATH=path, PYTHONPATH=str(ROOT), NONESUCH_BUNDLES=str(ROOT / "bundles")),
            capture_output=True,
            text=True,
        )
        got = done.stdout + done.stderr
        assert matches(example.output, got), f"the README shows\n{example.output}\nbut it is\n{got}"


def test_the_service_is_not_needed_to_score(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(HEADER + GOOD)
    watched = "import sys; from commands.main import main\ntry: main(sys.argv[1:])\nfinally: print(sorted(sys.modules))"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            watched,
            "score",
            "table",
            str(tmp_path / "rows.csv"),
            "-o",
            str(tmp_path / "o.parquet"),
        ],
        cwd=ROOT,
        env=environment(NONESUCH_BUNDLES=str(bundles)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    modules = done.stdout.rpartition("[")[2]
    assert "'pyarrow'" in modules
    for name in ("fastapi", "uvicorn", "torch", "redis", "models", "training"):
        assert f"'{name}'" not in modules
