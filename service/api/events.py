"""Progress of a long sample as server-sent events (WHATWG HTML, section 9.2): what is done, previews, the result.

Until the first event the answer can still be any other: what is refused at once has its own status, as ever. After it,
trouble is told by an event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from contract.capabilities import Capability
from runtime.model import LoadedModel
from runtime.rows import Journey, Rows
from runtime.session import GraphSession
from service.api import schemas
from service.api.access import answered
from service.api.codecs import dump, dump_large
from service.api.negotiation import EVENTS
from service.api.problems import ProblemError, problem_of
from service.errand import Errand
from service.operations import Answer
from service.parts import Parts

__all__ = ["EVERY_SECONDS", "Feed"]

log = structlog.get_logger("nonesuch.http")

EVERY_SECONDS = 0.2
"""Progress is told no more often than this."""

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the latter for nginx, which would hold them back


class Feed:
    """The events of one request.

    Args:
        parts: the service.
        request: what was asked.
        capability: of the model, which draws.
        asked: the request's body; its ``previews`` are numbers of steps.
        n: rows asked for.

    Raises:
        UnknownModel.
        ProblemError: 422 when there is nothing to preview.
    """

    def __init__(self, parts: Parts, request: Request, capability: Capability, asked: schemas.Asked, n: int):
        self._parts = parts
        self._request = request
        self._capability = capability
        self._n = n
        self._previews = sorted(set(getattr(asked, "previews", ())))
        if self._previews:
            self._require_steps(asked)
        self._events: asyncio.Queue[_Told | None] = asyncio.Queue()
        self._started = time.perf_counter()
        self._progress_at = -EVERY_SECONDS

    def _require_steps(self, asked: schemas.Asked) -> None:
        program = self._parts.catalogue.get(asked.model, asked.version).manifest.capabilities.get(self._capability)
        # Without a program it is refused soon, in its own words.
        if program is not None and program.steps.fixed and program.steps.default == 1:
            raise ProblemError(
                "invalid-request",
                f"{asked.model!r} draws a row in one step and has nothing to show before; leave previews out",
                field="previews",
                expected="no previews",
                got=str(self._previews),
            )

    async def answer(
        self, use: Callable[[Errand], Awaitable[Answer]], errand: Errand, standing: Mapping[str, str]
    ) -> Response:
        """Start the work and answer with its first event, or with what went wrong before it.

        Args:
            use: the use case, which wants to know who waits.
            errand: who waits.
            standing: headers that say how the caller's quota stands.
        """
        work = asyncio.ensure_future(use(replace(errand, watch=self._watch)))
        work.add_done_callback(lambda _: self._events.put_nowait(None))
        try:
            first = await self._events.get()
            if first is None:
                work.result()  # raises what went wrong
        except BaseException:
            work.cancel()
            raise
        return StreamingResponse(self._stream(first, work), media_type=EVENTS, headers={**HEADERS, **standing})

    async def _stream(self, event: _Told | None, work: asyncio.Future[Answer]) -> AsyncIterator[bytes]:
        try:
            while event is not None:
                yield await _written(event)
                event = await self._events.get()
            yield await self._last(work)
        finally:
            work.cancel()  # the client has left; done already, it makes no difference

    async def _last(self, work: asyncio.Future[Answer]) -> bytes:
        try:
            answer = work.result()
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                log.exception("request failed after its first event", path=self._request.url.path)
                problem = ProblemError("internal-error", "something went wrong that is not the request's fault")
            return _event("problem", dump(problem.document(self._request.state.request_id)))
        answered(self._parts, self._request.scope, answer.model, self._capability, self._n, answer.cache)
        return _event("result", await dump_large(answer.body))

    def _watch(self, model: LoadedModel, journeys: list[Journey]) -> None:
        seconds = time.perf_counter() - self._started
        rows = [part for part in journeys if isinstance(part, Rows)]
        shown = bool(self._previews) and self._preview(model, rows)
        if shown or seconds - self._progress_at >= EVERY_SECONDS:
            self._progress_at = seconds
            left, whole = sum(part.steps_left for part in rows), sum(part.steps_all for part in rows)
            share = 1.0 - left / whole if whole else 1.0
            self._events.put_nowait(_Progress(round(share, 4), round(seconds, 3)))

    def _preview(self, model: LoadedModel, rows: list[Rows]) -> bool:
        """Show the rows, if every one has taken the next number of steps."""
        taken = min(part.steps_taken for part in rows)
        passed = sum(steps <= taken for steps in self._previews)
        if not passed:
            return False
        del self._previews[:passed]
        program = rows[0].program
        output = next(part.name for part in program.outputs if part.kind == "sample")
        # What makes rows of the last state makes them of any: the rows as they stand.
        final = model.graphs[program.final] if program.final is not None else None
        names = final.inputs if final is not None else [output]
        parts = [part.now(names) for part in rows]
        if all(len(part) == len(names) for part in parts):
            state = {name: np.concatenate([part[name] for part in parts]) for name in names}
            self._events.put_nowait(_Preview(taken, final, state, output))
        return True


@dataclass(frozen=True)
class _Progress:
    done: float
    seconds: float


@dataclass(frozen=True)
class _Preview:
    steps: int
    final: GraphSession | None
    state: dict[str, NDArray[Any]]
    output: str


_Told = _Progress | _Preview


async def _written(told: _Told) -> bytes:
    if isinstance(told, _Progress):
        return _event("progress", dump({"done": told.done, "seconds": told.seconds}))
    rows = told.state if told.final is None else await asyncio.to_thread(told.final.run, told.state)
    return _event("preview", await dump_large({"steps": told.steps, "rows": rows[told.output]}))


def _event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
