"""The fast path: plain questions about rows, answered ahead of the framework.

The framework's own way costs some hundred microseconds a request, more than many a model. A plain question, which is
most of them, is read, asked and answered here with the same parts, its rows and its answer in JSON or npy; whatever is
out of the ordinary (another format, a parameter, a wrong value, a cache worth asking, work long enough to be watched)
goes the ordinary way with its body untouched, so that each rule and each error message exists once. A test sends every
request down both ways.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import getrandbits
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import structlog
from numpy.typing import NDArray
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.capabilities import Capability
from contract.errors import InputError
from contract.programs import Program
from contract.support import Support
from runtime.model import LoadedModel
from service.answers import bits_per_nat, log_prob_answer, score_answer
from service.api.access import account_of, admit, charge, facts_of, told
from service.api.anomaly_score import AnomalyScoreRequest
from service.api.arrays import arrays_of, metadata, read_npy, write_npy
from service.api.codecs import dump
from service.api.edge import edge_headers, log_request
from service.api.fast_json import LARGE, read_large, read_small
from service.api.fast_names import NOTHING, Question, both, in_query
from service.api.log_prob import LogProbRequest
from service.api.negotiation import JSON, NPY
from service.api.problems import ProblemError
from service.api.schemas import AskedAbout
from service.errand import Errand
from service.errors import DeadlineExceeded, Draining, Overloaded, OverQuota, Starting, Unauthorised, UnknownModel
from service.parts import Parts
from service.reading import PIECE

__all__ = ["FastPath"]

log = structlog.get_logger("nonesuch.http")

ALPHA = 0.05

_JSON, _NPY = JSON.encode(), NPY.encode()
_BYPASS = (b"nonesuch-cache", b"bypass")

# Headers that change what is asked or who asks; all others mean nothing here.
_CARE = frozenset({b"content-encoding", b"priority", b"x-timeout-ms", b"x-request-id", b"transfer-encoding", b"expect"})

# A longer npy file has more numbers than are checked at once, or wider ones than it needs.
_LONGEST_NPY = 8 * PIECE + 128

LONG_SECONDS = 0.1
"""Work predicted to take longer is watched for its client's leaving and its deadline, which the ordinary way does."""


class _Route(NamedTuple):
    """A call that has a fast path, and which types its answer may have."""

    path: str
    capability: Capability
    takes: type[AskedAbout]
    gives: tuple[bytes, ...]


ROUTES = {
    "/log_prob": _Route("/log_prob", "log_prob", LogProbRequest, (_JSON, _NPY)),
    "/anomaly-score": _Route("/anomaly-score", "score", AnomalyScoreRequest, (_JSON,)),
}


