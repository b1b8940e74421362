"""The process: what it prints, what it refuses to do, and how it ends."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.readme import parse_curl
from tests.service.server_process import ServerProcess, metric, serving
from tests.service.test_overload import eventually
from tests.service.whole import dots, normal, sleeper, write

FOREVER = {"model": "sleeper", "seed": 1, "start": 1_900_000}
A_WHILE = {"model": "sleeper", "seed": 1, "start": 5_000}


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    for parts in (normal(), sleeper()):
        write(tmp_path, parts)
    return tmp_path


class Asking(threading.Thread):
    """A request under way in a thread of its own."""

    def __init__(self, server: ServerProcess, body: dict[str, Any]):
        super().__init__()
        self._server = server
        self._body = body
        self.answer: httpx.Response | None = None
        self.start()

    def run(self) -> None:
        with self._server.client() as client:
            self.answer = client.post("/sample", json=self._body, headers={"X-Timeout-Ms": "600000"})

    def result(self) -> httpx.Response:
        self.join()
        assert self.answer is not None
        return self.answer


def ended(server: ServerProcess) -> None:
    """It ended as it should: by itself, without a traceback or a warning."""
    assert server.wait() == 0, server.err
    assert "Traceback" not in server.err
    assert "Warning" not in server.err


def test_ctrl_c_lets_running_requests_finish(bundles: Path) -> None:
    with serving(bundles) as server, server.client() as client:
        asking = Asking(server, A_WHILE)
        eventually(lambda: metric(client, "nonesuch_rows_in_flight") == 1)
        server.send(signal.SIGINT)
        assert asking.result().status_code == 200
        ended(server)


def test_sigterm_serves_on_while_it_says_that_it_is_not_ready(bundles: Path) -> None:
    with serving(bundles, NONESUCH_DRAIN_SECONDS="2") as server:
        with server.client() as client:
            server.send(signal.SIGTERM)
            eventually(lambda: client.get("/readyz").status_code == 503)
            ready = client.get("/readyz")
            assert ready.json()["reason"] == "the service is stopping"
            assert ready.headers["retry-after"]
            assert client.post("/sample", json={"model": "normal", "seed": 1}).status_code == 200
        ended(server)


def test_what_does_not_finish_in_time_is_told_so(bundles: Path) -> None:
    settings = {"NONESUCH_DRAIN_SECONDS": "0", "NONESUCH_FINISH_SECONDS": "1"}
    with serving(bundles, **settings) as server, server.client() as client:
        asking = Asking(server, FOREVER)
        eventually(lambda: metric(client, "nonesuch_rows_in_flight") == 1)
        server.send(signal.SIGTERM)
        answer = asking.result()
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/draining"
        ended(server)


def test_it_prints_where_it_serves_what_and_one_command_that_works(bundles: Path) -> None:
    shutil.copytree(bundles / "normal" / "1", bundles / "normal" / "2")  # a version that its manifest denies
    with serving(bundles) as server:
        assert f"Nonesuch serves {server.url}" in server.out
        assert "normal " in server.out
        assert "by-hand: sample, latent, decode, encode, log_prob, score" in server.out
        assert "refused: normal/2: the manifest says normal/1" in server.out
        command = server.out.partition("Try")[2].partition("Ctrl-C")[0].strip()
        with httpx.Client() as client:
            client.headers.clear()
            printed = parse_curl(command).run(client, bundles)  # what a reader does with it
    assert '"rows":[[' in printed


def test_a_taken_port_is_told_in_one_line(bundles: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = ServerProcess("--port", str(port), "--bundles", str(bundles))
        assert server.wait() == 1
    assert f"port {port} on 127.0.0.1 is taken" in server.err
    assert f"--port {port + 1}" in server.err
    assert len(server.err.strip().splitlines()) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_public_address_needs_permission(bundles: Path, host: str) -> None:
    server = ServerProcess("--host", host, "--port", "0", "--bundles", str(bundles))
    assert server.wait() == 1
    assert "--allow-anonymous" in server.err
    assert "Traceback" not in server.err


@pytest.mark.parametrize(
    ("flags", "environment", "words"),
    [
        (["--bundles", "/nonesuch/bundles"], {}, "/nonesuch/bundles does not exist"),
        (["--log-level", "shout"], {}, "NONESUCH_LOG_LEVEL"),
        ([], {"NONESUCH_POLL_SECONDS": "often"}, "NONESUCH_POLL_SECONDS"),
        (["--redis-url", "http://example.org"], {}, "edis"),
        (["--host", "no.such.host.invalid", "--allow-anonymous"], {}, "no.such.host.invalid"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    tmp_path: Path, flags: list[str], environment: dict[str, str], words: str
) -> None:
    server = ServerProcess("--port", "0", "--bundles", str(tmp_path), *flags, environment=environment)
    assert server.wait() == 1
    assert words in server.err
    assert len(server.err.strip().splitlines()) == 1


def test_bundles_are_found_as_they_come(tmp_path: Path) -> None:
    settings = {"NONESUCH_REQUIRED_MODELS": "normal", "NONESUCH_POLL_SECONDS": "0.05"}
    with serving(tmp_path, **settings) as server, server.client() as client:
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert "normal" in ready.json()["reason"]
        assert "No bundle is being served" in client.get("/").text
        write(tmp_path, dots())
        eventually(lambda: client.get("/models/dots").status_code == 200)
        assert client.post("/sample", json={"model": "dots"}).status_code == 200
        assert client.get("/readyz").status_code == 503
        write(tmp_path, normal())
        eventually(lambda: client.get("/readyz").status_code == 200)


def test_sighup_looks_for_bundles_now(bundles: Path) -> None:
    with serving(bundles, NONESUCH_POLL_SECONDS="3600") as server, server.client() as client:
        write(bundles, dots())
        server.send(signal.SIGHUP)
        eventually(lambda: client.get("/models/dots").status_code == 200)


def test_a_public_server_that_logs_for_machines_and_stops_at_the_second_signal(bundles: Path, tmp_path: Path) -> None:
    flags = ["--host", "0.0.0.0", "--allow-anonymous", "--log-format", "json", "--access-log"]
    settings = {
        "NONESUCH_DRAIN_SECONDS": "600",
        "NONESUCH_TRUSTED_PROXIES": "127.0.0.1",
        "REDIS_URL": f"unix://{tmp_path}/no.sock",
    }
    with serving(bundles, *flags, **settings) as server:
        with httpx.Client(base_url=server.url.replace("0.0.0.0", "127.0.0.1"), timeout=30.0) as client:
            client.get("/models", headers={"X-Request-Id": "find-me"})
            for _ in range(3):  # a Redis that is not there costs no answer
                assert client.post("/sample", json={"model": "sleeper", "n": 50, "seed": 3}).status_code == 200
            assert client.get("/readyz").json()["ready"]
            assert "curl -s https://" in client.get("/", headers={"X-Forwarded-Proto": "https"}).text
            server.send(signal.SIGTERM)
            eventually(lambda: client.get("/readyz").status_code == 503)
            server.send(signal.SIGINT)
        ended(server)
        lines = [json.loads(line) for line in server.err.splitlines()]
    found = next(line for line in lines if line.get("request_id") == "find-me")
    assert (found["path"], found["status"], found["level"]) == ("/models", 200, "info")
