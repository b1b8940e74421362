"""Fixtures of the contract tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.base import registry
from tests.families import TrainedFamily, trained


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=sorted(registry()), scope="session")
def family(request: pytest.FixtureRequest) -> TrainedFamily:
    """Each family in turn, trained by its contract recipe."""
    return trained(request.param)


@pytest.fixture(scope="session")
def family_bundle(family: TrainedFamily) -> Path:
    """The folder of bundles that holds the family's, ready to be served."""
    return family.root
