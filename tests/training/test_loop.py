"""The training loop: what it keeps, what it skips, and that an interruption changes nothing."""

from __future__ import annotations

import io
import json
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

from contract.support import Column, Support
from models.base import GenerativeModel
from models.protocols import Losses
from training import loop
from training.adapter import Adapter
from training.data import Fold
from training.errors import TrainingError
from training.loop import EpochBatches, FitReport, fit_model
from training.progress import Reporter
from training.recipe import Training

SUPPORT = Support(shape=(1,), columns=(Column(name="x", kind="real", base_measure="lebesgue"),))
ROWS = np.random.default_rng(0).normal(3.0, 2.0, size=(100, 1))
HELD_OUT = np.random.default_rng(1).normal(3.0, 2.0, size=(40, 1))
PLAN = Training(max_epochs=8, batch_size=16, learning_rate=0.05)
QUIET = Reporter(Console(quiet=True))


class Normal(GenerativeModel):
    """A normal law with two parameters, trained by gradients; with dropout, so that it draws random numbers."""

    def __init__(self, support: Support, *, dropout: float = 0.0):
        super().__init__(support)
        self.mean = nn.Parameter(torch.zeros(()))
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        return None

    def prepare(self, x: Tensor) -> None:
        self.seen = torch.tensor(float(len(x)), dtype=torch.float64)

    def log_prob(self, x: Tensor) -> Tensor:
        law = torch.distributions.Normal(self.mean.double(), self.log_scale.double().exp())
        return law.log_prob(x[:, 0])

    def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
        loss = -self.log_prob(self.dropout(x)).mean()
        return Losses({"main": loss}, {"mean": self.mean})


class InterruptedRunError(Exception):
    pass


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_RESUME_FILES", 0.0)  # a resume file after every epoch
    yield
    torch.set_num_threads(threads)


def fit(
    folder: Path, plan: Training = PLAN, model: GenerativeModel | None = None, reporter: Reporter = QUIET, seed: int = 0
) -> tuple[Any, FitReport]:
    torch.manual_seed(0)
    model = Normal(SUPPORT) if model is None else model
    return model, fit_model(model, plan, Fold(ROWS), Fold(HELD_OUT), seed=seed, folder=folder, reporter=reporter)


def validation_of(model: Any) -> float:
    with torch.no_grad():
        return -float(model.log_prob(torch.from_numpy(HELD_OUT)).mean())


def interrupt_at(monkeypatch: pytest.MonkeyPatch, epoch: int, batch: int) -> None:
    step = Adapter.training_step

    def stop(self: Adapter, data: tuple[Tensor, Tensor], index: int) -> None:
        if (self.current_epoch, index) == (epoch, batch):
            raise InterruptedRunError
        step(self, data, index)

    monkeypatch.setattr(Adapter, "training_step", stop)


# -- it trains -----------------------------------------------------------------------------------------------------


def test_it_finds_the_maximum_likelihood(tmp_path: Path) -> None:
    model, report = fit(tmp_path, PLAN.model_copy(update={"max_epochs": 120, "schedule": "cosine"}))
    assert report.steps == report.epochs * 7
    assert math.isclose(float(model.mean), ROWS.mean(), abs_tol=0.15)
    assert math.isclose(float(model.log_scale.exp()), ROWS.std(), abs_tol=0.15)
    assert float(model.seen) == 100
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    weights = []
    for run, seed in enumerate([0, 0, 1]):
        model, _ = fit(tmp_path / str(run), model=Normal(SUPPORT, dropout=0.3), seed=seed)
        weights.append(torch.stack([model.mean, model.log_scale]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_every_epoch_visits_every_row_once_in_another_order() -> None:
    batches = EpochBatches(50, 8, seed=3)
    orders = []
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        orders.append([position for batch in batches for position in batch])
        assert [len(batch) for batch in batches] == [8] * 6 + [2]
        assert len(batches) == 7
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50))
    assert orders[0] != orders[1]
    assert orders[0] == orders[2]
    assert orders[0] != [position for batch in EpochBatches(50, 8, seed=4) for position in batch]


def test_addresses_of_draws_never_repeat(tmp_path: Path) -> None:
    seen: list[int] = []

    class Noting(Normal):
        def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
            assert (seed == 7).all()
            seen.extend(row.tolist())
            return super().losses(x, seed, row)

    fit(tmp_path, PLAN.model_copy(update={"max_epochs": 3}), Noting(SUPPORT), seed=7)
    assert len(seen) == 300
    assert len(set(seen)) == 300


# -- it keeps the best ---------------------------------------------------------------------------------------------


