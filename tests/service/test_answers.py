"""Every call over a real socket: the numbers are right, and the answers are what OpenAPI says they are."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import BaseModel
from scipy import stats

from contract.conformal import (
    false_alarm_interval,
    p_values,
    rate_interval,
    smallest_p_value,
    training_conditional_rank,
)
from service.api.anomaly_score import AnomalyScoreAnswer
from service.api.encode import DecodeAnswer, EncodeAnswer
from service.api.log_prob import LogProbAnswer
from service.api.models import Card, ModelList
from service.api.sample import SampleAnswer
from tests.bundles import SCALE, log_prob_of
from tests.service.server_process import ServerProcess, metric
from tests.service.whole import CALIBRATION, DOT, code_of, dots_of, normal_of

X = [[0.0, 0.0], [1.0, -1.0], [0.3, 5.0]]


def ask(client: httpx.Client, path: str, described_by: type[BaseModel], **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["nonesuch-cache"] in ("hit", "miss", "partial", "bypass")
    found: dict[str, Any] = answer.json()
    assert answer.headers["nonesuch-digest"] == found["digest"]
    described_by.model_validate_json(answer.content, strict=True)
    return found


def addresses(seed: int, start: int, n: int) -> tuple[Any, Any]:
    return np.full(n, seed), np.arange(start, start + n)


# -- sample ------------------------------------------------------------------------------------------------------


def test_samples_are_the_rows_of_their_seed(client: httpx.Client) -> None:
    found = ask(client, "/sample", SampleAnswer, model="normal", n=5, seed=42, start=3)
    assert np.array_equal(found["rows"], normal_of(*addresses(42, 3, 5)))
    assert found["columns"] == ["width", "height"]
    assert (found["seed"], found["start"], found["n"]) == (42, 3, 5)
    assert found["parameters"] == {"temperature": 1.0}


def test_a_sample_ignores_its_batch(client: httpx.Client) -> None:
    together = ask(client, "/sample", SampleAnswer, model="normal", n=50, seed=7)["rows"]
    alone = [ask(client, "/sample", SampleAnswer, model="normal", seed=7, start=row)["rows"][0] for row in (0, 7, 49)]
    assert alone == [together[row] for row in (0, 7, 49)]


def test_a_seed_is_chosen_and_told(client: httpx.Client) -> None:
    first, second = (ask(client, "/sample", SampleAnswer, model="normal") for _ in range(2))
    assert first["seed"] != second["seed"]
    assert ask(client, "/sample", SampleAnswer, model="normal", seed=first["seed"])["rows"] == first["rows"]


def test_the_last_address_of_all(client: httpx.Client) -> None:
    last = 2**53 - 1
    found = ask(client, "/sample", SampleAnswer, model="normal", seed=last, start=last)
    assert np.array_equal(found["rows"], normal_of(*addresses(last, last, 1)))


def test_pictures_keep_their_shape(client: httpx.Client) -> None:
    found = ask(client, "/sample", SampleAnswer, model="dots", version=1, n=4, seed=5)
    assert np.array_equal(found["rows"], dots_of(*addresses(5, 0, 4)))
    assert "columns" not in found


def test_parameters_reach_the_graph_and_come_back(client: httpx.Client) -> None:
    found = ask(client, "/sample", SampleAnswer, model="normal", n=3, seed=1, parameters={"temperature": 0.5})
    assert np.array_equal(found["rows"], normal_of(*addresses(1, 0, 3), 0.5))
    assert found["parameters"] == {"temperature": 0.5}
    each = ask(client, "/sample", SampleAnswer, model="normal", n=2, seed=1, parameters={"temperature": [0.5, 1.0]})
    assert each["rows"][0] == found["rows"][0]
    assert np.array_equal(each["rows"][1:], normal_of(*addresses(1, 1, 1), 1.0))


def test_steps_end_by_the_row(client: httpx.Client) -> None:
    found = ask(client, "/sample", SampleAnswer, model="sleeper", n=4, seed=10)
    assert found["rows"] == [[11.0, 11.0], [12.0, 12.0], [13.0, 13.0], [14.0, 14.0]]


def test_versions(client: httpx.Client) -> None:
    by_default = ask(client, "/sample", SampleAnswer, model="dots", seed=3)
    newest = ask(client, "/sample", SampleAnswer, model="dots", version=2, seed=3)
    assert by_default == newest
    assert newest["rows"] != ask(client, "/sample", SampleAnswer, model="dots", version=1, seed=3)["rows"]


# -- questions about rows ------------------------------------------------------------------------------------------


def test_log_prob(client: httpx.Client) -> None:
    found = ask(client, "/log_prob", LogProbAnswer, model="normal", rows=X)
    assert found["log_prob"] == pytest.approx(log_prob_of(np.array(X)), rel=1e-14)
    assert (found["kind"], found["units"]) == ("exact", "nats")
    assert "bits_per_dimension" not in found


def test_records_are_rows_by_name(client: httpx.Client) -> None:
    records = [{"height": y, "width": x} for x, y in X]
    by_name = ask(client, "/log_prob", LogProbAnswer, model="normal", records=records)
    assert by_name == ask(client, "/log_prob", LogProbAnswer, model="normal", rows=X)


def test_discrete_rows_have_bits_per_dimension(client: httpx.Client) -> None:
    rows = dots_of(*addresses(1, 0, 3))
    found = ask(client, "/log_prob", LogProbAnswer, model="dots", rows=rows.tolist())
    dots = rows.sum(axis=(1, 2))
    wanted = dots * math.log(DOT) + (16 - dots) * math.log(1 - DOT)
    assert found["log_prob"] == pytest.approx(wanted, rel=1e-12)
    assert found["bits_per_dimension"] == pytest.approx(-wanted / (16 * math.log(2)), rel=1e-12)


def test_flat_rows_are_taken_too(client: httpx.Client) -> None:
    rows = dots_of(*addresses(1, 0, 2))
    flat = ask(client, "/log_prob", LogProbAnswer, model="dots", rows=rows.reshape(2, 16).tolist())
    assert flat == ask(client, "/log_prob", LogProbAnswer, model="dots", rows=rows.tolist())


def test_a_probability_of_nothing_is_a_name(client: httpx.Client) -> None:
    found = ask(client, "/log_prob", LogProbAnswer, model="normal", rows=[[0.0, 0.0], [1e300, 0.0]])
    assert found["log_prob"][1] == "-Infinity"
    assert isinstance(found["log_prob"][0], float)


def test_encode_and_decode_undo_each_other(client: httpx.Client) -> None:
    codes = ask(client, "/encode", EncodeAnswer, model="normal", rows=X)
    assert np.array_equal(codes["codes"], np.array(X) / SCALE)
    assert codes["kind"] == "the row, scaled"
    rows = ask(client, "/decode", DecodeAnswer, model="normal", codes=codes["codes"])
    assert np.allclose(rows["rows"], X, rtol=1e-15)
    assert rows["columns"] == ["width", "height"]


def test_decoding_a_drawn_code_is_sampling(client: httpx.Client) -> None:
    code = code_of(*addresses(42, 0, 1))
    rows = ask(client, "/decode", DecodeAnswer, model="normal", codes=code.tolist())["rows"]
    assert rows == ask(client, "/sample", SampleAnswer, model="normal", seed=42)["rows"]


def test_anomaly_score(client: httpx.Client) -> None:
    found = ask(client, "/anomaly-score", AnomalyScoreAnswer, model="normal", rows=[[0.0, 0.0], [9.0, 9.0]], alpha=0.1)
    scores = -log_prob_of(np.array([[0.0, 0.0], [9.0, 9.0]]))
    assert found["score"] == pytest.approx(scores, rel=1e-14)
    assert found["statistics"]["log_prob"] == pytest.approx(-scores, rel=1e-14)
    assert found["p_value"] == pytest.approx(p_values(CALIBRATION, scores))
    assert found["is_anomaly"] == [False, True]
    n = len(CALIBRATION)
    assert (found["n_calibration"], found["smallest_p_value"]) == (n, smallest_p_value(n))
    assert found["false_alarm_interval"] == pytest.approx(false_alarm_interval(n, 0.1))
    assert found["ordinary_rows"] == "points near the origin"
    assert found["guarantee"] == "marginal"
    assert found["largest_flagged_p_value"] == pytest.approx(0.1, abs=1 / (n + 1))
    assert "on average" in found["promise"]
    assert not {"fdr", "is_discovery", "fewest_discoveries", "fdr_promise", "n_contaminated"} & set(found)


def test_a_row_alarms_when_its_p_value_is_at_most_alpha(client: httpx.Client) -> None:
    rows = [[u, 0.0] for u in np.linspace(0.0, 2.0, 400)]
    found = ask(client, "/anomaly-score", AnomalyScoreAnswer, model="normal", rows=rows, alpha=0.095)
    p = np.array(found["p_value"])
    assert (p == 0.095).any(), "some row reaches the rate exactly"
    assert found["is_anomaly"] == (p <= 0.095).tolist()


def test_a_rate_out_of_reach_gives_no_alarm_and_says_why(client: httpx.Client) -> None:
    found = ask(client, "/anomaly-score", AnomalyScoreAnswer, model="normal", rows=X, alpha=0.001)
    assert found["is_anomaly"] is None
    assert found["false_alarm_interval"] is None
    assert found["largest_flagged_p_value"] is None
    assert "cannot reach alpha = 0.001" in found["promise"]
    assert "it takes 999 ordinary calibration rows" in found["promise"]


def test_a_training_conditional_rate_flags_fewer_rows(client: httpx.Client) -> None:
    rows = [[u, 0.0] for u in np.linspace(0.0, 2.0, 400)]
    asked = {"model": "normal", "rows": rows, "alpha": 0.1}
    usual = ask(client, "/anomaly-score", AnomalyScoreAnswer, **asked)
    sure = ask(client, "/anomaly-score", AnomalyScoreAnswer, **asked, guarantee="training_conditional")
    n = len(CALIBRATION)
    k = training_conditional_rank(n, 0.1)
    assert sure["guarantee"] == "training_conditional"
    assert sure["largest_flagged_p_value"] == k / (n + 1) < usual["largest_flagged_p_value"]
    assert sure["is_anomaly"] == [p <= k / (n + 1) for p in sure["p_value"]]
    assert sum(sure["is_anomaly"]) < sum(usual["is_anomaly"])
    assert sure["p_value"] == usual["p_value"]
    assert sure["false_alarm_interval"] == pytest.approx(rate_interval(n, k))
    assert sure["false_alarm_interval"][1] <= 0.1 + 0.01, "97.5 % lies a little above the 95 % quantile, which is 0.1"
    assert "With 95 % probability" in sure["promise"]
    assert "on average" not in sure["promise"].replace("not on average", "")


def test_a_training_conditional_rate_out_of_reach_says_what_it_takes(client: httpx.Client) -> None:
    asked = {"model": "normal", "rows": X, "alpha": 0.01, "guarantee": "training_conditional"}
    found = ask(client, "/anomaly-score", AnomalyScoreAnswer, **asked)
    assert len(CALIBRATION) < 299
    assert found["is_anomaly"] is None
    assert "it takes 299 ordinary calibration rows" in found["promise"]


def test_discoveries_are_those_of_benjamini_and_hochberg(client: httpx.Client) -> None:
    rows = [[u, 0.0] for u in np.linspace(0.0, 1.0, 10)] + [[9.0 + u, 9.0] for u in range(10)]
    found = ask(client, "/anomaly-score", AnomalyScoreAnswer, model="normal", rows=rows, fdr=0.2)
    adjusted = stats.false_discovery_control(found["p_value"])
    assert found["is_discovery"] == (adjusted <= 0.2).tolist() == [False] * 10 + [True] * 10
    assert found["fdr"] == 0.2
    assert found["fewest_discoveries"] == 1
    assert "at most 0.2 is ordinary, in expectation" in found["fdr_promise"]
    assert "among these 20" in found["fdr_promise"]
    assert "across requests" in found["fdr_promise"]
    assert "A lone row of 20 can be discovered" in found["fdr_promise"]


def test_a_lone_anomaly_among_too_many_rows_is_no_discovery_and_the_answer_says_so(client: httpx.Client) -> None:
    n, m, fdr = len(CALIBRATION), 400, 0.1
    needed = math.ceil(m / (fdr * (n + 1)))
    assert needed > 1
    for strange in (1, needed):
        rows = [[9.0, 9.0]] * strange + [[0.0, 0.0]] * (m - strange)
        found = ask(client, "/anomaly-score", AnomalyScoreAnswer, model="normal", rows=rows, fdr=fdr)
        assert found["fewest_discoveries"] == needed
        assert found["is_discovery"] == [strange == needed] * strange + [False] * (m - strange)
        assert "400/0.1 - 1, or 3999 ordinary calibration rows" in found["fdr_promise"]
        assert f"it takes {needed} rows together" in found["fdr_promise"]


def test_a_discovery_out_of_reach_is_neither_made_nor_denied(client: httpx.Client) -> None:
    found = ask(client, "/anomaly-score", AnomalyScoreAnswer, model="normal", rows=X, fdr=1e-4)
    assert found["is_discovery"] is None
    assert found["fewest_discoveries"] is None
    assert "cannot reach fdr = 0.0001" in found["fdr_promise"]
    assert "it takes 9999 ordinary calibration rows" in found["fdr_promise"]


# -- cards ---------------------------------------------------------------------------------------------------------


def test_the_list_of_models(client: httpx.Client) -> None:
    found = client.get("/models")
    ModelList.model_validate_json(found.content)
    lines = {line["name"]: line for line in found.json()["models"]}
    assert set(lines) == {"dots", "normal", "sleeper"}
    assert lines["dots"]["versions"] == [1, 2]
    assert lines["dots"]["version"] == 2
    assert lines["dots"]["shape"] == [4, 4]
    assert lines["sleeper"]["capabilities"] == ["sample"]


def test_a_card(client: httpx.Client) -> None:
    found = client.get("/models/normal")
    Card.model_validate_json(found.content)
    card = found.json()
    assert card["capabilities"]["log_prob"]["outputs"][0]["kind"] == "exact"
    assert card["capabilities"]["sample"]["parameters"][0]["name"] == "temperature"
    assert card["calibration"]["n"] == len(CALIBRATION)
    assert card["metrics"][0]["name"] == "test_log_prob"
    assert card["pinned"] is False
    assert card == client.get("/models/normal/versions/1").json()
    assert card["digest"] == ask(client, "/sample", SampleAnswer, model="normal")["digest"]


def test_a_card_says_what_is_refused_and_why(client: httpx.Client) -> None:
    card = client.get("/models/dots").json()
    assert card["calibration"] is None
    assert card["refusals"]["score"] == "made by hand without it"
    assert set(card["refusals"]) | set(card["capabilities"]) == {
        "sample",
        "latent",
        "decode",
        "encode",
        "log_prob",
        "score",
        "classify",
        "marginal",
        "inpaint",
    }


def test_versions_have_cards_of_their_own(client: httpx.Client) -> None:
    first, second = (client.get(f"/models/dots/versions/{version}").json() for version in (1, 2))
    assert first["digest"] != second["digest"]
    assert (first["version"], second["version"]) == (1, 2)
    assert client.get("/models/dots").json() == second


# -- around the answers --------------------------------------------------------------------------------------------


def test_request_ids_come_back_when_they_are_sound(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": "job-7.retry_2"}).headers["x-request-id"] == "job-7.retry_2"
    for unsound in ("a b", "x" * 65, "né".encode(), ""):
        given = client.get("/healthz", headers={b"X-Request-Id": unsound}).headers["x-request-id"]  # type: ignore[dict-item]
        assert len(given) == 32
    assert client.get("/healthz").headers["x-request-id"] != client.get("/healthz").headers["x-request-id"]


def test_metrics_count_requests_rows_and_batches(client: httpx.Client) -> None:
    before = {
        "requests": metric(client, "nonesuch_requests_total", route="/encode", status="200"),
        "rows": metric(client, "nonesuch_rows_total", model="normal", capability="encode"),
        "batches": metric(client, "nonesuch_batch_rows_count", model="normal"),
        "time": metric(client, "nonesuch_request_seconds_count", route="/encode"),
    }
    rows = np.random.default_rng(0).normal(size=(3, 2)).tolist()
    ask(client, "/encode", EncodeAnswer, model="normal", rows=rows)
    assert metric(client, "nonesuch_requests_total", route="/encode", status="200") == before["requests"] + 1
    assert metric(client, "nonesuch_rows_total", model="normal", capability="encode") == before["rows"] + 3
    assert metric(client, "nonesuch_batch_rows_count", model="normal") > before["batches"]
    assert metric(client, "nonesuch_request_seconds_count", route="/encode") == before["time"] + 1


def test_metrics_name_routes_and_never_paths(client: httpx.Client) -> None:
    for path in ("/models/normal", "/no/such/path/4711", "/x/dots/4711"):
        client.get(path)
    text = client.get("/metrics").text
    assert 'route="/models/{model}"' in text
    assert 'route="other"' in text
    assert not re.search(r"\{[^}]*4711", text)


def test_metrics_come_as_open_metrics_too(client: httpx.Client) -> None:
    found = client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert found.headers["content-type"].startswith("application/openmetrics-text")
    assert found.text.endswith("# EOF\n")
    assert client.get("/metrics").headers["content-type"].startswith("text/plain")


def test_probes(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    body = ready.json()
    assert body["ready"] is True
    assert body["reason"] is None
    assert {(model["name"], model["version"]) for model in body["models"]} == {
        ("dots", 1),
        ("dots", 2),
        ("normal", 1),
        ("sleeper", 1),
    }
    assert list(body["refused"]) == ["broken/1"]
    assert "decode.onnx" in body["refused"]["broken/1"]
    assert "/broken/1" not in body["refused"]["broken/1"], "the folder's path is nobody's business"


def test_many_clients_at_once_get_their_own_rows(server: ServerProcess) -> None:
    async def one(client: httpx.AsyncClient, k: int) -> None:
        rows = np.random.default_rng(k).normal(size=(1 + k % 7, 2))
        likely = await client.post("/log_prob", json={"model": "normal", "rows": rows.tolist()})
        assert likely.json()["log_prob"] == pytest.approx(log_prob_of(rows), rel=1e-12)
        drawn = await client.post("/sample", json={"model": "normal", "n": 1 + k % 5, "seed": k})
        assert np.array_equal(drawn.json()["rows"], normal_of(*addresses(k, 0, 1 + k % 5)))

    async def all_of_them() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=30.0) as client:
            await asyncio.gather(*(one(client, k) for k in range(60)))

    asyncio.run(all_of_them())


@pytest.fixture
def second(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def test_json_is_compact_and_repeatable(client: httpx.Client, second: httpx.Client) -> None:
    body = {"model": "normal", "n": 20, "seed": 1}
    first, again = client.post("/sample", json=body).content, second.post("/sample", json=body).content
    assert first == again
    assert b", " not in first
    assert json.loads(first)["n"] == 20


@pytest.mark.parametrize(
    "given", ["application/json; charset=UTF-8", "APPLICATION/JSON", 'application/json;charset="utf-8"']
)
def test_json_may_say_that_it_is_utf8(client: httpx.Client, given: str) -> None:
    assert (
        client.post(
            "/log_prob", content=json.dumps({"model": "normal", "rows": X}), headers={"Content-Type": given}
        ).status_code
        == 200
    )


def test_a_body_of_exactly_the_limit_is_read(client: httpx.Client) -> None:
    body = json.dumps({"model": "normal", "rows": X}).encode()
    answer = client.post(
        "/log_prob", content=body + b" " * (8 * 2**20 - len(body)), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200
    again = client.post(
        "/log_prob", content=(part for part in (body[:10], body[10:])), headers={"Content-Type": "application/json"}
    )
    assert again.json() == answer.json()
