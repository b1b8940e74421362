"""Keys: random, stored as hashes, compared in constant time; and which addresses need one."""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from pathlib import Path

import pytest

from service import auth
from service.auth import ANONYMOUS, Caller, Guard, Key, Keyring, hash_key, new_key
from service.errors import Unauthorised

SECRET = new_key()
OTHER = new_key()
RING = Keyring([Key("alice", hash_key(SECRET)), Key("bob", hash_key(OTHER), 5)])


def bearer(key: str) -> str:
    return f"Bearer {key}"


def test_keys_are_random_and_long() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"nonesuch_[A-Za-z0-9_-]{43}", key) for key in keys), "256 bits each"


def test_what_is_stored_is_the_hash_and_never_the_key() -> None:
    line = Key("alice", hash_key(SECRET), 60).line()
    assert line == f"alice: sha256:{sha256(SECRET.encode()).hexdigest()} 60 rows/minute"
    assert SECRET not in line
    for thing in (RING, *vars(RING).values()):
        assert SECRET not in repr(thing)


def test_a_file_of_keys_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys = [Key("alice", hash_key(SECRET)), Key("b.o-b_2", hash_key(OTHER), 6000)]
    path.write_text("# who may ask\n\n" + "\n".join(f"  {key.line()}" for key in keys) + "\n")
    ring = Keyring.read(path)
    assert len(ring) == 2
    assert ring.find(SECRET) == keys[0]
    assert ring.find(OTHER) == keys[1]
    assert ring.find(new_key()) is None
    assert ring.find("") is None
    assert ring.find(keys[0].digest) is None, "who has read the file has no key"


GOOD = f"alice: sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no key in it"),
        ("# nobody\n", "no key in it"),
        pytest.param(f"{GOOD}\n{SECRET}\n", "line 2: expected NAME: sha256:HASH", id="a key without a name"),
        pytest.param(f"alice: {SECRET}\n", "line 1", id="a key in place of its hash"),
        ("alice: sha256:abc\n", "line 1"),
        (f"alice: md5:{'0' * 64}\n", "line 1"),
        (f"{GOOD} 0 rows/minute\n", "line 1"),
        (f"{GOOD} 10 requests/minute\n", "line 1"),
        (f"al ice: sha256:{'0' * 64}\n", "line 1"),
        (f"{GOOD}\nalice: sha256:{'1' * 64}\n", "same name, alice"),
        (f"{GOOD}\nbob: sha256:{'0' * 64}\n", "same hash"),
        (f"anonymous: sha256:{'0' * 64}\n", "anonymous"),
    ],
)
def test_a_file_of_keys_that_is_wrong_is_refused_by_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        Keyring.read(path)
    assert SECRET not in str(refused.value), "a key that was put there by mistake does not go on into a log"
    assert str(path) in str(refused.value)


def test_a_file_of_keys_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        Keyring.read(tmp_path / "keys")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="UTF-8"):
        Keyring.read(tmp_path / "binary")


def test_every_stored_key_is_compared_in_constant_time_and_none_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    class Digest(str):
        """A stored hash that only ``hmac.compare_digest`` may look at."""

        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            pytest.fail("a hash was compared with ==")

        __hash__ = None  # type: ignore[assignment]

    def compare(stored: str, given: str) -> bool:
        compared.append(str.__str__(stored))
        return hmac.compare_digest(str.__str__(stored), given)

    keys = [new_key() for _ in range(3)]
    ring = Keyring([Key(f"k{i}", hash_key(key)) for i, key in enumerate(keys)])
    ring._keys = tuple(Key(key.name, Digest(key.digest)) for key in ring._keys)

    class Watched:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(auth, "hmac", Watched)
    for given in (*keys, new_key(), "", "x" * 10_000, "ключ"):
        compared.clear()
        found = ring.find(given)
        assert (found.name if found else None) == (f"k{keys.index(given)}" if given in keys else None)
        assert compared == [hash_key(key) for key in keys], "the first that fits does not end the search"


# -- who may ask what ----------------------------------------------------------------------------------------------

CLOSED = (
    "/sample",
    "/log_prob",
    "/models",
    "/models/moons",
    "/metrics",
    "/",
    "/x/moons",
    "/v2/models/moons",
    "/nothing",
)
OPEN = ("/healthz", "/readyz", "/docs", "/openapi.json", "/static/style.css", "/problems/overloaded")


@pytest.mark.parametrize("path", CLOSED)
def test_a_key_is_needed(path: str) -> None:
    guard = Guard(RING, rows_per_minute=7)
    for header in (None, "", "Bearer", "Bearer ", f"Basic {SECRET}", SECRET):
        with pytest.raises(Unauthorised) as refused:
            guard.admit(path, header, "127.0.0.1")
        assert not refused.value.invalid
    for wrong in (SECRET[:-1], f"{SECRET}x", SECRET.upper(), hash_key(SECRET)):
        with pytest.raises(Unauthorised) as refused:
            guard.admit(path, bearer(wrong), "127.0.0.1")
        assert refused.value.invalid
        assert wrong not in str(refused.value)
    assert guard.admit(path, bearer(SECRET), None) == Caller("alice", "key:alice", 7)
    assert guard.admit(path, f"bearer  {OTHER} ", None) == Caller("bob", "key:bob", 5), "its own quota goes first"


@pytest.mark.parametrize("path", OPEN)
def test_probes_and_documentation_are_open(path: str) -> None:
    guard = Guard(RING)
    assert guard.admit(path, None, "127.0.0.1").name == ANONYMOUS
    assert guard.admit(path, bearer("wrong"), "127.0.0.1").name == ANONYMOUS


@pytest.mark.parametrize(
    "path", ["/healthz/", "/healthz/../sample", "/docsx", "/static", "/problems", "//docs", "/X/a"]
)
def test_nothing_is_open_by_looking_alike(path: str) -> None:
    with pytest.raises(Unauthorised):
        Guard(RING, public_pages=True).admit(path, None, "127.0.0.1")


def test_pages_can_be_left_open() -> None:
    guard = Guard(RING, anonymous_rows_per_minute=3, public_pages=True)
    for path in ("/", "/x/moons", "/x/moons@00000000/1/0.png"):
        assert guard.admit(path, None, "10.0.0.1") == Caller(ANONYMOUS, "address:10.0.0.1", 3)
        assert guard.admit(path, bearer(SECRET), "10.0.0.1").name == "alice"
        with pytest.raises(Unauthorised):
            guard.admit(path, bearer("wrong"), "10.0.0.1")
    with pytest.raises(Unauthorised):
        guard.admit("/sample", None, "10.0.0.1")


@pytest.mark.parametrize(
    ("address", "account"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::"),
        (None, "unknown"),
        ("a socket", "unknown"),
    ],
)
def test_without_keys_an_address_is_an_account(address: str | None, account: str) -> None:
    guard = Guard(None, anonymous_rows_per_minute=3)
    assert guard.admit("/sample", None, address) == Caller(ANONYMOUS, f"address:{account}", 3)
