"""The catalogue: what is served, what is refused and why, and how one becomes the other while the service runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from contract.bundle import MANIFEST
from contract.lock import write_lock
from runtime.loop import run_program
from service.catalogue import Catalogue
from service.errors import Starting, UnknownModel
from service.verification import Verdict, verify_bundles
from tests import bundles
from tests.service.catalogues import answers, started, until

# -- refusals ----------------------------------------------------------------------------------------------------


def corrupt(root, name):
    path = bundles.write(root, bundles.affine(name)).folder / "log_prob.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_short(root, name):
    path = bundles.write(root, bundles.affine(name)).folder / "goldens.npz"
    path.write_bytes(path.read_bytes()[:-1])


def random_op(root, name):
    noise = helper.make_node("RandomNormal", [], ["noise"], shape=[1])
    bundles.write(root, bundles.affine(name, extra_nodes=[noise]))


def outside(root, name):
    folder = bundles.write(root, bundles.affine(name, weights_at="../secret")).folder
    # The file is there and would fit: only the rule keeps the graph from it.
    (folder.parent / "secret").write_bytes(np.zeros(2).tobytes())


def absolute(root, name):
    secret = root.parent / "secret"
    secret.write_bytes(np.zeros(2).tobytes())
    bundles.write(root, bundles.affine(name, weights_at=str(secret)))


def link(root, name):
    folder = bundles.write(root, bundles.affine(name, weights_at="weights.bin")).folder
    secret = root.parent / "weights"
    (folder / "weights.bin").rename(secret)
    (folder / "weights.bin").symlink_to(secret)


def no_onnx(root, name):
    fields, files = bundles.affine(name)
    bundles.write(root, (fields, {**files, "log_prob.onnx": b"not a graph"}))


def wrong_goldens(root, name):
    bundles.write(root, bundles.affine(name, golden_offset=1e-6))


def other_pin(root, name):
    bundles.write(root, bundles.affine(name))
    write_lock(root, {f"{name}/1": "0" * 64})


def no_json(root, name):
    (bundles.write(root, bundles.affine(name)).folder / MANIFEST).write_text("{")


def bad_field(root, name):
    folder = bundles.write(root, bundles.affine(name)).folder
    fields, files = bundles.affine(name)
    del fields["licence"]
    assert bundles.overwrite(root, (fields, files)) == folder


def no_manifest(root, name):
    (bundles.write(root, bundles.affine(name)).folder / MANIFEST).unlink()


def other_name(root, name):
    bundles.write(root, bundles.affine("moved")).folder.parent.rename(root / name)


def surplus(root, name):
    (bundles.write(root, bundles.affine(name)).folder / "extra.py").write_text("print('hello')")


def wrong_name_in_graph(root, name):
    fields, files = bundles.affine(name)
    fields["capabilities"]["log_prob"]["outputs"][0]["name"] = "logarithm"
    bundles.write(root, (fields, files))


BAD = {
    corrupt: "'log_prob.onnx' is corrupt",
    cut_short: "'goldens.npz' is corrupt",
    random_op: "the op RandomNormal is forbidden",
    outside: "stored in '../secret'",
    absolute: "secret', not in the bundle's weights file",
    link: "'weights.bin' is not a plain file",
    no_onnx: "not an ONNX model",
    wrong_goldens: "off its golden",
    other_pin: "is not the pinned 000000000000",
    no_json: "manifest.json: the manifest: Invalid JSON",
    bad_field: "manifest.json: licence: Field required",
    no_manifest: "no manifest.json",
    other_name: "the manifest says moved/1",
    surplus: "'extra.py' is not listed in the manifest",
    wrong_name_in_graph: "no graph writes 'logarithm'",
}


def bundle_name(spoil):
    return spoil.__name__.replace("_", "-")


@pytest.fixture(scope="module")
def among_bad_ones(tmp_path_factory):
    """A catalogue over good bundles and one bundle of each bad kind."""
    root = tmp_path_factory.mktemp("catalogue") / "bundles"
    root.mkdir()
    bundles.write(root, bundles.affine("good", shift=1.0))
    bundles.write(root, bundles.affine("beside", weights_at="weights.bin", shift=2.0))
    bundles.write(root, bundles.counter("zz-last"))
    for spoil in BAD:
        spoil(root, bundle_name(spoil))
    (root / "good" / ".3-draft").mkdir()  # a version being written
    (root / "good" / "latest").mkdir()
    (root / "README").write_text("not a bundle")

    async def scenario():
        async with started(root) as catalogue:
            return catalogue

    return asyncio.run(scenario())


@pytest.mark.parametrize("spoil", BAD, ids=bundle_name)
def test_a_bad_bundle_is_refused_by_name_with_a_reason(among_bad_ones, spoil):
    name = bundle_name(spoil)
    reason = among_bad_ones.refused[f"{name}/1"]
    assert BAD[spoil] in reason
    with pytest.raises(UnknownModel):
        among_bad_ones.get(name)


def test_the_good_ones_among_them_are_served(among_bad_ones):
    catalogue = among_bad_ones
    assert catalogue.ready
    assert catalogue.names() == ["beside", "good", "zz-last"]
    assert answers(catalogue.get("good"), shift=1.0)
    assert answers(catalogue.get("beside"), shift=2.0)
    seed, row = np.array([3, 3, 3]), np.array([0, 4, 13])
    sample = run_program(catalogue.get("zz-last", 1), "sample", {"seed": seed, "row": row})
    np.testing.assert_array_equal(sample["x"], bundles.sample_of(seed, row))
    assert not catalogue.pinned("good")
    assert catalogue.entry("good").bit_equal
    assert len(catalogue.refused) == len(BAD)


def test_what_is_not_there_is_named_with_what_is(among_bad_ones):
    with pytest.raises(UnknownModel, match="no model 'nobody'; there is: beside, good, zz-last") as unknown:
        among_bad_ones.get("nobody", 4)
    assert (unknown.value.name, unknown.value.version) == ("nobody", None)
    with pytest.raises(UnknownModel, match="no version 9 of the model 'good'; there is: 1") as unknown:
        among_bad_ones.get("good", 9)
    assert (unknown.value.name, unknown.value.version, unknown.value.known) == ("good", 9, ("1",))
    assert among_bad_ones.missing(["good", "good/1", "good/2", "nobody"]) == ["good/2", "nobody"]
    assert among_bad_ones.versions("nobody") == []


def test_a_root_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the folder of bundles .*nowhere does not exist"):
        Catalogue(tmp_path / "nowhere")


# -- children that die -------------------------------------------------------------------------------------------

# Verifies like the real child, but dies or dawdles as the bundle's name says.
FRAGILE = """
import os, signal, sys, time
import runtime.verify as real

