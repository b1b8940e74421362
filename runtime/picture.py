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
    if not is_picture(support) or support.element is None:
        raise ValueError(f"rows of shape {list(support.shape)} are not pictures")
    top = (support.element.levels or 2) - 1
    grey = np.rint(row.astype(np.float64) * (255.0 / top)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.kron(grey, np.ones((scale, scale), dtype=np.uint8))).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
