"""Quotas: rows a minute, counted in Redis so that processes share them, or in memory while there is no Redis.

The windows and counters are the library ``limits``': a sliding window counter, which keeps two numbers an account.
Redis costs speed, never an answer: whatever it does, the process's own counter takes over, and a trial in the
background finds out when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from service.breaker import Breaker
from service.errors import OverQuota

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

__all__ = ["WINDOW_SECONDS", "Quotas", "Standing", "Window", "seconds_until"]

WINDOW_SECONDS = 60
_PREFIX = "nonesuch:quota:1"
_CONNECTIONS = 16

_log: Any = structlog.get_logger(__name__)

Storage = MemoryStorage | RedisStorage


@dataclass(frozen=True, slots=True)
class Window:
    """What an account has used, as the counter knows it: all of this minute's rows, and a share of the last one's.

    Attributes:
        previous: rows of the window before this one, of which the share that is left of it counts.
        previous_left: seconds for which they still count.
        current: rows of this window.
        current_left: seconds that this window goes on.
    """

    previous: int
    previous_left: float
    current: int
    current_left: float

    @property
    def used(self) -> int:
        """Rows that count now."""
        return math.floor(self.previous * self.previous_left / WINDOW_SECONDS) + self.current


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands after a request.

    Attributes:
        limit: rows a minute.
        remaining: rows that are left now.
        reset_seconds: after so many seconds without a request everything is free again.
    """

    limit: int
    remaining: int
    reset_seconds: float

    def headers(self) -> dict[str, str]:
        """The header fields that clients look for (draft-ietf-httpapi-ratelimit-headers-07)."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(math.ceil(self.reset_seconds)),
            "RateLimit-Policy": f"{self.limit};w={WINDOW_SECONDS}",
        }


def seconds_until(rows: int, limit: int, window: Window) -> float:
    """Seconds after which so many rows fit, if nothing else is asked before; ``rows`` is at most ``limit``."""
    room = limit - rows + 1  # what counts must be below this
    if window.used < room:
        return 0.0
    if window.current < room:  # it is enough that the window before this one fades
        return max(0.0, window.previous_left - (room - window.current) * WINDOW_SECONDS / window.previous)
    # This window must end, and then fade itself.
    return window.current_left + WINDOW_SECONDS * (1.0 - room / window.current)


class Quotas:
    """Counts rows by account. Use it from one event loop.

    Args:
        redis_url: where counters are shared; None for this process alone.
        timeout_seconds: how long Redis may take for one request's count.
        clock: monotonic seconds, for the pauses after Redis has failed.
        observe: called with ``quota_redis_failures`` and 1 when Redis did not count.

    Raises:
        ValueError: the URL cannot be read.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        timeout_seconds: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
        observe: Callable[[str, int], None] | None = None,
    ):
        self._memory = MemoryStorage()
        self._pool: ConnectionPool | None = None
        self._shared: RedisStorage | None = None
        self._timeout = timeout_seconds
        self._observe = observe or (lambda event, times: None)
        self._breaker = Breaker(clock)
        self._trial: asyncio.Task[None] | None = None
        self._said_down = False
        if redis_url is not None:
            self._pool = _connections(redis_url, timeout_seconds)
            ours: dict[str, Any] = {"connection_pool": self._pool}
            self._shared = RedisStorage("async+redis://", implementation="redispy", key_prefix=_PREFIX, **ours)

    @property
    def shared(self) -> bool:
        """Whether Redis counts now."""
        return self._shared is not None and self._breaker.closed

    async def take(self, account: str, limit: int, rows: int) -> Standing:
        """Count ``rows`` of an account that may have ``limit`` a minute.

        Raises:
            OverQuota: they do not fit now, or never will; then nothing is counted.
        """
        if rows > limit:
            raise OverQuota(rows, limit, None, {})
        item = RateLimitItemPerMinute(limit)
        fits, window = await self._hit(item, account, rows)
        rest = window.current_left + WINDOW_SECONDS if window.current else window.previous_left
        standing = Standing(limit, max(0, limit - window.used), rest)
        if not fits:
            raise OverQuota(rows, limit, seconds_until(rows, limit, window), standing.headers())
        return standing

    async def _hit(self, item: RateLimitItemPerMinute, account: str, rows: int) -> tuple[bool, Window]:
        if self._shared is not None and self._available():
            try:
                async with asyncio.timeout(self._timeout):
                    counted = await _count(self._shared, item, account, rows)
            except Exception as error:
                self._failed(error)
            else:
                self._breaker.succeeded()
                return counted
        return await _count(self._memory, item, account, rows)

    def _available(self) -> bool:
        if self._breaker.try_half_open():
            self._trial = asyncio.get_running_loop().create_task(self._try())
        return self._breaker.closed

    async def _try(self) -> None:
        assert self._shared is not None
        assert self._pool is not None
        try:
            async with asyncio.timeout(self._timeout):
                await self._pool.disconnect(inuse_connections=False)
                alive = await self._shared.check()
        except Exception:
            alive = False
        except BaseException:
            self._breaker.failed()
            raise
        if not alive:
            self._breaker.failed()
            return
        self._breaker.trial_succeeded()
        if self._said_down:
            self._said_down = False
            _log.info("redis is back; quotas are shared again")

    def _failed(self, error: Exception) -> None:
        self._observe("quota_redis_failures", 1)
        self._breaker.failed()
        if not self._said_down:
            self._said_down = True
            # The class alone: messages may hold the URL, and the URL a password.
            _log.warning("redis failed; each process counts quotas by itself", error=type(error).__name__)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._trial is not None and not self._trial.done():
            self._trial.cancel()
            await asyncio.wait([self._trial])
        if self._memory.timer is not None and not self._memory.timer.done():
            await asyncio.wait([self._memory.timer])
        if self._pool is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1.0):
                    await self._pool.disconnect()


async def _count(storage: Storage, item: RateLimitItemPerMinute, account: str, rows: int) -> tuple[bool, Window]:
    fits = await SlidingWindowCounterRateLimiter(storage).hit(item, account, cost=rows)
    previous, previous_left, current, current_left = await storage.get_sliding_window(
        item.key_for(account), item.get_expiry()
    )
    # A window's counter is kept for one window more, as the previous one of the next.
    left = max(0.0, current_left - WINDOW_SECONDS) if current else 0.0
    return fits, Window(previous, previous_left, current, left)


def _connections(redis_url: str, timeout_seconds: float) -> ConnectionPool:
    # Not imported by a process that has no Redis: it takes six megabytes.
    from redis.asyncio import ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return ConnectionPool.from_url(
        redis_url,
        protocol=2,
        socket_connect_timeout=2.0 * timeout_seconds,
        socket_timeout=2.0 * timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        max_connections=_CONNECTIONS,
    )
