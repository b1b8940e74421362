"""Several workers behind one socket: the same bytes as one, figures of all, and a dead one replaced."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.families import trained
from tests.service.server_process import ROOT, ServerProcess, metric, serving

LIMIT = 30.0


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    for name in ("digits/1", "moons/1"):
        shutil.copytree(ROOT / "bundles" / name, root / name)
    shutil.copytree(trained("rbm").root, root, dirs_exist_ok=True)
    return root


@pytest.fixture(scope="module")
def two(bundles: Path) -> Iterator[ServerProcess]:
    with serving(bundles, "--workers", "2", NONESUCH_DRAIN_SECONDS="0") as server:
        yield server


def workers_of(server: ServerProcess) -> list[int]:
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def draws(server: ServerProcess) -> list[bytes]:
    """A picture, rows, and chains of two lengths, each asked for twice, over connections of their own."""
    rbm = trained("rbm").recipe.name
    found = []
    for _ in range(2):
        with server.client() as client:
            page = client.get("/x/digits/42", follow_redirects=False).headers["location"]
            found.append(client.get(f"{page}.png").content)
        for body in (
            {"model": "moons", "n": 3, "seed": 7, "start": 5},
            {"model": rbm, "n": 4, "seed": 7, "parameters": {"steps": [1, 50, 200, 50]}},
            {"model": "digits", "n": 1, "seed": 42},
        ):
            with server.client() as client:
                answer = client.post("/sample", json=body)
                assert answer.status_code == 200
                assert "/cpu/" in answer.json()["profile"]
                found.append(answer.content)
    return found


@pytest.mark.slow
def test_samples_do_not_depend_on_how_many_workers_and_threads_there_are(bundles: Path, two: ServerProcess) -> None:
    with serving(bundles, NONESUCH_COMPUTE_THREADS="1") as one:
        alone = draws(one)
    with serving(bundles, "--workers", "3", NONESUCH_COMPUTE_THREADS="2") as three:
        assert draws(three) == alone
    assert draws(two) == alone
    assert alone[:4] == alone[4:]


def test_the_figures_are_those_of_all_workers(two: ServerProcess) -> None:
    with two.client() as client:
        before = metric(client, "nonesuch_requests_total", route="/log_prob", status="200")
    for _ in range(20):
        with two.client() as client:  # a connection each: both workers get some
            assert client.post("/log_prob", json={"model": "moons", "rows": [[0.0, 1.0]]}).status_code == 200
    counted: list[float] = []
    limit = time.monotonic() + LIMIT
    while counted[-4:] != 4 * [before + 20] and time.monotonic() < limit:  # each writes its own down every second
        with two.client() as client:
            counted.append(metric(client, "nonesuch_requests_total", route="/log_prob", status="200"))
        time.sleep(0.05)
    assert counted[-4:] == 4 * [before + 20]


def test_a_worker_that_dies_is_replaced_and_the_others_answer_meanwhile(two: ServerProcess) -> None:
    first = workers_of(two)
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    answered, limit = 0, time.monotonic() + LIMIT
    while time.monotonic() < limit:
        try:
            with two.client() as client:
                assert client.get("/healthz").status_code == 200
                answered += 1
        except httpx.TransportError:  # the connection that died with the worker
            continue
        now = workers_of(two)
        if len(now) == 2 and first[0] not in now:
            break
    assert answered > 0
    assert len(workers_of(two)) == 2
    assert first[1] in workers_of(two)
    assert "started again" in two.err


def test_sigterm_stops_them_all(bundles: Path) -> None:
    with serving(bundles, "--workers", "2", NONESUCH_DRAIN_SECONDS="0") as server:
        pids = workers_of(server)
        server.send(signal.SIGTERM)
        assert server.wait() == 0
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        assert "Traceback" not in server.err


def test_workers_go_when_the_supervisor_is_killed(bundles: Path) -> None:
    with serving(bundles, "--workers", "2", NONESUCH_DRAIN_SECONDS="0") as server:
        pids = workers_of(server)
        server.kill()
        limit = time.monotonic() + LIMIT
        while time.monotonic() < limit and any(Path(f"/proc/{pid}").exists() for pid in pids):
            time.sleep(0.1)
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_what_cannot_be_is_said_once_and_ends(tmp_path: Path) -> None:
    server = ServerProcess("--port", "0", "--bundles", str(tmp_path / "nowhere"), "--workers", "2")
    assert server.wait() == 1
    assert "does not exist" in server.err
    assert "Traceback" not in server.err