def test_the_best_weights_are_kept_and_not_the_last(tmp_path: Path) -> None:
    # The rate is so high that the last epochs are worse than an earlier one.
    model, report = fit(tmp_path, PLAN.model_copy(update={"learning_rate": 2.0, "max_epochs": 200, "patience": 3}))
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert report.best_epoch is not None
    assert report.best_epoch < report.epochs
    assert report.validation == pytest.approx(validation_of(model), abs=1e-12)
    assert not torch.equal(last["model.mean"], model.mean)
    assert load_file(tmp_path / "model.safetensors")["mean"] == model.mean
    model.load_state_dict({name.removeprefix("model."): value for name, value in last.items()})
    assert validation_of(model) > report.validation


def test_patience_ends_a_run_that_gets_no_better(tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"learning_rate": 2.0, "max_epochs": 200, "patience": 3})
    _, report = fit(tmp_path, plan)
    assert report.best_epoch is not None
    assert report.epochs == report.best_epoch + 3 < 200


def test_the_average_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    model, report = fit(tmp_path, PLAN.model_copy(update={"ema": 0.9}))
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert report.best_epoch == report.epochs
    assert torch.equal(model.mean, last["average.mean"])
    assert not torch.equal(model.mean, last["model.mean"])
    assert float(model.seen) == 100, "buffers reach the average"


def test_the_average_follows_its_recursion(tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"ema": 0.9, "max_epochs": 1})
    seen: list[float] = []

    class Noting(Normal):
        def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
            seen.append(float(self.mean.detach()))
            return super().losses(x, seed, row)

    model, _ = fit(tmp_path, plan, Noting(SUPPORT))
    seen.append(float(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]["model.mean"]))
    average = 0.0
    for step, mean in enumerate(seen[1:]):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * mean
    assert float(model.mean) == pytest.approx(average, abs=1e-6)


# -- steps ---------------------------------------------------------------------------------------------------------


def test_steps_that_are_not_finite_are_skipped_and_counted(tmp_path: Path) -> None:
    class Sometimes(Normal):
        calls = 0

        def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
            Sometimes.calls += 1
            losses = super().losses(x, seed, row)
            if Sometimes.calls in (3, 10):  # once in the loss, once in the gradient alone
                bad = losses.total["main"] * torch.nan if Sometimes.calls == 3 else (self.mean - self.mean).sqrt()
                return Losses({"main": losses.total["main"] + bad}, {})
            return losses

    model, report = fit(tmp_path, model=Sometimes(SUPPORT))
    assert (report.skipped, report.steps) == (2, 8 * 7 - 2)
    assert math.isfinite(validation_of(model))
    assert json.loads((tmp_path / "fit.json").read_text())["skipped"] == 2


def test_a_run_of_nothing_but_such_steps_is_an_error(tmp_path: Path) -> None:
    class Never(Normal):
        def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
            return Losses({"main": self.mean * torch.nan}, {})

    with pytest.raises(TrainingError, match="every step of epoch 1"):
        fit(tmp_path, model=Never(SUPPORT))


def test_gradients_are_clipped(tmp_path: Path) -> None:
    # With plain AdamW the first step has the same length whatever the gradient's; so the gradient itself is looked at.
    norms = []

    class Looking(Normal):
        def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
            if self.mean.grad is not None and self.log_scale.grad is not None:
                norms.append(math.hypot(float(self.mean.grad), float(self.log_scale.grad)))
            return super().losses(x, seed, row)

    fit(tmp_path / "clipped", PLAN.model_copy(update={"clip": 0.5}), Looking(SUPPORT))
    assert max(norms) <= 0.5 + 1e-6
    norms.clear()
    fit(tmp_path / "free", PLAN, Looking(SUPPORT))
    assert max(norms) > 1.0


def test_the_cosine_schedule_ends_near_nothing(tmp_path: Path) -> None:
    _, _ = fit(tmp_path, PLAN.model_copy(update={"schedule": "cosine"}))
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    rate = state["optimizer_states"][0]["param_groups"][0]["lr"]
    done = (7 + 6 / 7) / 8
    assert rate == pytest.approx(0.05 * 0.5 * (1 + math.cos(math.pi * done)))


