"""A Redis Stream scored by a consumer group: every entry is answered, whoever dies meanwhile.

An entry belongs to the consumer that has read it until it is acknowledged. What a dead one has left is claimed by
another after a time. The answer is written and the entry acknowledged in one script, which Redis runs whole or not at
all, and which answers an entry only while it still waits for its answer: two consumers that have both scored it write
one answer, and so does one that never heard whether its script had run.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import TimeoutError as NoReply
from redis.retry import Retry

from contract.words import MISSING
from scoring.entries import Answer, Entry, answers
from scoring.scorer import Scorer

__all__ = ["StreamReport", "StreamScorer", "connect"]

_FINISH = """
local done, at = {}, 2
while at <= #ARGV do
    local id, n, now = ARGV[at], tonumber(ARGV[at + 1]), 0
    if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) > 0 then
        redis.call('XADD', KEYS[2], '*', unpack(ARGV, at + 2, at + 1 + n))
        redis.call('XACK', KEYS[1], ARGV[1], id)
        now = 1
    end
    done[#done + 1] = now
    at = at + 2 + n
end
return done
"""

_BLOCK_MS = 500  # how long a signal may wait while nothing comes
_PATIENCE_SECONDS = 15.0  # until a Redis that says nothing counts as lost
_LONGEST_PAUSE = 5.0
_PASSING = ("MISCONF", "NOREPLICAS", "BUSY ", "UNBLOCKED", "OOM ", "READONLY")
"""Words in the refusals of a Redis that will be itself again; those in a script's error have no class of their own."""


@dataclass
class StreamReport:
    """What became of the entries that this consumer answered.

    Attributes:
        rows: how many it answered.
        alarms: how many of them are flagged.
        unscored: how many hold no row.
    """

    rows: int = 0
    alarms: int = 0
    unscored: int = 0


def connect(url: str) -> Redis:
    """A client for ``StreamScorer``; it connects when it is used.

    Raises:
        ValueError: the URL cannot be read.
    """
    # No second try of its own: what was read by a call whose reply was lost must be asked for.
    return Redis.from_url(
        url,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=_PATIENCE_SECONDS,
        socket_connect_timeout=_PATIENCE_SECONDS,
    )


class StreamScorer:
    """One consumer of a group.

    Args:
        scorer: the bundle.
        client: of the Redis, from ``connect``.
        source: the stream that is read; made if it is not there.
        target: the stream that answers are written to, ``id`` in each being that of the entry in ``source``.
        group: the consumer group; made at the stream's start if it is not there.
        consumer: this one's name in the group, its own alone.
        batch: entries that are read and answered at once.
        idle_seconds: after this long without an answer, an entry counts as left behind. Longer than a batch takes.
        missing: words for a missing value, beside the usual ones.
        say: called with a line when the connection is lost, and when it is back.
    """

    def __init__(
        self,
        scorer: Scorer,
        client: Redis,
        *,
        source: str,
        target: str,
        group: str,
        consumer: str,
        batch: int = 256,
        idle_seconds: float = 60.0,
        missing: Set[str] = MISSING,
        say: Callable[[str], None] = lambda _: None,
    ):
        self._scorer = scorer
        self._client = client
        self._source = source
        self._target = target
        self._group = group
        self._consumer = consumer
        self._batch = batch
        self._idle_ms = max(1, round(1000.0 * idle_seconds))
        self._missing = missing
        self._say = say
        self._finish = client.register_script(_FINISH)
        self._in_hand: list[Answer] = []
        self._stopping = False
        self._failures = 0
        self._look_for_left = 0.0
        self._cursor: bytes = b"0-0"  # how far through what is not answered yet the look has come
        self._look_for_own = True  # what this consumer has read and not answered, in another life or over a lost line
        self.report = StreamReport()

    def stop(self) -> None:
        """Finish the batch in hand and end; may be called by a signal's handler."""
        self._stopping = True

    def run(self) -> StreamReport:
        """Answer entries until ``stop``. A Redis that goes away is waited for.

        Raises:
            RedisError: what no waiting helps against: a wrong password, a key that holds no stream.
        """
        prepared = False
        while not self._stopping:
            try:
                if not prepared:
                    self._make_group()
                    prepared = True
                self._send()
                entries = self._next()
                if self._failures:
                    self._failures = 0
                    self._say("Redis is back")
                if entries:
                    self._in_hand = answers(self._scorer, entries, self._missing)
                    self._send()
            except RedisError as error:
                if isinstance(error, ResponseError) and "NOGROUP" in str(error):
                    prepared = False  # a Redis that came back without its data, or a group that somebody removed
                elif not _passes(error):
                    raise
                self._wait(error)
        with contextlib.suppress(RedisError):
            self._send()
            self._leave()
        return self.report

    def _make_group(self) -> None:
        try:
            self._client.xgroup_create(self._source, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _next(self) -> list[Entry]:
        """Entries to answer: own ones that were left, those of the dead, else new ones."""
        if self._look_for_own:
            own = self._read("0")
            if own:
                return own
            self._look_for_own = False
        now = time.monotonic()
        if now >= self._look_for_left:
            left = self._claim()
            if left:
                return left
            self._look_for_left = now + self._idle_ms / 4000.0
        return self._read(">")

    def _read(self, start: str) -> list[Entry]:
        found: Any = self._client.xreadgroup(
            self._group, self._consumer, {self._source: start}, count=self._batch, block=_BLOCK_MS
        )
        return [(id_, fields or None) for _, entries in found or () for id_, fields in entries]

    def _claim(self) -> list[Entry]:
        while True:
            found: Any = self._client.xautoclaim(
                self._source, self._group, self._consumer, self._idle_ms, start_id=self._cursor, count=self._batch
            )
            self._cursor = found[0]
            if len(found) > 2 and found[2]:
                self._say(f"{len(found[2])} entries were deleted from {self._source} before anybody had answered them")
            entries = [(id_, fields or None) for id_, fields in found[1] if id_ is not None]
            if entries or self._cursor == b"0-0":
                return entries

    def _send(self) -> None:
        """Write the answers in hand, and acknowledge their entries."""
        if not self._in_hand:
            return
        arguments: list[Any] = [self._group]
        for answer in self._in_hand:
            arguments += [answer.entry, len(answer.fields), *answer.fields]
        done: Any = self._finish(keys=[self._source, self._target], args=arguments)
        for answer, written in zip(self._in_hand, done, strict=True):
            if written:
                self.report.rows += 1
                self.report.unscored += answer.unscored
                self.report.alarms += answer.alarm
        self._in_hand = []

    def _wait(self, error: RedisError) -> None:
        """Until the next try: twice as long each time, and not in step with other consumers."""
        self._look_for_own = True
        if not self._failures:
            self._say(f"Redis is lost ({' '.join(str(error).split())}); trying again until it is back")
        pause = min(_LONGEST_PAUSE, 0.05 * 2**self._failures) * random.uniform(0.5, 1.0)
        self._failures = min(self._failures + 1, 20)
        until = time.monotonic() + pause
        # In small steps: a signal's handler does not end a sleep.
        while not self._stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    def _leave(self) -> None:
        """Take this consumer off the group's list, unless it still owes an answer, which would be lost with it."""
        owed = self._client.xpending_range(self._source, self._group, "-", "+", 1, consumername=self._consumer)
        if not owed:
            self._client.xgroup_delconsumer(self._source, self._group, self._consumer)


def _passes(error: RedisError) -> bool:
    """Whether waiting may help."""
    if isinstance(error, AuthenticationError | AuthorizationError):
        return False
    if isinstance(
        error, LostConnection | NoReply | OutOfMemoryError | ReadOnlyError | ClusterDownError | TryAgainError
    ):
        return True
    return isinstance(error, ResponseError) and any(word in str(error) for word in _PASSING)
