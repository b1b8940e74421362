"""Small plots as SVG, the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

__all__ = ["plot", "rates_plot"]

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


def rates_plot(
    path: Path,
    x_label: str,
    y_label: str,
    curves: Mapping[str, tuple[Sequence[tuple[float, float, float]], float]],
) -> None:
    """Points (x, y, standard error of y) by name, each curve with the power of x that it should follow.

    Both axes are logarithmic; the power is a dashed line through the curve's last point.
    """
    figure, axes = plt.subplots(figsize=(5.6, 4.0))
    for name, (points, power) in curves.items():
        x, y, errors = (list(part) for part in zip(*points, strict=True))
        drawn = axes.errorbar(x, y, yerr=errors, marker="o", markersize=3, linewidth=1.2, capsize=2, label=name)
        line = [y[-1] * (each / x[-1]) ** power for each in x]
        axes.plot(x, line, linestyle="--", linewidth=0.8, color=drawn[0].get_color())
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
