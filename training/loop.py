"""The one training loop: Lightning's Trainer around one adapter module, for every family.

losses → optimisers → clip → moving average → validate on the whole split → keep the best → finish. A run that was
killed goes on from its last complete epoch, in the order it would have taken: batches, dropout and the addresses of
whatever a loss draws are functions of (seed, epoch) alone.
"""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import signal
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, Dataset, Sampler

from models.base import GenerativeModel
from models.protocols import HasFinish, HasFit, HasLongFit, HasLosses
from training import processes
from training.adapter import BEST, Adapter, Batch, epoch_seed
from training.checkpoints import load_weights, save_weights, write_whole
from training.data import Fold
from training.errors import DataError, TrainingError
from training.hardware import hardware
from training.progress import Bar, Reporter
from training.recipe import Training

__all__ = ["EpochBatches", "FitReport", "Shard", "Shards", "fit_model", "shard_of"]

WEIGHTS = "model.safetensors"
REPORT = "fit.json"
_RESUME = "last.ckpt"
_VALIDATION_BATCH = 1024
_SECONDS_BETWEEN_RESUME_FILES = 2.0


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Attributes:
        epochs: epochs run; 0 for a closed form.
        steps: optimisation steps taken.
        skipped: steps left out because a loss or a gradient was not finite.
        best_epoch: the epoch, from 1, whose weights were kept.
        validation: their mean loss over the whole validation fold: the family's own validation loss, else minus the
            log-probability in nats, else the sum of its losses.
        seconds: time spent fitting, over every run that contributed.
        resumed_at: epochs that an earlier, interrupted run had done; 0 if there was none.
        hardware: what it ran on, in words; of several runs, the last.
    """

    epochs: int = 0
    steps: int = 0
    skipped: int = 0
    best_epoch: int | None = None
    validation: float | None = None
    seconds: float = 0.0
    resumed_at: int = 0
    hardware: str | None = None


def fit_model(
    model: GenerativeModel,
    training: Training | None,
    train: Fold,
    validation: Fold | None,
    *,
    seed: int,
    folder: Path,
    reporter: Reporter,
    label: str = "fit",
) -> FitReport:
    """Fit a model in place; what is in ``folder`` already is used, not done again.

    Args:
        model: the untrained model; ends up in evaluation mode, on the CPU, with the best weights.
        training: budget and optimiser; None for a closed form.
        train: training rows.
        validation: rows that early stopping looks at; None for a closed form.
        seed: seed of everything random.
        folder: the run's folder: resume file, TensorBoard log, final weights and report.
        reporter: where to say how it goes.
        label: what to call the fit there.

    Raises:
        DataError: the family cannot honestly describe the training rows.
        TrainingError: it diverged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if processes.agree((folder / REPORT).exists()):
        load_weights(model, folder / WEIGHTS)
        return FitReport(**json.loads((folder / REPORT).read_text(encoding="utf-8")))
    started = time.monotonic()
    where = hardware() if isinstance(model, HasLosses) else hardware(gpu=False)
    rows = torch.from_numpy(train.rows)
    try:
        model.prepare(rows)
        if train.labels is not None:
            model.prepare_labels(torch.from_numpy(train.labels))
        if training is None:
            _fit_in_closed_form(model, rows, train, reporter, label)
    except ValueError as error:  # rows that the family cannot honestly describe: a constant column, say
        raise DataError(f"{label}: {error}") from None
    if training is None:
        report = FitReport(seconds=time.monotonic() - started)
    else:
        assert isinstance(model, HasLosses)
        assert validation is not None
        report = _fit_by_gradients(model, training, train, validation, seed, folder, reporter, label)
    model.eval().requires_grad_(False)
    if processes.rank() == 0:
        if isinstance(model, HasFinish):
            report = replace(report, seconds=report.seconds + _finish(model, reporter, label))
        report = replace(report, hardware=where)
        save_weights(model, folder / WEIGHTS)
        write_whole(folder / REPORT, (json.dumps(asdict(report), indent=1) + "\n").encode())
    processes.wait()
    if processes.rank() and isinstance(model, HasFinish):
        load_weights(model, folder / WEIGHTS)  # with what the first has found
    return report


