"""Rows of which a part is known, over a real socket: the graphs' own bits, and answers that say what they are."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from models.base import capabilities, registry
from runtime.loop import run_program
from service.api.inpaint import InpaintAnswer
from service.api.log_prob import LogProbAnswer
from service.api.sample import SampleAnswer
from service.partial import Partial
from tests.families import TrainedFamily, trained
from tests.service.server_process import serving
from tests.service.test_refusals import refused

Array = NDArray[Any]
NPY = "application/x-npy"
FILLING = sorted(name for name, cls in registry().items() if "inpaint" in capabilities(cls))
SUMMING = sorted(name for name, cls in registry().items() if "marginal" in capabilities(cls))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    root: Path = tmp_path_factory.mktemp("bundles")
    for name in {*FILLING, *SUMMING, "realnvp"}:
        shutil.copytree(trained(name).root, root, dirs_exist_ok=True)
    with serving(root) as server, server.client() as client:
        yield client


@pytest.fixture
def family(request: pytest.FixtureRequest) -> TrainedFamily:
    return trained(request.param)


def ask(client: httpx.Client, path: str, family: TrainedFamily, **fields: Any) -> dict[str, Any]:
    answer = client.post(path, json={"model": family.recipe.name, **fields})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def with_holes(family: TrainedFamily, n: int) -> tuple[Array, Array]:
    """Test rows as doubles, NaN where nothing is known, and what is known: half of each row's, by the pixel."""
    shape = family.model.known_shape
    size = int(np.prod(shape))
    known = (np.arange(n)[:, None] + np.arange(size)) % 2 == 0
    spread = known.reshape(n, *shape, *[1] * (len(family.model.support.shape) - len(shape)))
    spread = np.broadcast_to(spread, (n, *family.model.support.shape))
    return np.where(spread, family.folds.test.rows[:n].astype(np.float64), np.nan), known.reshape(n, *shape)


def as_json(rows: Array) -> Any:
    return np.where(np.isnan(rows), None, rows).tolist()


def as_file(rows: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


@pytest.mark.parametrize("family", FILLING, indirect=True)
def test_holes_are_filled_by_the_graphs(client: httpx.Client, family: TrainedFamily) -> None:
    rows, known = with_holes(family, 3)
    body = ask(client, "/inpaint", family, rows=as_json(rows), n=2, seed=8, start=5)
    InpaintAnswer.model_validate(body)
    program = family.served.program("inpaint")
    partial = Partial(*family.model.support.holes(rows))
    wanted = run_program(
        family.served,
        "inpaint",
        {"x": np.repeat(partial.x, 2, axis=0), "known": np.repeat(known, 2, axis=0), **partial.addresses(2, 8, 5)},
    )
    filled = np.array(body["rows"], dtype=np.float64)
    np.testing.assert_array_equal(filled, next(iter(wanted.values())))
    np.testing.assert_array_equal(filled[::2][~np.isnan(rows)], rows[~np.isnan(rows)])
    assert (body["filling"], body["n"], body["seed"], body["start"]) == (program.filling, 2, 8, 5)
    # Of these rows the second begins with a hole, and something known comes after it.
    assert body["exact"][1] == (program.filling == "exact")
    assert len(body["law"].split()) > 8


@pytest.mark.parametrize("family", FILLING, indirect=True)
def test_a_draw_depends_on_its_row_seed_and_number_alone(client: httpx.Client, family: TrainedFamily) -> None:
    rows, _ = with_holes(family, 3)
    whole = ask(client, "/inpaint", family, rows=as_json(rows), n=4, seed=8)["rows"]
    alone = ask(client, "/inpaint", family, rows=as_json(rows[1:2]), n=2, seed=8, start=1)["rows"]
    assert alone == whole[5:7]
    assert ask(client, "/inpaint", family, rows=as_json(rows), n=4, seed=9)["rows"] != whole
    headers = {"Content-Type": NPY, "Accept": NPY}
    answer = client.post(f"/inpaint?model={family.recipe.name}&n=4&seed=8", content=as_file(rows), headers=headers)
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), np.array(whole))
    assert answer.headers["nonesuch-filling"] == family.served.program("inpaint").filling


@pytest.mark.parametrize("family", FILLING, indirect=True)
def test_what_cannot_be_filled_is_refused(client: httpx.Client, family: TrainedFamily) -> None:
    name, x = family.recipe.name, family.folds.test.rows[:1]
    bad = as_json(x.astype(np.float64).reshape(1, -1))
    bad[0][0] = "what"
    problem = refused(client.post("/inpaint", json={"model": name, "rows": bad}), 422, "invalid-input", row=0)
    assert "or null" in problem["expected"]
    refused(client.post("/inpaint", json={"model": name, "rows": bad, "n": 0}), 422, "invalid-request", field="n")
    late = {"model": name, "rows": x.tolist(), "start": 2**53 - 1, "n": 2}
    refused(client.post("/inpaint", json=late), 422, "invalid-request")
    many = {"model": name, "rows": x.tolist(), "n": 2**40}
    refused(client.post("/inpaint", json=many), 422, "answer-too-large")


