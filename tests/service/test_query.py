"""Scalars in the query string: read as the request's model means them, and never at odds with the body."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.anomaly_score import AnomalyScoreRequest
from service.api.log_prob import LogProbRequest
from service.api.problems import ProblemError
from service.api.query import merge, query_parameters, read_query, scalars
from service.api.sample import SampleRequest


def refused(query: bytes, words: str, field: str | None = None) -> None:
    with pytest.raises(ProblemError, match=words) as found:
        read_query(query, SampleRequest)
    assert found.value.status == 422
    assert found.value.members.get("field") == field


def test_every_scalar_may_stand_there() -> None:
    assert scalars(SampleRequest) == {"model": str, "version": int, "n": int, "seed": int, "start": int}
    assert scalars(AnomalyScoreRequest) == {
        "model": str,
        "version": int,
        "alpha": float,
        "guarantee": str,
        "fdr": float,
        "label": str,
        "explain": bool,
    }
    said = {part["name"]: part["schema"] for part in query_parameters(AnomalyScoreRequest)}
    assert said["guarantee"] == {"enum": ["marginal", "training_conditional"], "type": "string"}
    assert said["fdr"] == {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    assert [part["name"] for part in query_parameters(LogProbRequest)] == ["model", "version", "seed", "trace"]
    assert all(part["description"] and part["schema"]["type"] for part in query_parameters(LogProbRequest))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (b"", {}),
        (b"model=moons&n=3&seed=9007199254740991", {"model": "moons", "n": 3, "seed": 2**53 - 1}),
        (b"model=7", {"model": "7"}),
        (b"model=a%20b", {"model": "a b"}),
        (b"parameters.temperature=0.5&parameters.steps=10", {"parameters": {"temperature": 0.5, "steps": 10}}),
        (b"condition.label=boot", {"condition": {"label": "boot"}}),
        (b"condition.label=3", {"condition": {"label": 3}}),
        (b"condition.label=%223%22", {"condition": {"label": "3"}}),
        (b"condition.label=null", {"condition": {"label": None}}),
        (b"condition.a.b=1", {"condition": {"a.b": 1}}),
        (b"n=three", {"n": "three"}),
        (b"n=", {"n": ""}),
        (b"n=true", {"n": "true"}),
        (b"n=[3]", {"n": "[3]"}),
    ],
)
def test_what_a_query_says(query: bytes, said: dict[str, Any]) -> None:
    assert read_query(query, SampleRequest) == said


def test_what_it_cannot_say() -> None:
    refused(b"sed=3", "did you mean 'seed'", "sed")
    refused(b"rows=[[1]]", "no member 'rows'", "rows")
    refused(b"n=1&n=1", "'n' twice", "n")
    refused(b"parameters.t=1&parameters.t=2", "'parameters.t' twice", "parameters.t")
    refused(b"parameters.=1", "no member", "parameters.")
    refused(b"model=%ff", "UTF-8")
    refused(b"&".join(b"parameters.a%d=1" % i for i in range(300)), "too many")
    with pytest.raises(ProblemError, match=r"no member 'parameters\.t'"):
        read_query(b"parameters.t=1", AnomalyScoreRequest)


@pytest.mark.parametrize(
    ("body", "query", "merged"),
    [
        ({}, {"n": 3}, {"n": 3}),
        ({"n": 3}, {"n": 3}, {"n": 3}),
        ({"n": None}, {"n": 3}, {"n": 3}),
        ({"seed": 1}, {"n": 3}, {"seed": 1, "n": 3}),
        ({"parameters": {"a": 1}}, {"parameters": {"b": 2}}, {"parameters": {"a": 1, "b": 2}}),
        ({"condition": {"label": None}}, {"condition": {"label": None}}, {"condition": {"label": None}}),
    ],
)
def test_body_and_query_together(body: Any, query: Any, merged: Any) -> None:
    assert merge(body, query) == merged


@pytest.mark.parametrize(
    ("body", "query", "field"),
    [
        ({"n": 3}, {"n": 4}, "n"),
        ({"n": True}, {"n": 1}, "n"),
        ({"model": "a"}, {"model": "b"}, "model"),
        ({"parameters": {"a": [1, 1]}}, {"parameters": {"a": 1}}, "parameters.a"),
        ({"condition": {"label": None}}, {"condition": {"label": 0}}, "condition.label"),
        ({"parameters": 3}, {"parameters": {"a": 1}}, "parameters"),
    ],
)
def test_a_conflict_is_422_and_names_both(body: Any, query: Any, field: str) -> None:
    with pytest.raises(ProblemError, match="in the body") as found:
        merge(body, query)
    assert found.value.status == 422
    assert found.value.members["field"] == field


@given(st.binary(max_size=60))
def test_no_query_is_worse_than_a_refusal(query: bytes) -> None:
    with suppress(ProblemError):
        found = read_query(query, SampleRequest)
        assert set(found) <= {*scalars(SampleRequest), "parameters", "condition"}
