"""The Redis layer of the cache: read in time or not at all, written in the background, never an error.

A dead, hung or lying Redis costs speed, not answers. Every failure opens a breaker; while it is open nothing waits
for Redis, and a trial made in the background, not by a request, finds out when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from service.breaker import Breaker, BreakerState
from service.cache_rows import Records, Seal

__all__ = ["PREFIX", "RedisLayer"]

PREFIX = b"nonesuch:1:"
"""Prefix of every key in Redis; its number changes with the form of keys or values."""

_SET_ROWS = 250  # about a millisecond of this process's time to encode
_CONNECTIONS = 8
# Nobody waits for a write, so it may take longer than a read; a hung Redis is found by either.
_WRITE_PATIENCE = 20.0
_ENTRY_OVERHEAD = 200  # bytes that a queued row costs beside its value

_log: Any = structlog.get_logger(__name__)


class _Batch(NamedTuple):
    records: Records
    keys: Sequence[bytes]
    values: Sequence[bytes]
    size: int


class RedisLayer:
    """Values by key in Redis, each under a tag.

    Args:
        url: ``redis://…``, ``rediss://…`` or ``unix://…``.
        ttl_seconds: how long Redis keeps a value.
        timeout_seconds: how long a read may take, connecting included.
        queue_bytes: cap on what waits to be written; what does not fit is dropped and counted.
        seal: makes and checks the tags.
        clock: monotonic seconds, for the breaker's pauses.
        count: called with an event's name and how often it happened.

    Raises:
        ValueError: the URL cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl_seconds: float,
        timeout_seconds: float,
        queue_bytes: int,
        seal: Seal,
        clock: Callable[[], float],
        count: Callable[[str, int], None],
    ):
        self._timeout = timeout_seconds
        self._ttl_ms = max(1, round(1000.0 * ttl_seconds))
        self._queue_bytes = queue_bytes
        self._seal = seal
        self._count = count
        self._breaker = Breaker(clock)
        self._pool = ConnectionPool.from_url(
            url,
            protocol=2,  # nothing here needs RESP3, and a proxy in between may not speak it
            decode_responses=False,
            # Every call below has a time-out of its own over all that it does; these only end what those could not.
            socket_connect_timeout=2.0 * _WRITE_PATIENCE * timeout_seconds,
            socket_timeout=2.0 * _WRITE_PATIENCE * timeout_seconds,
            retry=Retry(NoBackoff(), 0),  # a second try would be a second time-out
            max_connections=_CONNECTIONS + 2,  # reads, and beside them the writer and a trial
        )
        self._redis: Redis = Redis(connection_pool=self._pool)
        self._places = asyncio.Semaphore(_CONNECTIONS)
        self._queue: deque[_Batch] = deque()
        self._queued = 0
        self._writer: asyncio.Task[None] | None = None
        self._trial: asyncio.Task[None] | None = None
        self._said_down = False

    @property
    def state(self) -> BreakerState:
        """Where the breaker stands."""
        return self._breaker.state

    def available(self) -> bool:
        """Whether asking makes sense now; while it does not, this starts a trial in the background once one is due."""
        if self._breaker.try_half_open():
            self._trial = asyncio.get_running_loop().create_task(self._try())
        return self._breaker.closed

    async def get_many(self, keys: Sequence[bytes], records: Records) -> list[bytes | None]:
        """Values of keys, None for each that is not there, does not pass its tag, or did not come in time.

        One MGET: give it a thousand keys at most, or it would keep Redis from its other clients for too long.
        """
        sealed = await self._mget(keys) if self.available() else None
        if sealed is None:
            return [None] * len(keys)
        values, wrong = self._seal.open(records, keys, sealed)
        if wrong:
            self._count("redis_wrong_tag", wrong)
        return values

    async def _mget(self, keys: Sequence[bytes]) -> list[Any] | None:
        names = [PREFIX + key for key in keys]
        started = time.monotonic()
        asked = False
        try:
            async with asyncio.timeout(self._timeout), self._places:
                if not self._breaker.closed:  # it opened while this call waited for its turn
                    return None
                asked = True
                sealed: Any = await self._redis.mget(names)
        except Exception as error:  # redis-py raises its own, the system's and, on garbled answers, others still
            if asked:
                self._failed("read", error, time.monotonic() - started)
            else:
                self._count("redis_busy", 1)
            return None
        if not isinstance(sealed, list) or len(sealed) != len(names):
            self._failed("read", ValueError("MGET gave another number of values"), 0.0)
            return None
        self._breaker.succeeded()
        return sealed

    def put_many(self, keys: Sequence[bytes], records: Records, values: Sequence[bytes]) -> None:
        """Write values in the background, each with its time to live; without room in the queue they are dropped."""
        if not self.available():
            self._count("redis_writes_dropped", len(keys))
            return
        for start in range(0, len(keys), _SET_ROWS):
            some = keys[start : start + _SET_ROWS]
            size = len(some) * (records.size + _ENTRY_OVERHEAD)
            if self._queued + size > self._queue_bytes:
                self._count("redis_writes_dropped", len(some))
                continue
            self._queue.append(_Batch(records, some, values[start : start + _SET_ROWS], size))
            self._queued += size
        if self._queue and (self._writer is None or self._writer.done()):
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        while self._queue:
            batch = self._queue.popleft()
            try:
                if self._breaker.closed:
                    await self._set(batch)
                else:
                    self._count("redis_writes_dropped", len(batch.keys))
            finally:
                self._queued -= batch.size

    async def _set(self, batch: _Batch) -> None:
        started = time.monotonic()
        try:
            async with asyncio.timeout(_WRITE_PATIENCE * self._timeout):
                async with self._redis.pipeline(transaction=False) as pipe:
                    for key, sealed in zip(
                        batch.keys, self._seal.close(batch.records, batch.keys, batch.values), strict=True
                    ):
                        pipe.set(PREFIX + key, sealed, px=self._ttl_ms)
                    answers = await pipe.execute(raise_on_error=False)
        except Exception as error:
            self._failed("write", error, time.monotonic() - started, patience=_WRITE_PATIENCE)
            self._count("redis_writes_dropped", len(batch.keys))
            return
        # A Redis that is full or read-only refuses writes but still answers reads: no reason to leave it alone.
        refused = sum(isinstance(answer, ResponseError) for answer in answers)
        if refused:
            self._count("redis_writes_refused", refused)
        self._count("redis_writes", len(answers) - refused)

    async def _try(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                # What was connected to the old Redis is of no use with the new one.
                await self._pool.disconnect(inuse_connections=False)
                await self._redis.ping()
        except Exception:
            self._breaker.failed()
        except BaseException:  # cancelled: the trial said nothing, and another may be made
            self._breaker.failed()
            raise
        else:
            self._breaker.trial_succeeded()
            if self._said_down:
                self._said_down = False
                _log.info("redis is back")

    def _failed(self, what: str, error: Exception, seconds: float, patience: float = 1.0) -> None:
        if isinstance(error, TimeoutError) and seconds > 2.0 * patience * self._timeout:
            # The time-out itself came late: this process was stalled, and Redis may have answered long ago.
            self._count("redis_stalls", 1)
            return
        self._count("redis_failures", 1)
        self._breaker.failed()
        if not self._said_down:
            self._said_down = True
            # The class alone: messages may hold the URL, and the URL a password.
            _log.warning("redis failed; serving without it until it is back", what=what, error=type(error).__name__)

    async def drain(self) -> None:
        """Wait until what was queued has been written or dropped, and a trial under way has ended."""
        for task in (self._writer, self._trial):
            if task is not None and not task.done():
                await asyncio.wait([task])  # unlike awaiting the task, this leaves it alone when cancelled

    async def close(self, patience_seconds: float = 1.0) -> None:
        """Write what is queued if that takes no longer than ``patience_seconds``, and let go of the connections."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_seconds):
                await self.drain()
        for task in (self._writer, self._trial):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task])
        with contextlib.suppress(Exception):
            async with asyncio.timeout(patience_seconds):
                await self._redis.aclose()
                await self._pool.disconnect()
