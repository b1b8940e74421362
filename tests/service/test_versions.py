"""A new version appears while clients ask: no failed request, old links keep their bytes, a corrupt one is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.bundles import write
from tests.service.server_process import serving
from tests.service.whole import dots

LIMIT = 30.0


def until(found: Callable[[], bool]) -> None:
    limit = time.monotonic() + LIMIT
    while not found():
        assert time.monotonic() < limit, "it did not come about"
        time.sleep(0.05)


def test_a_retrained_version_appears_under_load(tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    write(root, dots())
    answers: list[tuple[int, int]] = []
    failures: list[str] = []
    stop = threading.Event()

    with serving(root, NONESUCH_POLL_SECONDS="0.2") as server:

        def load(number: int) -> None:
            with server.client() as client:
                row = number
                while not stop.is_set():
                    row += 4
                    try:
                        answer = client.post("/sample", json={"model": "dots", "n": 2, "seed": 1, "start": row})
                        answers.append((answer.status_code, answer.json().get("version", 0)))
                    except httpx.HTTPError as error:
                        failures.append(repr(error))

        clients = [threading.Thread(target=load, args=(number,)) for number in range(4)]
        with server.client() as client:
            old = client.get("/x/dots/42", follow_redirects=False).headers["location"]
            picture = client.get(f"{old}.png")
            assert picture.status_code == 200
            for thread in clients:
                thread.start()
            until(lambda: len(answers) > 50)

            write(root, dots(version=2, threshold=5))
            until(lambda: client.post("/sample", json={"model": "dots"}).json()["version"] == 2)
            new = client.get("/x/dots/42", follow_redirects=False).headers["location"]
            assert new != old
            assert client.get(f"{new}.png").content != picture.content
            again = client.get(f"{old}.png")
            assert again.content == picture.content
            assert again.headers["etag"] == picture.headers["etag"]
            unchanged = client.get(f"{old}.png", headers={"If-None-Match": picture.headers["etag"]})
            assert unchanged.status_code == 304
            assert client.post("/sample", json={"model": "dots", "version": 1, "seed": 3}).json()["version"] == 1

            corrupt = write(root, dots(version=3, threshold=6)).folder
            graph = next(corrupt.glob("*.onnx"))
            graph.write_bytes(graph.read_bytes()[:-1] + b"!")
            until(lambda: "dots/3" in client.get("/readyz").json()["refused"])
            reason = client.get("/readyz").json()["refused"]["dots/3"]
            assert graph.name in reason
            assert client.get("/readyz").status_code == 200
            assert client.post("/sample", json={"model": "dots"}).json()["version"] == 2
            assert client.get(f"{old}.png").content == picture.content

            count = len(answers)
            until(lambda: len(answers) > count + 50)
            stop.set()
            for thread in clients:
                thread.join()
    assert failures == []
    assert {status for status, _ in answers} == {200}
    assert {version for _, version in answers} == {1, 2}
