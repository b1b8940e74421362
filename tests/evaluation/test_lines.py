"""Lines of measurements: a run that was killed while it wrote loses one line, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.lines import add_line, read_lines
from training.errors import DataError


def test_a_line_that_was_cut_off_is_passed_over_and_then_replaced(tmp_path: Path) -> None:
    file = tmp_path / "runs" / "lines.jsonl"
    assert read_lines(file) == []
    add_line(file, {"a": 1})
    with file.open("a") as opened:
        opened.write('{"a": 2, "b"')
    assert read_lines(file) == [{"a": 1}]
    add_line(file, {"a": 3})
    assert read_lines(file) == [{"a": 1}, {"a": 3}]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text('{"a": 1}\nnonsense\n{"a": 2}\n')
    with pytest.raises(DataError, match="line 2: expected JSON, got 'nonsense"):
        read_lines(file)
