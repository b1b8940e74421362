"""The page's plots as SVG, the same bytes for the same figures, by matplotlib, which is imported late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evaluation.alarms import AlarmCell
from training.errors import TrainingInputError

__all__ = ["alarms_plot", "needs_matplotlib", "ranks_plot"]

_STYLE: Any = {
    "svg.hashsalt": "nonesuch",
    "svg.fonttype": "none",
    "font.size": 8,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def needs_matplotlib() -> None:
    """Say at once how to install it, rather than after the measurements.

    Raises:
        TrainingInputError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise TrainingInputError(
            "the page has plots, and matplotlib is missing: pip install 'nonesuch[training,benchmark]'"
        )


def ranks_plot(path: Path, label: str, ours: Mapping[str, float], others: Mapping[str, Sequence[float]]) -> None:
    """A line for each set: ours as a dot, each of the others as a tick.

    Args:
        path: SVG file to write.
        label: of the axis.
        ours: figure by set.
        others: figures of the other detectors by set.
    """
    names = list(ours)
    places = list(range(len(names)))[::-1]
    with _axes(path, 5.2, 0.19 * len(ours) + 0.8) as (axes,):
        for place, name in zip(places, names, strict=True):
            axes.plot(others[name], [place] * len(others[name]), "|", color="0.45", markersize=7, zorder=2)
        axes.plot(list(ours.values()), places, "o", color="C3", markersize=4, zorder=3)
        axes.set_yticks(places, names)
        axes.set_xlabel(label)


def alarms_plot(path: Path, by_alpha: Mapping[float, Sequence[AlarmCell]]) -> None:
    """Shares of alarms in the order of the shares, each over the interval that it should lie in: a panel each alpha.

    Args:
        path: SVG file to write.
        by_alpha: cells by alpha.
    """
    with _axes(path, 7.2, 2.4, panels=len(by_alpha)) as panels:
        for axes, (alpha, cells) in zip(panels, by_alpha.items(), strict=True):
            ordered = sorted(cells, key=lambda cell: cell.share)
            places = list(range(len(ordered)))
            low, high = ([cell.interval[end] / cell.m for cell in ordered] for end in (0, 1))
            axes.vlines(places, low, high, color="0.75", linewidth=1.2)
            axes.axhline(alpha, color="0.3", linewidth=0.6)
            axes.plot(places, [cell.share for cell in ordered], "o", color="C3", markersize=1.8)
            axes.set_title(f"α = {alpha:g}")
            axes.set_ylim(bottom=0.0)
            axes.set_xticks([])
        panels[0].set_ylabel("ordinary rows that alarm")


@contextmanager
def _axes(path: Path, width: float, height: float, panels: int = 1) -> Iterator[list[Any]]:
    """Axes to draw on, side by side; the file is written at the end."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        yield list(figure.subplots(1, panels, squeeze=False)[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
