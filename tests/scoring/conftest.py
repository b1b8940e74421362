"""Fixtures of the tests of scoring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scoring.scorer import Scorer
from tests.scoring.bundles import write_bundles
from tests.service.redis_server import redis_server
from tests.service.server_process import serving

__all__ = ["redis_server"]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the bundles made by hand."""
    folder = tmp_path_factory.mktemp("bundles")
    write_bundles(folder)
    return folder


@pytest.fixture(scope="session")
def table(root: Path) -> Scorer:
    """The newest version of ``table``."""
    return Scorer.open(root / "table" / "2")


@pytest.fixture(scope="session")
def service(root: Path) -> Iterator[httpx.Client]:
    """A client of a service of the same bundles."""
    with serving(root) as server, server.client() as client:
        yield client
