"""Every family, trained by its contract recipe: what contract tests look at, and other tests may serve.

A family brings ``recipes/contract/FAMILY.yaml``: seconds to train, and small enough that its law can be integrated over
the plane or summed over at most 2^12 states.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from contract.bundle import open_bundle
from contract.support import Support
from models.base import GenerativeModel, registry
from runtime.model import LoadedModel, load_model
from training.checkpoints import load_weights
from training.folds import Folds
from training.loop import REPORT, WEIGHTS, FitReport
from training.progress import Reporter
from training.recipe import Recipe, build_model, load_recipe
from training.train import prepare_data, train

__all__ = ["RECIPES", "TrainedFamily", "all_trained", "every_state", "kind_of", "trained"]

RECIPES = Path(__file__).parent.parent / "recipes" / "contract"


@dataclass(frozen=True)
class TrainedFamily:
    """A family after ``nonesuch train``.

    Attributes:
        name: the family's.
        recipe: its contract recipe.
        root: folder of bundles with the one that was written.
        served: that bundle, its sessions open.
        model: the torch module with the weights that were kept.
        start: parameters before training, by name.
        folds: the rows, by fold.
        fit: how the fit went.
    """

    name: str
    recipe: Recipe
    root: Path
    served: LoadedModel
    model: GenerativeModel
    start: dict[str, Tensor]
    folds: Folds
    fit: FitReport

    @property
    def continuous(self) -> NDArray[np.bool_]:
        """Which coordinates of a flat row have a density."""
        support = self.model.support
        return np.array([support.column_at(i).base_measure == "lebesgue" for i in range(support.size)])

    def untrained(self) -> GenerativeModel:
        """The model as it was built, before training."""
        torch.manual_seed(self.recipe.seed)
        labels = next((part.vocabulary for part in self.model.conditions), None)
        return build_model(self.recipe, self.model.support, labels)


@cache
def trained(name: str) -> TrainedFamily:
    """Train a family by its contract recipe, once in a test session, whichever process asks first."""
    folder = _folder() / name
    with _alone(folder):
        recipe = _train(name)
    out, runs, data = folder / "bundles", folder / "runs", folder / "data"
    dataset, folds = prepare_data(recipe, data)
    torch.manual_seed(recipe.seed)
    model = build_model(recipe, dataset.support, dataset.label_names)
    start = {key: value.detach().clone() for key, value in model.named_parameters()}
    load_weights(model, runs / recipe.name / WEIGHTS)
    return TrainedFamily(
        name=name,
        recipe=recipe,
        root=out,
        served=load_model(open_bundle(out / recipe.name / "1")),
        model=model.eval(),
        start=start,
        folds=folds,
        fit=FitReport(**json.loads((runs / recipe.name / REPORT).read_text(encoding="utf-8"))),
    )


def all_trained() -> list[TrainedFamily]:
    """Every family; those that another process is training come last."""
    names = sorted(registry())
    for name in names:
        with suppress(BlockingIOError), _alone(_folder() / name, wait=False):
            _train(name)
    return [trained(name) for name in names]


@cache
def kind_of(name: str) -> str | None:
    """The kind of a family's log-probability; where it depends on the model's size, that of its contract recipe."""
    kind = getattr(registry()[name], "log_prob_kind", None)
    if kind is None and hasattr(registry()[name], "log_weight"):
        return "lower_bound"
    if not isinstance(kind, property):
        return kind
    recipe, _ = load_recipe(RECIPES / f"{name}.yaml")
    model: Any = build_model(recipe, prepare_data(recipe, _folder())[0].support)
    return str(model.log_prob_kind)


def every_state(support: Support) -> NDArray[Any]:
    """Every row of binary or ordinal elements, of at most 2^12: [m, *shape]; the first element changes fastest."""
    assert support.element is not None
    assert support.element.kind in ("binary", "ordinal")
    levels = support.element.levels or 2
    count = levels**support.size
    assert count <= 2**12, "a contract recipe models at most 2^12 states"
    states = np.arange(count)[:, None] // levels ** np.arange(support.size) % levels
    return states.astype(support.dtype).reshape(-1, *support.shape)


def _train(name: str) -> Recipe:
    path = RECIPES / f"{name}.yaml"
    assert path.is_file(), f"the family {name!r} brings no contract recipe {path}"
    recipe, _ = load_recipe(path)
    assert recipe.family == name
    folder = _folder() / name
    out, runs, data = folder / "bundles", folder / "runs", folder / "data"
    if not (out / recipe.name / "1").is_dir():
        train(path, data_root=data, out=out, runs=runs, reporter=Reporter(Console(quiet=True)))
    return recipe


@contextmanager
def _alone(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """One process at a time; whoever would not wait gets a BlockingIOError."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@cache
def _folder() -> Path:
    # The processes of one pytest-xdist run share a folder; tests/conftest.py names it and pytest clears it away.
    shared = os.environ.get("NONESUCH_TEST_FAMILIES")
    if shared is not None:
        return Path(shared)
    holder = tempfile.TemporaryDirectory(prefix="families-")
    _HELD.append(holder)
    return Path(holder.name)


_HELD: list[tempfile.TemporaryDirectory[str]] = []  # removed when the interpreter ends
