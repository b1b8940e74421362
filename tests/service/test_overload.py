"""Full, late, slow and gone: what happens when there is too much to do, or nobody left to do it for."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.service.server_process import ServerProcess, metric, serving
from tests.service.test_refusals import refused
from tests.service.whole import write_all

LONG = {"model": "sleeper", "n": 8, "seed": 1, "start": 1_500_000}
"""A request that is still running whenever a test looks."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with room for ten rows and four kilobytes."""
    bundles = tmp_path_factory.mktemp("small")
    write_all(bundles)
    limits = {
        "MAX_ROWS_IN_FLIGHT": "10",
        "MAX_BYTES_IN_FLIGHT": "4096",
        "MAX_JSON_BYTES": "2048",
        "MAX_BINARY_BYTES": "2048",
        "MAX_ANSWER_BYTES": "2048",
    }
    with serving(bundles, **{f"NONESUCH_{name}": value for name, value in limits.items()}) as running:
        yield running


@pytest.fixture
def client(small: ServerProcess) -> Iterator[httpx.Client]:
    with small.client() as made:
        yield made
        eventually(lambda: metric(made, "nonesuch_rows_in_flight") == 0)
        assert metric(made, "nonesuch_body_bytes_held") == 0


def eventually(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30.0
    while not true():
        assert time.monotonic() < limit, "it never came true"
        time.sleep(0.01)


@contextmanager
def connected(server: ServerProcess) -> Iterator[socket.socket]:
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=30.0) as connection:
        yield connection


def head(path: str, length: int | None, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    lines += [f"Content-Length: {length}"] if length is not None else []
    return "\r\n".join([*lines, "", ""]).encode()


@contextmanager
def long_request(server: ServerProcess, client: httpx.Client) -> Iterator[socket.socket]:
    """A connection with eight rows in flight, until it is closed."""

    body = json.dumps(LONG).encode()
    with connected(server) as connection:
        connection.sendall(head("/sample", len(body), "X-Timeout-Ms: 600000") + body)
        eventually(lambda: metric(client, "nonesuch_rows_in_flight") == 8)
        yield connection


def ask(client: httpx.Client, n: int) -> httpx.Response:
    return client.post("/log_prob", json={"model": "normal", "rows": [[0.1, 0.2]] * n})


def test_503_when_rows_in_flight_would_be_too_many(small: ServerProcess, client: httpx.Client) -> None:
    with long_request(small, client):
        answer = client.post("/sample", json={"model": "sleeper", "n": 3, "seed": 1})
        refused(answer, 503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert client.post("/sample", json={"model": "sleeper", "n": 2, "seed": 1}).status_code == 200
    eventually(lambda: metric(client, "nonesuch_rows_in_flight") == 0)
    assert client.post("/sample", json={"model": "sleeper", "n": 3, "seed": 1}).status_code == 200


def test_a_request_is_never_too_large_for_an_idle_server(client: httpx.Client) -> None:
    assert ask(client, 40).status_code == 200


def test_probes_and_cards_are_answered_while_a_long_request_runs(small: ServerProcess, client: httpx.Client) -> None:
    with long_request(small, client):
        for path in ("/healthz", "/readyz", "/models", "/"):
            assert client.get(path).status_code == 200


def test_503_before_a_body_is_read_that_does_not_fit(small: ServerProcess, client: httpx.Client) -> None:
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connected(small)).sendall(head("/log_prob", 2000))
        eventually(lambda: metric(client, "nonesuch_body_bytes_held") == 4000)
        answer = ask(client, 20)
        refused(answer, 503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert ask(client, 1).status_code == 200
    eventually(lambda: metric(client, "nonesuch_body_bytes_held") == 0)
    assert ask(client, 20).status_code == 200


def test_a_body_of_unknown_length_takes_room_as_it_comes(small: ServerProcess, client: httpx.Client) -> None:
    with connected(small) as connection:
        connection.sendall(head("/log_prob", None, "Transfer-Encoding: chunked"))
        connection.sendall(b"3e8\r\n" + b" " * 1000 + b"\r\n")
        eventually(lambda: metric(client, "nonesuch_body_bytes_held") == 1000)
        connection.sendall(b"1f4\r\n" + b" " * 500 + b"\r\n")
        eventually(lambda: metric(client, "nonesuch_body_bytes_held") == 1500)
    eventually(lambda: metric(client, "nonesuch_body_bytes_held") == 0)


def test_504_when_the_deadline_passes(client: httpx.Client) -> None:
    answer = client.post("/sample", json=LONG, headers={"X-Timeout-Ms": "60"})
    assert "60 ms" in refused(answer, 504, "deadline-exceeded")["detail"]


def test_504_when_the_body_does_not_come(small: ServerProcess, client: httpx.Client) -> None:
    with connected(small) as connection:
        connection.sendall(head("/log_prob", 100, "X-Timeout-Ms: 60") + b'{"model":')
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 504 "), answer


def test_work_ends_when_the_client_leaves(small: ServerProcess, client: httpx.Client) -> None:
    before = metric(client, "nonesuch_requests_total", route="/sample", status="499")
    with long_request(small, client):
        pass
    eventually(lambda: metric(client, "nonesuch_requests_total", route="/sample", status="499") == before + 1)
    eventually(lambda: metric(client, "nonesuch_rows_in_flight") == 0)


def test_a_client_that_leaves_within_its_body_is_forgotten(small: ServerProcess, client: httpx.Client) -> None:
    before = metric(client, "nonesuch_requests_total", route="/log_prob", status="499")
    with connected(small) as connection:
        connection.sendall(head("/log_prob", 100) + b'{"model":')
        eventually(lambda: metric(client, "nonesuch_body_bytes_held") == 100)
    eventually(lambda: metric(client, "nonesuch_requests_total", route="/log_prob", status="499") == before + 1)


def test_a_page_ends_when_its_reader_leaves(small: ServerProcess, client: httpx.Client) -> None:
    location = client.get("/x/sleeper/1").headers["location"].removesuffix("/0")
    with connected(small) as connection:
        connection.sendall(f"GET {location}/1500000 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        eventually(lambda: metric(client, "nonesuch_rows_in_flight") == 1)
    eventually(lambda: metric(client, "nonesuch_rows_in_flight") == 0)


def test_the_largest_answer_is_a_setting(client: httpx.Client) -> None:
    assert client.post("/sample", json={"model": "normal", "n": 10, "seed": 1}).status_code == 200
    problem = refused(client.post("/sample", json={"model": "normal", "n": 100, "seed": 1}), 422, "answer-too-large")
    assert "start" in problem["detail"]


def test_a_burst_of_requests_is_answered_or_refused_and_never_wrong(small: ServerProcess, client: httpx.Client) -> None:
    statuses: list[int] = []
    expected = ask(client, 4).json()["log_prob"]

    def many() -> None:
        with small.client() as own:
            for _ in range(20):
                answer = ask(own, 4)
                statuses.append(answer.status_code)
                if answer.status_code == 200:
                    assert answer.json()["log_prob"] == expected
                else:
                    refused(answer, 503, "overloaded")

    failures: list[Any] = []

    def guarded() -> None:
        try:
            many()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(statuses) == 160
    assert 200 in statuses
