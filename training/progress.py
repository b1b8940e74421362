"""Progress on a terminal (a bar) and in a pipe (a line now and then)."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Bar", "Reporter"]

_SECONDS_BETWEEN_LINES = 10.0


class Bar:
    """Progress of one piece of work, in epochs or other steps."""

    def __init__(self, console: Console, label: str, total: int, unit: str = "epoch"):
        self._console = console
        self._label = label
        self._total = total
        self._unit = unit
        self._last_line = time.monotonic()
        self._live: Progress | None = None
        if console.is_terminal:
            self._live = Progress(
                TextColumn("  {task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
                transient=True,
            )
            self._task = self._live.add_task(label, total=total, note="")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, done: int, note: str = "") -> None:
        """Say that ``done`` epochs or steps are over."""
        if self._live is not None:
            self._live.update(self._task, completed=done, note=note)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            after = f", {note}" if note else ""
            self._console.print(f"  {self._label}: {self._unit} {done} of {self._total}{after}", highlight=False)


class Reporter:
    """Where a training run says what it is doing."""

    def __init__(self, console: Console | None = None):
        self.console = console if console is not None else Console()

    def line(self, text: str) -> None:
        """One line before a stage, or about it."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def bar(self, label: str, total: int, unit: str = "epoch") -> Bar:
        """A bar of ``total`` epochs, or other steps."""
        return Bar(self.console, label, total, unit)
