"""Bundles that ship, scored as files and streams, against their service: tables, pictures, draws and conditions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runtime.loop import run_program
from scoring.entries import answers
from scoring.files import score_file
from scoring.scorer import Scorer, find_bundle
from scoring.sources import open_source
from scoring.tables import TableScorer
from tests.service.server_process import serving

ROOT = Path(__file__).parents[2]
NAMES = ("bike", "digits", "garments", "thyroid")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    root = tmp_path_factory.mktemp("bundles")
    for name in NAMES:
        shutil.copytree(ROOT / "bundles" / name, root / name)
    with serving(root) as server, server.client() as asking:
        yield asking


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_that_ships_scores_as_its_service_does(name: str, client: httpx.Client, tmp_path: Path) -> None:
    scorer = Scorer.open(find_bundle(name, ROOT / "bundles"), verify=False)
    n = 20
    drawn = run_program(scorer.model, "sample", {"seed": np.full(n, 6), "row": np.arange(n)})
    rows = scorer.support.check(next(iter(drawn.values())).astype(scorer.support.dtype))
    answer = client.post("/anomaly-score", json={"model": name, "rows": rows.tolist()}).json()
    if scorer.support.columns is None:
        table = pa.table({"row": rows.reshape(n, -1).tolist()})
    else:
        table = pa.Table.from_pylist(scorer.support.array_to_records(rows))
    pq.write_table(table, tmp_path / "rows.parquet")
    score_file(open_source(tmp_path / "rows.parquet"), TableScorer(scorer), tmp_path / "scores.parquet")
    found = pq.read_table(tmp_path / "scores.parquet")
    expected: dict[str, Any] = {**answer, **answer["statistics"]}
    for column in ("score", "p_value", "is_anomaly", *scorer.statistics):
        assert found[column].to_pylist() == expected[column]
    entries = [(b"%d-0" % i, {b"row": json.dumps(row.tolist()).encode()}) for i, row in enumerate(rows, 1)]
    told = [dict(zip(one.fields[::2], one.fields[1::2], strict=True)) for one in answers(scorer, entries)]
    assert [float(one[b"score"]) for one in told] == answer["score"]
    assert [one[b"is_anomaly"] == b"true" for one in told] == answer["is_anomaly"]
