"""The outermost layer: request ids, headers that every answer carries, metrics, and the last resort for errors."""

from __future__ import annotations

import asyncio
import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.access import admit, caller_of
from service.api.problems import ProblemError, problem_of
from service.parts import Parts

__all__ = ["CLIENT_LEFT", "Edge", "edge_headers", "log_request", "respond"]

CLIENT_LEFT = 499
"""Status by which metrics and logs name a request whose client left before the answer; nobody ever receives it."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
log = structlog.get_logger("nonesuch.http")


class Edge:
    """ASGI middleware around the whole application.

    Args:
        app: what is inside.
        parts: the service.
    """

    def __init__(self, app: ASGIApp, parts: Parts):
        self._app = app
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        # In every line that is logged on behalf of this request, whoever logs it.
        tokens = structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                for name, value in edge_headers(request_id):
                    headers[name.decode()] = value.decode()
            await send(message)

        try:
            admit(self._parts, scope)
            await self._app(scope, receive, send_on)
        except ClientDisconnect:
            status = CLIENT_LEFT
        except asyncio.CancelledError:
            # The process ends and has waited long enough; whoever still waits is told so.
            if status:
                raise
            gone = ProblemError(
                "draining", "the service stopped before the answer was ready", headers={"Retry-After": "5"}
            )
            await gone.response(request_id)(scope, receive, send_on)
        except Exception as error:
            problem = problem_of(error)
            if problem is None or status:
                log.exception("request failed", method=scope["method"], route=_route(scope))
            if status:
                raise  # the answer has begun; the server can only cut the connection
            if problem is not None:
                answer = respond(Request(scope, receive), problem)
            else:  # no page for this one: it may have been a page that failed
                problem = ProblemError("internal-error", "something went wrong that is not the request's fault")
                answer = problem.response(request_id)
            await answer(scope, receive, send_on)
        finally:
            seconds = time.perf_counter() - started
            self._parts.metrics.request(_route(scope), scope["method"], status, seconds)
            if self._parts.settings.access_log:
                log_request(scope, _route(scope), status, seconds)
            structlog.contextvars.reset_contextvars(**tokens)


def log_request(scope: Scope, route: str, status: int, seconds: float) -> None:
    """The line of a request: what was asked by whom, and what came of it. No values, no keys, no query strings."""
    caller = caller_of(scope)
    who = {"key": caller.name} if caller is not None else {}
    log.info(
        "request",
        method=scope["method"],
        route=route,
        path=scope["path"],
        status=status,
        seconds=round(seconds, 6),
        **who,
        **scope["state"].get("facts", {}),
    )


def edge_headers(request_id: str) -> tuple[tuple[bytes, bytes], ...]:
    """Headers that every answer carries."""
    return (b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")


def respond(request: Request, problem: ProblemError) -> Response:
    """The response that tells a client of a problem: a page for a browser that opens an address, else the document."""
    from service.web.pages import problem_page, wants_page

    request_id: str = request.state.request_id
    if request.method in ("GET", "HEAD") and wants_page(request):
        return problem_page(request, problem)
    return problem.response(request_id)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _route(scope: Scope) -> str:
    """The template of the path, so that metrics have as many labels as there are routes."""
    return getattr(scope.get("route"), "path", None) or "other"
