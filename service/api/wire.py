"""Plain questions, answered where their bytes arrive.

An application is called with a scope, and gives its answer in messages; a task, two awaits and a dozen objects a
request, which take longer than many a model; a body of megabytes comes in a dozen pieces, each of which is copied and
wakes the task. Plain questions (``service/api/plain.py``) need none of it: they are read when the parser has the whole
request, run with whatever else has arrived (``service/bursts.py``) or take their turn, and their answers are written to
the socket. Everything else becomes a request of the application, as ever: its bytes are kept until it is known which of
the two it is.

This is uvicorn's protocol but for that, and rests on how uvicorn's own is built (``docs/decisions/0027``).
"""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache, partial
from random import getrandbits
from typing import Any, NamedTuple

import structlog
from numpy.typing import NDArray
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.edge import CLIENT_LEFT, edge_headers
from service.api.fast_names import Question
from service.api.plain import (
    INLINE_BYTES,
    ROUTES,
    Asked,
    Head,
    PlainQuestions,
    Route,
    lines_of,
    plain_head,
    read_body,
)
from service.errand import Errand
from service.errors import Draining, Overloaded
from service.parts import Parts

__all__ = ["WireProtocol", "wire_protocol"]

log = structlog.get_logger("nonesuch.http")

TICK_BYTES = 4 * INLINE_BYTES
"""Once so much is read in one turn of the event loop, the others have theirs."""

_FEW_BYTES = 1024
_LONGEST_URL = 256
_ROUTES = {path.encode(): route for path, route in ROUTES.items()}


class _Target(NamedTuple):
    """What a request line asks for."""

    route: Route
    query: bytes


@lru_cache(maxsize=1024)
def _target_of(url: bytes) -> _Target | None:
    path, _, query = url.partition(b"?")
    route = _ROUTES.get(path)
    return None if route is None or b"#" in query else _Target(route, query)


_EDGE = lines_of(edge_headers("%032x"))  # with a place for the request's id


class _Shared:
    """What all connections of a service share: bytes read in this turn of the event loop, and uvicorn's headers."""

    def __init__(self) -> None:
        self._read = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._lines = b""

    def lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Headers, as they are written, that uvicorn makes anew each second."""
        if headers is not self._headers:
            self._headers, self._lines = headers, lines_of(headers)
        return self._lines

    def has_room(self, size: int, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether so many bytes more may be read in this turn; if so, they are counted, unless they are few."""
        if self._read >= TICK_BYTES:
            return False
        if size < _FEW_BYTES:
            return True
        if not self._read:
            loop.call_soon(self._over)
        self._read += max(1, size)
        return True

    def _over(self) -> None:
        self._read = 0


class _Exchange:
    """A plain question and, in time, its answer; to uvicorn's protocol it is the current request.

    Attributes:
        body: the first ``read`` bytes of it.
        held: bytes of the budget that it has.
        response_complete, disconnected, keep_alive, message_event: as those of uvicorn's, which its protocol uses.
    """

    __slots__ = (
        "asked",
        "body",
        "disconnected",
        "future",
        "head",
        "headers",
        "held",
        "keep_alive",
        "message_event",
        "protocol",
        "read",
        "response_complete",
        "started",
        "target",
    )

    def __init__(
        self, protocol: WireProtocol, target: _Target, head: Head, headers: list[tuple[bytes, bytes]], keep_alive: bool
    ):
        self.protocol = protocol
        self.target = target
        self.head = head
        self.headers = headers
        self.keep_alive = keep_alive
        self.started = time.perf_counter()
        self.body: bytes | bytearray = b""
        self.read = 0
        self.held = head.length
        self.asked: Asked | None = None
        self.future: asyncio.Future[dict[str, NDArray[Any]]] | None = None
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NOTHING_WAITS

    def add(self, piece: bytes) -> None:
        """Some of the body. What comes in pieces is copied once, while it is in the processor's cache."""
        if self.read:
            if isinstance(self.body, bytes):
                first, self.body = self.body, bytearray(self.head.length)
                self.body[: self.read] = first
            self.body[self.read : self.read + len(piece)] = piece
        else:
            self.body = piece
        self.read += len(piece)

    # -- as what waits for rows ------------------------------------------------------------------------------------

    def done(self) -> bool:
        return self.disconnected

    def set_result(self, outputs: dict[str, NDArray[Any]]) -> None:
        protocol, asked = self.protocol, self.asked
        assert asked is not None
        try:
            content = protocol.questions.answer(asked, outputs)
        except Exception:  # as on the fast path: the ordinary way makes an answer of it, whatever it is
            log.exception("the fast path failed", path=self.target.route.path)
            protocol.hand_over(self)
            return
        protocol.finish(self, asked, content)

    def set_exception(self, error: BaseException) -> None:
        self.protocol.hand_over(self)  # which finds the words for it

    def cancel(self) -> None:
        self.protocol.hand_over(self)

    def told(self, future: asyncio.Future[dict[str, NDArray[Any]]]) -> None:
        """The same for an answer that took its turn."""
        if self.disconnected or future.cancelled():
            if not self.disconnected:
                self.cancel()
        elif (error := future.exception()) is not None:
            self.set_exception(error)
        else:
            self.set_result(future.result())


