"""What words in a table spell: missing values, truths and numbers, alike where tables are trained on and scored."""

from __future__ import annotations

import re

__all__ = ["MISSING", "TRUTHS", "parse_number"]

MISSING = frozenset({"", "?", "#n/a", "#na", "<na>", "-nan", "n/a", "na", "nan", "none", "null"})
"""Spellings of a missing value, in small letters."""

TRUTHS = {"false": 0.0, "true": 1.0}
"""What stands for a truth value in an array, by its spelling in small letters."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def parse_number(word: str) -> float:
    """A finite decimal number, or NaN where the word is none; ``1_000``, ``inf`` and ``0x1f`` are none."""
    if _NUMBER.fullmatch(word) is None:
        return float("nan")
    value = float(word)
    return value if abs(value) < float("inf") else float("nan")
