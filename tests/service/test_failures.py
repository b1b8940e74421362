"""What the service says of its own failures, and before it has started: in the process, where failures can be made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from service.app import create_app
from service.parts import Parts
from service.settings import Settings
from tests.service.test_refusals import refused
from tests.service.whole import normal, write

BODY = {"model": "normal", "rows": [[0.0, 1.0]]}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
Test = Callable[[httpx.AsyncClient, Parts], Awaitable[None]]


@asynccontextmanager
async def application(bundles: Path, *, started: bool) -> AsyncIterator[tuple[httpx.AsyncClient, Parts]]:
    app = create_app(Settings(bundles=bundles, redis_url=None))
    parts: Parts = app.state.parts
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        if not started:
            yield client, parts
            return
        async with app.router.lifespan_context(app):
            while not parts.catalogue.ready:
                await asyncio.sleep(0.01)
            yield client, parts


def run(bundles: Path, test: Test, *, started: bool = True) -> None:
    async def inside() -> None:
        async with application(bundles, started=started) as (client, parts):
            await test(client, parts)

    asyncio.run(inside())


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("one")
    write(root, normal())
    return root


def test_before_the_bundles_are_verified_it_says_so(bundles: Path) -> None:
    async def test(client: httpx.AsyncClient, parts: Parts) -> None:
        for path, body in (("/log_prob", BODY), ("/sample", {"model": "normal"})):
            answer = await client.post(path, json=body)
            refused(answer, 503, "starting")
            assert answer.headers["retry-after"] == "1"
        for path in ("/models", "/models/normal", "/x/normal", "/x/normal/1", "/"):
            refused(await client.get(path), 503, "starting")
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["reason"] == "the bundles are being verified"
        page = await client.get("/", headers=BROWSER)
        assert page.status_code == 503
        assert page.headers["retry-after"] == "1"
        assert "The service is starting" in page.text

    run(bundles, test, started=False)


def test_a_failure_of_ours_is_500_without_its_inside(bundles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the password is swordfish")

    async def test(client: httpx.AsyncClient, parts: Parts) -> None:
        monkeypatch.setattr(parts.operations, "log_prob", fail)
        monkeypatch.setattr(parts.operations, "sample", fail)
        answer = await client.post("/log_prob", json=BODY, headers={"X-Request-Id": "find-me"})
        problem = refused(answer, 500, "internal-error")
        assert "swordfish" not in answer.text
        assert problem["request_id"] == "find-me"
        for page in ("/", "/x/normal/1/"):
            answer = await client.get(page, headers=BROWSER)
            assert "swordfish" not in answer.text
        assert (await client.get("/x/normal", headers=BROWSER)).status_code == 500
        assert parts.budget.held == 0
        assert (await client.get("/healthz")).status_code == 200

    with capture_logs(processors=[merge_contextvars]) as lines:
        run(bundles, test)
    logged = next(line for line in lines if line.get("request_id") == "find-me")
    assert logged["log_level"] == "error"
    assert logged["route"] == "/log_prob"
    assert logged["exc_info"]


def test_a_stopping_service_refuses_what_it_can_no_longer_do(bundles: Path) -> None:
    async def test(client: httpx.AsyncClient, parts: Parts) -> None:
        await parts.scheduler.drain()
        answer = await client.post("/log_prob", json=BODY)
        refused(answer, 503, "draining")
        assert int(answer.headers["retry-after"]) >= 1

    run(bundles, test)


def test_the_folder_of_bundles_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nonesuch"):
        create_app(Settings(bundles=tmp_path / "nonesuch"))
