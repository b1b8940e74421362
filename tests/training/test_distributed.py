"""Several processes: the same steps as one, the same figures, and a lost process costs nothing but time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contract.bundle import list_versions, open_bundle
from tests.training.runs import ROOT, write_recipe
from training import processes
from training.errors import TrainingInputError
from training.loop import shard_of
from training.recipe import load_recipe
from training.train import Trained

REALNVP = ROOT / "recipes" / "contract" / "realnvp.yaml"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40), st.integers(1, 9))
def test_the_parts_of_a_batch_are_the_batch(batch: list[int], count: int) -> None:
    shards = [shard_of(batch, rank, count) for rank in range(count)]
    assert sorted(p for shard in shards if shard.share for p in shard.positions) == sorted(batch)
    assert all(shard.positions for shard in shards), "no process has nothing to do: it would fall out of step"
    assert np.isclose(sum(shard.share for shard in shards), 1.0)
    assert all(shard.share in (0.0, len(shard.positions) / len(batch)) for shard in shards)


FIT = """
import json, sys
from pathlib import Path
import torch
from rich.console import Console
from tests.training.test_loop import HELD_OUT, ROWS, SUPPORT, Normal
from training import loop, processes
from training.data import Fold
from training.progress import Reporter
from training.recipe import Training

seen = []

class Noting(Normal):
    def losses(self, x, seed, row):
        seen.append(row.tolist())
        return super().losses(x, seed, row)

# 100 rows in batches of 11: the last has one row, and so nothing for a second process.
loop._VALIDATION_BATCH = 16
plan = Training(max_epochs=5, batch_size=11, learning_rate=0.05, ema=0.9, clip=1.0, schedule="cosine", patience=3)
folder = Path(sys.argv[1])
with processes.join():
    model = Noting(SUPPORT)
    report = loop.fit_model(
        model, plan, Fold(ROWS), Fold(HELD_OUT), seed=0, folder=folder, reporter=Reporter(Console(quiet=True))
    )
    said = {
        "weights": [float(model.mean), float(model.log_scale)],
        "validation": report.validation,
        "best_epoch": report.best_epoch,
        "steps": report.steps,
        "seen": seen,
    }
    (folder / f"rank{processes.rank()}.json").write_text(json.dumps(said))
"""


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    script = tmp_path / "fit.py"
    script.write_text(FIT)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    subprocess.run([sys.executable, script, tmp_path / "one"], check=True, cwd=ROOT, env=ENVIRONMENT)
    subprocess.run([*TORCHRUN, str(script), str(tmp_path / "two")], check=True, cwd=ROOT, env=ENVIRONMENT)
    one = json.loads((tmp_path / "one" / "rank0.json").read_text())
    two = [json.loads((tmp_path / "two" / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert one["steps"] == 5 * 10
    for other in two:
        assert other["weights"] == pytest.approx(one["weights"], abs=1e-5)
        assert other["validation"] == pytest.approx(one["validation"], abs=1e-6)
        assert (other["best_epoch"], other["steps"]) == (one["best_epoch"], one["steps"])
    assert two[0] == {**two[1], "seen": two[0]["seen"]}, "the processes differ from each other"
    for whole, first, second in zip(one["seen"], two[0]["seen"], two[1]["seen"], strict=True):
        stand_in = len(whole) == 1
        assert sorted(whole) == sorted(first + ([] if stand_in else second)), "addresses depend on the processes"
    # What the run leaves was written by one of them.
    names = sorted(path.name for path in (tmp_path / "two").iterdir())
    assert names == sorted([*(p.name for p in (tmp_path / "one").iterdir()), "rank1.json"])
    assert len(list((tmp_path / "two" / "tensorboard").glob("events.*"))) == 1


@pytest.mark.slow
def test_a_run_that_lost_a_process_ends_and_goes_on_to_the_figures_of_one(flow: Trained, tmp_path: Path) -> None:
    arguments = ["train", str(REALNVP), "--out", str(tmp_path / "bundles"), "--runs", str(tmp_path / "runs")]
    resume = tmp_path / "runs" / "contract-realnvp" / "last.ckpt"
    command = [sys.executable, "-m", "commands.main", *arguments, "--processes", "2"]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        while not resume.exists():
            assert process.poll() is None, "it ended before a process could be killed"
            time.sleep(0.005)
        (helper,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(helper), signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.splitlines()[-1] == (
        f"nonesuch train: {REALNVP}: process 1 was killed by SIGKILL; the same command goes on where the run stopped"
    )
    assert "Traceback" not in said
    assert list_versions(tmp_path / "bundles") == {}

    done = subprocess.run(
        [*TORCHRUN, "-m", "commands.main", *arguments], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "fit: goes on after epoch" in done.stdout
    assert done.stdout.count("data: moons") == 1, "only the process in the lead speaks"
    manifest = open_bundle(tmp_path / "bundles" / "contract-realnvp" / "1").manifest
    assert manifest.provenance.folds == flow.bundle.manifest.provenance.folds
    tolerance = load_recipe(REALNVP)[0].tolerance
    for one, two in zip(flow.bundle.manifest.metrics, manifest.metrics, strict=True):
        assert one.name == two.name
        assert abs(one.value - two.value) <= tolerance.get(one.name, 0.02)


@pytest.mark.slow
def test_what_is_wrong_with_the_recipe_is_said_once(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "contract/realnvp.yaml", ordinary="round")
    command = [sys.executable, "-m", "commands.main", "train", str(recipe), "--processes", "2"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "nonesuch train: ordinary: these data have no label 'round'; they have lower, upper\n"
    assert not (tmp_path / "bundles").exists()


def test_an_environment_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrainingInputError, match="WORLD_SIZE is 2, but RANK is not set: start it by torchrun"):
        processes.join().__enter__()
    with pytest.raises(TrainingInputError, match="--processes: torchrun has started several processes already"):
        processes.start_helpers(2, [])


def test_alone_a_process_agrees_with_itself() -> None:
    values = torch.tensor([1.0, 2.0])
    assert (processes.rank(), processes.count(), processes.agree("x")) == (0, 1, "x")
    assert torch.equal(processes.total(values), torch.tensor([1.0, 2.0]))
    assert not processes.lost_process(RuntimeError("gloo: connection closed by peer"))
