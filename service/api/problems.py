"""Errors as RFC 9457 problem documents.

Every kind of problem has a slug; its ``type`` is ``/problems/SLUG``, which is a page that explains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from math import ceil
from typing import Any

import orjson
from pydantic import BaseModel, Field, ValidationError
from starlette.responses import Response

from contract.errors import InputError
from service.errors import (
    DeadlineExceeded,
    Draining,
    NotSupported,
    Overloaded,
    OverQuota,
    Starting,
    TooLarge,
    Unauthorised,
    UnknownModel,
)

__all__ = [
    "KINDS",
    "MEDIA_TYPE",
    "RATE_LIMITS",
    "Kind",
    "Problem",
    "ProblemError",
    "explain",
    "problem_of",
    "responses",
]

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """A kind of problem: HTTP status, title, and what to do about it."""

    slug: str
    status: int
    title: str
    advice: str

    @property
    def type(self) -> str:
        """The URI reference that identifies the kind."""
        return f"/problems/{self.slug}"


KINDS: dict[str, Kind] = {
    kind.slug: kind
    for kind in (
        Kind(
            "unparsable",
            400,
            "The body is not what it is said to be",
            "Send one JSON object, encoded as UTF-8, or one npy file, as the header Content-Type says.",
        ),
        Kind(
            "unauthorised",
            401,
            "A key is needed",
            "Send 'Authorization: Bearer KEY'; whoever runs the service makes keys with `nonesuch key NAME`.",
        ),
        Kind("not-found", 404, "There is nothing at this address", "The calls are listed at /docs."),
        Kind("unknown-model", 404, "There is no such model", "GET /models lists the models and their versions."),
        Kind("unknown-address", 404, "There is no such sample", "GET /models lists what can be sampled."),
        Kind("method-not-allowed", 405, "This address does not take this method", "See the header Allow."),
        Kind(
            "not-acceptable",
            406,
            "No acceptable type of answer",
            "Every answer can be application/json, some npy, npz or PNG too; let the header Accept allow one of them.",
        ),
        Kind(
            "capability-not-supported",
            409,
            "The model has no such number",
            "Not every family of models can answer every question; GET /models/{model} says which and why.",
        ),
        Kind("body-too-large", 413, "The body is too large", "Send the rows in several requests."),
        Kind(
            "unsupported-media-type",
            415,
            "Unsupported type of body",
            "Send application/json, or rows and codes as application/x-npy, uncompressed, with the header Content-Type "
            "saying so.",
        ),
        Kind(
            "invalid-request",
            422,
            "The request does not fit the call",
            "The members of the request are described at /docs.",
        ),
        Kind(
            "invalid-input",
            422,
            "A value is not one the model allows",
            "GET /models/{model} describes the columns under 'support'.",
        ),
        Kind(
            "answer-too-large", 422, "The answer would be too large", "Ask for fewer rows at a time; page with 'start'."
        ),
        Kind(
            "larger-than-quota",
            422,
            "The request alone is over the quota",
            "Ask for fewer rows at a time than the quota allows a minute; waiting does not help.",
        ),
        Kind(
            "over-quota",
            429,
            "The quota is used up",
            "Try again after the seconds in Retry-After; RateLimit-Remaining says how many rows are left.",
        ),
        Kind("internal-error", 500, "The service failed", "The fault is ours; the request id finds it in the log."),
        Kind("overloaded", 503, "The service is full", "Try again after the seconds in Retry-After."),
        Kind("starting", 503, "The service is starting", "Try again after the seconds in Retry-After."),
        Kind("draining", 503, "The service is stopping", "Try again; another instance will answer."),
        Kind(
            "deadline-exceeded",
            504,
            "The deadline passed before the answer was ready",
            "Ask for fewer rows, or allow more time in X-Timeout-Ms.",
        ),
    )
}


class Problem(BaseModel):
    """A problem document (RFC 9457). What went wrong is in ``detail``; where, in the members after it."""

    type: str = Field(description="What kind of problem this is; also the address of a page that explains it.")
    title: str = Field(description="The kind of problem, in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What went wrong with this request.")
    request_id: str | None = Field(default=None, description="The request's id, as in the header X-Request-Id.")
    row: int | None = Field(default=None, description="Position of the row at fault in the request, from 0.")
    column: str | None = Field(
        default=None, description="Name of the column at fault, or its place in the row: '[3][14]'."
    )
    field: str | None = Field(default=None, description="Member of the request at fault.")
    expected: str | None = Field(default=None, description="What would have been accepted.")
    got: str | None = Field(default=None, description="What was found.")


class ProblemError(Exception):
    """A problem that HTTP itself finds, on its way to becoming a response."""

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        status: int | None = None,
        **members: Any,
    ):
        super().__init__(detail)
        self.kind = KINDS[slug]
        self.status = status or self.kind.status
        self.detail = detail
        self.headers = headers or {}
        self.members = {name: value for name, value in members.items() if value is not None}

    def document(self, request_id: str | None = None) -> dict[str, Any]:
        """The problem document."""
        named = {"request_id": request_id} if request_id else {}
        return {
            "type": self.kind.type,
            "title": self.kind.title,
            "status": self.status,
            "detail": self.detail,
            **self.members,
            **named,
        }

    def response(self, request_id: str | None = None) -> Response:
        """The response that carries the document."""
        return Response(
            orjson.dumps(self.document(request_id)), self.status, headers=self.headers, media_type=MEDIA_TYPE
        )


def problem_of(error: Exception) -> ProblemError | None:
    """What a caller is told of an error; None for errors that are the service's own fault."""
    match error:
        case ProblemError():
            return error
        case InputError():
            return ProblemError(
                "invalid-input",
                _sentence(error),
                row=error.row,
                column=error.column,
                expected=error.expected,
                got=error.got,
            )
        case UnknownModel():
            return ProblemError("unknown-model", _sentence(error))
        case NotSupported():
            return ProblemError("capability-not-supported", _sentence(error))
        case TooLarge():
            return ProblemError("answer-too-large", _sentence(error))
        case Unauthorised():
            return ProblemError("unauthorised", _sentence(error), headers={"WWW-Authenticate": _challenge(error)})
        case OverQuota(retry_after=None):
            return ProblemError("larger-than-quota", _sentence(error))
        case OverQuota():
            return ProblemError(
                "over-quota", _sentence(error), headers={**_retry_after(error.retry_after or 0.0), **error.headers}
            )
        case Overloaded():
            return ProblemError("overloaded", _sentence(error), headers=_retry_after(error.retry_after))
        case Draining():
            return ProblemError("draining", _sentence(error), headers=_retry_after(error.retry_after))
        case Starting():
            return ProblemError("starting", _sentence(error), headers={"Retry-After": "1"})
        case DeadlineExceeded():
            return ProblemError("deadline-exceeded", _sentence(error))
        case _:
            return None


