"""What Lightning sees of a family: one optimisation step, the moving average, validation, and what to keep."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from torch import Tensor, nn

from contract.randomness import Stream
from models.base import GenerativeModel
from models.protocols import HasValidationLoss
from models.randomness import uniform
from training import processes
from training.checkpoints import save_weights
from training.errors import TrainingError
from training.recipe import Training

__all__ = ["BEST", "Adapter", "Batch", "FitProgress", "epoch_seed"]

BEST = "best.safetensors"

Batch = tuple[Tensor, Tensor, float, *tuple[Tensor, ...]]
"""Rows [m, *shape], their positions [m] in the fold, their share of the step's rows over all processes, conditions."""


@dataclass
class FitProgress:
    """What a resume file must know beside Lightning's own state."""

    epochs: int = 0
    steps: int = 0
    skipped: int = 0
    best_epoch: int | None = None
    best: float = math.inf
    seconds: float = 0.0
    finished: bool = False


class Adapter(lightning.LightningModule):
    """What Lightning sees of any family.

    Args:
        model: what is fitted, in place.
        training: budget and optimiser.
        seed: seed of everything random.
        n: training rows.
        folder: the run's.
        redraw: whether the rows of a batch are chances of a 1, from which each step draws binary rows anew.
    """

    def __init__(
        self, model: GenerativeModel, training: Training, *, seed: int, n: int, folder: Path, redraw: bool = False
    ):
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.average = copy.deepcopy(model).requires_grad_(False) if training.ema is not None else None
        self.training_plan = training
        self.seed = seed
        self.n = n
        self.folder = folder
        self.redraw = redraw
        self.progress = FitProgress()
        self._groups = _parameter_groups(model)
        self._epoch_losses: dict[str, float] = {}
        self._epoch_steps = 0
        self._validation: list[tuple[float, float]] = []
        self._clock = time.monotonic()

    # -- optimisation ----------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """AdamW for each named group of parameters."""
        plan = self.training_plan
        return [
            torch.optim.AdamW(group, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True)
            for group in self._groups.values()
        ]

    def on_train_epoch_start(self) -> None:
        """Start the epoch's sums."""
        self._epoch_losses, self._epoch_steps = {}, 0
        self._clock = time.monotonic()

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """One step of every optimiser, or none where a loss or gradient is not finite."""
        # What this step draws (dropout, say) depends on nothing before it, so that a resumed run draws the same.
        torch.manual_seed(epoch_seed(self.seed, self.current_epoch, 1 + batch_index) + processes.rank())
        x, position, share, *conditions = batch
        # Positions within all epochs: no two draws of a run share an address.
        row = self.current_epoch * self.n + position
        if self.redraw:
            x = _drawn(x, torch.full_like(row, self.seed), row)
        if self.training_plan.mirror:
            x = _mirrored(x, torch.full_like(row, self.seed), row)
        losses = self.model.losses(x, torch.full_like(row, self.seed), row, *conditions)  # type: ignore[operator]
        if set(losses.total) != set(self._groups):
            raise TrainingError(f"losses for {sorted(losses.total)}, parameters for {sorted(self._groups)}")
        last = list(losses.total)[-1]
        gradients: dict[str, tuple[Tensor | None, ...]] = {
            name: torch.autograd.grad(loss, self._groups[name], retain_graph=name != last, allow_unused=True)
            for name, loss in losses.total.items()
        }
        gradients, figures = _over_processes(gradients, {**losses.total, **losses.logged}, share)
        norms = {name: float(_norm(parts)) for name, parts in gradients.items()}
        totals = {name: figures[name] for name in losses.total}
        if not all(math.isfinite(value) for value in (*totals.values(), *norms.values())):
            self.progress.skipped += 1
            return
        optimisers = self.optimizers()
        for (name, group), optimiser in zip(
            self._groups.items(), optimisers if isinstance(optimisers, list) else [optimisers], strict=True
        ):
            clip = self.training_plan.clip
            scale = min(1.0, clip / (norms[name] + 1e-6)) if clip is not None else 1.0
            for parameter, gradient in zip(group, gradients[name], strict=True):
                scaled = gradient if gradient is None or scale == 1.0 else gradient * scale
                parameter.grad = None if scaled is None else _laid_out_as(parameter, scaled)
            for options in optimiser.param_groups:
                options["lr"] = self._learning_rate(batch_index)
            optimiser.step()
        self._update_average()
        self.progress.steps += 1
        self._epoch_steps += 1
        for name, number in figures.items():
            self._epoch_losses[name] = self._epoch_losses.get(name, 0.0) + number

    def _learning_rate(self, batch_index: int) -> float:
        plan = self.training_plan
        if plan.schedule == "constant":
            return plan.learning_rate
        done = (self.current_epoch + batch_index / math.ceil(self.n / plan.batch_size)) / plan.max_epochs
        return plan.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average is None or self.training_plan.ema is None:
            return
        # A short memory at first: the average would else remember the initial weights for 1/(1 - decay) steps.
        decay = min(self.training_plan.ema, (1 + self.progress.steps) / (10 + self.progress.steps))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1.0 - decay)

    # -- validation --------------------------------------------------------------------------------------------------

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Loss of one batch: the family's own, else minus its log-probability, else the sum of its losses."""
        x, position, share, *conditions = batch
        model: Any = self.average if self.average is not None else self.model
        if isinstance(model, HasValidationLoss):
            total = float(model.validation_loss(x, torch.full_like(position, self.seed), position, *conditions).sum())
        elif hasattr(model, "log_prob"):
            total = -float(model.log_prob(x, *conditions).sum())
        else:
            losses = model.losses(x, torch.full_like(position, self.seed), position, *conditions)
            total = float(sum(losses.total.values())) * len(x)
        if share:  # else it only keeps step with the other processes
            self._validation.append((total, len(x)))

    @torch.no_grad()
    def on_validation_epoch_start(self) -> None:
        """Give the average the model's running statistics, which are averages already."""
        if self.average is not None:
            kept = self.model.state_dict().keys()
            theirs = dict(self.model.named_buffers())
            for name, mine in self.average.named_buffers():
                if name in kept:  # else the constructor made it, and it never changes
                    mine.copy_(theirs[name])

    def on_validation_epoch_end(self) -> None:
        """Keep the weights if they are the best so far; stop when none has been for too long."""
        sums = torch.tensor([*map(sum, zip((0.0, 0.0), *self._validation, strict=True))], dtype=torch.float64)
        loss, count = processes.total(sums.to(self.device)).tolist()
        value = loss / count
        self._validation.clear()
        progress, epoch = self.progress, self.current_epoch + 1
        if self._epoch_steps == 0:
            raise TrainingError(f"every step of epoch {epoch} had a loss or gradient that is not finite")
        if value < progress.best:  # NaN is not
            progress.best, progress.best_epoch = value, epoch
            if processes.rank() == 0:
                save_weights(self.average if self.average is not None else self.model, self.folder / BEST)
        patience = self.training_plan.patience
        stale = patience is not None and epoch - (progress.best_epoch or 0) >= patience
        progress.epochs = epoch
        progress.finished = stale or epoch == self.training_plan.max_epochs
        progress.seconds += time.monotonic() - self._clock
        self._clock = time.monotonic()
        if stale:
            self.trainer.should_stop = True
        figures = {f"train/{name}": total / self._epoch_steps for name, total in self._epoch_losses.items()}
        figures |= {"validation": value, "validation/best": progress.best, "skipped": float(progress.skipped)}
        assert self.logger is not None
        self.logger.log_metrics(figures, step=epoch)

    # -- resuming ----------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put our own state beside Lightning's."""
        checkpoint["nonesuch"] = asdict(self.progress)

    def restore_progress(self, state: dict[str, Any]) -> None:
        """Take our own state out of a resume file."""
        self.progress = FitProgress(**state)


