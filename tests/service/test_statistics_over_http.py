"""From a table to anomaly scores over HTTP: ``nonesuch train TABLE --for anomaly``, served, and asked about rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from commands.main import main
from contract.bundle import open_bundle
from runtime.loop import run_program
from runtime.model import LoadedModel, load_model
from tests.service.server_process import serving
from tests.training.runs import one_thread

NAMES = ["neighbours", "local_outlier_factor", "mixture"]


def table(path: Path, n: int = 240) -> None:
    """Bolts, some of them cracked: of the others the width follows from the length, and some have a flaw or two."""
    rng = np.random.default_rng(1)
    length = rng.normal(50.0, 4.0, n)
    width = 0.5 * length + rng.normal(0.0, 0.3, n)
    flaws = rng.poisson(1.0, n)
    rows = [f"{a:.3f},{b:.3f},{c},sound" for a, b, c in zip(length, width, flaws, strict=True)]
    rows += [f"{a:.3f},{80 - b:.3f},9,cracked" for a, b in zip(length[:20], width[:20], strict=True)]
    path.write_text("\n".join(["length,width,flaws,state", *rows]) + "\n")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bolts")
    table(folder / "bolts.csv")
    words = ["bolts.csv", "--for", "anomaly", "--label", "state", "--ordinary", "sound", "--out", "bundles"]
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.chdir(folder)
        with pytest.raises(SystemExit) as ended:
            main(["train", *words])
    assert ended.value.code in (0, None)
    return folder / "bundles"


@pytest.fixture(scope="module")
def model(root: Path) -> LoadedModel:
    return load_model(open_bundle(root / "bolts" / "1"))


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[httpx.Client]:
    with serving(root) as server, server.client() as client:
        yield client


def test_anomalies_of_each_kind_alarm_and_ordinary_rows_do_not(client: httpx.Client, model: LoadedModel) -> None:
    ordinary = [[50.0, 25.0, 1], [46.0, 23.1, 0], [54.0, 27.0, 2]]
    # Far out; each column usual and the two together not; a number of flaws that no bolt had; one that none can have.
    strange = [[500.0, 250.0, 1], [44.0, 28.0, 1], [50.0, 25.0, 40], [50.0, 25.0, -3]]
    answer = client.post("/anomaly-score", json={"model": "bolts", "rows": ordinary + strange, "alpha": 0.1})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["is_anomaly"] == [False] * 3 + [True] * 4
    assert list(body["statistics"]) == NAMES
    found = run_program(model, "score", {"x": np.array(ordinary + strange)})
    assert body["score"] == found["score"].tolist()
    assert {name: body["statistics"][name] for name in NAMES} == {name: found[name].tolist() for name in NAMES}
    # In each statistic's own direction the row far out is stranger than an ordinary one.
    assert body["statistics"]["neighbours"][3] > body["statistics"]["neighbours"][0]
    assert body["statistics"]["mixture"][3] < body["statistics"]["mixture"][0]


def test_the_card_names_the_statistics_and_that_rows_are_in_the_bundle(
    client: httpx.Client, model: LoadedModel
) -> None:
    card = client.get("/models/bolts").json()
    assert card["calibration"]["statistics"] == NAMES
    assert card["provenance"]["contains_training_rows"] is True
    directions = {part["name"]: part.get("direction") for part in card["capabilities"]["score"]["outputs"]}
    assert directions == {"score": None, "neighbours": "high", "local_outlier_factor": "high", "mixture": "low"}
    text = (model.bundle.folder / "card.md").read_text(encoding="utf-8")
    assert "neighbours, local_outlier_factor, mixture" in text
    assert "whoever has it has them" in text
    auroc = next(metric for metric in model.manifest.metrics if metric.name == "auroc_cracked")
    assert auroc.value > 0.95
