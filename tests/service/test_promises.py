"""The promises of the front page, kept by the shipped bundles, from the outside: a real process, a real socket."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from tests.service.server_process import ROOT, ServerProcess, metric, serving
from training.data import load_data
from training.folds import make_folds
from training.recipe import load_recipe

BUNDLES = ROOT / "bundles"
NO_CACHE = {"NONESUCH_CACHE_BYTES": "0"}
PATIENT = {"X-Timeout-Ms": "120000"}
"""On a machine that runs other tests beside, the service may rightly expect to be late by the default deadline."""


def sample(client: httpx.Client, model: str, **fields) -> httpx.Response:
    answer = client.post("/sample", json={"model": model, **fields}, headers=PATIENT)
    assert answer.status_code == 200, answer.text
    return answer


def post_rows(client: httpx.Client, model: str, rows: list) -> httpx.Response:
    return client.post("/log_prob", json={"model": model, "rows": rows}, headers=PATIENT)


def rows_of(client: httpx.Client, model: str, **fields) -> np.ndarray:
    return np.array(sample(client, model, **fields).json()["rows"])


MANY = {"digits": 8, "monsters": 8, "rbm-digits": 8}
"""Rows of a large batch, where a thousand would take minutes."""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving(BUNDLES, **NO_CACHE) as process:
        yield process


@pytest.fixture
def client(server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def models(client: httpx.Client) -> list[str]:
    return [card["name"] for card in client.get("/models").json()["models"]]


@contextmanager
def other_clients(server: ServerProcess, names: list[str]) -> Iterator[list[int]]:
    """Three clients that ask all sorts of things, over and over; yields the statuses that they got."""
    stop, statuses = threading.Event(), []

    def ask(number: int) -> None:
        with server.client() as client:
            seed = 0
            while not stop.is_set():
                seed += 1
                name = names[(seed + number) % len(names)]
                drawn = sample(client, name, n=1 + seed * 7 % 40, seed=seed).json()["rows"]
                statuses.append(post_rows(client, name, drawn).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_sample_has_one_address(server, client):
    names = models(client)
    assert {"digits", "breast-cancer", "monsters", "moons", "moons-gaussian"} <= set(names)
    alone = {name: rows_of(client, name, seed=42, start=7, n=1) for name in names}
    for name in names:
        many = MANY.get(name, 1000)
        batch = rows_of(client, name, seed=42, n=many)
        assert batch[7:8].tobytes() == alone[name].tobytes(), f"{name}: row 7 differs in a batch of {many}"
        assert len(np.unique(batch.reshape(many, -1), axis=0)) == many, f"{name}: two rows of a batch are equal"
        assert rows_of(client, name, seed=43, start=7, n=1).tobytes() != alone[name].tobytes()
    few = [name for name in names if name not in MANY]
    with other_clients(server, few) as statuses:
        for turn in range(3):
            for name in names if turn == 0 else few:
                busy = rows_of(client, name, seed=42, start=7, n=1)
                assert busy.tobytes() == alone[name].tobytes(), f"{name}: row 7 differs under load"
    assert statuses
    assert set(statuses) == {200}
    with serving(BUNDLES, **NO_CACHE) as again, again.client() as other:
        for name in names:
            anew = rows_of(other, name, seed=42, start=6, n=2)[1:2]
            assert anew.tobytes() == alone[name].tobytes(), f"{name}: row 7 differs after a restart"


def test_the_gaussian_agrees_with_scipy(client):
    """Over HTTP against SciPy's multivariate normal, fitted here to the same fold by maximum likelihood."""
    recipe, _ = load_recipe(ROOT / "recipes" / "moons-gaussian.yaml")
    data = load_data(recipe, ROOT)
    folds = make_folds(data, recipe.folds, calibrated=recipe.anomaly is not None, validated=False)
    train = folds.train.rows
    law = multivariate_normal(train.mean(axis=0), np.cov(train.T, bias=True))
    x = np.random.default_rng(0).uniform(-4, 4, size=(500, 2))
    answer = client.post("/log_prob", json={"model": "moons-gaussian", "rows": x.tolist()}).json()
    assert (answer["kind"], answer["units"]) == ("exact", "nats")
    np.testing.assert_allclose(answer["log_prob"], law.logpdf(x), atol=1e-4, rtol=0)


def test_codes_and_rows_are_a_bijection(client):
    for name in ("breast-cancer", "moons", "moons-gaussian"):
        x = rows_of(client, name, seed=1, n=50)
        codes = client.post("/encode", json={"model": name, "rows": x.tolist()}).json()["codes"]
        back = np.array(client.post("/decode", json={"model": name, "codes": codes}).json()["rows"])
        spread = x.std(axis=0)
        np.testing.assert_allclose(back / spread, x / spread, atol=1e-4, rtol=0, err_msg=name)