class Products(Normal):
    """Notes down in which precision it multiplies."""

    def __init__(self, support: Support):
        super().__init__(support)
        self.products: set[torch.dtype] = set()

    def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
        self.products.add((x.float() @ self.mean.reshape(1, 1)).dtype)
        return super().losses(x, seed, row)


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it is mixed whatever the processor can do")
@pytest.mark.parametrize("able", [True, False])
def test_mixed_precision_is_for_what_has_bfloat16_and_else_said_not_to_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": able})
    said = io.StringIO()
    plan = PLAN.model_copy(update={"precision": "bf16-mixed", "max_epochs": 2})
    reporter = Reporter(Console(file=said, width=300))
    model = Products(SUPPORT)
    mixed, _ = fit(tmp_path / "mixed", plan, model, reporter=reporter)
    assert model.products == {torch.bfloat16 if able else torch.float32}
    words = "neither a GPU nor a processor with bfloat16 for bf16-mixed: 32 bits instead"
    assert (words in said.getvalue()) is not able
    plain, _ = fit(tmp_path / "plain", PLAN.model_copy(update={"max_epochs": 2}))
    assert torch.equal(mixed.mean, plain.mean), "what is not a product is computed as ever"


class Players(GenerativeModel):
    """Two players who pull one parameter each, and read the other's."""

    def __init__(self, support: Support):
        super().__init__(support)
        self.one = nn.Parameter(torch.tensor(1.0))
        self.two = nn.Parameter(torch.tensor(1.0))

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        return None

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"one": [self.one], "two": [self.two]}

    def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
        # Each would move the other's parameter the other way if it could.
        return Losses({"one": (self.one + 2).square() - self.two, "two": (self.two - 4).square() + self.one}, {})


def test_each_loss_moves_its_own_parameters_alone(tmp_path: Path) -> None:
    model, report = fit(tmp_path, PLAN.model_copy(update={"max_epochs": 40, "weight_decay": 0.0}), Players(SUPPORT))
    assert float(model.one) == pytest.approx(-2.0, abs=0.05)
    assert float(model.two) == pytest.approx(4.0, abs=0.05)
    assert report.steps == 40 * 7


class Looks(GenerativeModel):
    """Notes down which pictures it is shown."""

    def __init__(self, support: Support):
        super().__init__(support)
        self.weight = nn.Parameter(torch.zeros(()))
        self.trained_on: list[Tensor] = []
        self.validated_on: list[Tensor] = []

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        return None

    def losses(self, x: Tensor, seed: Tensor, row: Tensor) -> Losses:
        self.trained_on.append(x)
        return Losses({"main": self.weight.square()}, {})

    def log_prob(self, x: Tensor) -> Tensor:
        self.validated_on.append(x)
        return torch.zeros(len(x), dtype=torch.float64)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_half_of_the_pictures_of_training_are_mirrored_and_none_of_validation(
    tmp_path: Path, channels: tuple[int, ...]
) -> None:
    column = Column(name="pixel", kind="ordinal", levels=256, base_measure="counting")
    rows = np.random.default_rng(0).integers(0, 256, size=(120, 2, 4, *channels)).astype(np.uint8)
    plan = PLAN.model_copy(update={"mirror": True})
    shown: list[Tensor] = []
    for folder in ("once", "again"):
        model = Looks(Support(shape=(2, 4, *channels), element=column))
        train, validation = Fold(rows[:100]), Fold(rows[100:])
        fit_model(model, plan, train, validation, seed=0, folder=tmp_path / folder, reporter=QUIET)
        shown.append(torch.cat(model.trained_on))
        seen = torch.cat(model.validated_on)
        assert torch.equal(seen, torch.from_numpy(rows[100:]).repeat(plan.max_epochs, *[1] * (seen.dim() - 1)))
    assert torch.equal(*shown), "a function of the seed"
    x = torch.from_numpy(rows[:100])
    as_it_is = (shown[0][:, None] == x).flatten(2).all(dim=2)
    mirrored = (shown[0][:, None] == x.flip(2)).flatten(2).all(dim=2)
    assert (as_it_is | mirrored).any(dim=1).all()
    n = len(shown[0])
    assert n == 800
    assert abs(int(mirrored.any(dim=1).sum()) - n / 2) < 4 * (n / 4) ** 0.5
    # Each picture is seen from both sides, as the lot falls in each epoch.
    assert ((mirrored.sum(dim=0) > 0) & (mirrored.sum(dim=0) < 8)).sum() > 90


