"""``nonesuch lock [ROOT]``: pin the digests of a folder of bundles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["lock"]


def lock(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of bundles.")] = Path("bundles"),
) -> None:
    """Write ROOT/bundles.lock: the digest of every bundle in the folder, each read and checked first."""
    from contract.bundle import list_versions, open_bundle
    from contract.errors import BundleError
    from contract.lock import LOCK, write_lock

    versions = list_versions(root)
    if not versions:
        print(f"nonesuch lock: {root}: no bundles there", file=sys.stderr)
        raise typer.Exit(2)
    try:
        pins = {
            f"{name}/{version}": open_bundle(root / name / str(version)).digest
            for name, numbers in versions.items()
            for version in numbers
        }
        write_lock(root, pins)
    except (BundleError, OSError) as error:
        print(f"nonesuch lock: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    for name, digest in sorted(pins.items()):
        print(f"{name} {digest}")
    print(f"{root / LOCK}: {len(pins)} bundles")
