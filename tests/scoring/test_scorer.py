"""The core: which bundle, which numbers, and rows that have none."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest

from contract.conformal import Guarantee
from contract.errors import BundleError, InputError
from contract.lock import write_lock
from runtime.calibration import recalibrate
from runtime.loop import run_program
from scoring.scorer import Scorer, find_bundle
from service.answers import Alarms, score_answer
from tests.bundles import affine, write
from tests.scoring.bundles import score_of

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(6)


def rows(n: int) -> np.ndarray:
    x = np.stack([RNG.normal(size=n), RNG.gamma(2.0, size=n), *(RNG.integers(0, k, n) for k in (2, 3, 50, 4))], axis=1)
    x[RNG.random(n) < 0.2, 1] = np.nan
    return x


def test_a_bundle_is_named_by_its_folder_or_in_a_root(root: Path) -> None:
    assert find_bundle(str(root / "table" / "1"), Path("nowhere")) == root / "table" / "1"
    assert find_bundle("table", root) == root / "table" / "2"
    assert find_bundle("table/1", root) == root / "table" / "1"
    with pytest.raises(BundleError, match=r"table has no version '3', only 1, 2"):
        find_bundle("table/3", root)
    with pytest.raises(BundleError, match=r"'chair' is neither .* blocked, contaminated, few, labelled, .* traced"):
        find_bundle("chair", root)
    with pytest.raises(BundleError, match="none"):
        find_bundle("chair", root / "nowhere")


def test_scores_are_the_service_s(service: httpx.Client, table: Scorer) -> None:
    x = table.support.check(rows(2500))
    records = table.support.array_to_records(x)
    answer = service.post("/anomaly-score", json={"model": "table", "records": records, "alpha": 0.1}).json()
    scores = Scorer(table.model, alpha=0.1).score(x)
    assert scores.score.tolist() == answer["score"]
    assert scores.p_value.tolist() == answer["p_value"]
    assert scores.is_anomaly is not None
    assert scores.is_anomaly.tolist() == answer["is_anomaly"]
    assert {name: values.tolist() for name, values in scores.statistics.items()} == answer["statistics"]
    assert 0 < scores.alarms < len(x)
    np.testing.assert_allclose(scores.score, score_of(x), rtol=1e-12)


def test_calibration_rows_that_may_be_contaminated_count_as_they_do_in_the_service(
    table: Scorer, tmp_path: Path
) -> None:
    ordinary = table.support.check(rows(300))
    made = recalibrate(
        table.model.bundle.folder, ordinary, tmp_path, ordinary="made", source_sha256="0" * 64, contaminated=0.1
    )
    scorer = Scorer.open(made.folder, alpha=0.1, verify=False)
    x = table.support.check(rows(200))
    outputs = run_program(scorer.model, "score", {"x": x})
    answer = score_answer(scorer.model, scorer.program, outputs, Alarms(0.1))
    scores = scorer.score(x)
    assert scores.is_anomaly is not None
    assert answer["n_contaminated"] == 30
    np.testing.assert_array_equal(scores.p_value, answer["p_value"])
    np.testing.assert_array_equal(scores.is_anomaly, answer["is_anomaly"])
    assert scores.alarms > 0


@pytest.mark.parametrize("guarantee", ["marginal", "training_conditional"])
def test_alarms_and_p_values_are_the_service_s_whatever_is_promised(
    service: httpx.Client, root: Path, guarantee: Guarantee
) -> None:
    scorer = Scorer.open(root / "contaminated" / "1", 0.1, guarantee=guarantee, verify=False)
    x = scorer.support.check(rows(500))
    records = scorer.support.array_to_records(x)
    asked = {"model": "contaminated", "records": records, "alpha": 0.1, "guarantee": guarantee}
    answer = service.post("/anomaly-score", json=asked).json()
    scores = scorer.score(x)
    assert scores.p_value.tolist() == answer["p_value"]
    assert scores.is_anomaly is not None
    assert scores.is_anomaly.tolist() == answer["is_anomaly"]
    assert 0 < scores.alarms < len(x)


def test_a_row_s_score_depends_on_no_other(table: Scorer) -> None:
    x = table.support.check(rows(table.rows_at_once + 7))
    whole = table.score(x)
    for row in (0, table.rows_at_once - 1, table.rows_at_once, len(x) - 1):
        alone = table.score(x[row : row + 1])
        assert alone.score[0] == whole.score[row]
        assert alone.p_value[0] == whole.p_value[row]


def test_no_rows_have_no_scores(table: Scorer) -> None:
    scores = table.score(np.empty((0, 6)))
    assert scores.score.shape == scores.p_value.shape == scores.statistics["log_prob"].shape == (0,)
    assert scores.alarms == 0


def test_so_few_calibration_rows_alarm_neither_way(root: Path) -> None:
    few = Scorer.open(root / "few" / "1", alpha=0.05)
    assert not few.can_alarm
    assert few.score(rows(3)).is_anomaly is None
    assert Scorer.open(root / "few" / "1", alpha=0.1).score(rows(3)).is_anomaly is not None


def test_rows_without_a_score_are_told_apart_from_the_others(root: Path) -> None:
    restless = Scorer.open(root / "restless" / "1")
    x = np.stack([RNG.integers(0, 4, 3000).astype(float), RNG.uniform(0.0, 100.0, 3000)], axis=1)
    wild, negative = [7, 1023, 1024, 2999], [8, 500]
    x[wild, 0] = 5.0
    x[negative, 1] = -1.0
    scores = restless.try_score(x)
    assert sorted(scores.errors) == sorted(wild + negative)
    assert all("converge" in str(scores.errors[row]) for row in wild)
    assert all("NaN" in str(scores.errors[row]) for row in negative)
    good = np.setdiff1d(np.arange(3000), wild + negative)
    assert scores.score[good].tolist() == np.sqrt(x[good, 1]).tolist()
    assert np.isnan(scores.score[wild + negative]).all()
    assert scores.is_anomaly is not None
    assert not scores.is_anomaly[wild + negative].any()
    with pytest.raises(InputError, match="row 7: expected a row whose steps converge"):
        restless.score(x)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_alpha_is_a_rate(table: Scorer, alpha: float) -> None:
    with pytest.raises(InputError, match="alpha"):
        Scorer(table.model, alpha)


def test_a_bundle_without_a_score_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no anomaly score: made by hand without it"):
        Scorer.open(write(tmp_path, affine()).folder)


def test_a_bundle_is_verified_as_the_service_does(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "few" / "1"
    shutil.copytree(root / "few" / "1", folder)
    Scorer.open(folder)
    write_lock(tmp_path, {"few/1": "0" * 64})
    with pytest.raises(BundleError, match="pinned"):
        Scorer.open(folder)
    write_lock(tmp_path, {})
    (folder / "score.onnx").write_bytes(b"not what was exported")
    with pytest.raises(BundleError, match="corrupt"):
        Scorer.open(folder)
