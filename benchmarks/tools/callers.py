"""HTTP/1.1 callers on raw sockets: cheap enough to share two cores with the server that they load.

A closed loop asks again when it has its answer; an open loop asks when the clock says so, whatever has become of the
earlier requests, as the world does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

__all__ = ["Caller", "Pool", "Reply", "closed_loop", "milliseconds", "open_loop", "post"]

Fate = Literal["answered", "cut off", "unanswered", "not connected"]
"""``cut off``: the connection ended within the answer; ``unanswered``: before its first byte."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request.

    Attributes:
        fate: whether it was answered.
        status: HTTP status; 0 without an answer.
        asked: when it was sent, or due in an open loop, on ``time.perf_counter``'s clock.
        seconds: from then until the whole answer was there, or the end of the connection.
        digest: of the bundle that answered, if it said so.
    """

    fate: Fate
    status: int
    asked: float
    seconds: float
    digest: str = ""

    @property
    def good(self) -> bool:
        """Whether it was answered with 200."""
        return self.fate == "answered" and self.status == 200


def post(path: str, question: Any, **headers: str) -> bytes:
    """A POST of JSON, as bytes; underscores in header names stand for hyphens."""
    body = json.dumps(question).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *lines]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


class Caller:
    """One connection, kept open between requests and opened anew when the server has closed it.

    Args:
        port: of the server, on 127.0.0.1.
    """

    def __init__(self, port: int):
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes, due: float | None = None) -> Reply:
        """Send a request and wait for its answer."""
        asked = time.perf_counter() if due is None else due
        fate: Fate = "not connected"
        status, digest = 0, ""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            fate = "unanswered"
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            fate = "cut off"
            status = int(head[9:12])
            fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            digest = fields.get(b"nonesuch-digest", b"").decode()
            await reader.readexactly(int(fields[b"content-length"]))
            fate = "answered"
            if fields.get(b"connection") == b"close":
                self.close()
        except (OSError, asyncio.IncompleteReadError):
            self.close()
        return Reply(fate, status, asked, time.perf_counter() - asked, digest)

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


class Pool:
    """As many callers as there are requests at the same time; a context manager that closes them."""

    def __init__(self, port: int):
        self._port = port
        self._free: list[Caller] = []
        self.made = 0

    async def ask(self, request: bytes, due: float | None = None) -> Reply:
        """Ask over a connection that is free, or a new one."""
        if self._free:
            caller = self._free.pop()
        else:
            caller = Caller(self._port)
            self.made += 1
        try:
            return await caller.ask(request, due)
        finally:
            self._free.append(caller)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for caller in self._free:
            caller.close()


async def closed_loop(
    port: int,
    requests: Iterator[bytes],
    *,
    connections: int,
    seconds: float,
    until: Callable[[], bool] | None = None,
    pause: float = 0.0,
) -> list[Reply]:
    """Ask from so many connections at once, for so long, or until something is true.

    A caller that found nobody listening waits 50 ms before it tries again, and one that has its answer ``pause``.
    """
    end = time.perf_counter() + seconds
    replies: list[Reply] = []

    async def one() -> None:
        caller = Caller(port)
        while time.perf_counter() < end and not (until is not None and until()):
            reply = await caller.ask(next(requests))
            replies.append(reply)
            await asyncio.sleep(0.05 if reply.fate == "not connected" else pause)
        caller.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return replies


async def open_loop(port: int, requests: Iterator[bytes], *, rate: float, seconds: float, seed: int = 0) -> list[Reply]:
    """Ask at Poisson times, ``rate`` a second on average, for so long; returns when the last one has its answer.

    Latencies count from the moment at which a request was due, so that a client that is late hides nothing.
    """
    random = np.random.default_rng(seed)
    asked: list[asyncio.Task[Reply]] = []
    with Pool(port) as pool:
        start = time.perf_counter()
        due = start + random.exponential(1.0 / rate)
        while due < start + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked.append(asyncio.create_task(pool.ask(next(requests), due)))
            due += random.exponential(1.0 / rate)
        return list(await asyncio.gather(*asked))


def milliseconds(replies: list[Reply], percent: float) -> float:
    """A percentile of the latencies, in ms; NaN for none."""
    return float(np.percentile([1e3 * reply.seconds for reply in replies], percent)) if replies else float("nan")
