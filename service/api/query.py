"""Scalars in the query string, for bodies that hold an array and for any other.

``parameters.NAME``, ``condition.NAME`` and ``given.NAME`` are the members of those objects. A name may stand in the
body as well, if both say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel

from service.api.problems import ProblemError

__all__ = ["GROUPS", "merge", "query_parameters", "read_query", "scalars"]

GROUPS = ("parameters", "condition", "given")
_MOST_FIELDS = 200


@lru_cache
def scalars(model: type[BaseModel]) -> dict[str, type]:
    """The members of a request that are one number, string or truth, with their types."""
    found: dict[str, type] = {}
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not type(None)]
        if get_origin(field.annotation) is Literal:  # one of some words
            kinds = list({type(word) for word in kinds})
        if len(kinds) == 1 and kinds[0] in (str, int, float, bool):
            found[name] = kinds[0]
    return found


def read_query(query: bytes, model: type[BaseModel]) -> dict[str, Any]:
    """What a query string says, as members of a request.

    Raises:
        ProblemError: 422 for a name that the call does not have there, or one that is given twice.
    """
    if not query:
        return {}
    known = scalars(model)
    groups = [group for group in GROUPS if group in model.model_fields]
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise ProblemError("invalid-request", "the query string is not UTF-8, or has too many members") from None
    found: dict[str, Any] = {}
    for name, text in pairs:
        group, dot, inner = name.partition(".")
        if dot and inner and group in groups:
            place, key, value = found.setdefault(group, {}), inner, _json_scalar(text)
        elif name in known:
            place, key, value = found, name, _typed(text, known[name])
        else:
            raise _unknown(name, [*known, *(f"{group}.NAME" for group in groups)])
        if key in place:
            raise ProblemError("invalid-request", f"the query string has {name[:80]!r} twice", field=name[:80])
        place[key] = value
    return found


def merge(body: dict[str, Any], query: Mapping[str, Any]) -> dict[str, Any]:
    """A body with what the query string adds.

    Raises:
        ProblemError: 422 where the two disagree.
    """
    merged = dict(body)
    for name, value in query.items():
        given = merged.get(name)
        if name in GROUPS and isinstance(given, dict):
            for inner, part in value.items():
                _agree(f"{name}.{inner}", given.get(inner, part), part)
            merged[name] = {**given, **value}
        else:
            if given is not None:
                _agree(name, given, value)
            merged[name] = value
    return merged


def _agree(name: str, body: Any, query: Any) -> None:
    if isinstance(body, bool) != isinstance(query, bool) or body != query:  # True equals 1
        raise ProblemError(
            "invalid-request",
            f"{name!r} is {_words(body)} in the body and {_words(query)} in the query string; give it once",
            field=name,
            expected="one value",
            got=f"{_words(body)} and {_words(query)}",
        )


def _typed(text: str, kind: type) -> Any:
    """A number or a truth where one is meant; other text stays text, and the request's model says what it expected."""
    if kind is str:
        return text
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if type(value) in ((bool,) if kind is bool else (int, float)) else text


def _json_scalar(text: str) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return text if isinstance(value, list | dict) else value


def _unknown(name: str, known: list[str]) -> ProblemError:
    close = get_close_matches(name, known, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(known)}"
    return ProblemError(
        "invalid-request",
        f"the query string of this call has no member {name[:80]!r}{meant}",
        field=name[:80],
        expected=f"only {', '.join(known)}",
    )


def _words(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """OpenAPI parameters for what may stand in the query string."""
    properties = model.model_json_schema()["properties"]
    found = []
    for name in scalars(model):
        schema = {
            key: value for key, value in properties[name].items() if key not in ("title", "default", "description")
        }
        kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
        words = f"{properties[name]['description']} Here or in the body, and the same where it is in both."
        found.append(
            {"name": name, "in": "query", "description": words, "schema": {**schema, **(kinds[0] if kinds else {})}}
        )
    return found
