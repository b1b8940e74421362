"""The cache of rows: memory, then Redis, one flight for concurrent twins; it fails open.

What a program answers to a row is a function of the row's key (``service.cache_rows.row_keys``), so that an answer
once computed may be given again by anyone, for ever. Nothing that goes wrong in here is an error: it is a miss.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.breaker import BreakerState
from service.cache_rows import Layout, Records, Seal, row_keys
from service.lookup_price import LookupPrice
from service.memory_layer import MemoryLayer

if TYPE_CHECKING:
    from service.redis_layer import RedisLayer

__all__ = ["CacheReport", "Compute", "RowCache", "row_keys"]

Compute = Callable[[NDArray[np.int64]], Awaitable[Mapping[str, NDArray[Any]]]]
"""Given the positions [m], ascending, of the rows that are missing, computes their outputs, arrays [m, …] by name."""

_SLICE = 1000  # rows handled between two looks at the event loop, in about a millisecond, and keys in one MGET
_FLIGHTS = 2  # flights that a row may join before it is computed on its own account


@dataclass(frozen=True)
class CacheReport:
    """Where the rows of one fetch came from; the four counts sum to the number of rows.

    Attributes:
        hits_memory: rows found in memory.
        hits_redis: rows found in Redis.
        misses: rows computed for this fetch.
        joined: rows that another fetch was computing already, or that occur twice in this one.
    """

    hits_memory: int = 0
    hits_redis: int = 0
    misses: int = 0
    joined: int = 0

    @property
    def outcome(self) -> Literal["hit", "partial", "miss"]:
        """``hit`` if nothing was computed for this fetch, ``miss`` if every row was, else ``partial``."""
        if self.misses == 0:
            return "hit"
        return "partial" if self.hits_memory or self.hits_redis or self.joined else "miss"


class _Flight:
    """Rows that one fetch has taken upon itself to find; others with the same keys wait for it."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.asked_redis = asyncio.Event()
        self.over = asyncio.Event()


class _Fetch:
    """State of one fetch: which rows are in, and which are still missing."""

    def __init__(self, keys: Sequence[bytes], records: Records):
        self.keys = keys
        self.records = records
        self.rows = np.empty(len(keys), dtype=records.dtype)
        self.counts: Counter[str] = Counter()
        self.started: float | None = perf_counter()

    def fill(self, positions: Sequence[int], records: NDArray[np.void], source: str) -> None:
        """The rows at these positions have come from ``source``."""
        self.rows[np.asarray(positions)] = records
        self.counts[source] += len(positions)

    def fill_found(self, positions: list[int], values: Sequence[bytes | None], source: str) -> list[int]:
        """The rows at these positions have come from ``source``, except where it had None; returns those."""
        found = [(position, value) for position, value in zip(positions, values, strict=True) if value is not None]
        if found:
            self.fill([position for position, _ in found], self.records.join(value for _, value in found), source)
        if len(found) == len(positions):
            return []
        return [position for position, value in zip(positions, values, strict=True) if value is None]


