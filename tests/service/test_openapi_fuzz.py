"""A short run of tests/fuzz.py: whatever the OpenAPI document allows, and more, against a real server."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz import cases, fuzz
from tests.service.server_process import serving
from tests.service.whole import write_all


def test_no_answer_is_a_5xx_or_one_that_the_document_does_not_describe(tmp_path: Path) -> None:
    write_all(tmp_path)
    with serving(tmp_path) as server:
        status, output = fuzz(server.url, examples=15, seed=0)
        assert status == 0, output
        assert "Traceback" not in server.err, server.err
    assert cases(output) > 200, output