def _fit_in_closed_form(
    model: GenerativeModel, rows: torch.Tensor, train: Fold, reporter: Reporter, label: str
) -> None:
    conditions = [] if train.labels is None else [torch.from_numpy(train.labels)]
    if isinstance(model, HasLongFit):
        with reporter.bar(label, model.fit_passes, unit="pass") as bar:
            model.fit(rows, *conditions, progress=bar.update)
        return
    assert isinstance(model, HasFit)
    model.fit(rows, *conditions)


def _finish(model: HasFinish, reporter: Reporter, label: str) -> float:
    """What is found once, of the weights that were kept; gives the seconds it took."""
    started = time.monotonic()
    with reporter.bar(f"{label}: {model.finish_words}", model.finish_steps, unit="step") as bar:
        found = model.finish(bar.update)
    reporter.line(f"  {label}: {found}")
    return time.monotonic() - started


def _fit_by_gradients(
    model: GenerativeModel,
    training: Training,
    train: Fold,
    validation: Fold,
    seed: int,
    folder: Path,
    reporter: Reporter,
    label: str,
) -> FitReport:
    # Convolutions are faster by a fifth where a pixel's channels are neighbours in memory.
    _lay_out(model, torch.channels_last)
    adapter = Adapter(model, training, seed=seed, n=len(train), folder=folder, redraw=train.chances is not None)
    resume = folder / _RESUME
    # Lightning asks for worker processes and tells the world which accelerators it sees; rows in memory need neither.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings(), reporter.bar(label, training.max_epochs) as bar:
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)  # Lightning's, of torch
        trainer = lightning.Trainer(
            max_epochs=training.max_epochs,
            accelerator="gpu" if torch.cuda.is_available() else "cpu",
            **_places(),
            precision=_precision(training, reporter, label),
            logger=TensorBoardLogger(folder, name="", version="tensorboard"),
            callbacks=[_EveryEpoch(resume, bar)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
        order = EpochBatches(len(train), training.batch_size, seed)
        batches = DataLoader(_Rows(train, chances=True), batch_size=None, sampler=Shards(order))
        whole = DataLoader(_Rows(validation), batch_size=None, sampler=_validation_shards(len(validation)))
        done = 0
        state = _read_resume_file(resume, adapter, reporter)
        if state is not None:
            adapter.restore_progress(state)
            done = adapter.progress.epochs
            reporter.line(f"  {label}: goes on after epoch {done} of {training.max_epochs}")
        if not adapter.progress.finished:
            on_interrupt = signal.getsignal(signal.SIGINT)
            try:
                trainer.fit(adapter, batches, whole, ckpt_path=resume if done else None, weights_only=True)
            except SystemExit:  # Lightning turns Ctrl-C into this, and the signal off
                signal.signal(signal.SIGINT, on_interrupt)
                raise KeyboardInterrupt from None
            except RuntimeError as error:
                if processes.lost_process(error):
                    raise processes.LostProcessError(f"{label}: {' '.join(str(error).split())}") from None
                raise
    progress = adapter.progress
    if progress.best_epoch is None:
        raise TrainingError(f"{label}: no epoch ended with a finite validation loss; lower the learning rate")
    processes.wait()  # until the first has written them
    _lay_out(model.cpu(), torch.contiguous_format)
    load_weights(model, folder / BEST)
    return FitReport(
        epochs=progress.epochs,
        steps=progress.steps,
        skipped=progress.skipped,
        best_epoch=progress.best_epoch,
        validation=progress.best,
        seconds=progress.seconds,
        resumed_at=done,
    )


def _lay_out(model: GenerativeModel, memory_format: torch.memory_format) -> None:
    """Put the weights of convolutions, which have four axes, into an order of memory; activations follow them."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)


def _places() -> dict[str, Any]:
    """Where the Trainer runs: on one device, or as one of several processes that exist already."""
    if processes.count() == 1:
        return {"devices": 1}
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes.count()))
    # Gradients are added up by the adapter, which calls no backward(): this strategy starts all processes with the same
    # weights, and keeps running statistics, which are buffers, alike.
    strategy = DDPStrategy(cluster_environment=TorchElasticEnvironment())
    return {"devices": here, "num_nodes": processes.count() // here, "strategy": strategy}


def _precision(training: Training, reporter: Reporter, label: str) -> Any:
    if training.precision == "32":
        return "32-true"
    if not _has_bfloat16():
        reporter.line(
            f"  {label}: neither a GPU nor a processor with bfloat16 for {training.precision}: 32 bits instead"
        )
        return "32-true"
    return training.precision


def _has_bfloat16() -> bool:
    """Whether what trains multiplies in bfloat16 itself: elsewhere that is imitated, and slower than 32 bits."""
    able = torch.cpu.get_capabilities()
    return torch.cuda.is_available() or any(able.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def _read_resume_file(path: Path, adapter: Adapter, reporter: Reporter) -> dict[str, Any] | None:
    """Our own part of a resume file; None, and no such file any more, where it is not this model's."""
    if not path.exists():
        return None
    try:
        checkpoint = torch.load(path, weights_only=True)
        theirs = {name: value.shape for name, value in checkpoint["state_dict"].items()}
        if theirs == {name: value.shape for name, value in adapter.state_dict().items()}:
            state: dict[str, Any] = checkpoint["nonesuch"]
            return state
        reason = "is of another model"
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = f"cannot be read ({type(error).__name__})"
    reporter.line(f"  {path} {reason}: starting anew")
    processes.wait()  # until all have seen it
    if processes.rank() == 0:
        path.unlink()
    return None


class _EveryEpoch(lightning.Callback):
    """Moves the bar, and writes the resume file: whole or not at all, and not more often than is worth it."""

    def __init__(self, path: Path, bar: Bar):
        self._path = path
        self._bar = bar
        self._last = -math.inf

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Called by Lightning after validation."""
        assert isinstance(module, Adapter)
        progress = module.progress
        self._bar.update(progress.epochs, f"best validation {progress.best:.4f} at epoch {progress.best_epoch}")
        if processes.agree(progress.finished or time.monotonic() - self._last >= _SECONDS_BETWEEN_RESUME_FILES):
            draft = self._path.with_name(f".{self._path.name}")
            trainer.save_checkpoint(draft)  # by all processes, though the first alone writes
            if processes.rank() == 0:
                draft.replace(self._path)
            self._last = time.monotonic()


class Shard(NamedTuple):
    """This process's part of a batch.

    Attributes:
        positions: of its rows; where there are fewer rows than processes, a stand-in for those that have none.
        share: its share of the batch's rows; 0 for a stand-in.
    """

    positions: list[int]
    share: float


class _Rows(Dataset[Batch]):
    """Rows in memory, fetched a shard at a time, with the labels of a conditional model.

    Args:
        fold: the rows.
        chances: whether to fetch the chances of a 1, where there are such, in their place.
    """

    def __init__(self, fold: Fold, *, chances: bool = False):
        self._rows = torch.from_numpy(fold.chances if chances and fold.chances is not None else fold.rows)
        self._conditions = [] if fold.labels is None else [torch.from_numpy(fold.labels)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, shard: Shard) -> Batch:
        index = torch.tensor(shard.positions, dtype=torch.int64)
        return self._rows[index], index, shard.share, *(condition[index] for condition in self._conditions)


class EpochBatches(Sampler[list[int]]):
    """Batches of positions 0 … n − 1 in an order that is a function of (seed, epoch); Lightning sets the epoch."""

    def __init__(self, n: int, batch_size: int, seed: int):
        self._n = n
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order."""
        self._epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self._n / self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng(epoch_seed(self._seed, self._epoch, 0)).permutation(self._n)
        for start in range(0, self._n, self._batch_size):
            yield order[start : start + self._batch_size].tolist()


def shard_of(batch: list[int], rank: int, count: int) -> Shard:
    """A process's part of a batch: every count-th row, so that all parts together are the batch."""
    mine = batch[rank::count]
    return Shard(mine, len(mine) / len(batch)) if mine else Shard(batch[:1], 0.0)


class Shards(Sampler[Shard]):
    """This process's part of every batch; the batches are the same whatever the number of processes."""

    def __init__(self, batches: EpochBatches):
        self._batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the order."""
        self._batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Shard]:
        for batch in self._batches:
            yield shard_of(batch, processes.rank(), processes.count())


def _validation_shards(n: int) -> list[Shard]:
    """This process's batches of n validation rows: as many as every other's, the last perhaps a stand-in."""
    starts = list(range(0, n, _VALIDATION_BATCH))
    batches = [list(range(start, min(start + _VALIDATION_BATCH, n))) for start in starts]
    shards = [Shard(batch, 1.0) for batch in batches[processes.rank() :: processes.count()]]
    rounds = math.ceil(len(batches) / processes.count())
    return shards + [Shard([0], 0.0)] * (rounds - len(shards))
