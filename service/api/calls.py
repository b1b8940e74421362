"""From an HTTP request to a use case and back: the same for every POST."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from contract.capabilities import Capability
from service.api import codecs, events, schemas
from service.api.access import answered, charge, errand_of, note
from service.api.forms import ArrayName, Forms, read_request, write_answer
from service.api.negotiation import EVENTS, JSON, answer_type, body_type
from service.api.problems import RATE_LIMITS, ProblemError, responses
from service.api.query import query_parameters
from service.errand import Errand
from service.errors import DeadlineExceeded, Starting
from service.operations import Answer, Operations
from service.parts import Parts

__all__ = ["DisconnectWatch", "parts_of", "post", "require_started", "timeout_of"]

Asked = TypeVar("Asked", bound=schemas.Asked)
Asked_contra = TypeVar("Asked_contra", bound=schemas.Asked, contravariant=True)

# A request that is answered sooner is not worth a task that watches for its client to leave.
WATCH_AFTER_SECONDS = 0.05

PROBLEMS = (
    "unparsable",
    "unauthorised",
    "unknown-model",
    "not-acceptable",
    "capability-not-supported",
    "body-too-large",
    "unsupported-media-type",
    "invalid-request",
    "invalid-input",
    "answer-too-large",
    "larger-than-quota",
    "over-quota",
    "internal-error",
    "overloaded",
    "starting",
    "draining",
    "deadline-exceeded",
)

REQUEST_HEADERS = [
    {
        "name": "X-Timeout-Ms",
        "in": "header",
        "description": "How long the answer may take, in milliseconds; after that it is dropped (504).",
        "schema": {"type": "integer", "minimum": 1},
    },
    {
        "name": "Priority",
        "in": "header",
        "description": "Urgency among the caller's own requests, from `u=0`, first, to `u=7`, last (RFC 9218); `u=3` "
        "when absent. Between callers it changes nothing.",
        "schema": {"type": "string"},
        "example": "u=7",
    },
    {
        "name": "X-Request-Id",
        "in": "header",
        "description": "An id of the caller's choice, for logs; it comes back. One is made up when absent.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
]

ANSWER_HEADERS = {
    "Nonesuch-Cache": {
        "description": "Whether the rows came from the cache: all of them, some, none, or it was not worth a look.",
        "schema": {"type": "string", "enum": ["hit", "partial", "miss", "bypass"]},
    },
    "Nonesuch-Digest": {"description": "Digest of the bundle that answered.", "schema": {"type": "string"}},
    "X-Request-Id": {"description": "The request's id.", "schema": {"type": "string"}},
    **{
        name: {**header, "description": f"{header['description']} Where the caller has a quota."}
        for name, header in RATE_LIMITS.items()
    },
}


class UseCase(Protocol[Asked_contra]):
    """A route: hands a validated request to an operation."""

    def __call__(self, operations: Operations, asked: Asked_contra, errand: Errand, /) -> Awaitable[Answer]: ...


@dataclass(frozen=True)
class _Call(Generic[Asked]):
    """What is the same for every request of a call."""

    capability: Capability
    takes: type[Asked]
    forms: Forms
    use: UseCase[Asked]


def post(
    router: APIRouter,
    path: str,
    *,
    capability: Capability,
    takes: type[Asked],
    gives: type[BaseModel],
    examples: Mapping[str, Any],
    array_in: ArrayName | None = None,
    array_out: ArrayName | None = None,
    several_out: bool = False,
    picture_out: bool = False,
    events_out: bool = False,
    array_example: bool = True,
) -> Callable[[UseCase[Asked]], UseCase[Asked]]:
    """Register a use case under a path, with its OpenAPI description.

    The framework does the routing and the description; bodies are read, checked and written by ``forms``, because
    validating every number of a large array one by one would cost more than most models do.

    Args:
        router: where to.
        path: of the call.
        capability: what a model must be able to do.
        takes: the request, as JSON.
        gives: the answer, as JSON.
        examples: requests for the description.
        array_in: the member that may come as an npy file, all others then in the query string.
        array_out: the member of the answer that may be sent as an npy file.
        several_out: whether the answer may have several arrays, which are sent as an npz file.
        picture_out: whether rows may be sent as a PNG, where they are pictures.
        events_out: whether progress may be sent as events while the answer is made.
        array_example: whether the model of the npy files that the description shows can answer.
    """
    forms = Forms(array_in, array_out, several_out, picture_out, events_out, array_example)

    def register(use: UseCase[Asked]) -> UseCase[Asked]:
        call = _Call(capability, takes, forms, use)

        async def endpoint(request: Request) -> Response:
            return await _answer(request, call)

        text = inspect.getdoc(use) or ""
        summary, _, description = text.partition("\n\n")
        router.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            operation_id=path.strip("/").replace("-", "_"),
            summary=summary.rstrip("."),
            description=" ".join(description.split()),
            response_model=None,
            responses={
                200: {
                    "model": gives,
                    "description": "The answer.",
                    "headers": ANSWER_HEADERS,
                    "content": forms.describe_answer(),
                },
                **responses(*PROBLEMS),
            },
            openapi_extra={
                "parameters": [*query_parameters(takes), *REQUEST_HEADERS],
                "requestBody": {
                    "required": not forms.body_optional,
                    "content": {
                        JSON: {
                            "schema": {"$ref": f"#/components/schemas/{takes.__name__}"},
                            "examples": dict(examples),
                        },
                        **forms.describe_body(),
                    },
                },
            },
        )
        return use

    return register


async def _answer(request: Request, call: _Call[Asked]) -> Response:
    parts = parts_of(request)
    wanted = answer_type(request.headers, call.forms.answers)
    query: bytes = request.scope["query_string"]
    given = body_type(request.headers, call.forms.bodies, may_be_absent=call.forms.body_optional and bool(query))
    seconds = timeout_of(request, parts)
    errand = errand_of(request.scope, time.perf_counter() + seconds)
    limit = parts.settings.max_json_bytes if given == JSON else parts.settings.max_binary_bytes
    try:
        with parts.budget.reserve() as room:
            async with asyncio.timeout(seconds):
                body = await codecs.read_body(request, limit, room)
                asked, n = read_request(body, given, query, call.takes, call.forms)
                if len(body) > codecs.PIECE_BYTES:
                    await asyncio.sleep(0)  # parsing held the event loop, and reading the rows will again
                del body
                note(request.scope, model=asked.model, rows=n)
                call.forms.check_asked(parts.catalogue, wanted, asked, n)
                standing = await charge(parts, request.scope, asked.charged(parts.catalogue, n))
                if wanted == EVENTS:
                    feed = events.Feed(parts, request, call.capability, asked, n)
                    with DisconnectWatch(request.receive):
                        return await feed.answer(partial(call.use, parts.operations, asked), errand, standing)
                with DisconnectWatch(request.receive):
                    operations = parts.operations if wanted == JSON else parts.operations.raw
                    answer = await call.use(operations, asked, errand)
                content, media_type, said = await write_answer(answer, wanted, call.forms, request.headers)
    except (TimeoutError, DeadlineExceeded):
        raise DeadlineExceeded(f"the answer was not ready within {seconds * 1000:.0f} ms") from None
    answered(parts, request.scope, answer.model, call.capability, n, answer.cache)
    if call.capability == "score":
        parts.drift.observe(answer.model, answer.body["score"])
    return Response(
        content,
        media_type=media_type,
        headers={**said, "Nonesuch-Cache": answer.cache, "Nonesuch-Digest": answer.model.digest, **standing},
    )


def parts_of(request: Request) -> Parts:
    """The parts of the application that a request came to."""
    parts: Parts = request.app.state.parts
    return parts


def require_started(parts: Parts) -> None:
    """Refuse until the bundles have been looked at once; before that, no model is known to be unknown.

    Raises:
        Starting.
    """
    if not parts.catalogue.ready:
        raise Starting()


def timeout_of(request: Request, parts: Parts) -> float:
    """Seconds that a request may take.

    Raises:
        ProblemError: 422 when X-Timeout-Ms is not a whole number of milliseconds that the settings allow.
    """
    given = request.headers.get("x-timeout-ms")
    if given is None:
        return parts.settings.default_timeout_ms / 1000.0
    most = parts.settings.max_timeout_ms
    if not (given.isascii() and given.isdigit() and len(given) <= 12 and 1 <= int(given) <= most):
        expected = f"a whole number of milliseconds from 1 to {most}"
        raise ProblemError(
            "invalid-request",
            f"the header X-Timeout-Ms: expected {expected}, got {given[:40]!r}",
            field="X-Timeout-Ms",
            expected=expected,
            got=given[:40],
        )
    return int(given) / 1000.0


class DisconnectWatch:
    """Cancels the task that runs the ``with`` block when the client leaves; the block then ends in ClientDisconnect."""

    def __init__(self, receive: Receive, after: float = WATCH_AFTER_SECONDS):
        self._receive = receive
        self._after = after
        self._gone = False
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> DisconnectWatch:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(self._after, self._start)
        return self

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._gone and isinstance(error, asyncio.CancelledError) and self._task.uncancel() == 0:
            raise ClientDisconnect() from None
