"""Permanent pictures on disk, as they were first drawn."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path
from typing import Any

import structlog

__all__ = ["PictureStore"]

_log: Any = structlog.get_logger(__name__)

# What a path may be made of; nothing else reaches the disk.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PREFIX = re.compile(r"[0-9a-f]{8}")
_SHELVES = 256
_BLOCK = 4096


class PictureStore:
    """Pictures by address: model, digest of the program that drew them, seed, row, and the query string of what was
    chosen beside them. They are never replaced.

    A picture is the work of one numeric profile, and the next one may differ in the last place; whoever was given a
    link shall see what they saw. Services may share a folder: whoever draws a picture first has drawn it for all. What
    goes wrong with the disk is logged once and costs nothing but the keeping.

    Args:
        folder: where to; made when it is first needed. ``~`` is the home folder.
        most_bytes: nothing more is kept once so much is; files count by the blocks that they take.
    """

    def __init__(self, folder: Path, most_bytes: int):
        self._folder = folder.expanduser()
        self._most_bytes = most_bytes
        self._bytes: int | None = None  # not counted yet
        self._said: set[str] = set()

    def get(self, name: str, prefix: str, seed: int, row: int, chosen: str = "") -> bytes | None:
        """A picture that is kept, or None."""
        path = self._path(name, prefix, seed, row, chosen)
        if path is None:
            return None
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._say("a kept picture cannot be read", error)
            return None

    def put(self, name: str, prefix: str, seed: int, row: int, content: bytes, chosen: str = "") -> bytes:
        """Keep a picture unless one is kept there already; gives the one that is to be shown."""
        path = self._path(name, prefix, seed, row, chosen)
        if path is None:
            return content
        size = _blocks(len(content))
        try:
            if self._bytes is None:
                self._bytes = self._count()
            if self._bytes + size > self._most_bytes:
                self._say("the folder of pictures is full; new ones are not kept")
                return content
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{secrets.token_hex(8)}")
            try:
                draft.write_bytes(content)
                os.link(draft, path)  # unlike a rename, this leaves alone what is there
            except FileExistsError:
                return path.read_bytes()
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            self._say("pictures cannot be kept", error)
            return content
        self._bytes += size
        return content

    def _path(self, name: str, prefix: str, seed: int, row: int, chosen: str) -> Path | None:
        if _NAME.fullmatch(name) is None or _PREFIX.fullmatch(prefix) is None or seed < 0 or row < 0:
            return None
        # Whatever stands in a query string, its hash is a name of a file.
        end = f"-{hashlib.blake2b(chosen.encode(), digest_size=16).hexdigest()}" if chosen else ""
        return self._folder / f"{name}@{prefix}" / f"{seed % _SHELVES:02x}" / f"{seed}-{row}{end}.png"

    def _count(self) -> int:
        return sum(_blocks(path.stat().st_size) for path in self._folder.rglob("*.png"))

    def _say(self, what: str, error: OSError | None = None) -> None:
        if what not in self._said:
            self._said.add(what)
            why = {"error": error.strerror or type(error).__name__} if error is not None else {}
            _log.warning(what, folder=str(self._folder), **why)


def _blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
