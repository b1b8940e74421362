"""Rows as pictures: PNG by Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contract.support import Support

__all__ = ["is_picture", "png"]


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
    if not is_picture(support) or support.element is None:
        raise ValueError(f"rows of shape {list(support.shape)} are not pictures")
    top = (support.element.levels or 2) - 1
    bright = np.rint(row.astype(np.float64) * (255.0 / top)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(bright.repeat(scale, axis=0).repeat(scale, axis=1)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
