"""Permanent pictures: what was drawn first is what a link shows, after a restart, an upgrade, and the model's end."""

from __future__ import annotations

import io
import shutil
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from service.web.store import PictureStore
from tests.service.server_process import serving
from tests.service.test_overload import eventually
from tests.service.test_refusals import refused
from tests.service.whole import dots, write

PLACE = ("dots", "0123abcd", 42, 7)
PERMANENT = "public, max-age=31536000, immutable"


def another_picture() -> bytes:
    """What a machine of another numeric profile might have drawn."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((448, 448), 77, dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def png(client: httpx.Client, where: str, **headers: str) -> httpx.Response:
    return client.get(f"{where}.png", headers=headers)


def test_a_picture_is_kept_when_it_is_first_drawn_and_shown_from_then_on(tmp_path: Path) -> None:
    bundles, kept = tmp_path / "bundles", tmp_path / "kept"
    write(bundles, dots())
    with serving(bundles, NONESUCH_PICTURES=str(kept)) as server, server.client() as client:
        where = client.get("/x/dots/42").headers["location"]
        first = png(client, where)
        assert first.status_code == 200
        assert first.headers["cache-control"] == PERMANENT
        (file,) = kept.rglob("*.png")
        assert file.read_bytes() == first.content
        assert png(client, where).headers["etag"] == first.headers["etag"]
        assert png(client, where, **{"If-None-Match": first.headers["etag"]}).status_code == 304
    # Another numeric profile would draw other bytes; the ones that were kept are shown, under an ETag of their own.
    other = another_picture()
    file.write_bytes(other)
    with serving(bundles, NONESUCH_PICTURES=str(kept)) as server, server.client() as client:
        again = png(client, where)
        assert again.content == other
        assert again.headers["etag"] != first.headers["etag"]
        assert again.headers["access-control-allow-origin"] == "*"
        assert png(client, where, **{"If-None-Match": again.headers["etag"]}).status_code == 304
        assert png(client, where, **{"If-None-Match": first.headers["etag"]}).content == other
        neighbour = where.replace("/42/0", "/42/1")
        assert png(client, neighbour).content != other
        # The version goes, the picture stays; what was never drawn is gone with it.
        shutil.rmtree(bundles / "dots")
        eventually(lambda: client.get("/models/dots").status_code == 404)
        assert png(client, where).content == other
        assert png(client, neighbour).status_code == 200
        assert client.get(where.replace("/42/0", "/42/2") + ".png").status_code == 404


def test_old_links_keep_their_bytes_while_versions_come_and_go(tmp_path: Path) -> None:
    bundles, kept = tmp_path / "bundles", tmp_path / "kept"
    write(bundles, dots())
    with (
        serving(bundles, NONESUCH_PICTURES=str(kept), NONESUCH_POLL_SECONDS="0.05") as server,
        server.client() as client,
    ):
        old = client.get("/x/dots/5").headers["location"]
        first = png(client, old)
        write(bundles, dots(version=2, threshold=4))
        eventually(lambda: client.get("/x/dots/5").headers["location"] != old)
        new = client.get("/x/dots/5").headers["location"]
        assert png(client, new).content != first.content
        assert png(client, old).content == first.content
        assert png(client, old).headers["etag"] == first.headers["etag"]


def test_a_folder_that_cannot_be_written_costs_no_picture(tmp_path: Path) -> None:
    bundles = tmp_path / "bundles"
    write(bundles, dots())
    (tmp_path / "file").write_text("")
    with serving(bundles, NONESUCH_PICTURES=str(tmp_path / "file" / "kept")) as server, server.client() as client:
        where = client.get("/x/dots/42").headers["location"]
        first, second = png(client, where), png(client, where)
        assert first.status_code == second.status_code == 200
        assert first.content == second.content
        assert first.headers["etag"] == second.headers["etag"]
        assert server.err.count("pictures cannot be kept") == 1, "said once"


def test_rows_that_are_no_pictures_and_addresses_that_are_none_keep_nothing(tmp_path: Path) -> None:
    bundles, kept = tmp_path / "bundles", tmp_path / "kept"
    write(bundles, dots())
    with serving(bundles, NONESUCH_PICTURES=str(kept)) as server, server.client() as client:
        for path in ("/x/dots@00000000/1/0.png", "/x/..@00000000/1/0.png", f"/x/{'a' * 99}@00000000/1/0.png"):
            assert client.get(path).status_code == 404
        refused(client.get("/x/dots@00000000/1/0.png"), 404, "unknown-address")
    assert not kept.exists()


# -- the store -----------------------------------------------------------------------------------------------------


def test_the_first_to_draw_has_drawn_for_all(tmp_path: Path) -> None:
    one, other = PictureStore(tmp_path / "kept", 2**20), PictureStore(tmp_path / "kept", 2**20)
    assert one.get(*PLACE) is None
    assert one.put(*PLACE, b"first") == b"first"
    assert other.put(*PLACE, b"second") == b"first"
    assert one.get(*PLACE) == other.get(*PLACE) == b"first"
    assert [path.name for path in (tmp_path / "kept").rglob("*") if path.is_file()] == ["42-7.png"], "no draft is left"


def test_many_at_once_agree_on_one(tmp_path: Path) -> None:
    shown: list[bytes] = []
    start = threading.Barrier(8)

    def draw(number: int) -> None:
        store = PictureStore(tmp_path, 2**20)
        start.wait()
        shown.append(store.put(*PLACE, b"%d" % number))

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shown) == 8
    assert len(set(shown)) == 1


def test_addresses_do_not_meet(tmp_path: Path) -> None:
    store = PictureStore(tmp_path, 2**30)
    places = [("dots", "0123abcd", seed, row) for seed in (1, 12, 257, 2**53 - 1) for row in (0, 2, 21, 2**53 - 1)]
    places += [("dots", "0123abce", 1, 0), ("dots2", "0123abcd", 1, 0)]
    for number, place in enumerate(places):
        assert store.put(*place, b"%d" % number) == b"%d" % number
    assert [store.get(*place) for place in places] == [b"%d" % number for number in range(len(places))]


@pytest.mark.parametrize(
    ("name", "prefix", "seed", "row"),
    [
        ("../dots", "0123abcd", 1, 0),
        ("..", "0123abcd", 1, 0),
        ("dots/../..", "0123abcd", 1, 0),
        ("Dots", "0123abcd", 1, 0),
        ("dots", "../../ab", 1, 0),
        ("dots", "0123ABCD", 1, 0),
        ("dots\n", "0123abcd", 1, 0),
        ("dots", "0123abcd", -1, 0),
    ],
)
def test_nothing_but_an_address_reaches_the_disk(tmp_path: Path, name: str, prefix: str, seed: int, row: int) -> None:
    store = PictureStore(tmp_path / "a" / "b", 2**20)
    assert store.put(name, prefix, seed, row, b"x") == b"x"
    assert store.get(name, prefix, seed, row) is None
    assert list(tmp_path.rglob("*.png")) == []


def test_a_full_folder_takes_no_more_and_loses_nothing(tmp_path: Path) -> None:
    store = PictureStore(tmp_path, 3 * 4096)
    for row in range(5):
        assert store.put("dots", "0123abcd", 1, row, b"x" * 4000) == b"x" * 4000
    assert [store.get("dots", "0123abcd", 1, row) is not None for row in range(5)] == [True, True, True, False, False]
    anew = PictureStore(tmp_path, 3 * 4096)
    assert anew.put("dots", "0123abcd", 2, 0, b"x") == b"x"
    assert anew.get("dots", "0123abcd", 2, 0) is None, "what is there counts after a restart too"
