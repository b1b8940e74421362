"""``bundles.lock``."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.errors import BundleError
from contract.lock import LOCK, read_lock, write_lock

PINS = {"moons/2": "b" * 64, "digits/1": "a" * 64, "moons/10": "c" * 64}


def test_pins_round_trip_and_are_sorted(tmp_path: Path) -> None:
    write_lock(tmp_path, PINS)
    assert read_lock(tmp_path) == PINS
    lines = [line for line in (tmp_path / LOCK).read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(lines)
    assert len(lines) == len(PINS)


def test_equal_pins_give_an_equal_file(tmp_path: Path) -> None:
    write_lock(tmp_path, PINS)
    first = (tmp_path / LOCK).read_bytes()
    write_lock(tmp_path, dict(reversed(PINS.items())))
    assert (tmp_path / LOCK).read_bytes() == first


def test_a_folder_without_a_lock_pins_nothing(tmp_path: Path) -> None:
    assert read_lock(tmp_path) == {}


def test_comments_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(f"# pinned\n\ndigits/1 {'a' * 64}\n   \n")
    assert read_lock(tmp_path) == {"digits/1": "a" * 64}


@pytest.mark.parametrize(
    "line",
    [
        "digits/1",
        f"digits {'a' * 64}",
        f"digits/0 {'a' * 64}",
        f"digits/1 {'A' * 64}",
        f"digits/1 {'a' * 63}",
        f"../digits/1 {'a' * 64}",
        f"digits/1 {'a' * 64} # checked",
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / LOCK).write_text(f"# pinned\n{line}\n")
    with pytest.raises(BundleError, match=rf"{LOCK}:2: expected 'NAME/VERSION DIGEST'"):
        read_lock(tmp_path)


def test_a_version_pinned_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(f"digits/1 {'a' * 64}\ndigits/1 {'b' * 64}\n")
    with pytest.raises(BundleError, match=rf"{LOCK}:2: digits/1 is pinned twice"):
        read_lock(tmp_path)