def verify(folder, pin=None, provider="cpu", sound=real.verify):
    name = folder.parent.name
    if name == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "hangs":
        (folder.parent.parent.parent / "pid").write_text(str(os.getpid()))
        time.sleep(3600)
    if name == "leaves":
        sys.stderr.write("first line\\nout of luck\\n")
        sys.stderr.flush()
        os._exit(3)
    if name == "shouts":
        sys.stderr.write("x" * 10**6 + "\\n")
        print("not JSON")
        print('["no", "verdict"]', flush=True)
    if name == "endless":
        print("x" * 10**7, flush=True)
    return sound(folder, pin, provider)

real.verify = verify
sys.exit(real.main())
"""


@pytest.fixture
def fragile(tmp_path):
    script = tmp_path / "fragile.py"
    script.write_text(FRAGILE)
    return [sys.executable, str(script)]


def loops():
    uvloop = pytest.importorskip("uvloop")
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_bundle_that_kills_the_child_is_named_and_the_others_are_served(root, fragile, loop):
    for name in ("a", "crashes", "endless", "shouts", "z") + ("leaves",) * (loop == "asyncio"):
        bundles.write(root, bundles.affine(name))

    async def scenario():
        async with started(root, verify_command=fragile) as catalogue:
            assert catalogue.names() == ["a", "shouts", "z"]
            refused = dict(catalogue.refused)
            if loop == "asyncio":
                assert "ended with status 3: out of luck" in refused.pop("leaves/1")
            assert "was killed by SIGSEGV" in refused.pop("crashes/1")
            assert list(refused) == ["endless/1"]
            assert answers(catalogue.get("z"))

    with asyncio.Runner(loop_factory=loops()[loop]) as runner:
        runner.run(scenario())


# Starts at once, since its patience is measured: it takes every bundle for good, and waits at one for ever.
DAWDLING = """
import json, subprocess, sys, time
for folder in sys.argv[3:]:
    if "hangs" in folder:
        subprocess.run([sys.executable, "-S", "-c", "import time; time.sleep(3600)"])
    print(json.dumps({"folder": folder, "ok": True, "digest": "d", "bit_equal": True}), flush=True)
