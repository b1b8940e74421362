"""Catalogues for tests: started and stopped, waited for, asked."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from runtime.loop import run_program
from service.catalogue import Catalogue
from tests import bundles

__all__ = ["X", "answers", "started", "until"]

X = np.array([[0.5, -1.0], [3.0, 2.0]])


@asynccontextmanager
async def started(root: Path, **options):
    catalogue = Catalogue(root, **{"poll_seconds": 3600.0, **options})
    await catalogue.start()
    try:
        yield catalogue
    finally:
        await catalogue.stop()


async def until(condition, seconds=60.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def answers(model, shift=0.0):
    """Whether the model answers what ``affine`` with this shift answers."""
    return np.allclose(run_program(model, "log_prob", {"x": X})["log_prob"], bundles.log_prob_of(X, shift), atol=1e-12)
