"""Digests: what names a bundle and what names a sample's address.

A digest is the SHA-256 of canonical JSON (RFC 8785), in hexadecimal.
"""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785
from rfc8785 import CanonicalizationError

from contract.capabilities import Capability
from contract.manifest import Manifest

__all__ = ["CanonicalizationError", "bundle_digest", "canonical", "program_digest", "sha256"]


def sha256(data: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def canonical(value: Any) -> bytes:
    """The canonical form of a JSON value (RFC 8785).

    Raises:
        CanonicalizationError: a number is not finite, or an integer beyond 2**53.
    """
    return rfc8785.dumps(value)


def bundle_digest(manifest: Manifest) -> str:
    """Digest of the whole bundle; every other file enters by the SHA-256 in the manifest."""
    return sha256(canonical(manifest.model_dump(mode="json")))


def program_digest(manifest: Manifest, capability: Capability) -> str:
    """Digest of one capability: its program, its graphs, the weights and the random numbers.

    A corrected card or a new calibration leaves it as it is, so that no picture moves.

    Raises:
        KeyError: the bundle lacks the capability.
    """
    program = manifest.capabilities[capability]
    graphs = {name: manifest.graphs[name] for name in program.graphs}
    files = [graph.file for graph in graphs.values()] + ([manifest.weights] if manifest.weights else [])
    return sha256(
        canonical(
            {
                "program": program.model_dump(mode="json"),
                "graphs": {name: graph.model_dump(mode="json") for name, graph in graphs.items()},
                "files": {name: manifest.files[name].sha256 for name in files},
                "randomness": manifest.randomness.model_dump(mode="json"),
            }
        )
    )
