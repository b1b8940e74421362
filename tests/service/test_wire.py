"""Plain questions that are answered at the socket: whatever the order in which bytes come, and whoever leaves."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.server_process import ServerProcess, metric, serving
from tests.service.test_overload import connected, eventually
from tests.service.whole import write_all


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("bundles")
    write_all(root)
    with serving(root, NONESUCH_CACHE_BYTES="0") as process:
        yield process
        assert "Traceback" not in process.err
        assert "Invalid HTTP request" not in process.err


def request(x: float = 0.5, path: str = "/log_prob", *more: str, method: str = "POST", version: str = "1.1") -> bytes:
    """A plain question about one row, as it goes over the wire, with more headers."""
    body = json.dumps({"model": "normal", "rows": [[x, 1.0]]}).encode()
    lines = [f"{method} {path} HTTP/{version}", "Host: here", "Content-Type: application/json", *more]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def answers(connection: socket.socket, n: int) -> list[tuple[int, dict[str, str], Any]]:
    """The next n answers: status, headers and what the JSON says."""
    found = []
    with connection.makefile("rb") as stream:
        for _ in range(n):
            status = int(stream.readline().split()[1])
            headers = {}
            while line := stream.readline().strip():
                name, _, value = line.decode().partition(": ")
                headers[name] = value
            body = stream.read(int(headers["content-length"]))
            found.append((status, headers, json.loads(body) if "json" in headers["content-type"] else body.decode()))
    return found


def alone(server: ServerProcess, x: float) -> float:
    answer = httpx.post(f"{server.url}/log_prob", json={"model": "normal", "rows": [[x, 1.0]]})
    return float(answer.json()["log_prob"][0])


def test_bytes_may_come_one_by_one(server: ServerProcess) -> None:
    with connected(server) as connection:
        for byte in request():
            connection.sendall(bytes([byte]))
        ((status, _, body),) = answers(connection, 1)
    assert status == 200
    assert body["log_prob"] == [alone(server, 0.5)]


def test_a_connection_is_used_again_for_anything(server: ServerProcess) -> None:
    sent = [
        request(0.25),
        b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n",
        request(0.75),
        request(0.1, "/nowhere"),
        request(0.5, method="PUT"),
        request(1.0),
    ]
    with connected(server) as connection:
        for expected, data in zip((200, 200, 200, 404, 405, 200), sent, strict=True):
            connection.sendall(data)
            ((status, headers, _),) = answers(connection, 1)
            assert status == expected
            assert "x-request-id" in headers
            assert "date" in headers


@pytest.mark.parametrize(
    "order", [(200, 200, 200), (200, "get", 200, "bad"), ("bad", 200), ("get", 200, "get"), (200, "bad", "get", 200)]
)
def test_requests_sent_ahead_are_answered_in_their_order(server: ServerProcess, order: tuple[Any, ...]) -> None:
    sent, expected = b"", []
    for i, kind in enumerate(order):
        if kind == "get":
            sent += b"GET /models HTTP/1.1\r\nHost: here\r\n\r\n"
            expected.append((200, "models"))
        elif kind == "bad":
            sent += request(0.5, "/log_prob?more=1")
            expected.append((422, "title"))
        else:
            sent += request(float(i))
            expected.append((200, alone(server, float(i))))
    with connected(server) as connection:
        connection.sendall(sent)
        found = answers(connection, len(order))
        # And the connection is good for more.
        connection.sendall(request(7.0))
        found += answers(connection, 1)
    for (status, _, body), (wanted, what) in zip(found, [*expected, (200, alone(server, 7.0))], strict=True):
        assert status == wanted
        assert what in body if isinstance(what, str) else body["log_prob"] == [what]


def test_whoever_wants_to_close_is_told_and_closed_on(server: ServerProcess) -> None:
    with connected(server) as connection:
        connection.sendall(request(0.5, "/log_prob", "Connection: close"))
        ((status, headers, _),) = answers(connection, 1)
        assert (status, headers["connection"]) == (200, "close")
        assert connection.recv(1) == b""


def test_a_connection_is_let_go_once_it_is_idle_and_not_before(server: ServerProcess) -> None:
    with connected(server) as idle, connected(server) as asking, connected(server) as slow:
        for connection in (idle, asking, slow):
            connection.sendall(request())
            answers(connection, 1)
        data = request(0.25)
        slow.sendall(data[:40])
        started = time.monotonic()
        for _ in range(4):  # the server keeps a connection for five seconds
            time.sleep(1.6)
            asking.sendall(request())
            assert answers(asking, 1)[0][0] == 200
        assert time.monotonic() - started > 6.0
        slow.sendall(data[40:])
        assert answers(slow, 1)[0][0] == 200, "half a request had come"
        idle.settimeout(5.0)
        assert idle.recv(1) == b"", "it should be closed"


def test_http_1_0_is_answered_and_closed_on(server: ServerProcess) -> None:
    with connected(server) as connection:
        connection.sendall(request(version="1.0"))
        ((status, _, body),) = answers(connection, 1)
        assert (status, body["log_prob"]) == (200, [alone(server, 0.5)])
        assert connection.recv(1) == b""


def test_a_client_that_leaves_is_counted_and_in_nobody_s_way(server: ServerProcess) -> None:
    with server.client() as client:
        before = metric(client, "nonesuch_requests_total", route="/log_prob", status="499")
        with connected(server) as connection:
            connection.sendall(request()[:-5])
            eventually(lambda: metric(client, "nonesuch_body_bytes_held") > 0)
        eventually(lambda: metric(client, "nonesuch_requests_total", route="/log_prob", status="499") == before + 1)
        eventually(lambda: metric(client, "nonesuch_body_bytes_held") == 0)
        for _ in range(20):  # and one that leaves as soon as it has asked
            with connected(server) as connection:
                connection.sendall(request())
        assert alone(server, 0.5) == alone(server, 0.5)


def test_a_server_that_stops_answers_what_it_has_read(tmp_path: Path) -> None:
    write_all(tmp_path)
    with serving(tmp_path, NONESUCH_CACHE_BYTES="0", NONESUCH_DRAIN_SECONDS="0.2") as server:
        with connected(server) as idle, connected(server) as busy:
            idle.sendall(request())
            assert answers(idle, 1)[0][0] == 200
            busy.sendall(request()[:-1])
            with server.client() as client:
                eventually(lambda: metric(client, "nonesuch_body_bytes_held") > 0)
            server.send(signal.SIGTERM)
            assert idle.recv(1) == b"", "nothing is on its way there"
            busy.sendall(request()[-1:])
            ((status, headers, _),) = answers(busy, 1)
            assert (status, headers["connection"]) == (200, "close")
        assert server.wait() == 0
