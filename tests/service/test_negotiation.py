"""Types of bodies and answers: what a header Accept wants most, and what a Content-Type may be."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from service.api.negotiation import JSON, NPY, NPZ, PNG, answer_type, body_type, choose
from service.api.problems import ProblemError


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (None, True),
        ("", True),
        ("*/*", True),
        ("application/json", True),
        ("APPLICATION/JSON", True),
        ("application/*", True),
        ("text/html, */*;q=0.1", True),
        ("application/json;q=0.5, text/html", True),
        ("application/json; charset=utf-8; q=1", True),
        ("text/html", False),
        ("application/xml, text/*", False),
        ("application/json;q=0", False),
        ("application/json;q=0, */*", False),
        ("application/*;q=0, */*;q=1", False),
        ("*/*;q=0", False),
        ("*/*;q=0, application/json", True),
    ],
)
def test_whether_json_is_accepted(header: str | None, accepted: bool) -> None:
    assert (choose(header, [JSON]) == JSON) is accepted


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/x-npy", NPY),
        ("application/x-npy, */*", NPY),
        ("application/x-npy;q=0.5, application/json", JSON),
        ("application/x-npy, application/json;q=0.5", NPY),
        ("application/x-npy, application/json", JSON),
        ("*/*;q=0.2, application/x-npz;q=0.3", NPZ),
        ("image/*", PNG),
        ("image/avif,image/webp,image/apng,image/*,*/*;q=0.8", PNG),
        ("application/json;q=0, */*", NPY),
        ("text/html", None),
        ("application/x-npy;q=zero", NPY),
    ],
)
def test_what_is_wanted_most(header: str | None, wanted: str | None) -> None:
    assert choose(header, [JSON, NPY, NPZ, PNG]) == wanted


def test_what_does_not_fit_is_told_what_would() -> None:
    with pytest.raises(ProblemError, match=r"application/json or application/x-npy.*text/csv") as refused:
        answer_type(Headers({"accept": "text/csv"}), [JSON, NPY])
    assert refused.value.status == 406
    with pytest.raises(ProblemError, match="application/json or application/x-npy") as refused:
        body_type(Headers({"content-type": "application/x-npz"}), [JSON, NPY])
    assert refused.value.status == 415
    assert body_type(Headers({"content-type": "application/X-NPY; version=1"}), [JSON, NPY]) == NPY
    with pytest.raises(ProblemError, match="compressed"):
        body_type(Headers({"content-type": NPY, "content-encoding": "gzip"}), [JSON, NPY])
