"""A model small enough to check in the head, for tests of the cache: the row x -> (x squared, whether x is even)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.cache import CacheReport, RowCache, row_keys

LAYOUT = {"square": (np.float64, ()), "even": (np.uint8, (2,))}


def keys_of(rows: Sequence[int]) -> list[bytes]:
    return row_keys(
        program_digest="0" * 64, profile="test", operation="square", inputs={"x": np.asarray(rows, dtype=np.int64)}
    )


def squares(rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    even = (rows % 2 == 0).astype(np.uint8)
    return {"square": rows.astype(np.float64) ** 2, "even": np.stack([even, 1 - even], axis=1)}


class Asker:
    """Asks a cache for squares, checks every answer, and remembers what had to be computed.

    Attributes:
        computed: rows computed, call by call.
        gate: while it is set to an event, computing waits for it.
        error: while it is set, computing raises it.
        most_at_once: the most computations that were ever under way together.
    """

    def __init__(self, cache: RowCache):
        self.cache = cache
        self.computed: list[list[int]] = []
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None
        self.most_at_once = 0
        self._at_once = 0

    async def ask(self, rows: Sequence[int], **options: Any) -> CacheReport:
        array = np.asarray(rows, dtype=np.int64)

        async def compute(positions: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
            assert (np.diff(positions) > 0).all()
            self.computed.append(array[positions].tolist())
            error = self.error
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            try:
                if self.gate is not None:
                    await self.gate.wait()
                else:
                    await asyncio.sleep(0)
            finally:
                self._at_once -= 1
            if error is not None:
                raise error
            return squares(array[positions])

        outputs, report = await self.cache.fetch(keys_of(rows), LAYOUT, compute, **options)
        for name, expected in squares(array).items():
            np.testing.assert_array_equal(outputs[name], expected)
            assert outputs[name].dtype == expected.dtype
        assert report.hits_memory + report.hits_redis + report.misses + report.joined == len(rows)
        return report


async def settle() -> None:
    """Let every task that can run do so until it waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)
