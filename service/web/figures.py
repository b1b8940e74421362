"""Small drawings of samples, as inline SVG, and numbers as people read them.

Colours come from the style sheet by class, so that a figure follows the page into the dark.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

__all__ = ["number", "scatter", "strip"]

Floats = NDArray[np.float64]

# Share of the drawing left free on every side.
_MARGIN = 0.06

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, digits: int = 4) -> str:
    """A number with so many significant digits, written out where that is short, with a true minus sign."""
    if not np.isfinite(value):
        return "missing" if np.isnan(value) else ("∞" if value > 0 else "−∞")
    size = abs(value)
    if value == int(value) and size < 1e6:
        text = f"{int(value)}"
    elif 1e-4 <= size < 1e6:
        places = max(0, digits - 1 - int(np.floor(np.log10(size))))
        text = f"{value:.{places}f}"
    else:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        text = f"{mantissa} × 10{str(int(exponent)).translate(_RAISED)}"
    return text.replace("-", "−")


def scatter(cloud: Floats, point: Floats | None, labels: tuple[str, str], size: tuple[int, int] = (360, 240)) -> Markup:
    """A cloud of points in the plane, and one of them that matters.

    Args:
        cloud: [n, 2].
        point: [2], or None for the cloud alone.
        labels: names of the two axes.
        size: width and height of the drawing, in pixels; one unit has the same length along both axes.
    """
    shown = cloud if point is None else np.vstack([cloud, point])
    low, high = shown.min(axis=0), shown.max(axis=0)
    width, height = size
    scale = (1 - 2 * _MARGIN) * (np.array(size) / np.maximum(high - low, 1e-12)).min()
    middle = (low + high) / 2.0

    def place(p: Floats) -> tuple[str, str]:
        x, y = (p - middle) * scale
        return f"{width / 2 + x:.1f}", f"{height / 2 - y:.1f}"

    said = escape(_said(point, labels))
    parts = [f'<svg class="scatter" viewBox="0 0 {width} {height}" role="img" aria-label="{said}">']
    # A path of zero-length strokes with round ends draws hundreds of dots as one element.
    dots = "".join(f"M{x} {y}h0" for x, y in (place(p) for p in cloud))
    parts.append(f'<path class="cloud" d="{dots}"/>')
    if point is not None:
        x, y = place(point)
        parts.append(f'<path class="guide" d="M{x} 0V{height}M0 {y}H{width}"/>')
        parts.append(
            f'<circle class="halo" cx="{x}" cy="{y}" r="11"/><circle class="point" cx="{x}" cy="{y}" r="5.5"/>'
        )
    parts.append("</svg>")
    return Markup("".join(parts))


def strip(values: Floats, value: float, width: int = 120, height: int = 12) -> Markup:
    """Where a number lies among others: a line over their middle 90 %, and a dot; empty where nothing can be shown."""
    others = values[np.isfinite(values)]
    if not len(others) or not np.isfinite(value):
        return Markup("")
    low, five, ninety_five, high = np.quantile(others, [0.005, 0.05, 0.95, 0.995])
    if high <= low:
        return Markup("")

    def place(v: Any) -> str:
        share = min(1.0, max(0.0, (float(v) - low) / (high - low)))
        return f"{height / 2 + share * (width - height):.1f}"

    middle = f"{height / 2:.0f}"
    return Markup(
        f'<svg class="strip" viewBox="0 0 {width} {height}" aria-hidden="true">'
        f'<path class="range" d="M{place(low)} {middle}H{place(high)}"/>'
        f'<path class="usual" d="M{place(five)} {middle}H{place(ninety_five)}"/>'
        f'<circle class="point" cx="{place(value)}" cy="{middle}" r="4"/></svg>'
    )


def _said(point: Floats | None, labels: tuple[str, str]) -> str:
    if point is None:
        return f"Samples, {labels[0]} to the right and {labels[1]} upwards"
    return (
        f"A point at {labels[0]} {number(float(point[0]))}, {labels[1]} {number(float(point[1]))}, among other samples"
    )