class RowCache:
    """Answers by row.

    Use it from one event loop. ``counters`` holds, by name, how often what happened since the start:
    ``hits_memory``, ``hits_redis``, ``misses``, ``joined``, ``evictions``; ``redis_failures``, ``redis_stalls``,
    ``redis_busy``, ``redis_wrong_tag``, ``redis_writes``, ``redis_writes_dropped``, ``redis_writes_refused``.

    Args:
        memory_bytes: cap of the memory layer; 0 turns it off.
        ttl_seconds: how long a row is kept, in memory and in Redis.
        redis_url: a Redis behind the memory layer.
        redis_timeout_seconds: how long Redis may take to answer before it is a miss.
        redis_queue_bytes: cap on rows waiting to be written to Redis.
        secret: signs what is stored in Redis; whoever shares the Redis shares the secret.
        clock: monotonic seconds, for the time to live and the breaker.
        observe: called with a counter's name and how much it grew, for metrics.

    Raises:
        ValueError: the URL cannot be read.
    """

    def __init__(
        self,
        *,
        memory_bytes: int = 256 * 2**20,
        ttl_seconds: float = 7 * 24 * 3600.0,
        redis_url: str | None = None,
        redis_timeout_seconds: float = 0.05,
        redis_queue_bytes: int = 32 * 2**20,
        secret: bytes = b"",
        clock: Callable[[], float] = monotonic,
        observe: Callable[[str, int], None] | None = None,
    ):
        self.counters: Counter[str] = Counter()
        self._observe = observe
        self._memory = MemoryLayer(memory_bytes, ttl_seconds, clock) if memory_bytes > 0 else None
        self._redis: RedisLayer | None = None
        if redis_url is not None:
            from service.redis_layer import RedisLayer  # six megabytes of a process that has no Redis

            self._redis = RedisLayer(
                redis_url,
                ttl_seconds=ttl_seconds,
                timeout_seconds=redis_timeout_seconds,
                queue_bytes=redis_queue_bytes,
                seal=Seal(secret),
                clock=clock,
                count=self._count,
            )
        self._flights: dict[bytes, _Flight] = {}
        # Prices to start from, seconds by rows, as measured on a 2.5 GHz core and a Redis on the same machine.
        self._key_price = LookupPrice([(1, 1.5e-5), (1000, 8e-4)], clock)
        self._memory_price = LookupPrice([(1, 3e-5), (1000, 6e-4)], clock)
        self._redis_price = LookupPrice([(1, 3e-4), (1000, 5e-3)], clock)

    # -- is it worth asking? -------------------------------------------------------------------------------------

    @property
    def lookup_seconds(self) -> float:
        """Measured seconds to make a row's key and look for it in the nearest layer; infinity when there is none."""
        return self.predicted_lookup_seconds(1)

    def predicted_lookup_seconds(self, rows: int) -> float:
        """The same for ``rows`` rows."""
        price = self._nearest()
        return price.seconds(rows) + self._key_price.seconds(rows) if price is not None else math.inf

    def worth_asking(self, rows: int, compute_seconds: float) -> bool:
        """Whether computing is dear enough, at more than two look-ups, to look first.

        A layer that seems too slow is still asked every few seconds, or it could never be found to be fast again.
        """
        price = self._nearest()
        return price is not None and price.worth(rows, compute_seconds, self._key_price.seconds(rows))

    def _nearest(self) -> LookupPrice | None:
        if self._memory is not None:
            return self._memory_price
        return self._redis_price if self._redis is not None and self._redis.available() else None

    # -- fetching ------------------------------------------------------------------------------------------------

    async def keys(
        self,
        *,
        program_digest: str,
        profile: str,
        operation: str,
        inputs: Mapping[str, NDArray[Any]],
        parameters: Mapping[str, Any] | None = None,
    ) -> list[bytes]:
        """``row_keys`` of any number of rows without keeping the event loop from others; same arguments and errors."""
        n = max((len(array) for array in inputs.values()), default=0)
        keys: list[bytes] = []
        for part in _slices(max(n, 1)):
            if part.start:
                await asyncio.sleep(0)
            started = perf_counter()
            keys += row_keys(
                program_digest=program_digest,
                profile=profile,
                operation=operation,
                inputs={name: array[part] for name, array in inputs.items()},
                parameters=parameters,
            )
            self._key_price.observe(min(n, _SLICE), perf_counter() - started)
        return keys

    async def fetch(
        self, keys: Sequence[bytes], arrays: Layout, compute: Compute, *, compute_seconds: float = math.inf
    ) -> tuple[dict[str, NDArray[Any]], CacheReport]:
        """Outputs of n rows, from the cache where it has them, computed where it has not.

        A key that another fetch is at work on is waited for; if that fetch fails or is cancelled, its rows are
        computed here. The wait has no time limit of its own: put ``asyncio.timeout`` around a fetch with a deadline.

        Args:
            keys: one key a row, from ``keys``; the same key twice is computed once.
            arrays: the outputs' layout.
            compute: computes the rows that are missing.
            compute_seconds: what computing all the rows would take; Redis is asked only when this is dear enough.

        Returns:
            (outputs, report): contiguous arrays [n, …] by name, and where the rows came from.

        Raises:
            ValueError: ``compute`` gave arrays that do not fit the layout.
            Exception: whatever ``compute`` raises.
        """
        fetch = _Fetch(keys, Records.of(arrays))
        n = len(keys)
        first = dict(zip(reversed(keys), reversed(range(n)), strict=True))
        missing = list(range(n)) if len(first) == n else sorted(first.values())
        through_redis = (
            self._redis is not None
            and self._redis.available()
            and self._redis_price.worth(len(missing), compute_seconds)
        )
        for _ in range(_FLIGHTS):
            if missing:
                missing = await self._fly(fetch, missing, compute, through_redis)
        if missing:  # whoever else had taken these rows has failed twice
            await self._compute(fetch, missing, compute)
        if len(first) < n:
            fetch.rows[:] = fetch.rows[[first[key] for key in keys]]
            fetch.counts["joined"] += n - len(first)
        for name, times in fetch.counts.items():
            self._count(name, times)
        return fetch.records.unpack(fetch.rows), CacheReport(**fetch.counts)

    async def _fly(self, fetch: _Fetch, wanted: list[int], compute: Compute, through_redis: bool) -> list[int]:
        """Find the rows at the positions ``wanted``; returns those that others had taken and did not deliver."""
        flight = _Flight()
        led: list[int] = []
        joined: dict[_Flight, list[int]] = {}
        try:
            for part in _slices(len(wanted)):
                if part.start:
                    await asyncio.sleep(0)
                # Looking and claiming happen in one go: no row can land between the two.
                for position in self._look_in_memory(fetch, wanted[part]):
                    other = self._flights.setdefault(fetch.keys[position], flight)
                    if other is flight:
                        led.append(position)
                    else:
                        joined.setdefault(other, []).append(position)
            missing = await self._look_in_redis(fetch, flight, led) if led and through_redis else led
            flight.asked_redis.set()
            if missing:
                records = await self._compute(fetch, missing, compute)
                for part in _slices(len(missing)):
                    if part.start:
                        await asyncio.sleep(0)
                    values = fetch.records.split(records[part])
                    keys = [fetch.keys[position] for position in missing[part]]
                    self._land(fetch, flight, keys, values)
                    if through_redis and self._redis is not None:
                        self._redis.put_many(keys, fetch.records, values)
        finally:
            for position in led:
                self._flights.pop(fetch.keys[position], None)
            flight.asked_redis.set()
            flight.over.set()
        undelivered: list[int] = []
        for other, positions in joined.items():
            await other.asked_redis.wait()
            left = _take(fetch, other, positions)
            if left:
                await other.over.wait()
                undelivered += _take(fetch, other, left)
        return sorted(undelivered)

    def _look_in_memory(self, fetch: _Fetch, positions: list[int]) -> list[int]:
        """Fill what memory has; returns the positions of the rest."""
        if self._memory is None:
            return positions
        # The first slice also bears what the fetch costs as a whole.
        started, fetch.started = fetch.started or perf_counter(), None
        values = self._memory.get_many([fetch.keys[position] for position in positions], fetch.records.description)
        missing = fetch.fill_found(positions, values, "hits_memory")
        self._memory_price.observe(len(positions), perf_counter() - started)
        return missing

    async def _look_in_redis(self, fetch: _Fetch, flight: _Flight, positions: list[int]) -> list[int]:
        """Fill what Redis has, and hand it on; returns the positions of the rest."""
        assert self._redis is not None
        missing: list[int] = []
        for part in _slices(len(positions)):
            some = positions[part]
            keys = [fetch.keys[position] for position in some]
            started = perf_counter()
            values = await self._redis.get_many(keys, fetch.records)
            if self._redis.state == "closed":  # the price of a failure is not the price of a look-up
                self._redis_price.observe(len(some), perf_counter() - started)
            missing += fetch.fill_found(some, values, "hits_redis")
            found = [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
            self._land(fetch, flight, [key for key, _ in found], [value for _, value in found])
        return missing

    async def _compute(self, fetch: _Fetch, positions: list[int], compute: Compute) -> NDArray[np.void]:
        outputs = await compute(np.asarray(positions, dtype=np.int64))
        records = fetch.records.pack(outputs, len(positions))
        fetch.fill(positions, records, "misses")
        return records

    def _land(self, fetch: _Fetch, flight: _Flight, keys: list[bytes], values: list[bytes]) -> None:
        """Hand rows to those who wait for them, and keep them in memory."""
        flight.values.update(zip(keys, values, strict=True))
        if self._memory is not None:
            evicted = self._memory.put_many(keys, fetch.records.description, values)
            if evicted:
                self._count("evictions", evicted)

    # -- the rest ------------------------------------------------------------------------------------------------

    @property
    def redis_state(self) -> BreakerState | Literal["absent"]:
        """``absent`` without a URL; else the breaker's state: closed while Redis is in use."""
        return self._redis.state if self._redis is not None else "absent"

    @property
    def memory_used(self) -> int:
        """Bytes in the memory layer, overhead included."""
        return self._memory.used_bytes if self._memory is not None else 0

    @property
    def memory_rows(self) -> int:
        """Rows in the memory layer."""
        return len(self._memory) if self._memory is not None else 0

    async def drain(self) -> None:
        """Wait until rows queued for Redis have been written or dropped."""
        if self._redis is not None:
            await self._redis.drain()

    async def close(self) -> None:
        """Write what is queued, for a second at most, and let go of Redis."""
        if self._redis is not None:
            await self._redis.close()

    def _count(self, name: str, times: int) -> None:
        self.counters[name] += times
        if self._observe is not None:
            self._observe(name, times)


def _take(fetch: _Fetch, flight: _Flight, positions: list[int]) -> list[int]:
    """Fill what another flight has delivered; returns the positions of the rest."""
    return fetch.fill_found(positions, [flight.values.get(fetch.keys[p]) for p in positions], "joined")


def _slices(n: int) -> Iterator[slice]:
    """0 … n in pieces short enough for the event loop."""
    return (slice(start, start + _SLICE) for start in range(0, n, _SLICE))
