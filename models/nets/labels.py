"""The label as a condition, for families that take one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from contract.programs import ProgramInput
from contract.randomness import Stream
from models.randomness import uniform

__all__ = ["label_condition", "withheld"]


def label_condition(labels: Sequence[str]) -> tuple[ProgramInput, ...]:
    """The label of a picture as an input; one more than the last is the null value. None where there are no labels.

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
            description="class of the picture; none is the law of all of them",
        ),
    )


def withheld(conditions: tuple[Tensor, ...], seed: Tensor, row: Tensor, share: float, null: int) -> tuple[Tensor, ...]:
    """The label of a share of the rows replaced by the null value, by lot, at their addresses; nothing of nothing.

    Args:
        conditions: the label, int64 [n], or nothing.
        seed: int64 [n].
        row: int64 [n].
        share: of the rows, in [0, 1).
        null: what stands for no label.
    """
    if not conditions:
        return ()
    by_lot = uniform(seed, row, Stream.INIT, dims=1)[:, 0] < share
    return (torch.where(by_lot, null, conditions[0]),)
