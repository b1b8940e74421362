"""Measured lines: a file of JSON, one measurement a line, that a benchmark adds to and goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["add_line", "read_lines"]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """What was measured so far; nothing where there is no such file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def add_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add a measurement."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