def columns_of(family: TrainedFamily) -> list[str]:
    return [column.name for column in family.model.support.columns or ()]


@pytest.mark.parametrize("family", [name for name in FILLING if name in SUMMING], indirect=True)
def test_a_sample_with_columns_given_is_a_filled_row(client: httpx.Client, family: TrainedFamily) -> None:
    if family.model.support.columns is None:
        answer = client.post("/sample", json={"model": family.recipe.name, "given": {"pixel": 1}})
        assert "/inpaint" in refused(answer, 422, "invalid-input")["detail"]
        return
    first, *others = columns_of(family)
    value = float(family.folds.test.rows[0, 0])
    body = ask(client, "/sample", family, n=3, seed=4, start=2, given={first: value})
    SampleAnswer.model_validate(body)
    assert [row[0] for row in body["rows"]] == [value] * 3
    assert (body["given"], body["filling"], body["exact"]) == ({first: value}, "exact", True)
    row = [value, *[None] * len(others)]
    assert ask(client, "/inpaint", family, rows=[row], n=3, seed=4, start=2)["rows"] == body["rows"]
    record = {first: value}
    assert ask(client, "/inpaint", family, records=[record], n=3, seed=4, start=2)["rows"] == body["rows"]
    plain = ask(client, "/sample", family, n=3, seed=4, start=2)
    assert plain["rows"] != body["rows"]
    assert not {"given", "filling", "law", "exact"} & set(plain)
    for given, words in (({"depth": 1.0}, "depth"), ({first: "far"}, first)):
        answer = client.post("/sample", json={"model": family.recipe.name, "given": given})
        assert words in refused(answer, 422, "invalid-input")["detail"]


@pytest.mark.parametrize("family", SUMMING, indirect=True)
def test_columns_left_out_are_summed_out_and_named(client: httpx.Client, family: TrainedFamily) -> None:
    rows, known = with_holes(family, 4)
    rows[3], known[3] = family.folds.test.rows[3], True
    body = ask(client, "/log_prob", family, rows=as_json(rows))
    LogProbAnswer.model_validate(body)
    x, _ = family.model.support.holes(rows)
    wanted = run_program(family.served, "marginal", {"x": x[:3], "known": known[:3]})["log_prob"]
    whole = run_program(family.served, "log_prob", {"x": x[3:]})["log_prob"]
    assert body["log_prob"] == [*wanted, *whole]
    names = [family.model.support.label(i) for i in range(family.model.support.size)]
    holes = np.isnan(rows).reshape(len(rows), -1)
    assert body["summed_out"] == [[name for name, hole in zip(names, row, strict=True) if hole] for row in holes]
    assert body["kind"] == "exact"
    # As records whose columns are absent, and as an array.
    if family.model.support.columns is not None:
        records = [
            {name: value for name, value in zip(names, row, strict=True) if not np.isnan(value)}
            for row in rows.tolist()
        ]
        assert ask(client, "/log_prob", family, records=records)["log_prob"] == body["log_prob"]
    answer = client.post(
        f"/log_prob?model={family.recipe.name}",
        content=as_file(rows),
        headers={"Content-Type": NPY, "Accept": NPY},
    )
    assert np.load(io.BytesIO(answer.content)).tolist() == body["log_prob"]
    assert "summed_out" not in ask(client, "/log_prob", family, rows=rows[3:].tolist())
    # A score is calibrated on whole rows.
    problem = client.post("/anomaly-score", json={"model": family.recipe.name, "rows": as_json(rows)})
    refused(problem, 422, "invalid-input", row=0)


def test_a_model_without_marginals_takes_whole_rows_alone(client: httpx.Client) -> None:
    flow = trained("realnvp")
    answer = client.post("/log_prob", json={"model": flow.recipe.name, "rows": [[0.0, None]]})
    assert refused(answer, 422, "invalid-input", row=0)["got"] == "null"
    for path, fields in (("/inpaint", {"rows": [[0.0, None]]}), ("/sample", {"given": {"x": 0.0}})):
        answer = client.post(path, json={"model": flow.recipe.name, **fields})
        assert flow.model.refusals["inpaint"] in refused(answer, 409, "capability-not-supported")["detail"]
