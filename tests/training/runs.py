"""Training in a test: small recipes, one thread, nothing printed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from training.progress import Reporter
from training.train import Trained, train

__all__ = ["ROOT", "one_thread", "train_quietly", "write_recipe"]

ROOT = Path(__file__).parents[2]


@contextmanager
def one_thread() -> Iterator[None]:
    """Small matrices are multiplied fastest by one thread, and always in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def write_recipe(folder: Path, base: str, **fields: Any) -> Path:
    """A recipe of ``recipes/``, with fields of the first level replaced, or left out where None."""
    given = {**yaml.safe_load((ROOT / "recipes" / base).read_text(encoding="utf-8")), **fields}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in given.items() if value is not None}))
    return path


def train_quietly(recipe: Path, folder: Path, **options: Any) -> tuple[Trained, str]:
    """Train into ``folder/bundles`` with runs in ``folder/runs``; what it said comes back."""
    said = io.StringIO()
    with one_thread():
        trained = train(
            recipe,
            data_root=folder,
            out=folder / "bundles",
            runs=folder / "runs",
            reporter=Reporter(Console(file=said, width=200)),
            **options,
        )
    return trained, said.getvalue()
