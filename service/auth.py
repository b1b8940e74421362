"""Keys: who asks. Random, stored as hashes, compared in constant time."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from service.errors import Unauthorised

__all__ = ["ANONYMOUS", "Caller", "Guard", "Key", "Keyring", "hash_key", "new_key", "valid_name"]

ANONYMOUS = "anonymous"
"""What metrics and logs call everybody who has no key."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LINE = re.compile(
    rf"(?P<name>{_NAME.pattern})\s*:\s*sha256:(?P<hash>[0-9a-f]{{64}})"
    r"(?:\s+(?P<rows>[1-9][0-9]{0,11}) rows/minute)?"
)
_FORM = "NAME: sha256:HASH, or NAME: sha256:HASH N rows/minute"

# Addresses that say what the software is, not what it serves.
_OPEN = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
_OPEN_FOLDERS = ("/static/", "/problems/")


def valid_name(name: str) -> bool:
    """Whether a key may have this name."""
    return _NAME.fullmatch(name) is not None


def new_key() -> str:
    """A key: 256 random bits. The prefix lets scanners find keys that were published by mistake."""
    return f"nonesuch_{secrets.token_urlsafe(32)}"


def hash_key(key: str) -> str:
    """What is stored of a key."""
    return sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is stored.

    Attributes:
        name: whose it is.
        digest: SHA-256 of the key, in hexadecimal.
        rows_per_minute: its own quota, or None for the one of the settings.
    """

    name: str
    digest: str
    rows_per_minute: int | None = None

    def line(self) -> str:
        """The key's line in a file of keys."""
        quota = f" {self.rows_per_minute} rows/minute" if self.rows_per_minute is not None else ""
        return f"{self.name}: sha256:{self.digest}{quota}"


class Keyring:
    """The keys that are accepted.

    Args:
        keys: at least one, no two of them equal in name or hash, and none named as those who have no key.

    Raises:
        ValueError: they are not so.
    """

    def __init__(self, keys: Iterable[Key]):
        self._keys = tuple(keys)
        if not self._keys:
            raise ValueError("there is no key in it, and without one nobody could ask anything")
        if any(key.name == ANONYMOUS for key in self._keys):
            raise ValueError(f"no key can be named {ANONYMOUS!r}, as those who have none are")
        for what, values in (("name", [key.name for key in self._keys]), ("hash", [key.digest for key in self._keys])):
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise ValueError(f"two keys have the same {what}, {twice[:63]}")

    @classmethod
    def read(cls, path: Path) -> Keyring:
        """The keys in a file: a line each, blank lines and lines that start with # between them.

        Raises:
            ValueError: the file cannot be read, or a line of it is none of these; names the line, and never quotes it.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ValueError(f"the file of keys {path} cannot be read: {reason}") from None
        keys = []
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            found = _LINE.fullmatch(line.strip())
            if found is None:
                raise ValueError(f"the file of keys {path}, line {number}: expected {_FORM}")
            keys.append(Key(found["name"], found["hash"], int(found["rows"]) if found["rows"] else None))
        try:
            return cls(keys)
        except ValueError as error:
            raise ValueError(f"the file of keys {path}: {error}") from None

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, given: str) -> Key | None:
        """The key that was given, or None. Takes the same time whatever was given, and wherever it differs."""
        digest = hash_key(given)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as quotas, logs and metrics know them.

    Attributes:
        name: the key's name, or ``anonymous``.
        account: whose quota it is: a key's, or an address's.
        rows_per_minute: the quota, or None for none.
    """

    name: str
    account: str
    rows_per_minute: int | None


class Guard:
    """Knows callers by their keys, or by their addresses where no key is asked for.

    Args:
        keyring: keys that are accepted; None where everybody may ask.
        rows_per_minute: quota of a key that has none of its own.
        anonymous_rows_per_minute: quota of an address, for those who need no key.
        public_pages: whether pages and pictures need no key.
    """

    def __init__(
        self,
        keyring: Keyring | None,
        *,
        rows_per_minute: int | None = None,
        anonymous_rows_per_minute: int | None = None,
        public_pages: bool = False,
    ):
        self.keyring = keyring
        self._rows_per_minute = rows_per_minute
        self._anonymous_rows_per_minute = anonymous_rows_per_minute
        self._public_pages = public_pages

    def admit(self, path: str, authorization: str | None, address: str | None) -> Caller:
        """Who asks for a path.

        Args:
            path: of the request.
            authorization: its header Authorization.
            address: where it comes from.

        Raises:
            Unauthorised: the path needs a key, and none was given, or a wrong one.
        """
        if self.keyring is None or self._is_open(path):
            return self._anonymous(address)
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            if self._public_pages and (path == "/" or path.startswith("/x/")):
                return self._anonymous(address)
            raise Unauthorised("a key is needed here; send it in the header Authorization, after the word Bearer")
        key = self.keyring.find(given.strip())
        if key is None:
            raise Unauthorised("the key in the header Authorization is not one that is known here", invalid=True)
        own = key.rows_per_minute
        return Caller(key.name, f"key:{key.name}", self._rows_per_minute if own is None else own)

    def _is_open(self, path: str) -> bool:
        return path in _OPEN or path.startswith(_OPEN_FOLDERS)

    def _anonymous(self, address: str | None) -> Caller:
        return Caller(ANONYMOUS, f"address:{_network(address)}", self._anonymous_rows_per_minute)


def _network(address: str | None) -> str:
    """What stands for one client: an IPv4 address, or the 64 bits of an IPv6 address that a client is usually given."""
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if parsed.version == 6:
        mapped = parsed.ipv4_mapped
        return str(mapped or ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)
