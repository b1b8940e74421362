"""Server-sent events over a real socket: progress, previews, the result; and what goes wrong before and after."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.service.server_process import metric
from tests.service.test_refusals import refused

EVENTS = {"Accept": "text/event-stream"}
LONG = {"model": "sleeper", "n": 3, "seed": 7, "start": 30_000}
"""Rows of some 30,000 steps, each of which adds 1 to the seed: a second or so."""


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(client: httpx.Client) -> Iterator[None]:
    yield
    limit = time.monotonic() + 30.0
    while metric(client, "nonesuch_rows_in_flight") or metric(client, "nonesuch_body_bytes_held"):
        assert time.monotonic() < limit, "the work goes on although nobody waits for it"
        time.sleep(0.01)


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """(name, data) of each event, which has exactly these two lines and an empty one."""
    while (first := next(lines, None)) is not None:
        second, third = next(lines), next(lines)
        assert first.startswith("event: ")
        assert second.startswith("data: ")
        assert third == ""
        yield first.removeprefix("event: "), json.loads(second.removeprefix("data: "))


def ask(client: httpx.Client, body: dict[str, Any], **headers: str) -> list[tuple[str, Any]]:
    with client.stream("POST", "/sample", json=body, headers={**EVENTS, **headers}) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        return list(events_of(answer.iter_lines()))


def test_progress_then_the_answer_that_one_gets_without(client: httpx.Client) -> None:
    *told, (last, result) = ask(client, LONG)
    assert last == "result"
    plain = client.post("/sample", json=LONG)
    assert result == plain.json()
    assert told
    assert {name for name, _ in told} == {"progress"}
    done = [data["done"] for _, data in told]
    assert done == sorted(done)
    assert all(0.0 <= share <= 1.0 for share in done)
    seconds = [data["seconds"] for _, data in told]
    assert all(later - earlier > 0.19 for earlier, later in pairwise(seconds))


def test_previews_show_the_rows_as_they_stand(client: httpx.Client) -> None:
    told = ask(client, {**LONG, "previews": [20_000, 1, 500, 500]})
    previews = [data for name, data in told if name == "preview"]
    assert [preview["steps"] for preview in previews] == [1, 500, 20_000]
    for preview in previews:
        assert preview["rows"] == [[7.0 + preview["steps"]] * 2] * 3
    assert told[-1][0] == "result"
    assert told[-1][1]["rows"] == [[7.0 + 30_001 + row] * 2 for row in range(3)]


def test_rows_that_end_before_the_others_keep_their_place(client: httpx.Client) -> None:
    body = {"model": "sleeper", "n": 5, "seed": 1, "start": 0, "previews": [3]}
    told = ask(client, body)
    (preview,) = [data for name, data in told if name == "preview"]
    assert preview == {"steps": 3, "rows": [[2.0, 2.0], [3.0, 3.0], [4.0, 4.0], [4.0, 4.0], [4.0, 4.0]]}


def test_a_model_of_one_step_has_its_result(client: httpx.Client) -> None:
    body = {"model": "normal", "n": 4, "seed": 3}
    name, result = ask(client, body)[-1]
    assert (name, result) == ("result", client.post("/sample", json=body).json())


def test_what_is_refused_at_once_has_its_own_status(client: httpx.Client) -> None:
    def post(**body: Any) -> httpx.Response:
        return client.post("/sample", json=body, headers=EVENTS)

    refused(post(model="cats"), 404, "unknown-model")
    refused(post(model="sleeper", n=0), 422, "invalid-request", field="n")
    refused(post(model="sleeper", parameters={"warmth": 1}), 422, "invalid-input", column="warmth")
    refused(post(model="normal", previews=[1]), 422, "invalid-request", field="previews")
    refused(post(model="sleeper", previews=[0]), 422, "invalid-request")
    plain = client.post("/sample", json={**LONG, "previews": [1]})
    refused(plain, 422, "invalid-request", field="previews")
    refused(client.post("/log_prob", json={"model": "normal", "rows": [[0, 0]]}, headers=EVENTS), 406, "not-acceptable")


def test_what_goes_wrong_later_is_told_by_an_event(client: httpx.Client) -> None:
    told = ask(client, {**LONG, "start": 1_500_000}, **{"X-Timeout-Ms": "700"})
    assert [name for name, _ in told[:-1]] == ["progress"] * (len(told) - 1)
    assert told[-1][0] == "problem"
    assert told[-1][1]["status"] == 504
    assert told[-1][1]["type"] == "/problems/deadline-exceeded"
    assert told[-1][1]["request_id"]


def test_who_leaves_takes_the_work_along(client: httpx.Client) -> None:
    with client.stream("POST", "/sample", json={**LONG, "start": 1_500_000}, headers=EVENTS) as answer:
        assert next(events_of(answer.iter_lines()))[0] == "progress"
        assert metric(client, "nonesuch_rows_in_flight") == 3
