"""However requests meet, each gets the answer that it would have got alone, to the last bit.

Random mixes of questions go to the shipped bundles at once, in random order, over many connections: rows of different
requests then share runs of a graph, and some come from the cache, some from another request's computation.
"""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.api.negotiation import JSON, NPY, NPZ
from tests.service.server_process import ROOT, metric, serving

ROWS = 64
LONG = 784
"""Chains of so many steps are drawn once, to ask about; tests/service/test_promises.py draws them in company."""
LIKELY_ARRAYS = ("rows", "log_prob", "standard_error", "bits_per_dimension", "codes", "scale")
NAMED = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Question:
    """One request; ``first`` is a row of the seed, or of the model's own samples that are asked about.

    ``knobs`` are for the query string: parameters and conditions.
    """

    path: str
    model: str
    n: int
    first: int
    knobs: tuple[tuple[str, str], ...]
    given: Literal["json", "npy"]
    wanted: str


@dataclass(frozen=True)
class Arrival:
    """How long a request waits before it is sent, in passes of the event loop."""

    question: Question
    passes: int


@dataclass
class Service:
    """Two servers of the same bundles, rows to ask about, and what the one that forgets said to each question alone."""

    runner: asyncio.Runner
    plain: httpx.Client
    forgetful: httpx.AsyncClient
    remembering: httpx.AsyncClient
    capabilities: dict[str, dict[str, Any]]
    rows: dict[str, NDArray[Any]]
    alone: dict[Question, Arrays]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    bundles = ROOT / "bundles"
    with (
        serving(bundles, NONESUCH_CACHE_BYTES="0", NONESUCH_COMPUTE_THREADS="2") as one,
        serving(bundles, NONESUCH_COMPUTE_THREADS="2") as other,
        one.client() as client,
        asyncio.Runner() as runner,
    ):
        models = client.get("/models").json()["models"]
        capabilities = {
            model["name"]: client.get(f"/models/{model['name']}").json()["capabilities"] for model in models
        }
        rows = {name: drawn(client, name, 4 if is_long(can["sample"]) else ROWS) for name, can in capabilities.items()}
        clients = [httpx.AsyncClient(base_url=server.url, timeout=60.0) for server in (one, other)]
        yield Service(runner, client, clients[0], clients[1], capabilities, rows, {})
        for made in clients:
            runner.run(made.aclose())
        assert "Traceback" not in one.err + other.err


def is_long(program: Mapping[str, Any]) -> bool:
    return int(program["steps"]["default"]) >= LONG


def drawn(client: httpx.Client, model: str, n: int) -> NDArray[Any]:
    """So many rows of a model."""
    answer = client.post(f"/sample?model={model}&n={n}&seed=7", headers={"Accept": NPY})
    assert answer.status_code == 200, answer.text
    rows: NDArray[Any] = np.resize(loaded(answer.content), (ROWS, *loaded(answer.content).shape[1:]))
    return rows


def is_asked(path: str, capabilities: Mapping[str, Any]) -> bool:
    """Whether the tests ask this of a model that can do so much."""
    program = capabilities.get(ASKED[path])
    return program is not None and not (path == "/sample" and is_long(program))


def loaded(content: bytes) -> Any:
    return np.load(io.BytesIO(content), allow_pickle=False)


def numbers(value: Any) -> NDArray[np.float64]:
    """A list of JSON, in which some numbers are names."""
    flat = np.array(value, dtype=object)
    return np.vectorize(lambda part: NAMED.get(part, part), otypes=[np.float64])(flat)


def arrays(answer: httpx.Response, name: str) -> Arrays:
    """The arrays of an answer as doubles, which hold every number of every type exactly."""
    kind = answer.headers["content-type"]
    if kind == JSON:
        body = answer.json()
        named = {name: body[name] for name in LIKELY_ARRAYS if isinstance(body.get(name), list)}
        named |= {
            name: body[name]
            for name in ("score", "p_value", "is_anomaly", "is_discovery")
            if body.get(name) is not None
        }
        named |= {f"statistics.{name}": values for name, values in body.get("statistics", {}).items()}
        return {name: numbers(values) for name, values in named.items()}
    if kind == NPY:
        return {name: loaded(answer.content).astype(np.float64)}
    with loaded(answer.content) as archive:
        return {name: archive[name].astype(np.float64) for name in archive.files}


ASKED = {"/sample": "sample", "/log_prob": "log_prob", "/encode": "encode", "/anomaly-score": "score"}
ARRAY_OF = {"/sample": "rows", "/log_prob": "log_prob", "/encode": "codes", "/anomaly-score": "score"}


async def ask(client: httpx.AsyncClient, rows: Mapping[str, NDArray[Any]], asked: Question) -> httpx.Response:
    """Send a question."""
    members: dict[str, Any] = {"model": asked.model}
    if asked.path == "/sample":
        members |= {"n": asked.n, "seed": 11, "start": asked.first}
    about = rows[asked.model][asked.first : asked.first + asked.n]
    query = dict(asked.knobs)
    headers = {"Accept": asked.wanted}
    if asked.given == "npy":
        file = io.BytesIO()
        np.save(file, about)
        headers["Content-Type"] = NPY
        return await client.post(asked.path, params={**members, **query}, content=file.getvalue(), headers=headers)
    if asked.path != "/sample":
        members["rows"] = about.tolist()
    return await client.post(asked.path, params=query, json=members, headers=headers)


