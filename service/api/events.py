"""Progress of a long sample as server-sent events (WHATWG HTML, section 9.2): what is done, previews, the result.

Until the first event the answer can still be any other: what is refused at once has its own status, as ever. After it,
trouble is told by an event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from contract.capabilities import Capability
from runtime.rows import Journey, Rows
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
        self._shown = self._state_shown(asked) if self._previews else ""
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._started = time.perf_counter()
        self._told = -EVERY_SECONDS

    def _state_shown(self, asked: schemas.Asked) -> str:
        """Name of the state that holds the rows on their way."""
        model = self._parts.catalogue.get(asked.model, asked.version)
        program = model.manifest.capabilities.get(self._capability)
        if program is None:
            return ""  # refused soon, in its own words
        output = next(part.name for part in program.outputs if part.kind == "sample")
        if program.one_shot or all(part.name != output for part in program.state):
            raise ProblemError(
                "invalid-request",
                f"{asked.model!r} has nothing to show of a row before it is done; leave previews out",
                field="previews",
                expected="no previews",
                got=str(self._previews),
            )
        return output

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

    async def _stream(self, event: bytes | None, work: asyncio.Future[Answer]) -> AsyncIterator[bytes]:
        try:
            while event is not None:
                yield event
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

    def _watch(self, journeys: list[Journey]) -> None:
        seconds = time.perf_counter() - self._started
        due = self._previews and self._preview(journeys)
        if due or seconds - self._told >= EVERY_SECONDS:
            self._told = seconds
            done = [rows for rows in journeys if isinstance(rows, Rows)]
            left, whole = sum(rows.steps_left for rows in done), sum(rows.steps_all for rows in done)
            share = 1.0 - left / whole if whole else 1.0
            self._put("progress", {"done": round(share, 4), "seconds": round(seconds, 3)})

    def _preview(self, journeys: list[Journey]) -> bool:
        """Show the rows, if every one has taken the next number of steps."""
        rows = [part for part in journeys if isinstance(part, Rows)]
        taken = min(part.steps_taken for part in rows)
        passed = [steps for steps in self._previews if steps <= taken]
        if not passed:
            return False
        del self._previews[: len(passed)]
        with suppress(KeyError):
            self._put("preview", {"steps": taken, "rows": np.concatenate([part.now(self._shown) for part in rows])})
        return True

    def _put(self, name: str, data: dict[str, Any]) -> None:
        self._events.put_nowait(_event(name, dump(data)))


def _event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