def test_records_and_rows_get_the_same_answer(client):
    drawn = sample(client, "breast-cancer", seed=3, n=5).json()
    records = [dict(zip(drawn["columns"], row, strict=True)) for row in drawn["rows"]]
    for path in ("/log_prob", "/anomaly-score"):
        by_row = client.post(path, json={"model": "breast-cancer", "rows": drawn["rows"]}).json()
        assert client.post(path, json={"model": "breast-cancer", "records": records}).json() == by_row


def test_a_score_says_what_it_promises(client):
    drawn = sample(client, "breast-cancer", seed=3, n=40).json()["rows"]
    answer = client.post("/anomaly-score", json={"model": "breast-cancer", "rows": drawn, "alpha": 0.1}).json()
    n = answer["n_calibration"]
    assert answer["smallest_p_value"] == pytest.approx(1 / (n + 1))
    np.testing.assert_array_equal(np.array(answer["p_value"]) <= 0.1 + 1e-12, answer["is_anomaly"])
    strange = client.post(
        "/anomaly-score", json={"model": "breast-cancer", "rows": [[1000.0 * v for v in drawn[0]]]}
    ).json()
    assert strange["p_value"] == [pytest.approx(answer["smallest_p_value"])]
    assert strange["is_anomaly"] == [True]
    unreachable = client.post(
        "/anomaly-score", json={"model": "breast-cancer", "rows": drawn[:1], "alpha": 0.001}
    ).json()
    assert unreachable["is_anomaly"] is None
    assert "cannot reach" in unreachable["promise"]


def test_what_a_family_lacks_is_refused_with_a_reason(client):
    for path, field in (("/encode", "rows"), ("/decode", "codes")):
        answer = client.post(path, json={"model": "digits", field: [[0.0]]})
        assert answer.status_code == 409
        assert answer.headers["content-type"] == "application/problem+json"
        assert "autoregressive" in answer.json()["detail"]


# -- Redis -----------------------------------------------------------------------------------------------------


@pytest.fixture
def digits(tmp_path) -> Path:
    """A folder with no other bundle, and of its versions the one that is drawn faster: what a cache does, one shows."""
    shutil.copytree(BUNDLES / "digits" / "1", tmp_path / "digits" / "1")
    return tmp_path


def test_the_second_identical_sample_comes_from_redis_also_after_a_restart(digits, redis_server):
    # Without a memory cache, what is a hit was in Redis.
    environment = {**NO_CACHE, "REDIS_URL": redis_server.url}
    asked = {"model": "digits", "n": 64, "seed": 11}
    with serving(digits, **environment) as server, server.client() as client:
        first = sample(client, **asked)
        assert first.headers["nonesuch-cache"] == "miss"
        wait_for_writes(client, 64)
        second = sample(client, **asked)
        assert second.headers["nonesuch-cache"] == "hit"
        assert metric(client, "nonesuch_cache_events_total", event="hits_redis") == 64
        assert second.json() == first.json()
        part = sample(client, model="digits", n=100, seed=11)
        assert part.headers["nonesuch-cache"] == "partial"
    with serving(digits, **environment) as server, server.client() as client:
        third = sample(client, **asked)
        assert third.headers["nonesuch-cache"] == "hit"
        assert third.json() == first.json()


def wait_for_writes(client: httpx.Client, rows: int) -> None:
    """Rows are written to Redis behind the answer's back."""
    for _ in range(600):
        if metric(client, "nonesuch_cache_events_total", event="redis_writes") >= rows:
            return
        threading.Event().wait(0.05)
    pytest.fail(f"{rows} rows were not written to Redis")


def test_redis_killed_frozen_and_brought_back_costs_no_answer(digits, redis_server):
    with serving(digits, **NO_CACHE) as server, server.client() as client:
        truth = {seed: rows_of(client, "digits", seed=seed, n=8) for seed in range(6)}
    failures: list[str] = []
    asked = [0]
    stop = threading.Event()

    def ask(server: ServerProcess, number: int) -> None:
        with server.client() as client:
            turn = number
            while not stop.is_set():
                seed = turn % len(truth)
                answer = client.post("/sample", json={"model": "digits", "n": 8, "seed": seed})
                if answer.status_code != 200:
                    failures.append(answer.text)
                elif not np.array_equal(answer.json()["rows"], truth[seed]):
                    failures.append(f"a wrong row of seed {seed}")
                asked[0] += 1
                turn += 1

    def some_requests() -> None:
        target = asked[0] + 20
        while asked[0] < target and not failures:
            threading.Event().wait(0.01)

    with serving(digits, **NO_CACHE, REDIS_URL=redis_server.url) as server, server.client() as client:
        threads = [threading.Thread(target=ask, args=(server, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            some_requests()
            for trouble, relief in (
                (redis_server.kill, redis_server.restart),
                (redis_server.freeze, redis_server.thaw),
            ):
                trouble()
                some_requests()
                relief()
                some_requests()
            hits = metric(client, "nonesuch_cache_events_total", event="hits_redis")
            for _ in range(100):  # the breaker tries again after a while
                if metric(client, "nonesuch_cache_events_total", event="hits_redis") > hits or failures:
                    break
                some_requests()
            else:
                failures.append("Redis was brought back and never used again")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert not failures, failures[:3]
