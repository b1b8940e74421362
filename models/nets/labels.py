"""The label as a condition, for families that take one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from contract.programs import ProgramInput
from contract.randomness import Stream
from models.randomness import uniform

__all__ = ["label_condition", "withheld_labels"]


def label_condition(labels: Sequence[str], *, of: str = "picture") -> tuple[ProgramInput, ...]:
    """The label of a row as an input; one more than the last is the null value. None where there are no labels.

    Example:
        >>> (label,) = label_condition(["cat", "dog"])
        >>> label.default
        2.0
    """
    if not labels:
        return ()
    return (
        ProgramInput(
            name="label",
            dtype="int64",
            source="condition",
            default=len(labels),
            vocabulary=tuple(labels),
            description=f"class of the {of}; none is the law of all of them",
        ),
    )


def withheld_labels(label: Tensor, seed: Tensor, row: Tensor, share: float, null: int) -> Tensor:
    """Labels int64 [n] with the null value in place of some, by lot at the rows' addresses (seed, row int64 [n])."""
    return torch.where(uniform(seed, row, Stream.INIT, dims=1)[:, 0] < share, null, label)
