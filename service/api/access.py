"""Who asks, and what it costs them: the same for both ways through the service, and nothing where nobody is asked."""

from __future__ import annotations

import re
from typing import Any

from starlette.types import Scope

from runtime.model import LoadedModel
from service.auth import Caller
from service.errand import URGENCY, Errand
from service.errors import OverQuota
from service.parts import Parts

__all__ = ["account_of", "admit", "answered", "caller_of", "charge", "errand_of", "facts_of", "note", "told"]

_URGENCY = re.compile(rb"(?:^|,)[ \t]*u=([0-7])[ \t]*(?:[;,]|$)")


def admit(parts: Parts, scope: Scope) -> None:
    """Let a request in, and remember whose it is.

    Raises:
        Unauthorised: it needs a key.
    """
    if parts.guard is None:
        return
    given = next((value for name, value in scope["headers"] if name == b"authorization"), None)
    client = scope.get("client")
    _state(scope)["caller"] = parts.guard.admit(
        scope["path"], given.decode("latin-1") if given is not None else None, client[0] if client else None
    )


def caller_of(scope: Scope) -> Caller | None:
    """Whose request it is, where that matters."""
    caller: Caller | None = _state(scope).get("caller")
    return caller


def errand_of(scope: Scope, deadline: float) -> Errand:
    """Whose work a request is and how urgent it is among theirs, by the header Priority (RFC 9218).

    A header that cannot be read is as good as none, as the standard has it.
    """
    urgency = URGENCY
    for name, value in scope["headers"]:
        if name == b"priority" and (found := _URGENCY.search(value)) is not None:
            urgency = int(found[1])
    return Errand(deadline, account_of(scope), urgency)


def account_of(scope: Scope) -> str:
    """Whose turn a request takes: the key's, or the address's where nobody is asked for a key."""
    caller = caller_of(scope)
    client = scope.get("client")
    return caller.account if caller is not None else client[0] if client else ""


async def charge(parts: Parts, scope: Scope, rows: int) -> dict[str, str]:
    """Count the rows that a request asks for, once, and give the headers that say how its caller stands.

    Raises:
        OverQuota: the caller has no room for so many.
    """
    state = _state(scope)
    caller: Caller | None = state.get("caller")
    if caller is None or caller.rows_per_minute is None:
        return {}
    if "standing" not in state:
        try:
            standing = await parts.quotas.take(caller.account, caller.rows_per_minute, rows)
        except OverQuota:
            parts.metrics.quota_refused(caller.name)
            raise
        state["standing"] = standing.headers()
    headers: dict[str, str] = state["standing"]
    return headers


def answered(parts: Parts, scope: Scope, answer_of: LoadedModel, capability: str, rows: int, cache: str) -> None:
    """Count an answer, and remember for the log what it was about."""
    parts.metrics.answered(answer_of.manifest.name, capability, rows, cache)
    told(parts, scope, rows)
    if parts.settings.access_log:
        facts_of(scope, answer_of, rows, cache)


def told(parts: Parts, scope: Scope, rows: int) -> None:
    """Count what a caller was told, where callers are known."""
    caller = caller_of(scope)
    if caller is not None:
        parts.metrics.answered_to(caller.name, rows)


def facts_of(scope: Scope, model: LoadedModel, rows: int, cache: str) -> None:
    """Remember what an answer was about, for its line in the log."""
    note(scope, model=model.manifest.name, version=model.manifest.version, rows=rows, cache=cache)


def note(scope: Scope, **facts: Any) -> None:
    """Remember what a request was about, for its line in the log."""
    _state(scope).setdefault("facts", {}).update(facts)


def _state(scope: Scope) -> dict[str, Any]:
    state: dict[str, Any] = scope.setdefault("state", {})
    return state
