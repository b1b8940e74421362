"""``bundles.lock``: the pinned digests of the bundles that ship, one line ``NAME/VERSION DIGEST`` each."""

from __future__ import annotations

import re
from pathlib import Path

from contract.errors import BundleError

__all__ = ["LOCK", "read_lock", "write_lock"]

LOCK = "bundles.lock"
_LINE = re.compile(r"^([a-z0-9][a-z0-9-]{0,62}/[1-9]\d{0,8}) ([0-9a-f]{64})$")


def read_lock(root: Path) -> dict[str, str]:
    """Pinned digests by ``NAME/VERSION``; empty where the folder has no lock.

    Raises:
        BundleError: a line that cannot be read, or a version pinned twice.
    """
    path = root / LOCK
    if not path.exists():
        return {}
    pins: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise BundleError(f"{path}:{number}: expected 'NAME/VERSION DIGEST', got {line!r}")
        if match[1] in pins:
            raise BundleError(f"{path}:{number}: {match[1]} is pinned twice")
        pins[match[1]] = match[2]
    return pins


def write_lock(root: Path, pins: dict[str, str]) -> None:
    """Write the lock, sorted."""
    lines = ["# Digests of the bundles that ship here; `nonesuch lock` writes this file."]
    lines += [f"{name} {digest}" for name, digest in sorted(pins.items())]
    (root / LOCK).write_text("\n".join(lines) + "\n", encoding="utf-8")