"""


def test_a_bundle_that_takes_too_long_is_named_and_the_others_go_on():
    async def scenario():
        folders = [Path("/a/1"), Path("/hangs/1"), Path("/m/1"), Path("/hangs/2"), Path("/z/1")]
        command = [sys.executable, "-S", "-c", DAWDLING]
        verdicts = verify_bundles(folders, provider="cpu", patience_seconds=2.0, command=command)
        said = [verdict async for verdict in verdicts]
        assert [verdict.folder for verdict in said] == folders
        assert [verdict.reason for verdict in said] == [
            None,
            "/hangs/1: verification took longer than 2 s",
            None,
            "/hangs/2: verification took longer than 2 s",
            None,
        ]
        assert said[0] == Verdict(Path("/a/1"), "d", None, True)

    asyncio.run(scenario())


def test_the_child_ends_with_the_service(root, fragile):
    bundles.write(root, bundles.affine("hangs"))

    async def scenario():
        pid = root.parent / "pid"
        catalogue = Catalogue(root, verify_command=fragile)
        task = asyncio.create_task(catalogue.start())
        await until(lambda: pid.exists() and pid.read_text())
        assert not catalogue.ready
        task.cancel()
        await asyncio.wait([task])
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)

    asyncio.run(scenario())


def test_while_it_starts_what_is_verified_is_served_and_the_rest_is_waited_for(root, fragile):
    bundles.write(root, bundles.affine("early", 1))
    bundles.write(root, bundles.affine("early", 2, shift=2.0))
    bundles.write(root, bundles.affine("hangs"))  # the same size, and later by name

    async def scenario():
        catalogue = Catalogue(root, verify_command=fragile)
        with pytest.raises(Starting):
            catalogue.get("anything")
        task = asyncio.create_task(catalogue.start())
        await until(catalogue.names)
        assert not catalogue.ready
        # The newest version first, so that nobody is answered by an older one because it was there before.
        assert answers(catalogue.get("early"), shift=2.0)
        for name, version in (("hangs", None), ("hangs", 1), ("early", 1)):
            with pytest.raises(Starting):
                catalogue.get(name, version)
        for name, version in (("nobody", None), ("early", 3), ("hangs", 2)):
            with pytest.raises(UnknownModel):
                catalogue.get(name, version)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())


def test_an_older_version_does_not_stand_in_for_one_that_is_not_verified_yet(root, fragile):
    bundles.write(root, bundles.affine("hangs", 2))
    bundles.write(root, bundles.affine("early"))

    async def scenario():
        catalogue = Catalogue(root, verify_command=fragile)
        task = asyncio.create_task(catalogue.start())
        await until(catalogue.names)
        catalogue._served["hangs"] = {1: catalogue.entry("early")}
        with pytest.raises(Starting):
            catalogue.get("hangs")
        assert catalogue.get("hangs", 1)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())


def test_a_child_that_cannot_start_refuses_and_says_so(root):
    bundles.write(root, bundles.affine())

    async def scenario():
        async with started(root, verify_command=[sys.executable, "-c", "raise RuntimeError('broken')"]) as catalogue:
            assert catalogue.ready
            assert catalogue.names() == []
            assert "ended with status 1: RuntimeError: broken" in catalogue.refused["affine/1"]

    asyncio.run(scenario())


# -- changes while it runs ---------------------------------------------------------------------------------------


def test_a_new_version_takes_over_and_requests_keep_the_model_they_hold(root):
    bundles.write(root, bundles.affine(version=1, shift=1.0))
    warmed, forgotten = [], []

    async def scenario():
        async with started(root, poll_seconds=0.02, warm=warmed.append, forget=forgotten.append) as catalogue:
            held = catalogue.get("affine")
            bundles.write(root, bundles.affine(version=10, shift=10.0))
            await until(lambda: catalogue.versions("affine") == [1, 10])
            assert answers(catalogue.get("affine"), shift=10.0)  # the highest, and not the one that sorts last
            assert catalogue.get("affine", 1) is held
            bundles.write(root, bundles.affine(version=9, shift=9.0))
            await until(lambda: catalogue.versions("affine") == [1, 9, 10])
            assert answers(catalogue.get("affine"), shift=10.0)
            assert [model.manifest.version for model in warmed] == [1, 10, 9]

            shutil.rmtree(root / "affine" / "10")
            await until(lambda: catalogue.versions("affine") == [1, 9])
            assert answers(catalogue.get("affine"), shift=9.0)
            shutil.rmtree(root / "affine")
            await until(lambda: catalogue.names() == [])
            assert catalogue.refused == {}
            assert [model.manifest.version for model in forgotten] == [10, 1, 9]
            assert answers(held, shift=1.0)

    asyncio.run(scenario())


def test_a_bad_new_version_leaves_the_good_one_alone_and_is_tried_again_when_its_files_change(root):
    bundles.write(root, bundles.affine(version=1, shift=1.0))

    async def scenario():
        async with started(root) as catalogue:
            good = catalogue.get("affine")
            bundles.write(root, bundles.affine(version=2, shift=2.0, golden_offset=1.0))
            await catalogue.refresh()
            assert catalogue.versions("affine") == [1]
            assert catalogue.get("affine") is good
            assert "off its golden" in catalogue.refused["affine/2"]
            bundles.write(root, bundles.affine(version=3, golden_offset=1.0))
            await catalogue.refresh()
            assert set(catalogue.refused) == {"affine/2", "affine/3"}
            shutil.rmtree(root / "affine" / "3")
            await catalogue.refresh()
            assert set(catalogue.refused) == {"affine/2"}
            bundles.overwrite(root, bundles.affine(version=2, shift=2.0))
            await catalogue.refresh()
            assert catalogue.refused == {}
            assert answers(catalogue.get("affine"), shift=2.0)

    asyncio.run(scenario())