def test_binary_rows_are_drawn_anew_for_training_and_stay_for_validation(tmp_path: Path) -> None:
    column = Column(name="pixel", kind="binary", base_measure="counting")
    rng = np.random.default_rng(0)
    chances = rng.choice(np.float32([0.0, 0.25, 0.75, 1.0]), size=(120, 3, 4))
    rows = (rng.random(chances.shape) < chances).astype(np.uint8)
    plan = PLAN.model_copy(update={"max_epochs": 60})
    shown: list[Tensor] = []
    for folder in ("once", "again"):
        model = Looks(Support(shape=(3, 4), element=column))
        fold = Fold(rows, chances=chances)
        fit_model(model, plan, fold[:100], fold[100:], seed=0, folder=tmp_path / folder, reporter=QUIET)
        shown.append(torch.cat(model.trained_on))
        assert torch.equal(torch.cat(model.validated_on), torch.from_numpy(rows[100:]).repeat(60, 1, 1))
    assert torch.equal(*shown), "a function of the seed"
    assert shown[0].dtype == torch.uint8
    # Which row is which, by its addresses: the loop's own order of batches.
    order = np.concatenate([np.concatenate(list(_epoch(EpochBatches(100, 16, 0), epoch))) for epoch in range(60)])
    seen = shown[0].numpy()
    for chance in (0.0, 0.25, 0.75, 1.0):
        drawn = seen[chances[order] == chance]
        assert abs(drawn.mean() - chance) <= 4.5 * np.sqrt(chance * (1 - chance) / len(drawn))
    # Each time another draw: of two epochs' draws at chance a quarter, 1 - 2 p (1 - p) agree.
    one, two = (seen[k * 100 : (k + 1) * 100][np.argsort(order[k * 100 : (k + 1) * 100])] for k in (0, 1))
    unsure = chances[:100] == 0.25
    assert abs((one == two)[unsure].mean() - 0.625) < 4.5 * np.sqrt(0.25 / unsure.sum())


def _epoch(batches: EpochBatches, epoch: int) -> Iterator[list[int]]:
    batches.set_epoch(epoch)
    return iter(batches)


# -- interruptions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epoch", "batch"), [(0, 3), (1, 0), (5, 4), (7, 6)])
def test_an_interrupted_run_ends_where_it_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, batch: int
) -> None:
    plan = PLAN.model_copy(update={"ema": 0.8, "schedule": "cosine", "weight_decay": 0.01})
    whole, report = fit(tmp_path / "whole", plan, Normal(SUPPORT, dropout=0.2))
    with monkeypatch.context() as patch:
        interrupt_at(patch, epoch, batch)
        with pytest.raises(InterruptedRunError):
            fit(tmp_path / "parts", plan, Normal(SUPPORT, dropout=0.2))
    resumed, again = fit(tmp_path / "parts", plan, Normal(SUPPORT, dropout=0.2))
    assert again.resumed_at == epoch
    assert torch.equal(torch.stack([whole.mean, whole.log_scale]), torch.stack([resumed.mean, resumed.log_scale]))
    for name in ("epochs", "steps", "best_epoch", "validation"):
        assert getattr(again, name) == getattr(report, name), name


def test_a_run_that_ended_by_patience_takes_no_further_step(tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"learning_rate": 2.0, "max_epochs": 200, "patience": 3})
    _, report = fit(tmp_path, plan)
    (tmp_path / "fit.json").unlink()  # as if killed between the last epoch and the report
    _, again = fit(tmp_path, plan)
    assert (again.epochs, again.steps, again.validation) == (report.epochs, report.steps, report.validation)


@pytest.mark.parametrize("damage", ["another model", "cut short", "nothing"])
def test_a_resume_file_that_does_not_fit_is_left_behind(tmp_path: Path, damage: str) -> None:
    whole, _ = fit(tmp_path / "whole")
    fit(tmp_path / "run", PLAN.model_copy(update={"ema": 0.9, "max_epochs": 2}))  # its weights come twice
    (tmp_path / "run" / "fit.json").unlink()
    resume = tmp_path / "run" / "last.ckpt"
    if damage != "another model":
        resume.write_bytes(resume.read_bytes()[:500] if damage == "cut short" else b"")
    said = io.StringIO()
    model, report = fit(tmp_path / "run", reporter=Reporter(Console(file=said, width=300)))
    assert "starting anew" in said.getvalue()
    assert report.resumed_at == 0
    assert torch.equal(model.mean, whole.mean)


def test_an_interrupt_from_the_keyboard_reaches_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Adapter, "training_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    assert fit(tmp_path)[1].epochs == 8


def test_a_finished_fit_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, report = fit(tmp_path)
    interrupt_at(monkeypatch, 0, 0)
    again, same = fit(tmp_path)
    assert same == report
    assert torch.equal(again.mean, model.mean)


def test_what_a_run_leaves_holds_no_pickle_but_the_resume_file(tmp_path: Path) -> None:
    fit(tmp_path)
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"model.safetensors", "best.safetensors", "fit.json", "last.ckpt"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    torch.load(tmp_path / "last.ckpt", weights_only=True)


def test_progress_reaches_a_pipe_as_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.progress._SECONDS_BETWEEN_LINES", 0.0)
    with (tmp_path / "out.txt").open("w") as pipe:
        fit(tmp_path / "run", reporter=Reporter(Console(file=pipe, width=200)))
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("  fit: epoch 1 of 8, best validation ")