# -- what pydantic found, in a sentence ---------------------------------------------------------------------------

_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a string",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "bool_type": "true or false",
}


def explain(error: ValidationError, model: type[BaseModel]) -> ProblemError:
    """A body that does not fit its request model as a problem: which member, what was expected, what was found."""
    first = error.errors(include_url=False, include_context=True)[0]
    field = ".".join(str(part) for part in first["loc"]) or None
    kind = first["type"]
    context: dict[str, Any] = first.get("ctx", {})
    expected = context.get("expected") or _EXPECTED.get(kind) or _bound(kind, context)
    got: str | None = _words(first["input"])
    if kind == "missing":
        detail, expected, got = f"the member {field!r} is missing", "the member to be there", None
    elif kind == "extra_forbidden":
        expected = f"only the members {', '.join(model.model_fields)}"
        close = get_close_matches(field or "", model.model_fields, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(model.model_fields)}"
        detail, got = f"this call has no member {field!r}{meant}", None
    elif expected is not None:
        detail = f"{_subject(field)}: expected {expected}, got {got}"
    else:
        detail = f"{_subject(field)}: {first['msg']}"
    others = error.error_count() - 1
    if others:
        detail += f" (and {others} more {'fault' if others == 1 else 'faults'})"
    return ProblemError("invalid-request", detail, field=field, expected=expected, got=got)


def _bound(kind: str, context: dict[str, Any]) -> str | None:
    match kind:
        case "greater_than_equal":
            return f"a number of at least {context['ge']}"
        case "greater_than":
            return f"a number above {context['gt']}"
        case "less_than_equal":
            return f"a number of at most {context['le']}"
        case "less_than":
            return f"a number below {context['lt']}"
        case "too_short":
            return f"at least {context['min_length']} of them"
        case "string_too_short":
            return "a string that is not empty"
        case "string_too_long":
            return f"a string of at most {context['max_length']} characters"
        case "finite_number":
            return "a finite number"
    return None


def _subject(field: str | None) -> str:
    return f"the member {field!r}" if field else "the body"


def _words(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:37]}..."
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return "an object" if isinstance(value, dict) else type(value).__name__


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__


def _challenge(error: Unauthorised) -> str:
    """RFC 6750, section 3: an error is named only to those who sent a key."""
    why = f', error="invalid_token", error_description="{error}"' if error.invalid else ""
    return f'Bearer realm="nonesuch"{why}'


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, ceil(seconds)))}


_HEADERS: dict[str, dict[str, Any]] = {
    "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "How to say who asks (RFC 6750).", "schema": {"type": "string"}},
    "RateLimit-Limit": {"description": "Rows a minute.", "schema": {"type": "integer"}},
    "RateLimit-Remaining": {"description": "Rows that are left now.", "schema": {"type": "integer"}},
    "RateLimit-Reset": {
        "description": "Seconds after which everything is free again, if nothing is asked.",
        "schema": {"type": "integer"},
    },
    "RateLimit-Policy": {"description": "The quota and its window in seconds.", "schema": {"type": "string"}},
}
RATE_LIMITS = {name: header for name, header in _HEADERS.items() if name.startswith("RateLimit-")}
"""Headers of an answer to a caller who has a quota."""
_HEADERS_OF = {401: ("WWW-Authenticate",), 429: ("Retry-After", *RATE_LIMITS), 503: ("Retry-After",)}


def responses(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of the problems that a call can answer with, grouped by status."""
    grouped: dict[int, list[Kind]] = {}
    for slug in slugs:
        grouped.setdefault(KINDS[slug].status, []).append(KINDS[slug])
    described: dict[int | str, dict[str, Any]] = {}
    for status, kinds in sorted(grouped.items()):
        described[status] = {
            "description": " · ".join(kind.title for kind in kinds),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {
                        kind.slug: {
                            "summary": kind.title,
                            "value": {
                                "type": kind.type,
                                "title": kind.title,
                                "status": status,
                                "detail": kind.advice,
                            },
                        }
                        for kind in kinds
                    },
                }
            },
        }
        headers = {name: _HEADERS[name] for name in _HEADERS_OF.get(status, ())}
        if headers:
            described[status]["headers"] = headers
    return described
