"""The OpenAPI document: valid, complete, and its examples work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.api import examples
from service.api.drift import DriftAnswer
from service.api.problems import KINDS
from tests.service.server_process import ROOT, serving

BUNDLES = ROOT / "bundles"
QUESTIONS = {
    "/sample": examples.SAMPLE,
    "/log_prob": examples.LOG_PROB,
    "/encode": examples.ENCODE,
    "/decode": examples.DECODE,
    "/anomaly-score": examples.ANOMALY_SCORE,
    "/classify": examples.CLASSIFY,
    "/inpaint": examples.INPAINT,
}


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from walk(part)
    elif isinstance(value, list):
        for part in value:
            yield from walk(part)


def test_every_call_is_there(document: dict[str, Any]) -> None:
    assert {(method, path) for path, method, _ in operations(document)} == {
        *(("post", path) for path in QUESTIONS),
        ("get", "/models"),
        ("get", "/models/{model}"),
        ("get", "/models/{model}/versions/{version}"),
        ("get", "/models/{model}/drift"),
        ("get", "/models/{model}/versions/{version}/drift"),
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/metrics"),
    }


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = {part["$ref"] for part in walk(document) if isinstance(part.get("$ref"), str)}
    assert references
    for reference in references:
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_every_call_is_described(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        assert operation["summary"], path
        assert len(operation["description"]) > 20, path
        assert operation["operationId"], path
    assert len({operation["operationId"] for _, _, operation in operations(document)}) == len(
        list(operations(document))
    )


def test_every_member_of_a_request_is_described(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        if name.endswith(("Request", "Answer", "Problem")):
            for member, described in schema["properties"].items():
                assert described.get("description"), f"{name}.{member}"


@pytest.mark.parametrize("path", sorted(QUESTIONS))
def test_every_status_of_a_question_is_described(document: dict[str, Any], path: str) -> None:
    described = document["paths"][path]["post"]["responses"]
    wanted = {"200", "400", "401", "404", "406", "409", "413", "415", "422", "429", "500", "503", "504"}
    assert set(described) == wanted
    for status in wanted - {"200"}:
        content = described[status]["content"]["application/problem+json"]
        assert content["schema"]["$ref"].endswith("/Problem")
        for slug, example in content["examples"].items():
            assert KINDS[slug].status == int(status) == example["value"]["status"]
    assert "Retry-After" in described["503"]["headers"]


@pytest.mark.parametrize("path", ["/models/{model}/drift", "/models/{model}/versions/{version}/drift"])
def test_the_example_of_drift_is_such_an_answer(document: dict[str, Any], path: str) -> None:
    described = document["paths"][path]["get"]["responses"]
    assert set(described) == {"200", "401", "404", "409", "500", "503"}
    shown = described["200"]["content"]["application/json"]
    assert shown["schema"]["$ref"].endswith("/DriftAnswer")
    assert shown["examples"]
    for example in shown["examples"].values():
        DriftAnswer.model_validate(example["value"])


def test_nothing_of_the_frameworks_own_errors_is_left(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert "HTTPValidationError" not in str(document)


def test_limits_of_addresses_are_in_the_schema(document: dict[str, Any]) -> None:
    properties = document["components"]["schemas"]["SampleRequest"]["properties"]
    seed = next(part for part in properties["seed"]["anyOf"] if part["type"] == "integer")
    assert (seed["minimum"], seed["exclusiveMaximum"]) == (0, 2**53)
    assert (properties["n"]["minimum"], properties["n"]["exclusiveMaximum"]) == (1, 2**53)


@pytest.mark.parametrize("path", sorted(QUESTIONS))
def test_the_examples_are_the_ones_that_are_tried(document: dict[str, Any], path: str) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert content["examples"] == QUESTIONS[path]


@pytest.fixture(scope="module")
def shipped() -> Iterator[httpx.Client]:
    with serving(BUNDLES) as running, running.client() as client:
        yield client


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, group in sorted(QUESTIONS.items()) for name in sorted(group)]
)
def test_every_example_works_with_the_bundles_that_ship(shipped: httpx.Client, path: str, name: str) -> None:
    answer = shipped.post(path, json=QUESTIONS[path][name]["value"])
    assert answer.status_code == 200, answer.text


def test_the_page_has_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert addresses
    for address in addresses:
        assert address.startswith("/"), address
        assert client.get(address).status_code == 200, address
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
