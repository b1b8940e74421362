"""Rows as pictures: PNG by Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contract.support import Support

__all__ = ["is_picture", "png", "sheet"]

# Between the pictures of a sheet; neither of the two colours of binary ones.
_GAP_GREY = 96


def is_picture(support: Support) -> bool:
    """Whether rows of this support can be drawn: [H, W], or [H, W, 3] in colour, of a binary or ordinal element."""
    if support.element is None or support.element.kind not in ("binary", "ordinal"):
        return False
    return len(support.shape) == 2 or (len(support.shape) == 3 and support.shape[2] == 3)


def png(row: NDArray[Any], support: Support, scale: int = 1) -> bytes:
    """A row as a PNG.

    Args:
        row: [H, W], or [H, W, 3] for red, green and blue, values of the support; the largest level is the brightest.
        support: what the values mean.
        scale: side of a pixel, in pixels of the picture; edges stay sharp.

    Returns:
        PNG bytes, without metadata, so that equal rows give equal bytes under one version of Pillow.

    Raises:
        ValueError: the support is no picture.
    """
    return _write(_pixels(row, support, scale))


def sheet(rows: NDArray[Any], support: Support, across: int, scale: int = 1) -> bytes:
    """Several rows on one PNG, line by line, with a narrow gap between them.

    Args:
        rows: [n, H, W], or [n, H, W, 3], as for ``png``.
        support: what the values mean.
        across: pictures in a line; the last line may be shorter.
        scale: as for ``png``.

    Raises:
        ValueError: the support is no picture.
    """
    pictures = [_pixels(row, support, scale) for row in rows]
    height, width, *channels = pictures[0].shape
    gap = max(1, scale // 2)
    down = -(-len(pictures) // across)
    whole = np.full((down * (height + gap) - gap, across * (width + gap) - gap, *channels), _GAP_GREY, dtype=np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // across * (height + gap), place % across * (width + gap)
        whole[top : top + height, left : left + width] = picture
    return _write(whole)


def _pixels(row: NDArray[Any], support: Support, scale: int) -> NDArray[np.uint8]:
    """Bytes of a row, [H * scale, W * scale], or [H * scale, W * scale, 3] in colour."""
    if not is_picture(support) or support.element is None:
        raise ValueError(f"rows of shape {list(support.shape)} are not pictures")
    top = (support.element.levels or 2) - 1
    bright = np.rint(row.astype(np.float64) * (255.0 / top)).astype(np.uint8)
    return bright.repeat(scale, axis=0).repeat(scale, axis=1)


def _write(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
