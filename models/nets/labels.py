"""The label as a condition, for families that take one."""

from __future__ import annotations

from collections.abc import Sequence

from contract.programs import ProgramInput

__all__ = ["label_condition"]


def label_condition(labels: Sequence[str], what: str = "picture") -> tuple[ProgramInput, ...]:
    """The label of a picture, or of what else a row is, as an input; one more than the last is the null value.

    None where there are no labels.

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
            description=f"class of the {what}; none is the law of all of them",
        ),
    )
