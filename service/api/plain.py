"""Plain questions about rows: which they are, what they ask, and what their answers say.

A plain question, which is most of them, has its rows in JSON or npy and nothing out of the ordinary about it (another
format, a parameter, a wrong value, a cache worth asking, work long enough to be watched). It is read, asked and
answered here with the parts that every other question meets; whatever is not plain is left to the framework's way, with
its body untouched, so that each rule and each error message exists once. Both ways by which plain questions come
(``service/api/fast.py`` and ``service/api/wire.py``) ask here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from contract.capabilities import Capability
from contract.errors import InputError
from contract.programs import Program
from contract.support import Support
from runtime.model import LoadedModel
from service.answers import USUAL_ALARMS, Alarms, bits_per_nat, log_prob_answer, score_answer
from service.api.anomaly_score import AnomalyScoreRequest
from service.api.arrays import arrays_of, metadata, read_npy, write_npy
from service.api.codecs import dump
from service.api.fast_json import LARGE, read_large, read_small
from service.api.fast_names import NOTHING, Question, both, in_query
from service.api.log_prob import LogProbRequest
from service.api.negotiation import JSON, NPY
from service.api.problems import ProblemError
from service.api.schemas import AskedAbout
from service.costs import CostModel
from service.errors import Starting, UnknownModel
from service.parts import Parts
from service.reading import PIECE

__all__ = [
    "INLINE_BYTES",
    "ROUTES",
    "Asked",
    "Head",
    "PlainQuestions",
    "Route",
    "lines_of",
    "plain_head",
    "read_body",
]

INLINE_BYTES = 2**17
"""Longer bodies in JSON are read in another thread. (An array in npy is a view of its body.)"""

_JSON, _NPY = JSON.encode(), NPY.encode()

# Headers that change what is asked or who asks; all others mean nothing here.
_CARE = frozenset({b"content-encoding", b"priority", b"x-timeout-ms", b"x-request-id", b"transfer-encoding", b"expect"})

_MOST_NUMBERS = 4 * PIECE  # in an npy file; what has more is checked in pieces
_LONGEST_NPY = 8 * _MOST_NUMBERS + 128  # a longer one has more numbers, or wider ones than it needs

LONG_SECONDS = 0.1
"""Work predicted to take longer is watched for its client's leaving and its deadline, which the ordinary way does."""


class Route(NamedTuple):
    """A call whose plain questions are known, and which types its answer may have."""

    path: str
    capability: Capability
    takes: type[AskedAbout]
    gives: tuple[bytes, ...]


ROUTES = {
    "/log_prob": Route("/log_prob", "log_prob", LogProbRequest, (_JSON, _NPY)),
    "/anomaly-score": Route("/anomaly-score", "score", AnomalyScoreRequest, (_JSON,)),
}


class Head(NamedTuple):
    """What the headers of a plain question say: how long its body is, and the types of body and answer."""

    length: int
    given: bytes
    wanted: bytes


