"""Verify bundles: digests, forbidden ops, paths, programs, goldens.

Run as a child process, ``python -m runtime.verify FOLDER …``, so that a malicious or broken graph can hurt nothing
else; it prints one JSON object a folder, in the order given.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from contract.bundle import open_bundle
from contract.errors import BundleError
from contract.lock import read_lock
from runtime.goldens import check_goldens
from runtime.model import load_model
from runtime.safety import check_graphs

__all__ = ["main", "verify"]


def verify(folder: Path, pin: str | None = None, provider: str = "cpu") -> dict[str, Any]:
    """Verify one bundle.

    Args:
        folder: ``…/NAME/VERSION``.
        pin: digest that it must have, if one is pinned.
        provider: ``cpu`` or ``cuda``.

    Returns:
        ``{"folder", "ok", "reason", "digest", "bit_equal", "worst"}``; ``reason`` is None when ``ok``.
    """
    result: dict[str, Any] = {"folder": str(folder), "ok": False, "reason": None, "digest": None}
    try:
        bundle = open_bundle(folder)
        result["digest"] = bundle.digest
        if pin is not None and bundle.digest != pin:
            raise BundleError(f"{folder}: its digest {bundle.digest[:12]}… is not the pinned {pin[:12]}…")
        check_graphs(bundle)
        report = check_goldens(load_model(bundle, provider))
        result |= {"ok": True, "bit_equal": report.bit_equal, "worst": report.worst}
    except BundleError as error:
        result["reason"] = str(error)
    except Exception as error:  # a bundle may break ONNX Runtime in ways that it does not document
        result["reason"] = f"{folder}: {type(error).__name__}: {error}"
    return result


def main(arguments: list[str] | None = None) -> int:
    """Verify the folders on the command line; 0 if all are good, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m runtime.verify", description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a bundle, …/NAME/VERSION")
    parser.add_argument("--provider", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args(arguments)
    good = True
    for folder in options.folders:
        try:
            pin = read_lock(folder.parent.parent).get(f"{folder.parent.name}/{folder.name}")
            result = verify(folder, pin, options.provider)
        except BundleError as error:
            result = {"folder": str(folder), "ok": False, "reason": str(error), "digest": None}
        print(json.dumps(result), flush=True)
        good = good and result["ok"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
