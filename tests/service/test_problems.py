"""Problem documents: every error of the service has one, and every kind a page."""

from __future__ import annotations

import inspect

import httpx
import pytest

import service.errors
from contract.errors import InputError
from service.api.problems import KINDS, ProblemError, problem_of
from tests.service.server_process import ROOT

MADE = {
    "Overloaded": lambda: service.errors.Overloaded(retry_after=2.4),
    "Draining": lambda: service.errors.Draining(retry_after=5.0),
    "DeadlineExceeded": lambda: service.errors.DeadlineExceeded(),
    "UnknownModel": lambda: service.errors.UnknownModel("cats", None, ["dogs"]),
    "NotSupported": lambda: service.errors.NotSupported("cats", "encode", "no code"),
    "TooLarge": lambda: service.errors.TooLarge(10, 5, 2**20),
    "Unauthorised": lambda: service.errors.Unauthorised("a key is needed"),
    "OverQuota": lambda: service.errors.OverQuota(10, 50, 2.0, {}),
}


@pytest.mark.parametrize("name", service.errors.__all__)
def test_every_error_of_the_service_is_told_to_the_caller(name: str) -> None:
    error = MADE[name]()
    problem = problem_of(error)
    assert problem is not None
    assert problem.detail == str(error)
    assert 400 <= problem.status < 600


def test_the_statuses() -> None:
    found = {name: problem.status for name, make in MADE.items() if (problem := problem_of(make()))}
    assert found == {
        "Overloaded": 503,
        "Draining": 503,
        "DeadlineExceeded": 504,
        "UnknownModel": 404,
        "NotSupported": 409,
        "TooLarge": 422,
        "Unauthorised": 401,
        "OverQuota": 429,
    }


def test_seconds_to_wait_are_whole_and_never_too_few() -> None:
    problem = problem_of(service.errors.Overloaded(retry_after=2.4))
    assert problem is not None
    assert problem.headers == {"Retry-After": "3"}
    at_once = problem_of(service.errors.Overloaded(retry_after=0.0))
    assert at_once is not None
    assert at_once.headers == {"Retry-After": "1"}


def test_a_bad_row_keeps_its_members() -> None:
    problem = problem_of(InputError(row=3, column="age", expected="a whole number", got="2.5"))
    assert problem is not None
    assert problem.document("id") == {
        "type": "/problems/invalid-input",
        "title": "A value is not one the model allows",
        "status": 422,
        "detail": "row 3, column 'age': expected a whole number, got 2.5",
        "row": 3,
        "column": "age",
        "expected": "a whole number",
        "got": "2.5",
        "request_id": "id",
    }


def test_what_is_nobodys_fault_but_ours_is_no_problem_of_the_callers() -> None:
    assert problem_of(RuntimeError("inside")) is None


def test_members_that_do_not_apply_are_left_out() -> None:
    assert set(ProblemError("overloaded", "full").document()) == {"type", "title", "status", "detail"}


@pytest.mark.parametrize("slug", sorted(KINDS))
def test_the_type_of_a_problem_is_a_page_that_explains_it(client: httpx.Client, slug: str) -> None:
    page = client.get(KINDS[slug].type)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert KINDS[slug].title in page.text


@pytest.mark.parametrize("slug", sorted(KINDS))
def test_every_kind_of_problem_is_used(slug: str) -> None:
    sources = [path for path in (ROOT / "service").rglob("*.py") if path.name not in ("calls.py",)]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    assert text.count(f'"{slug}"') >= 2, "named once, where it is defined, and raised nowhere"


def test_an_unknown_kind_is_a_404(client: httpx.Client) -> None:
    assert client.get("/problems/bad-luck").status_code == 404


def test_errors_are_classes_of_their_own() -> None:
    assert set(MADE) == {
        name for name, kind in inspect.getmembers(service.errors, inspect.isclass) if issubclass(kind, Exception)
    }
