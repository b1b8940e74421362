"""Keys and quotas as a client meets them: real processes, a real file of keys, a real Redis between them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.auth import Key, hash_key, new_key
from tests.service.redis_server import RedisServer
from tests.service.server_process import ROOT, ServerProcess, metric, serving
from tests.service.test_overload import eventually
from tests.service.test_refusals import refused
from tests.service.whole import dots, normal, write, write_all

ALICE, BOB = new_key(), new_key()
QUESTION = {"model": "normal", "rows": [[0.5, -1.0]]}
BROWSER = {"Accept": "text/html,application/xhtml+xml"}


def keys_file(folder: Path, **keys: tuple[str, int | None]) -> Path:
    path = folder / "keys"
    path.write_text("\n".join(Key(name, hash_key(key), quota).line() for name, (key, quota) in keys.items()))
    return path


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    write_all(root)
    return root


@pytest.fixture(scope="module")
def keyed(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that asks for keys and logs for machines; bob may ask for a hundred rows a minute."""
    path = keys_file(tmp_path_factory.mktemp("keys"), alice=(ALICE, None), bob=(BOB, 100))
    settings = {"NONESUCH_KEYS_FILE": str(path), "NONESUCH_LOG_FORMAT": "json", "NONESUCH_ACCESS_LOG": "true"}
    # In Redis a minute begins with the first request, and does not end in the middle of a test.
    redis = RedisServer()
    settings |= {"REDIS_URL": redis.url, "NONESUCH_REDIS_TIMEOUT_MS": "5000"}
    try:
        with serving(bundles, "--host", "0.0.0.0", **settings) as running:
            running.url = running.url.replace("0.0.0.0", "127.0.0.1")
            yield running
            for secret in (ALICE, BOB, hash_key(ALICE)):
                assert secret not in running.err
                assert secret not in running.out
    finally:
        redis.close()


@pytest.fixture
def stranger(keyed: ServerProcess) -> Iterator[httpx.Client]:
    with keyed.client() as client:
        yield client


@pytest.fixture
def alice(keyed: ServerProcess) -> Iterator[httpx.Client]:
    with keyed.client(headers=bearer(ALICE)) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/log_prob"),
        ("POST", "/anomaly-score"),
        ("POST", "/sample"),
        ("POST", "/encode"),
        ("POST", "/decode"),
        ("POST", "/classify"),
        ("POST", "/inpaint"),
        ("GET", "/models"),
        ("GET", "/models/normal"),
        ("GET", "/models/normal/versions/1"),
        ("GET", "/metrics"),
        ("GET", "/"),
        ("GET", "/x/dots"),
        ("GET", "/x/dots/1"),
        ("GET", "/nothing"),
    ],
)
def test_401_without_a_key_and_with_a_wrong_one(stranger: httpx.Client, method: str, path: str) -> None:
    body = {"json": QUESTION} if method == "POST" else {}
    answer = stranger.request(method, path, **body)  # type: ignore[arg-type]
    refused(answer, 401, "unauthorised")
    assert answer.headers["www-authenticate"] == 'Bearer realm="nonesuch"'
    answer = stranger.request(method, path, headers=bearer(ALICE[:-1]), **body)  # type: ignore[arg-type]
    problem = refused(answer, 401, "unauthorised")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert ALICE[:-1] not in json.dumps(problem)


def test_401_for_a_browser_is_a_page(stranger: httpx.Client) -> None:
    page = stranger.get("/", headers=BROWSER)
    assert page.status_code == 401
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["www-authenticate"].startswith("Bearer")
    assert "A key is needed" in page.text


def test_401_comes_before_anything_is_read_or_looked_up(stranger: httpx.Client) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Accept": "text/csv"}, {"X-Timeout-Ms": "no"}):
        refused(stranger.post("/log_prob", content=b"{", headers=headers), 401, "unauthorised")


