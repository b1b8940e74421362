"""What is found once training is over, and what a family would rather be stopped by than its log-probability."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

from contract.support import Support
from models.base import GenerativeModel
from models.protocols import HasFinish, HasValidationLoss, Losses
from models.rbm import RBM
from tests.models.supports import pictures, table
from training import loop
from training.adapter import Adapter
from training.data import Fold
from training.loop import FitReport, fit_model
from training.progress import Reporter
from training.recipe import Training

PLAN = Training(max_epochs=6, batch_size=16, learning_rate=0.1)
ROWS = np.random.default_rng(0).normal(3.0, 2.0, size=(64, 1))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_RESUME_FILES", 0.0)  # a resume file after every epoch
    yield
    torch.set_num_threads(threads)


class Shifted(GenerativeModel):
    """A normal law whose mean is learnt, and whose log-probability has a constant that is found at the end."""

    finish_words: ClassVar[str] = "the constant"
    finish_steps = 3
    finished = 0

    def __init__(self, support: Support):
        super().__init__(support)
        self.mean = nn.Parameter(torch.zeros(()))
        self.register_buffer("constant", torch.tensor(torch.nan))

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        return None

    def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
        return Losses({"main": (x - self.mean).square().mean()}, {})

    def validation_loss(self, x: Tensor, seed: Tensor, row: Tensor) -> Tensor:
        assert (seed == 5).all()
        return (x[:, 0] - self.mean).abs() + row

    def log_prob(self, x: Tensor) -> Tensor:
        assert not self.training, "nothing that is not known yet is asked for during training"
        return -(x[:, 0] - self.mean).square() / 2 - self.constant

    def finish(self, progress: Callable[[int], None]) -> str:
        Shifted.finished += 1
        self.constant.fill_(float(self.mean) * 10)
        for done in (1, 2, 3):
            progress(done)
        return f"constant {float(self.constant):.3f}"


def fit(folder: Path, model: Any, rows: Any = ROWS, seed: int = 5, plan: Training = PLAN) -> tuple[Any, FitReport, str]:
    said = io.StringIO()
    reporter = Reporter(Console(file=said, width=200))
    report = fit_model(model, plan, Fold(rows), Fold(rows[:20]), seed=seed, folder=folder, reporter=reporter)
    return model, report, said.getvalue()


def test_the_families_that_have_them_say_so() -> None:
    model = RBM(pictures(3), hidden=2)
    assert isinstance(model, HasFinish)
    assert isinstance(model, HasValidationLoss)


def test_it_is_found_once_of_the_weights_that_were_kept(tmp_path: Path) -> None:
    Shifted.finished = 0
    model, report, said = fit(tmp_path, Shifted(table("real")))
    assert Shifted.finished == 1
    assert float(model.constant) == pytest.approx(10 * float(model.mean), rel=1e-6)
    best = load_file(tmp_path / "best.safetensors")
    assert best["mean"] == model.mean
    assert best["constant"].isnan(), "not before the best weights are known"
    assert f"fit: constant {float(model.constant):.3f}" in said
    # The final weights have it: a run that goes on after the fit finds nothing again.
    again, same, said = fit(tmp_path, Shifted(table("real")))
    assert Shifted.finished == 1
    assert said == ""
    assert torch.equal(again.constant, model.constant)
    assert same == report
    # Killed before they were written, it does, and finds the same.
    (tmp_path / "fit.json").unlink()
    again, _, _ = fit(tmp_path, Shifted(table("real")))
    assert Shifted.finished == 2
    assert torch.equal(again.constant, model.constant)


def test_a_family_s_own_validation_loss_is_what_early_stopping_looks_at(tmp_path: Path) -> None:
    model, report, _ = fit(tmp_path, Shifted(table("real")))
    expected = np.abs(ROWS[:20, 0] - float(model.mean)) + np.arange(20)
    assert report.validation == pytest.approx(expected.mean(), abs=1e-6)


def test_progress_in_a_pipe_counts_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.progress._SECONDS_BETWEEN_LINES", 0.0)
    said = io.StringIO()
    with Reporter(Console(file=said)).bar("fit: log Z", 10, unit="step") as bar:
        bar.update(4)
        bar.update(5, "half")
    assert said.getvalue().splitlines() == ["  fit: log Z: step 4 of 10", "  fit: log Z: step 5 of 10, half"]


# -- particles that are kept from one update to the next --------------------------------------------------------------

BITS = (np.random.default_rng(3).random((64, 14)) < 0.3).astype(np.uint8)
LONGER = Training(max_epochs=6, batch_size=16, learning_rate=0.01, ema=0.9)


def machine() -> RBM:
    torch.manual_seed(0)
    return RBM(pictures(14), hidden=22, particles=30, ais_chains=20, ais_steps=30)


class InterruptedRunError(Exception):
    pass


def test_an_interrupted_run_s_particles_walk_on_as_they_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, report, _ = fit(tmp_path / "whole", machine(), BITS, plan=LONGER)
    step = Adapter.training_step

    def stop(self: Adapter, batch: Any, index: int) -> None:
        if (self.current_epoch, index) == (3, 2):
            raise InterruptedRunError
        step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Adapter, "training_step", stop)
        with pytest.raises(InterruptedRunError):
            fit(tmp_path / "parts", machine(), BITS, plan=LONGER)
    resumed, again, _ = fit(tmp_path / "parts", machine(), BITS, plan=LONGER)
    assert again.resumed_at == 3
    assert again.validation == report.validation
    theirs = whole.state_dict()
    assert [name for name, value in resumed.state_dict().items() if not torch.equal(value, theirs[name])] == []
    assert int(whole.particle_steps) == 4 * (report.best_epoch or 0)
    assert whole.particles.any()
    # They are those of the weights that learn, though the average is what is kept.
    last = torch.load(tmp_path / "whole" / "last.ckpt", weights_only=True)["state_dict"]
    assert int(last["model.particle_steps"]) == 24
    assert not torch.equal(last["model.particles"], machine().particles)
