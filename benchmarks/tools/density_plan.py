"""Which hyper-parameters the tabular comparison tries for each family, and the training budget of those that need one.

The candidates of a family are ladders: each is climbed from its first rung, and left once a rung's mean
log-probability of the validation fold is below that of the rung before. The best of all rungs is kept.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from models.base import family
from models.protocols import HasLosses

__all__ = ["BATCH", "draws_for", "ladders", "plan_digest", "training_section"]

Model = dict[str, Any]

BATCH = 256
_LEAST_ROWS = 2000
_MOST_DRAWS = 10

_NETS: list[Model] = [{"hidden": [128, 128]}, {"hidden": [128, 128], "dropout": 0.2}]
# Splines take most of the time: with 16 bins and nets of 128 a split of sml took an hour of a busy core.
_SPLINE_NETS: list[Model] = [
    {"bins": 8, "bound": 4.0, "hidden": [64, 64], "dropout": dropout} for dropout in (0.0, 0.2)
]

_LADDERS: dict[str, list[list[Model]]] = {
    "mixture-of-gaussians": [
        [{"components": k, "least_variance": floor, "starts": 1, "max_iterations": 1000} for k in (4, 16, 64)]
        for floor in (1e-3, 1e-5)
    ],
    "maf": [[net] for net in _NETS],
    "nsf-coupling": [[net] for net in _SPLINE_NETS],
    "nsf-autoregressive": [[net] for net in _SPLINE_NETS],
}


def ladders(name: str) -> list[list[Model]]:
    """The candidates of a family; one that is not listed here is tried with its own defaults."""
    return _LADDERS.get(name, [[{}]])


def training_section(name: str, n: int, steps: int) -> dict[str, Any] | None:
    """Budget and optimiser for n training rows, as a recipe has them; None for a closed form."""
    if not issubclass(family(name), HasLosses):
        return None
    epochs = max(1, math.ceil(steps * BATCH / n))
    return {
        "max_epochs": epochs,
        "batch_size": BATCH,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "patience": max(5, epochs // 4),
        "ema": 0.999,
        "clip": 10.0,
    }


def draws_for(n: int) -> int:
    """How often each of n rows gets other noise: small sets as often as makes them two thousand rows, at most ten."""
    return min(_MOST_DRAWS, max(1, math.ceil(_LEAST_ROWS / n)))


def plan_digest(name: str, steps: int) -> str:
    """Twelve hex digits that change with whatever is tried for a family, so that old cells are not taken for new."""
    trained = issubclass(family(name), HasLosses)
    plan = [name, ladders(name), training_section(name, BATCH, steps) if trained else None, _LEAST_ROWS, _MOST_DRAWS]
    return hashlib.sha256(json.dumps(plan).encode()).hexdigest()[:12]
