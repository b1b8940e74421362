"""The fast path: plain questions about rows, answered ahead of the framework.

The framework's own way costs some hundred microseconds a request, more than many a model. A plain question, which is
most of them, is read, asked and answered here with the same parts; whatever is out of the ordinary (another format, a
parameter, a wrong value, a cache worth asking, work long enough to be watched) goes the ordinary way with its body
untouched, so that each rule and each error message exists once. A test sends every request down both ways.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.capabilities import Capability
from contract.errors import InputError
from contract.programs import Program
from contract.support import Support
from runtime.model import LoadedModel
from service.answers import log_prob_answer, score_answer
from service.api.access import admit, answered, charge, errand_of
from service.api.codecs import dump
from service.api.edge import edge_headers, log_request
from service.api.fast_json import LARGE, Question, read_large, read_small
from service.api.negotiation import JSON
from service.errors import DeadlineExceeded, Draining, Overloaded, OverQuota, Unauthorised, UnknownModel
from service.parts import Parts

__all__ = ["FastPath"]

log = structlog.get_logger("nonesuch.http")

ROUTES: dict[str, Capability] = {"/log_prob": "log_prob", "/anomaly-score": "score"}
ALPHA = 0.05

_JSON = JSON.encode()

# Headers that change what is asked or who asks; all others mean nothing here.
_CARE = frozenset({b"content-encoding", b"priority", b"x-timeout-ms", b"x-request-id", b"transfer-encoding", b"expect"})

_MODEL_ALONE = re.compile(rb"model=([a-z0-9-]{1,63})")

LONG_SECONDS = 0.02
"""Work predicted to take longer is watched for its client's leaving and its deadline, which the ordinary way does."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a question to one model needs to know, looked up once."""

    program: Program
    support: Support


class FastPath:
    """ASGI layer around the application.

    Args:
        app: the ordinary way.
        parts: the service.

    Attributes:
        answered: requests that were plain.
    """

    def __init__(self, app: ASGIApp, parts: Parts):
        self._app = app
        self._parts = parts
        self._plans: dict[Capability, WeakKeyDictionary[LoadedModel, _Plan | None]] = {
            capability: WeakKeyDictionary() for capability in ROUTES.values()
        }
        self.answered = 0
        parts.metrics.gauge(
            "nonesuch_fast_answers", "Requests answered ahead of the framework, since the start.", lambda: self.answered
        )
        self._readers = ThreadPoolExecutor(parts.settings.threads, thread_name_prefix="reader")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        capability = ROUTES.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        length = _plain_length(scope["headers"]) if capability is not None else None
        parts = self._parts
        if capability is None or length is None or not self._open(length):
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        try:
            admit(parts, scope)
        except Unauthorised:
            await self._app(scope, receive, send)
            return
        with parts.budget.reserve(length):
            body, messages = await _read(receive, length)
            try:
                answer = await self._answer(capability, scope, body, started) if body is not None else None
            except Exception:  # out here nobody would turn it into an answer; the ordinary way does, whatever it is
                log.exception("the fast path failed", path=scope["path"])
                answer = None
        if answer is None:
            await self._app(scope, _again(messages, receive), send)
            return
        rows, model, content, standing = answer
        self.answered += 1
        request_id = os.urandom(16).hex()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"nonesuch-cache", b"bypass"),
                    (b"nonesuch-digest", model.digest.encode()),
                    *((name.lower().encode(), value.encode()) for name, value in standing.items()),
                    (b"content-length", b"%d" % len(content)),
                    (b"content-type", _JSON),
                    *edge_headers(request_id),
                ],
            }
        )
        await send({"type": "http.response.body", "body": content})
        answered(parts, scope, model, capability, rows, "bypass")
        seconds = time.perf_counter() - started
        parts.metrics.request(scope["path"], "POST", 200, seconds)
        if parts.settings.access_log:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                log_request(scope, scope["path"], 200, seconds)

    def _open(self, length: int) -> bool:
        parts = self._parts
        return parts.catalogue.ready and length <= parts.settings.max_json_bytes and parts.budget.has_room(length)

    async def _answer(
        self, capability: Capability, scope: Scope, body: bytes, started: float
    ) -> tuple[int, LoadedModel, bytes, dict[str, str]] | None:
        """(rows, model, content, headers), or None where the question is not plain after all."""
        parts = self._parts
        if len(body) < LARGE:
            question = read_small(body)
        else:
            question = await asyncio.get_running_loop().run_in_executor(self._readers, read_large, body)
        asked = _with_query(question, scope["query_string"]) if question is not None else None
        if question is None or asked is None:
            return None
        name, version, alpha = asked
        if (alpha is not None) > (capability == "score"):
            return None
        try:
            model = parts.catalogue.get(name, version)
            plan = self._plan(model, capability)
            if plan is None:
                return None
            x = plan.support.read(question.rows)
        except (UnknownModel, InputError):
            return None
        n = len(x)
        seconds = parts.scheduler.predicted_seconds(model, capability, n)
        if seconds > LONG_SECONDS or parts.cache.worth_asking(n, seconds):
            return None
        try:
            standing = await charge(parts, scope, n)
        except OverQuota:
            return None
        errand = errand_of(scope, started + parts.settings.default_timeout_ms / 1000.0)
        try:
            outputs = await parts.scheduler.submit(model, capability, {"x": x}, n, errand=errand)
        except (Overloaded, Draining, DeadlineExceeded):
            return None
        if capability == "log_prob":
            answer = log_prob_answer(model, plan.program, outputs)
        else:
            answer = score_answer(model, plan.program, outputs, ALPHA if alpha is None else alpha)
        return n, model, dump(answer), standing

    def _plan(self, model: LoadedModel, capability: Capability) -> _Plan | None:
        """What is known of a capability; None where the model lacks it, or it takes more than rows."""
        plans = self._plans[capability]
        if model not in plans:
            program = model.manifest.capabilities.get(capability)
            plain = program is not None and program.steps.fixed and [part.name for part in program.inputs] == ["x"]
            plans[model] = _Plan(program, model.manifest.support) if plain and program is not None else None
        return plans[model]


def _plain_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """The length of the body, where the headers ask for nothing out of the ordinary."""
    length = kind = None
    for name, value in headers:
        if name == b"content-length":
            length = int(value) if value.isdigit() and len(value) < 10 else None
        elif name == b"content-type":
            kind = value
        elif (name == b"accept" and value not in (b"*/*", _JSON)) or name in _CARE:
            return None
    return length if kind == _JSON else None


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


def _with_query(question: Question, query: bytes) -> tuple[str, int | None, float | None] | None:
    """Model, version and alpha of a question, the model from body or query; None if there is more to them."""
    name = question.model
    if query:
        found = _MODEL_ALONE.fullmatch(query)
        if found is None or name is not None:
            return None
        name = found[1].decode()
    return (name, question.version, question.alpha) if name is not None else None
