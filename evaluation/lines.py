"""Measured lines: a file of JSON, one measurement a line, that a run adds to and goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.errors import DataError

__all__ = ["add_line", "read_lines"]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """What was measured so far; nothing where there is no such file. A last line that was cut off is passed over.

    Raises:
        DataError: another line is not JSON; names it.
    """
    if not path.is_file():
        return []
    texts = path.read_text(encoding="utf-8").splitlines(keepends=True)
    found = []
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text) if text.strip() else None
        except ValueError:
            if number == len(texts) and not text.endswith("\n"):
                break
            raise DataError(f"{path}: line {number}: expected JSON, got {text[:40]!r}") from None
        if line is not None:
            found.append(line)
    return found


def add_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add a measurement; a line that was cut off before is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        end = file.seek(0, 2)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.seek(0)
                whole = file.read().rpartition(b"\n")
                file.truncate(len(whole[0]) + len(whole[1]))
        file.write((json.dumps(line) + "\n").encode())