class _Event:
    """Stands where uvicorn's protocol would wake a task."""

    def set(self) -> None:
        """Nobody sleeps."""


_NOTHING_WAITS = _Event()


class WireProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP/1.1 protocol, answering plain questions itself.

    Subclasses, made by ``wire_protocol``, say for which service.
    """

    parts: Parts
    questions: PlainQuestions
    ordinary: ASGIApp
    shared: _Shared

    _coming: _Exchange | None = None  # its body is still on its way
    _pending: _Exchange | None = None  # its answer is
    _idle_since: float | None = None  # the end of an answer written here, if nothing has come since
    _idle_watch: asyncio.TimerHandle | None = None

    # -- the parser's callbacks --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins. Uvicorn's scope is made only where it is needed."""
        self._idle_since = None
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Its headers are there: it may be a plain question, or it is a request of the application."""
        target = self._target()
        head = plain_head(self.headers, target.route.gives) if target is not None else None
        if target is None or head is None or not self.questions.has_room(head):
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expects
            self.headers.extend(headers)
            super().on_headers_complete()
            return
        self.parts.budget.take(head.length)
        exchange = _Exchange(self, target, head, self.headers, self.parser.should_keep_alive())
        self._coming = exchange
        self.cycle = exchange  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        if self._coming is None:
            super().on_body(body)
        else:
            self._coming.add(body)

    def on_message_complete(self) -> None:
        """All of it is there."""
        exchange, self._coming = self._coming, None
        if exchange is None:
            super().on_message_complete()
            return
        self._pending = exchange
        elsewhere = self.questions.read_elsewhere(exchange.head, exchange.body)
        if elsewhere is None:
            self._take(exchange)
        else:
            elsewhere.add_done_callback(partial(self._take_read, exchange))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        super().connection_lost(exc)
        if self._idle_watch is not None:
            self._idle_watch.cancel()
        left, self._coming = self._coming or self._pending, None
        if left is None:
            return
        self._release(left)
        left.disconnected = True
        if left.future is not None:
            left.future.cancel()
        seconds = time.perf_counter() - left.started
        self.parts.metrics.request(left.target.route.path, "POST", CLIENT_LEFT, seconds)

    # -- the question ------------------------------------------------------------------------------------------------

    def _target(self) -> _Target | None:
        if self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return None
        if self.cycle is not None and not self.cycle.response_complete:
            return None  # it came before the last one was answered, and waits in uvicorn's queue
        return None if self.parser.should_upgrade() or len(self.url) > _LONGEST_URL else _target_of(self.url)

    def _take(self, exchange: _Exchange) -> None:
        """Ask what is asked, in this turn of the event loop or in a later one."""
        if exchange.disconnected:
            return
        if not self.shared.has_room(exchange.head.length, self.loop):
            self.loop.call_soon(self._take, exchange)
            return
        self._answer(exchange, None)

    def _take_read(self, exchange: _Exchange, question: asyncio.Future[Question | None]) -> None:
        """The same for a question that another thread has read."""
        if not exchange.disconnected:
            self._answer(exchange, question)

    def _answer(self, exchange: _Exchange, reading: asyncio.Future[Question | None] | None) -> None:
        try:
            question = reading.result() if reading is not None else read_body(exchange.head, exchange.body)
            taken = self._ask(exchange, question)
        except Exception:  # called by the parser, it would be taken for the client's error
            log.exception("the fast path failed", path=exchange.target.route.path)
            taken = False
        if not taken:
            self.hand_over(exchange)

    def _ask(self, exchange: _Exchange, question: Question | None) -> bool:
        """Whether the question is plain indeed, and will be answered."""
        head, target, scheduler = exchange.head, exchange.target, self.parts.scheduler
        if exchange.read != head.length:
            return False
        asked = self.questions.understand(target.route, head, target.query, question)
        if asked is None:
            return False
        exchange.asked = asked
        deadline = exchange.started + self.parts.settings.default_timeout_ms / 1000.0
        env, n = {"x": asked.x}, len(asked.x)
        if scheduler.answer_soon(asked.model, asked.plan.program, env, n, deadline, exchange):
            return True
        client = self.client[0] if self.client is not None else ""
        try:
            exchange.future = scheduler.submit(asked.model, asked.capability, env, n, errand=Errand(deadline, client))
        except (Overloaded, Draining):
            return False
        exchange.future.add_done_callback(exchange.told)
        return True

    def finish(self, exchange: _Exchange, asked: Asked, content: bytes) -> None:
        """Write an answer."""
        self._pending = None
        self._release(exchange)
        if exchange.disconnected:
            return
        head = b"HTTP/1.1 200 OK\r\n%b%b%b%bcontent-length: %d\r\n\r\n" % (
            self.shared.lines(self.server_state.default_headers),
            asked.headers.lines,
            _EDGE % getrandbits(128),
            b"" if exchange.keep_alive else b"connection: close\r\n",
            len(content),
        )
        self.transport.write(head + content)
        exchange.response_complete = True
        if not exchange.keep_alive:
            self.transport.close()
        self.questions.answered += 1
        now = time.perf_counter()
        asked.plan.count(len(asked.x), now - exchange.started)
        if self.pipeline or self.transport.is_closing():
            self.on_response_complete()
            return
        # What uvicorn does then, but for its timer, which costs more than the rest of this method.
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = now
        if self._idle_watch is None:
            self._idle_watch = self.loop.call_later(self.timeout_keep_alive, self._look_if_idle)

    def _look_if_idle(self) -> None:
        """Let the connection go if nothing has come for as long as connections are kept; look again if not so long."""
        self._idle_watch = None
        if self._idle_since is None:
            return  # a request is on its way, whose answer starts the watch anew
        left = self._idle_since + self.timeout_keep_alive - time.perf_counter()
        if left > 0.0:
            self._idle_watch = self.loop.call_later(left, self._look_if_idle)
        else:
            self.timeout_keep_alive_handler()

    def hand_over(self, exchange: _Exchange) -> None:
        """Make a request of the application of it, as uvicorn would have done at once."""
        self._pending = None
        self._release(exchange)
        if exchange.disconnected or self.transport.is_closing():
            return
        target = exchange.target
        cycle = RequestResponseCycle(
            scope={
                "type": "http",
                "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
                "http_version": "1.1",
                "server": self.server,
                "client": self.client,
                "scheme": self.scheme or "http",
                "root_path": self.root_path,
                "headers": exchange.headers,
                "state": self.app_state.copy(),
                "method": "POST",
                "path": target.route.path,
                "raw_path": target.route.path.encode(),
                "query_string": target.query,
            },
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=exchange.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.body += exchange.body[: exchange.read]
        cycle.more_body = False
        cycle.message_event.set()
        current: Any = self.cycle
        if current is exchange:  # and not what came after it
            self.cycle = cycle
        self._start_asgi_task(cycle, self.ordinary)  # type: ignore[arg-type]

    def _release(self, exchange: _Exchange) -> None:
        """Give the budget back what the body had of it."""
        self.parts.budget.give(exchange.held)
        exchange.held = 0


def wire_protocol(parts: Parts, questions: PlainQuestions, ordinary: ASGIApp) -> type[WireProtocol]:
    """The protocol of a service.

    Args:
        parts: the service.
        questions: reads and answers plain ones.
        ordinary: the application, for those that prove not to be plain.
    """
    about = {"parts": parts, "questions": questions, "ordinary": staticmethod(ordinary), "shared": _Shared()}
    return type("WireProtocol", (WireProtocol,), about)
