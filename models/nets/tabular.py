"""What a density over the real numbers can honestly be fitted to."""

from __future__ import annotations

from torch import Tensor

from contract.support import Support

__all__ = ["FARTHEST", "refuse_coarse_columns", "why_not_continuous"]

FARTHEST = 1e100
"""Standard deviations beyond which a family may take a row to lie no farther: its square would overflow."""


def why_not_continuous(support: Support, *, positive: bool) -> str | None:
    """None if every column is continuous and never missing, else the reason in words.

    Args:
        support: the support.
        positive: whether columns of positive numbers are allowed; only a family that keeps to them may say so.
    """
    if support.columns is None:
        return "the support is not a table: its coordinates have no columns of their own"
    for column in support.columns:
        if column.missing_allowed:
            return f"column {column.name!r} may be missing, and this family cannot integrate a column out"
        if column.base_measure != "lebesgue":
            return f"column {column.name!r} is {column.kind}: its values have probabilities, not a density"
        if column.kind == "positive" and not positive:
            return f"column {column.name!r} is positive, and this family puts probability below zero"
    return None


def refuse_coarse_columns(support: Support, x: Tensor, *, limit: float = 0.1, remedy: str | None = None) -> None:
    """Refuse columns whose values are rounded too coarsely for a density to describe them.

    Where values lie on a grid of spacing r, a density may grow without bound at its points, and no longer is the
    probability of a cell divided by r. For a normal of standard deviation s the two differ by about r^2 / (24 s^2),
    four parts in ten thousand at r = s / 10.

    Args:
        support: a table, its columns with their ``resolution``.
        x: training rows, [n, d].
        limit: largest r allowed, in standard deviations.
        remedy: the hyper-parameter that lets the family dequantise, as a recipe writes it; None where it cannot.

    Raises:
        ValueError: names the first such column.
    """
    advice = f"say {remedy}" if remedy else "which this family does not do"
    spreads = x.double().std(dim=0, correction=0).tolist()
    for column, spread in zip(support.columns or (), spreads, strict=True):
        if column.resolution is not None and column.resolution > limit * spread:
            raise ValueError(
                f"column {column.name!r} is rounded to {column.resolution:g}, coarser than {limit:g} of its standard "
                f"deviation {spread:.3g}: it needs dequantisation, {advice}"
            )
