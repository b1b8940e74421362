"""Checkpoints: parameters and buffers as safetensors, and small files written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from training.errors import TrainingError

__all__ = ["load_weights", "save_weights", "write_whole"]


def save_weights(model: nn.Module, path: Path) -> None:
    """Parameters and buffers as safetensors, whole or not at all."""
    draft = path.with_name(f".{path.name}")
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}, draft)
    draft.replace(path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Parameters and buffers from safetensors; the model ends up in evaluation mode, without gradients.

    Raises:
        TrainingError: they are another model's.
    """
    try:
        model.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise TrainingError(f"{path}: {' '.join(str(error).split())}") from None
    model.eval().requires_grad_(False)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under another name first, then rename it."""
    draft = path.with_name(f".{path.name}")
    draft.write_bytes(data)
    draft.replace(path)
