"""The fast path: plain questions about rows, answered ahead of the framework.

The framework's own way costs some hundred microseconds a request, more than many a model. A plain question
(``service/api/plain.py``) is answered here; all others go the ordinary way with their bodies untouched. A test sends
every request down both ways.

Where nobody is asked for a key, plain questions are answered even before they are requests of the application
(``service/api/wire.py``).
"""

from __future__ import annotations

import time
from random import getrandbits

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.access import account_of, admit, charge, facts_of, told
from service.api.edge import edge_headers, log_request
from service.api.plain import ROUTES, Asked, Head, PlainQuestions, Route, plain_head, read_body
from service.errand import Errand
from service.errors import DeadlineExceeded, Draining, Overloaded, OverQuota, Unauthorised
from service.parts import Parts

__all__ = ["FastPath"]

log = structlog.get_logger("nonesuch.http")


class FastPath:
    """ASGI layer around the application.

    Args:
        app: the ordinary way.
        parts: the service.
        questions: reads and answers plain ones.
    """

    def __init__(self, app: ASGIApp, parts: Parts, questions: PlainQuestions):
        self._app = app
        self._parts = parts
        self._questions = questions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route = ROUTES.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        head = plain_head(scope["headers"], route.gives) if route is not None else None
        parts = self._parts
        if route is None or head is None or not self._questions.has_room(head):
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        if parts.guard is not None:
            try:
                admit(parts, scope)
            except Unauthorised:
                await self._app(scope, receive, send)
                return
        parts.budget.take(head.length)
        found = None
        try:
            body, messages = await _read(receive, head.length)
            try:
                if body is not None:
                    found = await self._answer(route, head, scope, body, started)
            except Exception:  # out here nobody would turn it into an answer; the ordinary way does, whatever it is
                log.exception("the fast path failed", path=scope["path"])
        finally:
            parts.budget.give(head.length)
        if found is None:
            await self._app(scope, _again(messages, receive), send)
            return
        asked, content, standing = found
        self._questions.answered += 1
        request_id = f"{getrandbits(128):032x}"
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    *asked.headers.headers,
                    *((name.lower().encode(), value.encode()) for name, value in standing.items()),
                    (b"content-length", b"%d" % len(content)),
                    *edge_headers(request_id),
                ],
            }
        )
        await send({"type": "http.response.body", "body": content})
        seconds = time.perf_counter() - started
        rows = len(asked.x)
        asked.plan.count(rows, seconds)
        if parts.guard is not None:
            told(parts, scope, rows)
        if parts.settings.access_log:
            facts_of(scope, asked.model, rows, "bypass")
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                log_request(scope, scope["path"], 200, seconds)

    async def _answer(
        self, route: Route, head: Head, scope: Scope, body: bytes, started: float
    ) -> tuple[Asked, bytes, dict[str, str]] | None:
        """What was asked, the answer, and how its caller stands; None where the question is not plain after all."""
        parts = self._parts
        elsewhere = self._questions.read_elsewhere(head, body)
        question = read_body(head, body) if elsewhere is None else await elsewhere
        asked = self._questions.understand(route, head, scope["query_string"], question)
        if asked is None:
            return None
        standing: dict[str, str] = {}
        if parts.guard is not None:
            try:
                standing = await charge(parts, scope, len(asked.x))
            except OverQuota:
                return None
        errand = Errand(started + parts.settings.default_timeout_ms / 1000.0, account_of(scope))
        try:
            outputs = await parts.scheduler.submit(
                asked.model, asked.capability, {"x": asked.x}, len(asked.x), errand=errand
            )
        except (Overloaded, Draining, DeadlineExceeded):
            return None
        return asked, self._questions.answer(asked, outputs), standing


async def _read(receive: Receive, length: int) -> tuple[bytes | None, list[Message]]:
    """The body, if it is as long as was said, and the messages that it came in."""
    messages = [await receive()]
    if messages[0].get("more_body"):
        while messages[-1]["type"] == "http.request" and messages[-1].get("more_body"):
            messages.append(await receive())
        body = b"".join(message.get("body", b"") for message in messages)
    else:
        body = messages[0].get("body", b"")
    whole = messages[-1]["type"] == "http.request" and len(body) == length
    return (body if whole else None), messages


def _again(messages: list[Message], receive: Receive) -> Receive:
    """A receive that gives the messages once more before it asks for new ones."""
    waiting = iter(messages)

    async def again() -> Message:
        return next(waiting, None) or await receive()

    return again