def questions(capabilities: Mapping[str, Mapping[str, Any]]) -> st.SearchStrategy[Question]:
    """Whatever the models can be asked; few different rows and knobs, so that requests meet over the same ones."""

    pairs = [(path, model) for path in ASKED for model, can in capabilities.items() if is_asked(path, can)]

    @st.composite
    def one(draw: st.DrawFn) -> Question:
        path, model = draw(st.sampled_from(pairs))
        program = capabilities[model][ASKED[path]]
        steps = program["steps"]["default"]
        most = 4 if steps > 100 or is_long(capabilities[model]["sample"]) else 48
        n = draw(st.integers(1, 3) | st.integers(1, most))
        first = draw(st.sampled_from([0, 1, 5, 16]))
        knobs: list[tuple[str, str]] = []
        if path == "/sample" and any(part["name"] == "temperature" for part in program["parameters"]):
            knobs += draw(st.sampled_from([[], [("parameters.temperature", "0.5")], [("parameters.temperature", "2")]]))
        for part in program["conditions"] if path != "/anomaly-score" else ():
            labels = draw(st.sampled_from([[], part["vocabulary"][:1], part["vocabulary"][-1:]]))
            knobs += [(f"condition.{part['name']}", label) for label in labels]
        if path == "/log_prob" and program["steps"].get("parameter") == "samples":
            knobs.append(("parameters.samples", draw(st.sampled_from(["1", "2", "5"]))))
        uncertain = any(part["kind"] == "standard_error" for part in program["outputs"])
        array = {"/anomaly-score": NPZ, "/log_prob": NPZ if uncertain else draw(st.sampled_from([NPY, NPZ]))}
        wanted = draw(st.sampled_from([JSON, array.get(path, NPY)]))
        given_as = "json" if path == "/sample" else draw(st.sampled_from(["json", "npy"]))
        return Question(path, model, n, first, tuple(knobs), given_as, wanted)

    return one()


async def all_at_once(
    service: Service, client: httpx.AsyncClient, arrivals: list[Arrival], most: int
) -> list[httpx.Response]:
    """Send every request when it arrives, at most so many at a time; the answers in the same order."""
    room = asyncio.Semaphore(most)

    async def arrive(arrival: Arrival) -> httpx.Response:
        for _ in range(arrival.passes):
            await asyncio.sleep(0)
        async with room:
            return await ask(client, service.rows, arrival.question)

    return await asyncio.gather(*map(arrive, arrivals))


def test_every_answer_is_the_one_that_it_would_have_been_alone(service: Service) -> None:
    seen: Counter[str] = Counter()
    arrivals = st.lists(
        st.builds(Arrival, questions(service.capabilities), st.sampled_from([0, 0, 3, 30])), min_size=4, max_size=16
    )

    @settings(max_examples=50)
    @given(arrivals, st.sampled_from([2, 5, 16]))
    def meet(arrivals: list[Arrival], most: int) -> None:
        for question in (arrival.question for arrival in arrivals):
            if question not in service.alone:
                answer = service.runner.run(ask(service.forgetful, service.rows, question))
                assert answer.status_code == 200, answer.text
                service.alone[question] = arrays(answer, ARRAY_OF[question.path])
        for client in (service.forgetful, service.remembering):
            answers = service.runner.run(all_at_once(service, client, arrivals, most))
            for arrival, answer in zip(arrivals, answers, strict=True):
                question = arrival.question
                assert answer.status_code == 200, answer.text
                assert answer.headers["content-type"] == question.wanted
                found, alone = arrays(answer, ARRAY_OF[question.path]), service.alone[question]
                assert found.keys() == alone.keys()
                for name, values in found.items():
                    assert values.shape == alone[name].shape
                    assert len(values) == question.n
                    assert values.tobytes() == alone[name].tobytes(), (question, name)
                seen[f"{question.path} {question.model}"] += 1
                seen[answer.headers["nonesuch-cache"]] += client is service.remembering

    meet()
    asked = {key for key in seen if key.startswith("/")}
    every = {f"{path} {model}" for path in ASKED for model, can in service.capabilities.items() if is_asked(path, can)}
    assert asked <= every
    assert len(asked) > 0.9 * len(every), f"never asked: {every - asked}"
    assert seen["hit"], "some rows came from the cache"
    assert seen["partial"], "some requests found a part of their rows there"


def test_the_same_rows_in_every_company_and_format(service: Service) -> None:
    """Across requests: a row's answer is the same whatever n it is asked with, and as what."""
    for model, can in service.capabilities.items():
        for path, capability in ASKED.items():
            if capability not in can or path == "/sample":
                continue
            whole: Arrays = {}
            for n, given_as, wanted in ((24, "json", JSON), (1, "json", JSON), (7, "npy", JSON), (3, "npy", NPZ)):
                if wanted == NPZ and path == "/encode":
                    wanted = NPY
                asked = Question(path, model, n, 0, (), given_as, wanted)  # type: ignore[arg-type]
                answer = service.runner.run(ask(service.forgetful, service.rows, asked))
                assert answer.status_code == 200, answer.text
                for name, values in arrays(answer, ARRAY_OF[path]).items():
                    whole.setdefault(name, values)
                    assert values.tobytes() == whole[name][:n].tobytes(), (model, path, name, n)


def test_requests_that_meet_share_runs(service: Service) -> None:
    """Or all of the above would say little."""

    def runs() -> float:
        return metric(service.plain, "nonesuch_batch_rows_count", model="digits")

    asked = [Question("/sample", "digits", 1, row, (), "json", JSON) for row in range(8)]
    before = runs()
    for question in asked:
        service.runner.run(ask(service.forgetful, service.rows, question))
    between = runs()
    service.runner.run(all_at_once(service, service.forgetful, [Arrival(question, 0) for question in asked], 8))
    assert runs() - between < (between - before) / 2
