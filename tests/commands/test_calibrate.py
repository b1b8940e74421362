"""``nonesuch calibrate``: a bundle's next version, with p-values by somebody's own rows, and nothing else is new."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scipy import stats

from commands.main import main
from contract.blocks import held_out_alarms
from contract.bundle import Bundle, open_bundle
from contract.conformal import p_values, rate_interval
from contract.digest import program_digest, sha256
from runtime.verify import verify
from service.api.anomaly_score import AnomalyScoreAnswer
from service.api.drift import DriftAnswer
from tests.bundles import SCALE, affine, log_prob_of, write
from tests.service.server_process import ROOT, serving
from tests.service.server_process import metric as metric_of
from tests.service.whole import normal

RNG = np.random.default_rng(29)
MINE = np.round(RNG.normal(size=(499, 2)) * SCALE * 2.0, 6)
"""Rows that are twice as far out as what the bundle was made of."""


def run(*arguments: Any) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(["calibrate", *map(str, arguments)])
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def calibrated(*arguments: Any) -> str:
    code, out, err = run(*arguments)
    assert (code, err) == (0, ""), err
    return out


def refused(*arguments: Any) -> str:
    code, _, err = run(*arguments)
    assert code == 2
    assert len(err.splitlines()) == 1, err
    return err


def csv_file(path: Path, rows: Any = MINE) -> Path:
    lines = ["name,height,width", *(f"r{i},{y!r},{x!r}" for i, (x, y) in enumerate(rows.tolist()))]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def former(tmp_path: Path) -> Bundle:
    return write(tmp_path / "bundles", normal())


def test_the_next_version_has_other_calibration_scores_and_nothing_else_is_new(former: Bundle, tmp_path: Path) -> None:
    rows = csv_file(tmp_path / "mine.csv")
    told = calibrated(former.folder, rows, "--ordinary", "my own points")
    assert "'name'" in told, "a column that the bundle does not know is named"
    found = open_bundle(former.folder.parent / "2")
    assert found.digest != former.digest
    assert verify(found.folder)["ok"]
    assert open_bundle(former.folder).digest == former.digest
    about = found.manifest.calibration
    assert about is not None
    assert (about.n, about.rows, about.source_sha256) == (499, "my own points", sha256(rows.read_bytes()))
    assert (about.tied, about.contaminated) == (0.0, 0)
    scores = found.calibration_scores()
    assert scores is not None
    np.testing.assert_allclose(scores, np.sort(-log_prob_of(MINE)), rtol=1e-13)
    for capability in found.manifest.capabilities:
        assert program_digest(found.manifest, capability) == program_digest(former.manifest, capability)
    changed = {"version", "calibration", "files"}
    was, now = (bundle.manifest.model_dump(mode="json") for bundle in (former, found))
    assert {name for name in was if was[name] != now[name]} == changed
    moved = {name for name in was["files"] if was["files"][name] != now["files"][name]}
    assert moved == {"calibration.npz", "card.md"}


def test_it_is_served_beside_the_former_one_and_keeps_the_rate_for_these_rows(former: Bundle, tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", MINE)
    calibrated(former.folder, tmp_path / "mine.npy", "-o", former.folder.parent.parent)
    fresh = RNG.normal(size=(2000, 2)) * SCALE * 2.0
    with serving(former.folder.parent.parent) as server, server.client() as client:
        body = {"model": "normal", "rows": fresh.tolist(), "alpha": 0.1}
        old, new = (client.post("/anomaly-score", json={**body, "version": version}).json() for version in (1, 2))
        assert np.mean(old["is_anomaly"]) > 0.2, "the former calibration takes them for strange"
        low, high = stats.betabinom(2000, 50, 450).ppf([1e-4, 1 - 1e-4])
        assert low <= sum(new["is_anomaly"]) <= high
        assert new["score"] == old["score"]
        assert new["ordinary_rows"] == "rows like those of mine.npy"
        sampled = [client.post("/sample", json={"model": "normal", "seed": 1, "version": v}).json() for v in (1, 2)]
        assert sampled[0]["rows"] == sampled[1]["rows"]
        card = client.get("/models/normal").json()
        assert card["calibration"]["source_sha256"] == sha256((tmp_path / "mine.npy").read_bytes())


def test_contaminated_rows_are_counted_against_alarms_and_the_answer_says_so(former: Bundle, tmp_path: Path) -> None:
    calibrated(former.folder, csv_file(tmp_path / "mine.csv"), "--contaminated", 0.1)
    about = open_bundle(former.folder.parent / "2").manifest.calibration
    assert about is not None
    assert about.contaminated == 49  # of 499
    scores = np.sort(-log_prob_of(MINE))
    rows = np.concatenate([MINE[:50], [[0.0, 0.0], [9.0, 99.0]]])
    with serving(former.folder.parent.parent) as server, server.client() as client:
        answer = client.post(
            "/anomaly-score", json={"model": "normal", "rows": rows.tolist(), "alpha": 0.2, "fdr": 0.3}
        )
        AnomalyScoreAnswer.model_validate_json(answer.content, strict=True)
        found = answer.json()
        assert found["p_value"] == pytest.approx(p_values(scores, -log_prob_of(rows), 49))
        assert max(found["p_value"]) == 1.0
        assert found["p_value"][-1] == found["smallest_p_value"] == 1 / 451
        assert found["is_anomaly"] == [p <= 0.2 for p in found["p_value"]]
        assert found["n_contaminated"] == 49
        assert found["false_alarm_interval"] == pytest.approx(rate_interval(499, 90, 49))
        assert "at least 450" in found["promise"]
        assert found["fewest_discoveries"] == 1
        other = {"alpha": 0.001, "fdr": 0.001}
        none = client.post("/anomaly-score", json={"model": "normal", "rows": [[0, 0]], **other}).json()
        assert none["is_anomaly"] is None
        assert "of which 49 may be anomalies, cannot reach alpha" in none["promise"]
        assert "of which 49 may be anomalies, cannot reach fdr" in none["fdr_promise"]


def labelled_file(path: Path, rows: dict[str, Any]) -> Path:
    lines = ["height,width,machine"]
    lines += [f"{y!r},{x!r},{label}" for label, some in rows.items() for x, y in some.tolist()]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_of_a_label_are_held_against_those_of_that_label(former: Bundle, tmp_path: Path) -> None:
    rows = {
        "near": RNG.normal(size=(299, 2)) * SCALE * 0.5,
        "far": RNG.normal(size=(199, 2)) * SCALE * 3.0,
        "7": RNG.normal(size=(5, 2)) * SCALE,
    }
    told = calibrated(former.folder, labelled_file(tmp_path / "mine.csv", rows), "--label", "machine")
    assert "machine = near: 299 rows; the smallest p-value is 0.0033." in told
    found = open_bundle(former.folder.parent / "2")
    about = found.manifest.calibration
    assert about is not None
    assert [(group.label, group.n) for group in about.groups] == [("7", 5), ("far", 199), ("near", 299)]
    assert "| near | 299 | 0.0033 |" in (found.folder / "card.md").read_text()
    fresh = RNG.normal(size=(2000, 2)) * SCALE * 0.5
    fresh[0] = 0.0
    with serving(former.folder.parent.parent) as server, server.client() as client:

        def ask(label: str | None, alpha: float = 0.1) -> dict[str, Any]:
            body = {"model": "normal", "rows": fresh.tolist(), "alpha": alpha}
            answer = client.post("/anomaly-score", json=body if label is None else {**body, "label": label})
            assert answer.status_code == 200, answer.text
            AnomalyScoreAnswer.model_validate_json(answer.content, strict=True)
            answered: dict[str, Any] = answer.json()
            return answered

        together, near, far, few = ask(None), ask("near"), ask("far"), ask("7")
        assert "label" not in together
        assert together["n_calibration"] == 503
        score = -log_prob_of(fresh)
        for answer, label in ((near, "near"), (far, "far"), (few, "7")):
            assert answer["label"] == label
            assert answer["score"] == together["score"]
            assert answer["n_calibration"] == len(rows[label])
            assert answer["smallest_p_value"] == 1 / (len(rows[label]) + 1)
            assert answer["p_value"] == pytest.approx(p_values(np.sort(-log_prob_of(rows[label])), score))
        low, high = stats.betabinom(2000, 30, 270).ppf([1e-4, 1 - 1e-4])
        assert low <= sum(near["is_anomaly"]) <= high
        assert sum(together["is_anomaly"]) < low, "rows from further out stand between these and an alarm"
        assert "machine = near" in near["promise"]
        assert "rows that have this label" in near["promise"]
        assert "this label" not in together["promise"]
        assert few["is_anomaly"] is None
        assert "5 calibration rows cannot reach alpha = 0.1" in few["promise"]
        assert ask("7", 0.2)["is_anomaly"] is not None
        card = client.get("/models/normal").json()["calibration"]
        assert (card["labelled_by"], card["labels"]) == ("machine", {"7": 5, "far": 199, "near": 299})
        for label, version, words in (("nearly", 2, "'7', 'far', 'near'"), ("near", 1, "without any")):
            body = {"model": "normal", "version": version, "rows": [[0, 0]], "label": label}
            refusal = client.post("/anomaly-score", json=body)
            assert refusal.status_code == 422
            assert refusal.json()["column"] == "label"
            assert words in refusal.json()["detail"]
        array = io.BytesIO()
        np.save(array, fresh)
        arrays = client.post(
            "/anomaly-score?model=normal&alpha=0.1&label=near",
            content=array.getvalue(),
            headers={"Content-Type": "application/x-npy"},
        )
        assert arrays.json()["p_value"] == near["p_value"]


def test_a_share_of_contaminated_rows_is_of_each_label(former: Bundle, tmp_path: Path) -> None:
    rows = labelled_file(tmp_path / "mine.csv", {"a": MINE[:95], "b": MINE[95:130]})
    calibrated(former.folder, rows, "--label", "machine", "--contaminated", 0.1)
    about = open_bundle(former.folder.parent / "2").manifest.calibration
    assert about is not None
    assert about.contaminated == 13
    assert [(group.n, group.contaminated, about.of(group.label).ordinary) for group in about.groups] == [
        (95, 9, 86),
        (35, 3, 32),
    ]


def test_labels_that_are_none_are_refused(former: Bundle, tmp_path: Path) -> None:
    rows = labelled_file(tmp_path / "mine.csv", {"a": MINE[:30], " ": MINE[30:31]})
    assert "mine.csv: row 30, column 'machine': expected a label, got no value" in refused(
        former.folder, rows, "--label", "machine"
    )
    assert "no column 'kind' to keep" in refused(former.folder, rows, "--label", "kind")
    np.save(tmp_path / "mine.npy", MINE)
    assert "labels need a table" in refused(former.folder, tmp_path / "mine.npy", "--label", "machine")
    assert not (former.folder.parent / "2").exists()


def test_ties_are_counted_and_the_answer_says_so(former: Bundle, tmp_path: Path) -> None:
    tied = np.repeat(np.arange(100.0)[:, None], 2, axis=1) * SCALE
    told = calibrated(former.folder, csv_file(tmp_path / "mine.csv", np.concatenate([tied, tied[90:]])))
    assert "18 % of the rows tie" in told
    with serving(former.folder.parent.parent) as server, server.client() as client:
        found = client.post("/anomaly-score", json={"model": "normal", "rows": [[0, 0]]}).json()
        assert found["false_alarm_interval"][0] == 0.0
        assert "at or below" in found["promise"]
        assert "18 % of the calibration rows tie with another one" in found["promise"]


def test_the_card_says_what_changed(tmp_path: Path) -> None:
    shipped = ROOT / "bundles" / "moons" / "1"
    with serving(ROOT / "bundles") as server, httpx.Client(base_url=server.url, timeout=30.0) as client:
        rows = client.post("/sample", json={"model": "moons", "n": 150, "seed": 5}).json()["rows"]
    np.save(tmp_path / "mine.npy", np.array(rows))
    calibrated(shipped, tmp_path / "mine.npy", "-o", tmp_path / "bundles", "--ordinary", "points that the model drew")
    found = open_bundle(tmp_path / "bundles" / "moons" / "2")
    was, now = ((bundle / "card.md").read_text() for bundle in (shipped, found.folder))
    assert now.startswith("# moons 2\n")
    assert "Ordinary rows: points that the model drew." in now
    assert "fitted on the 2000 rows of the reference fold." in now
    assert found.manifest.calibration is not None
    assert str(found.manifest.calibration.source_sha256) in now
    section = now.index("## Anomaly scores")
    assert now[now.index("## Folds") :] == was[was.index("## Folds") :]
    gone = [line for line in was.splitlines() if line.startswith("| false_alarms")]
    assert len(gone) == 2
    kept = "\n".join(line for line in was[: was.index("## Anomaly scores")].splitlines() if line not in gone)
    assert now[:section].rstrip() == kept.replace("# moons 1", "# moons 2", 1).rstrip()
    assert [metric.name for metric in found.manifest.metrics] == ["test_log_prob"]
    # Again, of the version that was just made.
    calibrated(found.folder, tmp_path / "mine.npy", "--ordinary", "the same points")
    again = (tmp_path / "bundles" / "moons" / "3" / "card.md").read_text()
    assert again.count("## Anomaly scores") == 1
    assert "fitted on the 2000 rows of the reference fold." in again


def test_a_version_is_never_written_over(former: Bundle, tmp_path: Path) -> None:
    rows = csv_file(tmp_path / "mine.csv")
    write(tmp_path / "elsewhere", normal(version=7))
    calibrated(former.folder, rows, "-o", tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "normal" / "8").is_dir()
    calibrated(former.folder, rows, "-o", tmp_path / "new")
    assert (tmp_path / "new" / "normal" / "2").is_dir()


def test_what_cannot_be_calibrated_is_refused_in_a_sentence(former: Bundle, tmp_path: Path) -> None:
    rows = csv_file(tmp_path / "mine.csv")
    unscored = write(tmp_path / "bundles", affine())
    assert "no score program, so there is nothing to calibrate: made by hand" in refused(unscored.folder, rows)
    assert "no manifest.json" in refused(tmp_path / "bundles" / "nothing" / "1", rows)
    assert "nowhere.csv" in refused(former.folder, tmp_path / "nowhere.csv")
    for share in (1.0, -0.1, "nan"):
        assert "a share from 0 to below 1" in refused(former.folder, rows, "--contaminated", share)
    bad = csv_file(tmp_path / "bad.csv", np.array([[1.0, 2.0], [np.nan, 1.0]]))
    assert "bad.csv: row 1, column 'width': expected a finite number, got the string 'nan'" in refused(
        former.folder, bad
    )
    np.save(tmp_path / "far.npy", np.array([[0.0, 0.0], [1e300, -1e300]]))
    calibrated(former.folder, tmp_path / "far.npy", "-o", tmp_path / "far")  # an infinite score has a rank
    (former.folder.parent.parent / "bundles.lock").write_text(f"normal/1 {'0' * 64}\n")
    assert "is not the pinned" in refused(former.folder, rows)
    assert not (former.folder.parent / "2").exists()


def test_so_few_rows_that_nothing_can_alarm_are_remarked_upon(former: Bundle, tmp_path: Path) -> None:
    told = calibrated(former.folder, csv_file(tmp_path / "mine.csv", MINE[:18]))
    assert "No alarm at alpha = 0.05 is possible: that takes 19 ordinary rows." in told
    told = calibrated(former.folder, csv_file(tmp_path / "mine.csv", MINE[:19]))
    assert "No alarm" not in told


def test_rows_in_an_array_need_neither_torch_nor_arrow(former: Bundle, tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", MINE)
    program = (
        "import sys\n"
        "for name in ('torch', 'lightning', 'sklearn', 'scipy', 'pyarrow'):\n"
        "    sys.modules[name] = None\n"
        "from commands.main import main\n"
        f"main(['calibrate', {str(former.folder)!r}, {str(tmp_path / 'mine.npy')!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (former.folder.parent / "2").is_dir()


# -- rows that depend on each other ------------------------------------------------------------------------------------

WORDS = "no guarantee: dependent data"


def of_days(days: int = 24, each: int = 20) -> tuple[Any, list[str]]:
    """Rows of days, each day with a spread of its own, and the day of each."""
    spread = np.repeat(RNG.uniform(0.5, 2.0, size=days), each)[:, None]
    rows = np.round(RNG.normal(size=(days * each, 2)) * SCALE * spread, 6)
    return rows, [f"day {i:02}" for i in range(days) for _ in range(each)]


def dated_file(path: Path, rows: Any, days: list[str], shifts: list[str] | None = None) -> Path:
    lines = ["day,height,width" + (",shift" if shifts else "")]
    for i, (x, y) in enumerate(rows.tolist()):
        lines.append(f"{days[i]},{y!r},{x!r}" + (f",{shifts[i]}" if shifts else ""))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_in_blocks_are_ranked_and_promised_nothing(former: Bundle, tmp_path: Path) -> None:
    rows, days = of_days()
    shifts = ["night", *["late"] * 9] * 48
    file = dated_file(tmp_path / "mine.csv", rows, days, shifts)
    told = calibrated(former.folder, file, "--block", "day", "--label", "shift")
    assert "The rows come in 24 blocks (the column day). No guarantee: dependent data." in told
    found = open_bundle(former.folder.parent / "2")
    about = found.manifest.calibration
    assert about is not None
    assert (about.n, about.blocks, about.blocked_by) == (480, 24, "the column day")
    assert [(group.label, group.n, group.blocks) for group in about.groups] == [("late", 432, 24), ("night", 48, 24)]
    scores, card = -log_prob_of(rows), (found.folder / "card.md").read_text()
    assert "**No guarantee: dependent data.**" in card
    assert "realised rate of false alarms |" not in card
    for metric, alpha in zip(found.manifest.metrics[1:], (0.01, 0.05, 0.1), strict=True):
        measured = held_out_alarms(scores, np.array(days), alpha)
        assert measured is not None
        assert metric.name == f"false_alarms_by_block_at_{alpha:g}"
        assert (metric.value, metric.standard_error) == pytest.approx((measured.mean, measured.standard_error))
        assert (metric.kind, metric.fold, metric.n, metric.blocks) == ("rank", "calibration", 480, 24)
        assert f"| {alpha:g} | {metric.value:.3f} ± {metric.standard_error:.2g} |" in card
        assert f"{metric.value:.3f} ± {metric.standard_error:.2g} alarms at alpha = {alpha:g}" in told
    asked = {"model": "normal", "rows": rows[:60].tolist(), "alpha": 0.1}
    with serving(former.folder.parent.parent) as server, server.client() as client:

        def ask(**more: Any) -> dict[str, Any]:
            answer = client.post("/anomaly-score", json={**asked, **more})
            assert answer.status_code == 200, answer.text
            AnomalyScoreAnswer.model_validate_json(answer.content, strict=True)
            answered: dict[str, Any] = answer.json()
            return answered

        fast = metric_of(client, "nonesuch_fast_answers")
        plain = ask()
        assert metric_of(client, "nonesuch_fast_answers") == fast + 1, "a plain question is answered at the socket"
        records = [{"width": x, "height": y} for x, y in rows[:60].tolist()]
        framed = ask(rows=None, records=records)
        explained = ask(explain=True)
        assert framed == plain
        assert {name: explained[name] for name in plain} == plain
        assert plain["p_value"] == pytest.approx(p_values(np.sort(scores), scores[:60]))
        assert plain["is_anomaly"] == [p <= 0.1 for p in plain["p_value"]]
        assert (plain["n_calibration"], plain["n_blocks"], plain["guarantee"]) == (480, 24, None)
        assert plain["false_alarm_interval"] is None
        assert plain["promise"].startswith(
            f"{WORDS}. The 480 calibration rows (rows like those of mine.csv) come in 24"
        )
        assert plain["promise"].count(". ") == 1, "the words, and one sentence"
        night = ask(label="night")
        assert (night["n_calibration"], night["n_blocks"]) == (48, 24)
        assert night["promise"].startswith(f"{WORDS}. The 48 calibration rows (rows like those of mine.csv, shift = ni")
        few = ask(alpha=0.001)
        assert few["is_anomaly"] is None
        assert few["promise"].startswith(f"{WORDS}. 480 calibration rows cannot reach alpha = 0.001")
        former_one = ask(version=1)
        assert "n_blocks" not in former_one
        assert former_one["false_alarm_interval"] is not None
        for body in (asked, {**asked, "rows": None, "records": records}):
            for column, value in (("guarantee", "training_conditional"), ("fdr", 0.1)):
                refusal = client.post("/anomaly-score", json={**body, column: value})
                assert refusal.status_code == 422
                assert refusal.json()["type"] == "/problems/invalid-input"
                assert refusal.json()["column"] == column
                assert WORDS in refusal.json()["detail"]
                assert client.post("/anomaly-score", json={**body, column: value, "version": 1}).status_code == 200
        model = client.get("/models/normal").json()
        assert (model["calibration"]["blocks"], model["calibration"]["blocked_by"]) == (24, "the column day")
        assert [metric.get("blocks") for metric in model["metrics"]] == [None, 24, 24, 24]


def test_a_bundle_of_blocks_is_not_watched_for_drift(former: Bundle, tmp_path: Path) -> None:
    rows, days = of_days()
    calibrated(former.folder, dated_file(tmp_path / "mine.csv", rows, days), "--block", "day")
    with serving(former.folder.parent.parent) as server, server.client() as client:
        for version in (1, 2):
            body = {"model": "normal", "version": version, "rows": [[50.0, 50.0]] * 600}
            assert client.post("/anomaly-score", json=body).status_code == 200
        watched, unwatched = (client.get(f"/models/normal/versions/{version}/drift").json() for version in (1, 2))
        for answer in (watched, unwatched):
            DriftAnswer.model_validate_json(json.dumps(answer), strict=True)
            assert answer["rows"] == 600
            assert answer["ks_statistic"] == pytest.approx(1.0)
        assert watched["alarm"] is True
        assert "n_blocks" not in watched
        assert unwatched["n_blocks"] == 24
        assert unwatched["meaning"].startswith(WORDS)
        bets = ("alarm", "alarm_at_row", "level", "log10_martingale", "log10_highest", "log10_alarm", "ks_p_value")
        assert [unwatched[name] for name in bets] == [None] * len(bets)
        exposed = client.get("/metrics").text
        assert metric_of(client, "nonesuch_drift_alarm", model="normal", version="1") == 1.0
        assert metric_of(client, "nonesuch_drift_ks", model="normal", version="2") == pytest.approx(1.0)
        assert not re.search(r'nonesuch_drift_(alarm|log10_martingale)\{[^}]*version="2"', exposed)


def test_a_calibration_without_blocks_takes_their_figures_back(former: Bundle, tmp_path: Path) -> None:
    rows, days = of_days(8)
    file = dated_file(tmp_path / "mine.csv", rows, days)
    calibrated(former.folder, file, "--block", "day")
    blocked = former.folder.parent / "2"
    names = [metric.name for metric in open_bundle(blocked).manifest.metrics]
    assert names == ["test_log_prob", *(f"false_alarms_by_block_at_{alpha}" for alpha in ("0.01", "0.05", "0.1"))]
    calibrated(blocked, file)
    plain = open_bundle(former.folder.parent / "3")
    assert [metric.name for metric in plain.manifest.metrics] == ["test_log_prob"]
    assert plain.manifest.calibration is not None
    assert not plain.manifest.calibration.dependent
    card = (plain.folder / "card.md").read_text()
    assert "realised rate of false alarms |" in card
    assert "block" not in card


def test_blocks_that_are_none_are_refused(former: Bundle, tmp_path: Path) -> None:
    rows, days = of_days(3)
    lost = dated_file(tmp_path / "lost.csv", rows, [*days[:30], "", *days[31:]])
    assert "lost.csv: row 30, column 'day': expected a block, got no value" in refused(
        former.folder, lost, "--block", "day"
    )
    one = dated_file(tmp_path / "one.csv", rows, ["monday"] * len(rows))
    assert "expected rows of at least two blocks (the column day)" in refused(former.folder, one, "--block", "day")
    file = dated_file(tmp_path / "mine.csv", rows, days)
    assert "no column 'hour' to keep" in refused(former.folder, file, "--block", "hour")
    both = refused(former.folder, file, "--block", "day", "--contaminated", 0.1)
    assert "no share of contaminated rows: rows that depend on each other keep no rate" in both
    np.save(tmp_path / "mine.npy", rows)
    assert "blocks need a table" in refused(former.folder, tmp_path / "mine.npy", "--block", "day")
    assert not (former.folder.parent / "2").exists()
