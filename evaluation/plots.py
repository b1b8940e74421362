"""The page's plots as SVG, the same bytes for the same figures, by matplotlib, which is imported late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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


_LEAST = 1e-4  # what a logarithmic axis shows of no alarms at all


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
    with _axes(path, 5.2, 0.19 * len(ours) + 0.8) as axes:
        for place, name in zip(places, names, strict=True):
            axes.plot(others[name], [place] * len(others[name]), "|", color="0.45", markersize=7, zorder=2)
        axes.plot(list(ours.values()), places, "o", color="C3", markersize=4, zorder=3)
        axes.set_yticks(places, names)
        axes.set_xlabel(label)


def alarms_plot(path: Path, cells: Mapping[float, Sequence[tuple[float, float, float]]]) -> None:
    """Shares of alarms by alpha, in the order of the shares, each over the interval that it should lie in.

    Args:
        path: SVG file to write.
        cells: (share, low, high end of the interval) by alpha.
    """
    with _axes(path, 5.2, 2.6) as axes:
        for colour, (alpha, points) in zip(("C0", "C1", "C2"), cells.items(), strict=False):
            ordered = sorted(points)
            places = [(place + 0.5) / len(ordered) for place in range(len(ordered))]
            low, high = ([max(point[end], _LEAST) for point in ordered] for end in (1, 2))
            axes.vlines(places, low, high, color=colour, alpha=0.25, linewidth=1.5)
            shares = [max(point[0], _LEAST) for point in ordered]
            axes.plot(places, shares, ".", color=colour, markersize=3, label=f"α = {alpha:g}")
        axes.set_yscale("log")
        axes.set_xlabel("sets and seeds, in the order of their share")
        axes.set_ylabel("ordinary rows that alarm")
        axes.set_xticks([])
        axes.legend(frameon=False)


@contextmanager
def _axes(path: Path, width: float, height: float) -> Iterator[Any]:
    """Axes to draw on; the file is written at the end."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        yield figure.subplots()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