class AnswerHead(NamedTuple):
    """What all answers of a kind say in their headers beside their length.

    Attributes:
        headers: lower-case names and values.
        lines: the same as they are written.
    """

    headers: tuple[tuple[bytes, bytes], ...]
    lines: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What a question to one model needs to know, looked up once.

    Attributes:
        head: headers of every answer in JSON.
        count: counts an answer, its rows and seconds.
        npy_head: headers of every answer in npy; None where the answer is no single array.
        written: what a JSON answer says before its numbers, the same for all; None where it is no single array.
        bits: bits per dimension of a nat, where there are such.
        cost: of its run, where it is one run.
    """

    program: Program
    support: Support
    head: AnswerHead
    count: Callable[[int, float], None]
    npy_head: AnswerHead | None
    written: bytes | None
    bits: float | None
    cost: CostModel | None


class Asked(NamedTuple):
    """A plain question, read and understood.

    Attributes:
        x: rows that the model's support allows, [n, …].
        alarms: which of them to flag, where that is asked.
        wanted: type of the answer.
    """

    capability: Capability
    model: LoadedModel
    plan: Plan
    x: NDArray[Any]
    alarms: Alarms
    wanted: bytes

    @property
    def headers(self) -> AnswerHead:
        """What the answer says in its headers."""
        head = self.plan.npy_head if self.wanted == _NPY else self.plan.head
        assert head is not None
        return head


class PlainQuestions:
    """Reads, understands and answers plain questions.

    Args:
        parts: the service.

    Attributes:
        answered: how many were.
    """

    def __init__(self, parts: Parts):
        self._parts = parts
        self._plans: dict[Capability, WeakKeyDictionary[LoadedModel, Plan | None]] = {
            route.capability: WeakKeyDictionary() for route in ROUTES.values()
        }
        # Reading holds the interpreter most of the time: a second reader would take memory and give little.
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self.answered = 0
        parts.metrics.gauge(
            "nonesuch_fast_answers", "Requests answered ahead of the framework, since the start.", lambda: self.answered
        )

    def has_room(self, head: Head) -> bool:
        """Whether a body of this kind may be so long, now and at all."""
        settings = self._parts.settings
        most = settings.max_json_bytes if head.given == _JSON else min(settings.max_binary_bytes, _LONGEST_NPY)
        return head.length <= most and self._parts.budget.has_room(head.length)

    def read_elsewhere(self, head: Head, body: bytes | bytearray) -> asyncio.Future[Question | None] | None:
        """The question in a body that is long to read, as another thread reads it; None if it may be read at once."""
        if head.given == _NPY or len(body) <= INLINE_BYTES:
            return None
        return asyncio.get_running_loop().run_in_executor(self._readers, read_body, head, body)

    def understand(self, route: Route, head: Head, query: bytes, question: Question | None) -> Asked | None:
        """What is asked, or None where the question is not plain after all."""
        named_there = in_query(query, route.takes)
        named = both(question.named, named_there) if question is not None and named_there is not None else None
        if question is None or named is None or named.model is None:
            return None
        parts, capability = self._parts, route.capability
        if named.about_alarms and capability != "score":
            return None
        alarms = USUAL_ALARMS
        if named.about_alarms:
            alpha, guarantee, fdr = named.alpha, named.guarantee, named.fdr
            alarms = Alarms(alpha or alarms.alpha, guarantee or alarms.guarantee, fdr)
        try:
            model = parts.catalogue.get(named.model, named.version)
            plan = self._plan(model, route)
            if plan is None or (head.wanted == _NPY and plan.npy_head is None):
                return None
            if named.about_alarms:
                alarms.check_promises(model.manifest.calibration)
            x = plan.support.read(question.rows)
        except (UnknownModel, Starting, InputError):
            return None
        if plan.cost is not None:
            seconds = plan.cost.seconds(len(x))
        else:
            seconds = parts.scheduler.predicted_seconds(model, capability, len(x))
        if seconds > LONG_SECONDS or parts.cache.worth_asking(len(x), seconds):
            return None
        return Asked(capability, model, plan, x, alarms, head.wanted)

    def answer(self, asked: Asked, outputs: dict[str, NDArray[Any]]) -> bytes:
        """The body of the answer, of what the program gave out."""
        plan = asked.plan
        if asked.wanted == _NPY:
            return write_npy(outputs["log_prob"])
        if plan.written is not None:
            return _write_json(plan, outputs["log_prob"])
        if asked.capability == "log_prob":
            return dump(log_prob_answer(asked.model, plan.program, outputs))
        scored = score_answer(asked.model, plan.program, outputs, asked.alarms)
        content = dump(scored)
        self._parts.drift.observe(asked.model, scored["score"])
        return content

    def _plan(self, model: LoadedModel, route: Route) -> Plan | None:
        """What is known of a capability; None where the model lacks it, or it takes more than rows."""
        plans = self._plans[route.capability]
        try:
            return plans[model]
        except KeyError:
            program = model.manifest.capabilities.get(route.capability)
            plain = program is not None and program.steps.fixed and [part.name for part in program.inputs] == ["x"]
            plan = plans[model] = self._made_plan(model, route, program) if plain and program is not None else None
            return plan

    def _made_plan(self, model: LoadedModel, route: Route, program: Program) -> Plan:
        always = ((b"nonesuch-cache", b"bypass"), (b"nonesuch-digest", model.digest.encode()))
        npy_head = written = None
        if route.capability == "log_prob":
            # Of a plain question all that is said beside the numbers is the same, whatever they are.
            empty = log_prob_answer(model, program, {part.name: np.empty(0, part.dtype) for part in program.outputs})
            if "standard_error" not in arrays_of(empty):
                said = {name.lower().encode(): value.encode() for name, value in metadata(empty).items()}
                npy_head = _answer_head((*{**said, **dict(always)}.items(), (b"content-type", _NPY)))
            before = list(empty)[: list(empty).index("log_prob")]
            if set(empty) - set(before) <= {"log_prob", "bits_per_dimension"}:
                written = dump({name: empty[name] for name in before})[:-1] + b',"log_prob":'
        support = model.manifest.support
        return Plan(
            program,
            support,
            _answer_head((*always, (b"content-type", _JSON))),
            self._parts.metrics.counter_of(route.path, model.manifest.name, route.capability),
            npy_head,
            written,
            bits_per_nat(support),
            self._parts.scheduler.cost(model, program.step) if program.one_shot else None,
        )


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they are written."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def _answer_head(headers: tuple[tuple[bytes, bytes], ...]) -> AnswerHead:
    return AnswerHead(headers, lines_of(headers))


def read_body(head: Head, body: bytes | bytearray) -> Question | None:
    """The question in a body, or None where there may be more to it; large ones take a while."""
    if head.given == _NPY:
        return _read_array(body)
    return read_small(body) if len(body) < LARGE else read_large(body)


def _write_json(plan: Plan, log_prob: NDArray[np.float64]) -> bytes:
    """What ``dump`` makes of the whole answer."""
    assert plan.written is not None
    if plan.bits is None:
        return plan.written + dump(log_prob) + b"}"
    return plan.written + dump(log_prob) + b',"bits_per_dimension":' + dump(log_prob * plan.bits) + b"}"


def _read_array(body: bytes | bytearray) -> Question | None:
    """The rows in an npy file, as for any other request; what else there is to say, the query string says."""
    try:
        rows = read_npy(body)
    except ProblemError:
        return None
    return Question(NOTHING, rows) if rows.size <= _MOST_NUMBERS else None


def plain_head(headers: Iterable[tuple[bytes, bytes]], gives: tuple[bytes, ...]) -> Head | None:
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
    return Head(length, given, wanted)
