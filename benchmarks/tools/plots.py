"""Small plots as SVG, the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

__all__ = ["plot"]

mpl.rcParams.update({"svg.hashsalt": "nonesuch", "svg.fonttype": "none", "font.size": 9, "axes.grid": True})
mpl.rcParams.update({"grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False})


def plot(
    path: Path, x_label: str, y_label: str, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, log_y: bool
) -> None:
    """Lines (x, y) by name over a logarithmic x axis."""
    figure, axes = plt.subplots(figsize=(4.4, 2.8))
    for name, (x, y) in lines.items():
        axes.plot(x, y, marker="o", markersize=3, linewidth=1.2, label=name)
    axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
