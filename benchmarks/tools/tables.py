"""Markdown tables, which read as well in a terminal."""

from __future__ import annotations

__all__ = ["figure", "table"]


def table(headings: list[str], lines: list[list[str]], left: int = 1) -> str:
    """A Markdown table, its columns as wide as they need; the first ``left`` ones begin at the left."""
    widths = [max(len(line[i]) for line in [headings, *lines]) for i in range(len(headings))]

    def row(cells: list[str]) -> str:
        padded = (
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = [":" + "-" * (width - 1) if i < left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([row(headings), row(rule), *(row(line) for line in lines)])


def figure(value: float) -> str:
    """Three significant digits, and none invented: 48,700; 512; 3.14; 0.0271."""
    if abs(value) >= 100:
        scale = 10 ** max(0, len(str(int(abs(value)))) - 3)
        return f"{round(value / scale) * scale:,}"
    return f"{value:.3g}"
