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
    """Whether rows of this support can be drawn: a grey picture [H, W] of a binary or ordinal element."""
    return support.element is not None and len(support.shape) == 2 and support.element.kind in ("binary", "ordinal")


def png(row: NDArray[Any], support: Support, scale: int = 1) -> bytes:
    """A row as a PNG.

    Args:
        row: [H, W], values of the support; the largest level is white.
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
        rows: [n, H, W], as for ``png``.
        support: what the values mean.
        across: pictures in a line; the last line may be shorter.
        scale: as for ``png``.

    Raises:
        ValueError: the support is no picture.
    """
    pictures = [_pixels(row, support, scale) for row in rows]
    height, width = pictures[0].shape
    gap = max(1, scale // 2)
    down = -(-len(pictures) // across)
    whole = np.full((down * (height + gap) - gap, across * (width + gap) - gap), _GAP_GREY, dtype=np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // across * (height + gap), place % across * (width + gap)
        whole[top : top + height, left : left + width] = picture
    return _write(whole)


def _pixels(row: NDArray[Any], support: Support, scale: int) -> NDArray[np.uint8]:
    """Grey pixels of a row, [H * scale, W * scale]."""
    if not is_picture(support) or support.element is None:
        raise ValueError(f"rows of shape {list(support.shape)} are not pictures")
    top = (support.element.levels or 2) - 1
    grey = np.rint(row.astype(np.float64) * (255.0 / top)).astype(np.uint8)
    return np.kron(grey, np.ones((scale, scale), dtype=np.uint8))


def _write(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
