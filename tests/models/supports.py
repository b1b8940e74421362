"""Supports that several tests model."""

from __future__ import annotations

from contract.support import Column, ColumnKind, Support

__all__ = ["levels", "pictures", "table"]


def table(*kinds: ColumnKind, resolution: float | None = None) -> Support:
    """A table of continuous columns called a, b, c ..."""
    return Support(
        shape=(len(kinds),),
        columns=tuple(
            Column(name=name, kind=kind, base_measure="lebesgue", resolution=resolution)
            for name, kind in zip("abcdefghijklmnopqrstuvwxyz", kinds, strict=False)
        ),
    )


def pictures(*shape: int) -> Support:
    """Pictures of binary pixels."""
    return Support(shape=shape, element=Column(name="pixel", kind="binary", base_measure="counting"))


def levels(count: int, *shape: int) -> Support:
    """Pictures whose pixels have so many levels."""
    return Support(shape=shape, element=Column(name="pixel", kind="ordinal", levels=count, base_measure="counting"))
