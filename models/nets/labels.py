"""The label as a condition, for families that take one."""

from __future__ import annotations

from collections.abc import Sequence

from contract.programs import ProgramInput

__all__ = ["label_condition"]


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
