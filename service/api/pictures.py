"""Rows of an answer as a PNG: one alone as its permanent link shows it, several on a sheet."""

from __future__ import annotations

from math import ceil, sqrt
from typing import Any

from numpy.typing import NDArray

from contract.support import Support
from runtime.picture import png, sheet
from service.web.samples import picture_scale

__all__ = ["draw", "most_on_sheet"]

# What a browser can show and Pillow can write in a second.
_MOST_PIXELS = 2**24
_SHEET_SIDE = 1792


def most_on_sheet(support: Support) -> int:
    """How many rows fit one picture, at one pixel a pixel."""
    return max(1, _MOST_PIXELS // (4 * support.size))


def draw(rows: NDArray[Any], support: Support) -> bytes:
    """PNG of rows [n, *shape]: of a single one the same bytes as its permanent link, of several a sheet."""
    if len(rows) == 1:
        return png(rows[0], support, picture_scale(support))
    across = ceil(sqrt(len(rows)))
    scale = min(picture_scale(support), max(1, _SHEET_SIDE // (across * max(support.shape))))
    return sheet(rows, support, across, scale)
