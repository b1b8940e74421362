"""Fixtures of the service's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.redis_server import redis_server
from tests.service.server_process import ServerProcess, serving
from tests.service.whole import write_all

__all__ = ["client", "redis_server", "root", "server"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of the bundles made by hand, with the settings that it has by default."""
    bundles = tmp_path_factory.mktemp("bundles")
    write_all(bundles)
    with serving(bundles) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client of the server."""
    with server.client() as made:
        yield made


@pytest.fixture(autouse=True, scope="session")
def _no_pictures_at_home() -> Iterator[None]:
    """An application in the tests' own process keeps no pictures in the home folder of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NONESUCH_PICTURES", "")
        yield


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty folder for bundles."""
    folder = tmp_path / "bundles"
    folder.mkdir()
    return folder