def test_the_open_addresses_stay_open(stranger: httpx.Client) -> None:
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/problems/unauthorised", "/static/style.css"):
        assert stranger.get(path).status_code == 200, path
    document = stranger.get("/openapi.json").json()
    assert document["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            needs = stranger.request(method, path.replace("{model}", "normal").replace("{version}", "1"))
            assert (
                (needs.status_code == 401)
                == ("401" in described["responses"])
                == ({"key": []} in described["security"])
            )


def test_with_a_key_everything_is_answered(alice: httpx.Client) -> None:
    rows = metric(alice, "nonesuch_key_rows_total", key="alice")
    answer = alice.post("/log_prob", json=QUESTION)
    assert answer.status_code == 200
    assert metric(alice, "nonesuch_key_rows_total", key="alice") == rows + 1
    assert not [name for name in answer.headers if name.startswith("ratelimit")], "alice has no quota"
    for path in ("/models", "/", "/x/dots", "/metrics"):
        assert alice.get(path).status_code == 200


def test_the_fast_path_knows_keys_and_quotas_too(bundles: Path, tmp_path: Path) -> None:
    path = keys_file(tmp_path, alice=(ALICE, None), bob=(BOB, 10))
    settings = {"NONESUCH_KEYS_FILE": str(path), "NONESUCH_CACHE_BYTES": "0"}  # no cache, no reason to leave it
    with serving(bundles, **settings) as server, server.client(headers=bearer(ALICE)) as alice:
        for key in (ALICE, BOB):
            before = metric(alice, "nonesuch_fast_answers")
            plain = alice.post("/log_prob", json=QUESTION, headers=bearer(key))
            ordinary = alice.post("/log_prob", json=QUESTION, headers={**bearer(key), "X-Timeout-Ms": "9000"})
            assert plain.status_code == ordinary.status_code == 200
            assert plain.content == ordinary.content
            assert metric(alice, "nonesuch_fast_answers") == before + 1
            limits = [{name for name in answer.headers if name.startswith("ratelimit")} for answer in (plain, ordinary)]
            assert limits[0] == limits[1]
            assert bool(limits[0]) == (key == BOB)
        assert int(plain.headers["ratelimit-remaining"]) == 9
        many = {"model": "normal", "rows": [[0.0, 1.0]] * 11}
        refused(alice.post("/log_prob", json=many, headers=bearer(BOB)), 422, "larger-than-quota")
        refused(alice.post("/log_prob", json=QUESTION, headers={"Authorization": ""}), 401, "unauthorised")
        assert metric(alice, "nonesuch_key_rows_total", key="bob") == 2


def test_the_log_has_a_line_for_every_request_with_who_asked_what(keyed: ServerProcess, alice: httpx.Client) -> None:
    asked = {"model": "dots", "n": 3, "seed": 1, "version": 1}
    ids = {
        "plain": alice.post("/log_prob", json=QUESTION).headers["x-request-id"],
        "ordinary": alice.post("/sample", json=asked, headers={"X-Request-Id": "job-7"}).headers["x-request-id"],
        "card": alice.get("/models/normal").headers["x-request-id"],
        "refused": alice.post("/log_prob", json={**QUESTION, "rows": [[1]]}).headers["x-request-id"],
        "stranger": httpx.get(f"{keyed.url}/models?key=secret").headers["x-request-id"],
    }
    assert ids["ordinary"] == "job-7"

    def lines() -> dict[str, Any]:
        found = [json.loads(line) for line in keyed.err.splitlines()]
        return {line["request_id"]: line for line in found if line["event"] == "request"}

    eventually(lambda: set(ids.values()) <= set(lines()))
    said = {name: lines()[request_id] for name, request_id in ids.items()}
    for line in said.values():
        assert line["level"] == "info"
        assert line["seconds"] >= 0
        assert "secret" not in json.dumps(line)
    assert [said[name]["status"] for name in ids] == [200, 200, 200, 422, 401]
    assert [said[name]["method"] for name in ids] == ["POST", "POST", "GET", "POST", "GET"]
    assert [said[name]["route"] for name in ids] == ["/log_prob", "/sample", "/models/{model}", "/log_prob", "other"]
    assert [said[name].get("key") for name in ids] == ["alice", "alice", "alice", "alice", None]
    about = {name: {part: said[name].get(part) for part in ("model", "version", "rows")} for name in ids}
    assert about["plain"] == {"model": "normal", "version": 1, "rows": 1}
    assert about["ordinary"] == {"model": "dots", "version": 1, "rows": 3}
    assert about["refused"] == {"model": "normal", "version": None, "rows": 1}
    assert said["plain"]["cache"] in ("hit", "miss", "bypass")
    assert said["ordinary"]["cache"] in ("hit", "miss", "bypass")
    assert "cache" not in said["card"]


def test_429_once_a_quota_is_used_up_whichever_way_it_was(keyed: ServerProcess, alice: httpx.Client) -> None:
    rows = [[0.0, 1.0]] * 30
    with keyed.client(headers=bearer(BOB)) as bob:
        plain = bob.post("/log_prob", json={"model": "normal", "rows": rows})
        assert plain.headers["ratelimit-limit"] == "100"
        assert plain.headers["ratelimit-remaining"] == "70"
        assert plain.headers["ratelimit-policy"] == "100;w=60"
        ordinary = bob.post("/sample", json={"model": "normal", "n": 60, "seed": 1})
        assert ordinary.headers["ratelimit-remaining"] == "10"
        assert bob.get("/x/normal").status_code == 200  # a page counts as a row
        refusals = metric(alice, "nonesuch_quota_refusals_total", key="bob")
        for path, body in (
            ("/log_prob", {"model": "normal", "rows": rows}),
            ("/sample", {"model": "normal", "n": 10}),
        ):
            answer = bob.post(path, json=body)
            refused(answer, 429, "over-quota")
            assert 1 <= int(answer.headers["retry-after"]) <= 120
            assert answer.headers["ratelimit-remaining"] == "9"
        assert metric(alice, "nonesuch_quota_refusals_total", key="bob") > refusals
        assert (
            "row"
            in refused(bob.post("/sample", json={"model": "normal", "n": 101}), 422, "larger-than-quota")["detail"]
        )
        assert bob.post("/sample", json={"model": "normal", "n": 9}).headers["ratelimit-remaining"] == "0"
        refused(bob.get("/x/normal"), 429, "over-quota")
        assert bob.get("/models").status_code == 200, "a card costs nothing"
    assert alice.post("/log_prob", json=QUESTION).status_code == 200


def test_two_processes_share_a_quota_through_redis_and_outlive_it(
    bundles: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    path = keys_file(tmp_path, bob=(BOB, None))
    settings = {
        "NONESUCH_KEYS_FILE": str(path),
        "NONESUCH_ROWS_PER_MINUTE": "1000",
        "REDIS_URL": redis_server.url,
        "NONESUCH_REDIS_TIMEOUT_MS": "5000",
    }
    with serving(bundles, **settings) as one, serving(bundles, **settings) as other:
        with one.client(headers=bearer(BOB)) as first, other.client(headers=bearer(BOB)) as second:
            taken = {"model": "normal", "rows": [[0.0, 1.0]] * 400}
            assert first.post("/log_prob", json=taken).headers["ratelimit-remaining"] == "600"
            assert second.post("/log_prob", json=taken).headers["ratelimit-remaining"] == "200"
            refused(first.post("/log_prob", json=taken), 429, "over-quota")
            refused(second.post("/log_prob", json=taken), 429, "over-quota")
            redis_server.kill()
            for client in (first, second):  # each goes on alone, from nothing
                answer = client.post("/log_prob", json=taken)
                assert answer.status_code == 200
                assert answer.headers["ratelimit-remaining"] == "600"
                assert metric(client, "nonesuch_cache_events_total", event="quota_redis_failures") == 1
        assert "each process counts quotas by itself" in one.err
        assert BOB not in one.err


def test_keys_are_read_again_and_a_broken_file_changes_nothing(bundles: Path, tmp_path: Path) -> None:
    path = keys_file(tmp_path, alice=(ALICE, None), bob=(BOB, None))
    with serving(bundles, "--keys-file", str(path)) as server, server.client() as client:

        def status(key: str) -> int:
            return client.get("/models", headers=bearer(key)).status_code

        assert (status(ALICE), status(BOB)) == (200, 200)
        keys_file(tmp_path, bob=(BOB, None))
        server.send(signal.SIGHUP)
        eventually(lambda: status(ALICE) == 401)
        assert status(BOB) == 200
        path.write_text("bob\n")
        server.send(signal.SIGHUP)
        eventually(lambda: "the keys stay as they were" in server.err)
        assert (status(ALICE), status(BOB)) == (401, 200)
        path.unlink()
        server.send(signal.SIGHUP)
        eventually(lambda: server.err.count("the keys stay as they were") == 2)
        assert (status(ALICE), status(BOB)) == (401, 200)


def test_without_keys_an_address_may_have_a_quota(tmp_path: Path, redis_server: RedisServer) -> None:
    write(tmp_path, normal())
    settings = {"NONESUCH_ANONYMOUS_ROWS_PER_MINUTE": "5", "NONESUCH_TRUSTED_PROXIES": "127.0.0.1"}
    settings |= {"REDIS_URL": redis_server.url, "NONESUCH_REDIS_TIMEOUT_MS": "5000"}
    with serving(tmp_path, **settings) as server, server.client() as client:
        for address in ("192.0.2.1", "192.0.2.2"):
            headers = {"X-Forwarded-For": address}
            for left in (3, 1):
                taken = client.post("/sample", json={"model": "normal", "n": 2}, headers=headers)
                assert taken.headers["ratelimit-remaining"] == str(left)
            refused(client.post("/sample", json={"model": "normal", "n": 2}, headers=headers), 429, "over-quota")
        assert metric(client, "nonesuch_key_rows_total", key="anonymous") == 8
        assert "192.0.2" not in client.get("/metrics").text


def test_pages_can_be_left_open_while_questions_need_a_key(tmp_path: Path) -> None:
    write(tmp_path, dots())
    path = keys_file(tmp_path, alice=(ALICE, None))
    with (
        serving(tmp_path, NONESUCH_KEYS_FILE=str(path), NONESUCH_PUBLIC_PAGES="true") as server,
        server.client() as client,
    ):
        assert client.get("/", headers=BROWSER).status_code == 200
        where = client.get("/x/dots/1").headers["location"]
        assert client.get(f"{where}.png").headers["content-type"] == "image/png"
        refused(client.post("/sample", json={"model": "dots"}), 401, "unauthorised")
        refused(client.get("/models"), 401, "unauthorised")


# -- the commands --------------------------------------------------------------------------------------------------


def command(*words: str) -> subprocess.CompletedProcess[str]:
    code = "from commands.main import main; main()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NONESUCH_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_a_key_is_made_shown_once_and_works(tmp_path: Path) -> None:
    write(tmp_path, dots())
    made = command("key", "carol", "--rows-per-minute", "50")
    assert made.returncode == 0, made.stderr
    key = next(word for word in made.stdout.split() if word.startswith("nonesuch_") and "..." not in word)
    line = next(text.strip() for text in made.stdout.splitlines() if "sha256:" in text)
    assert made.stdout.count(key) == 1
    path = tmp_path / "keys"
    path.write_text(line)
    with serving(tmp_path, "--keys-file", str(path)) as server, server.client() as client:
        assert "a key in $NONESUCH_KEY" in server.out
        assert "Authorization: Bearer $NONESUCH_KEY" in server.out
        answer = client.post("/sample", json={"model": "dots"}, headers=bearer(key))
        assert answer.headers["ratelimit-limit"] == "50"


@pytest.mark.parametrize("name", ["a b", "", "anonymous", "-x", "x" * 64, "a:b"])
def test_a_name_that_cannot_be_is_told(name: str) -> None:
    made = command("key", "--", name)
    assert made.returncode == 1
    assert "no name of a key" in made.stderr
    assert "nonesuch_" not in made.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [("alice: secret", "line 1: expected NAME: sha256:HASH"), ("", "no key in it"), (None, "No such")],
)
def test_a_file_of_keys_that_cannot_be_is_told_before_anything_listens(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "keys"
    if text is not None:
        path.write_text(text)
    server = ServerProcess("--host", "0.0.0.0", "--port", "0", "--keys-file", str(path))
    assert server.wait() == 1
    assert words in server.err
    assert "secret" not in server.err
    assert len(server.err.strip().splitlines()) == 1
