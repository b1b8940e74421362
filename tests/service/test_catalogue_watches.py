"""The catalogue while it runs: bundles that come, go, change and spoil on disk."""

from __future__ import annotations

import asyncio
import shutil

from contract.bundle import MANIFEST
from contract.lock import LOCK, write_lock
from tests import bundles
from tests.service.catalogues import answers, started, until


def test_a_bundle_copied_in_file_by_file_is_served_once_it_is_whole(root, tmp_path):
    whole = bundles.write(tmp_path / "elsewhere", bundles.affine(weights_at="weights.bin")).folder
    folder = root / "affine" / "1"
    folder.mkdir(parents=True)

    async def scenario():
        async with started(root) as catalogue:
            assert "no manifest.json" in catalogue.refused["affine/1"]
            for name in (MANIFEST, "card.md", "goldens.npz", "log_prob.onnx"):
                shutil.copy(whole / name, folder / name)
            (folder / "weights.bin").write_bytes((whole / "weights.bin").read_bytes()[:5])
            await catalogue.refresh()
            assert "'weights.bin' is corrupt" in catalogue.refused["affine/1"]
            shutil.copy(whole / "weights.bin", folder / "weights.bin")  # the manifest stays as it was
            await catalogue.refresh()
            assert catalogue.refused == {}
            assert answers(catalogue.get("affine"))

    asyncio.run(scenario())


def test_a_served_version_that_is_spoilt_on_disk_stays_served_and_is_reported(root):
    path = bundles.write(root, bundles.affine()).folder / "log_prob.onnx"
    data = path.read_bytes()

    async def scenario():
        async with started(root) as catalogue:
            model = catalogue.get("affine")
            path.write_bytes(data[:-1])
            await catalogue.refresh()
            assert catalogue.get("affine") is model
            assert answers(model)
            assert "is corrupt" in catalogue.refused["affine/1"]
            path.write_bytes(data)
            await catalogue.refresh()
            assert catalogue.get("affine") is model
            assert catalogue.refused == {}

    asyncio.run(scenario())


def test_a_version_replaced_in_place_is_verified_and_swapped(root):
    bundles.write(root, bundles.affine(shift=1.0))
    forgotten = []

    async def scenario():
        async with started(root, forget=forgotten.append) as catalogue:
            old = catalogue.get("affine")
            bundles.overwrite(root, bundles.affine(shift=3.0))
            await catalogue.refresh()
            assert answers(catalogue.get("affine"), shift=3.0)
            assert forgotten == [old]

    asyncio.run(scenario())


def test_what_has_not_changed_is_neither_verified_nor_read_again(root, monkeypatch):
    bundles.write(root, bundles.affine())
    bundles.write(root, bundles.affine("bad", golden_offset=1.0))

    async def scenario():
        async with started(root) as catalogue:
            model = catalogue.get("affine")
            opened = []
            monkeypatch.setattr("service.catalogue.verify_bundles", lambda folders, **_: nothing(opened, folders))
            monkeypatch.setattr("service.catalogue.open_bundle", opened.append)
            for _ in range(3):
                await catalogue.refresh()
            assert opened == []
            assert catalogue.get("affine") is model
            await catalogue.refresh(again=True)
            assert opened == [root / "bad" / "1"]

    async def nothing(opened, folders):
        opened += folders
        return
        yield

    asyncio.run(scenario())


def test_reload_tries_again_what_failed_for_passing_reasons(root):
    bundles.write(root, bundles.affine())
    attempts = []

    def warm(model):
        attempts.append(model)
        if len(attempts) == 1:
            raise MemoryError("not just now")

    async def scenario():
        async with started(root, warm=warm) as catalogue:
            assert "MemoryError: not just now" in catalogue.refused["affine/1"]
            await catalogue.refresh()
            assert len(attempts) == 1
            catalogue.reload()  # as SIGHUP does; the next look by itself is an hour away
            await until(lambda: catalogue.names() == ["affine"])
            assert catalogue.refused == {}

    asyncio.run(scenario())


def test_the_lock_is_obeyed_when_it_changes(root):
    bundle = bundles.write(root, bundles.affine())

    async def scenario():
        async with started(root) as catalogue:
            model = catalogue.get("affine")
            assert not catalogue.pinned("affine")
            write_lock(root, {"affine/1": bundle.digest})
            await catalogue.refresh()
            assert catalogue.pinned("affine", 1)
            assert catalogue.get("affine") is model

            (root / LOCK).write_text("affine/1 is fine\n")
            bundles.write(root, bundles.affine("other"))
            await catalogue.refresh()
            assert catalogue.get("affine") is model  # an unreadable lock takes nothing down …
            assert catalogue.names() == ["affine"]  # … and lets nothing in
            assert "expected 'NAME/VERSION DIGEST'" in catalogue.refused["other/1"]

            write_lock(root, {"affine/1": "1" * 64})
            await catalogue.refresh()
            assert catalogue.names() == ["other"]
            assert "is not the pinned 111111111111" in catalogue.refused["affine/1"]

            (root / LOCK).unlink()
            await catalogue.refresh()
            assert catalogue.names() == ["affine", "other"]
            assert not catalogue.pinned("affine")
            assert catalogue.refused == {}

    asyncio.run(scenario())


def test_a_root_that_goes_away_for_a_while_takes_nothing_down(root):
    bundles.write(root, bundles.affine())

    async def scenario():
        async with started(root) as catalogue:
            model = catalogue.get("affine")
            root.rename(root.parent / "away")
            await catalogue.refresh()
            assert catalogue.get("affine") is model
            (root.parent / "away").rename(root)
            await catalogue.refresh()
            assert catalogue.get("affine") is model

    asyncio.run(scenario())


def test_the_watcher_outlives_a_look_that_fails(root, monkeypatch):
    import service.catalogue as module

    bundles.write(root, bundles.affine())
    looks = []

    def look(folder, sound=module._look):
        looks.append(folder)
        if len(looks) in (2, 3):
            raise ValueError("no list today")
        return sound(folder)

    monkeypatch.setattr(module, "_look", look)

    async def scenario():
        async with started(root, poll_seconds=0.01) as catalogue:
            await until(lambda: len(looks) > 5)
            assert catalogue.names() == ["affine"]

    asyncio.run(scenario())