def _parameter_groups(model: GenerativeModel) -> dict[str, list[nn.Parameter]]:
    # A family with several optimisers says which parameters are whose; one optimiser is called "main".
    groups = getattr(model, "parameter_groups", None)
    if groups is None:
        return {"main": [parameter for parameter in model.parameters() if parameter.requires_grad]}
    return {name: list(parameters) for name, parameters in groups().items()}


def _drawn(chances: Tensor, seed: Tensor, row: Tensor) -> Tensor:
    """Binary rows of given chances: float32 [n, ...], addresses int64 [n] -> uint8 [n, ...]."""
    flat = chances.flatten(1)
    return (uniform(seed, row, Stream.PROBE, 1, dims=flat.shape[1]) < flat).to(torch.uint8).view_as(chances)


def _mirrored(x: Tensor, seed: Tensor, row: Tensor) -> Tensor:
    """Left and right of every other picture, by lot, exchanged: x [n, H, W, ...], addresses int64 [n] -> the same."""
    turned = uniform(seed, row, Stream.PROBE, dims=1)[:, 0] < 0.5
    return torch.where(turned.reshape(-1, *[1] * (x.dim() - 1)), x.flip(2), x)


def _over_processes(
    gradients: dict[str, tuple[Tensor | None, ...]], figures: Mapping[str, float | Tensor], share: float
) -> tuple[dict[str, tuple[Tensor | None, ...]], dict[str, float]]:
    """Gradients and figures of a step over the rows of all processes: each process's, weighted by its share of them.

    A loss is a mean over rows, so that this is what one process would have found in all the rows together. It is done
    here, once, because a step may have several losses, and may be skipped; all processes skip it or none.
    """
    numbers = {name: float(value.detach() if isinstance(value, Tensor) else value) for name, value in figures.items()}
    if processes.count() == 1:
        return gradients, numbers
    found = [gradient for group in gradients.values() for gradient in group if gradient is not None]
    told = found[0].new_tensor(list(numbers.values()))
    flat = torch.cat([*(gradient.flatten() for gradient in found), told])
    # Where a process has no rows of its own, what its stand-in gave is no number to add, be it ever so wrong.
    flat = processes.total(flat * share if share else torch.zeros_like(flat))
    *pieces, told = torch.split(flat, [*(gradient.numel() for gradient in found), len(numbers)])
    summed = iter([piece.view_as(part).to(part.dtype) for piece, part in zip(pieces, found, strict=True)])
    shared = {
        name: tuple(None if gradient is None else next(summed) for gradient in group)
        for name, group in gradients.items()
    }
    return shared, dict(zip(numbers, told.tolist(), strict=True))


def _norm(gradients: tuple[Tensor | None, ...]) -> Tensor:
    return torch.nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None])


def _laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in its parameter's order of memory: fused AdamW takes the two to lie alike, and does not look."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def epoch_seed(seed: int, epoch: int, purpose: int) -> int:
    """A 63-bit seed for one purpose in one epoch."""
    return int(np.random.SeedSequence([seed, epoch, purpose]).generate_state(1, np.uint64)[0] >> 1)
