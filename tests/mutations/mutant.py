"""What a deliberate error is, and how a table of them is written."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Mutant", "family_test", "mutants_of", "partial_test"]


@dataclass(frozen=True)
class Mutant:
    """One deliberate error.

    Attributes:
        name: what is wrong.
        file: where, from the root of the tree.
        old: text that occurs there exactly once.
        new: text that takes its place.
        tests: files or test ids for pytest: the tests that must notice.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def mutants_of(file: str, *tests: str, **changes: tuple[str, str]) -> list[Mutant]:
    """Mutants of one file that the same tests must notice: what is wrong, with underscores, = (old, new)."""
    return [Mutant(name.replace("_", " "), file, old, new, tests) for name, (old, new) in changes.items()]


def family_test(test: str, family: str) -> str:
    """One of the contract tests, on one family; it trains the family first, with the error in it."""
    return f"tests/contract/test_families.py::test_{test}[{family}]"


def partial_test(test: str, family: str) -> str:
    """The same of rows of which a part is known."""
    return f"tests/contract/test_partial_rows.py::test_{test}[{family}]"