class _Head(NamedTuple):
    """What the headers of a plain question say: how long its body is, and the types of body and answer."""

    length: int
    given: bytes
    wanted: bytes


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a question to one model needs to know, looked up once.

    Attributes:
        digest: the header that names the bundle.
        count: counts an answer, its rows and seconds.
        said: what an npy answer says in its headers, the same for all; None where the answer is no single array.
        written: what a JSON answer says before its numbers, the same for all; None where it is no single array.
        bits: bits per dimension of a nat, where there are such.
    """

    program: Program
    support: Support
    digest: tuple[bytes, bytes]
    count: Callable[[int, float], None]
    said: tuple[tuple[bytes, bytes], ...] | None
    written: bytes | None
    bits: float | None


class _Answer(NamedTuple):
    """An answer, and what it was about."""

    rows: int
    model: LoadedModel
    plan: _Plan
    content: bytes
    headers: tuple[tuple[bytes, bytes], ...]


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
            route.capability: WeakKeyDictionary() for route in ROUTES.values()
        }
        self.answered = 0
        parts.metrics.gauge(
            "nonesuch_fast_answers", "Requests answered ahead of the framework, since the start.", lambda: self.answered
        )
        self._readers = ThreadPoolExecutor(parts.settings.threads, thread_name_prefix="reader")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route = ROUTES.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        head = _plain_head(scope["headers"], route.gives) if route is not None else None
        parts = self._parts
        if route is None or head is None or not self._open(head):
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
        try:
            body, messages = await _read(receive, head.length)
            try:
                answer = await self._answer(route, head, scope, body, started) if body is not None else None
            except Exception:  # out here nobody would turn it into an answer; the ordinary way does, whatever it is
                log.exception("the fast path failed", path=scope["path"])
                answer = None
        finally:
            parts.budget.give(head.length)
        if answer is None:
            await self._app(scope, _again(messages, receive), send)
            return
        self.answered += 1
        request_id = f"{getrandbits(128):032x}"
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    _BYPASS,
                    answer.plan.digest,
                    *answer.headers,
                    (b"content-length", b"%d" % len(answer.content)),
                    (b"content-type", head.wanted),
                    *edge_headers(request_id),
                ],
            }
        )
        await send({"type": "http.response.body", "body": answer.content})
        seconds = time.perf_counter() - started
        answer.plan.count(answer.rows, seconds)
        if parts.guard is not None:
            told(parts, scope, answer.rows)
        if parts.settings.access_log:
            facts_of(scope, answer.model, answer.rows, "bypass")
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                log_request(scope, scope["path"], 200, seconds)

    def _open(self, head: _Head) -> bool:
        parts, settings = self._parts, self._parts.settings
        most = settings.max_json_bytes if head.given == _JSON else min(settings.max_binary_bytes, _LONGEST_NPY)
        return head.length <= most and parts.budget.has_room(head.length)

    async def _answer(self, route: _Route, head: _Head, scope: Scope, body: bytes, started: float) -> _Answer | None:
        """The answer, or None where the question is not plain after all."""
        parts, capability = self._parts, route.capability
        if head.given == _NPY:
            question = _read_array(body)
        elif len(body) < LARGE:
            question = read_small(body)
        else:
            question = await asyncio.get_running_loop().run_in_executor(self._readers, read_large, body)
        query = in_query(scope["query_string"], route.takes)
        named = both(question.named, query) if question is not None and query is not None else None
        if question is None or named is None or named.model is None:
            return None
        alpha = named.alpha
        if (alpha is not None) > (capability == "score"):
            return None
        try:
            model = parts.catalogue.get(named.model, named.version)
            plan = self._plan(model, route)
            if plan is None or (head.wanted == _NPY and plan.said is None):
                return None
            x = plan.support.read(question.rows)
        except (UnknownModel, Starting, InputError):
            return None
        n = len(x)
        seconds = parts.scheduler.predicted_seconds(model, capability, n)
        if seconds > LONG_SECONDS or parts.cache.worth_asking(n, seconds):
            return None
        standing: dict[str, str] = {}
        if parts.guard is not None:
            try:
                standing = await charge(parts, scope, n)
            except OverQuota:
                return None
        errand = Errand(started + parts.settings.default_timeout_ms / 1000.0, account_of(scope))
        try:
            outputs = await parts.scheduler.submit(model, capability, {"x": x}, n, errand=errand)
        except (Overloaded, Draining, DeadlineExceeded):
            return None
        said = tuple((name.lower().encode(), value.encode()) for name, value in standing.items())
        if head.wanted == _NPY and plan.said is not None:
            return _Answer(n, model, plan, write_npy(outputs["log_prob"]), (*plan.said, *said))
        if plan.written is not None:
            return _Answer(n, model, plan, _write_json(plan, outputs["log_prob"]), said)
        if capability == "log_prob":
            answer = log_prob_answer(model, plan.program, outputs)
        else:
            answer = score_answer(model, plan.program, outputs, ALPHA if alpha is None else alpha)
        return _Answer(n, model, plan, dump(answer), said)

    def _plan(self, model: LoadedModel, route: _Route) -> _Plan | None:
        """What is known of a capability; None where the model lacks it, or it takes more than rows."""
        plans = self._plans[route.capability]
        try:
            return plans[model]
        except KeyError:
            program = model.manifest.capabilities.get(route.capability)
            plain = program is not None and program.steps.fixed and [part.name for part in program.inputs] == ["x"]
            plan = plans[model] = self._made_plan(model, route, program) if plain and program is not None else None
            return plan

    def _made_plan(self, model: LoadedModel, route: _Route, program: Program) -> _Plan:
        said = written = None
        if route.capability == "log_prob":
            # Of a plain question all that is said beside the numbers is the same, whatever they are.
            empty = log_prob_answer(model, program, {part.name: np.empty(0, part.dtype) for part in program.outputs})
            if "standard_error" not in arrays_of(empty):
                headers = {name.lower().encode(): value.encode() for name, value in metadata(empty).items()}
                headers.pop(b"nonesuch-digest")  # every answer has it
                said = tuple(headers.items())
            before = list(empty)[: list(empty).index("log_prob")]
            if set(empty) - set(before) <= {"log_prob", "bits_per_dimension"}:
                written = dump({name: empty[name] for name in before})[:-1] + b',"log_prob":'
        support = model.manifest.support
        return _Plan(
            program,
            support,
            (b"nonesuch-digest", model.digest.encode()),
            self._parts.metrics.counter_of(route.path, model.manifest.name, route.capability),
            said,
            written,
            bits_per_nat(support),
        )


def _write_json(plan: _Plan, log_prob: NDArray[np.float64]) -> bytes:
    """What ``dump`` makes of the whole answer."""
    assert plan.written is not None
    if plan.bits is None:
        return plan.written + dump(log_prob) + b"}"
    return plan.written + dump(log_prob) + b',"bits_per_dimension":' + dump(log_prob * plan.bits) + b"}"


def _read_array(body: bytes) -> Question | None:
    """The rows in an npy file, as for any other request; what else there is to say, the query string says."""
    try:
        rows = read_npy(body)
    except ProblemError:
        return None
    return Question(NOTHING, rows) if rows.size <= PIECE else None


def _plain_head(headers: Iterable[tuple[bytes, bytes]], gives: tuple[bytes, ...]) -> _Head | None:
    """Length and types, where the headers ask for nothing out of the ordinary."""
    length = given = accept = None
    for name, value in headers:
        if name == b"content-length":
            if length is not None or not value.isdigit() or len(value) >= 10:
                return None
            length = int(value)
        elif name == b"content-type":
            if given is not None:
                return None
            given = value
        elif name == b"accept":
            if accept is not None:
                return None
            accept = value
        elif name in _CARE:
            return None
    wanted = _JSON if accept is None or accept == b"*/*" else accept
    if length is None or given not in (_JSON, _NPY) or wanted not in gives:
        return None
    return _Head(length, given, wanted)


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
