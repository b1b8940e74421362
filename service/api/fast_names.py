"""What a plain question names beside its rows, in the body or in the query string."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from numpy.typing import NDArray
from pydantic import BaseModel

from contract.conformal import Guarantee
from service.api.problems import ProblemError
from service.api.query import read_query

__all__ = ["Named", "Question", "both", "in_query", "plain"]

_NAME = 63  # the longest name of a model
_LONGEST_QUERY = 160  # longer ones than the names and numbers of plain questions make are not worth a place


class Named(NamedTuple):
    """What may be named, each None where it is not.

    Attributes:
        model: name of the model.
        version: version asked for.
        alpha: false-alarm rate asked for.
        guarantee: how it is to be kept.
        fdr: rate of false discoveries asked for.
    """

    model: str | None = None
    version: int | None = None
    alpha: float | None = None
    guarantee: Guarantee | None = None
    fdr: float | None = None

    @property
    def about_alarms(self) -> bool:
        """Whether anything is named that only questions about anomalies have."""
        return self.alpha is not None or self.guarantee is not None or self.fdr is not None


class Question(NamedTuple):
    """A plain question.

    Attributes:
        named: what the body names.
        rows: numbers, [n, …], not yet held against any support.
    """

    named: Named
    rows: NDArray[Any]


NOTHING = Named()


def plain(fields: Mapping[str, Any]) -> Named | None:
    """What the fields of a request name; None where one is unknown, or not just as the request models ask for it."""
    if not fields:
        return NOTHING
    model, version, alpha = fields.get("model"), fields.get("version"), fields.get("alpha")
    guarantee, fdr = fields.get("guarantee"), fields.get("fdr")
    known = (model is not None) + (version is not None) + (alpha is not None)
    if known + (guarantee is not None) + (fdr is not None) != len(fields):
        return None  # a field that is unknown, or null
    if model is not None and (type(model) is not str or not 0 < len(model) <= _NAME):
        return None
    if version is not None and (type(version) is not int or version < 1):
        return None
    if alpha is not None and (type(alpha) is not float or not 0.0 < alpha < 1.0):
        return None
    named: Guarantee | None = None
    if guarantee is not None:
        if guarantee not in ("marginal", "training_conditional"):
            return None
        named = guarantee
    if fdr is not None and (type(fdr) is not float or not 0.0 < fdr < 1.0):
        return None
    return Named(model, version, alpha, named, fdr)


def in_query(query: bytes, takes: type[BaseModel]) -> Named | None:
    """What a query string names; None where there may be more to it. It is read as for any other request."""
    if not query:
        return NOTHING
    return _in_query(query, takes) if len(query) <= _LONGEST_QUERY else None


@lru_cache(maxsize=1024)
def _in_query(query: bytes, takes: type[BaseModel]) -> Named | None:
    try:
        return plain(read_query(query, takes))
    except ProblemError:
        return None


def both(body: Named, query: Named) -> Named | None:
    """What body and query string name together; None where they disagree."""
    if query is NOTHING:
        return body
    if body is NOTHING:
        return query
    if any(one is not None and other is not None and one != other for one, other in zip(body, query, strict=True)):
        return None
    return Named(
        query.model if body.model is None else body.model,
        query.version if body.version is None else body.version,
        query.alpha if body.alpha is None else body.alpha,
        query.guarantee if body.guarantee is None else body.guarantee,
        query.fdr if body.fdr is None else body.fdr,
    )
