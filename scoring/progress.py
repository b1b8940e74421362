"""How far a file has been scored, on a terminal; nothing where nobody looks."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from scoring.files import FileReport

__all__ = ["FileProgress"]


class FileProgress:
    """A bar with the share of the file that has been read, and its rows and alarms so far."""

    def __init__(self, label: str, console: Console | None = None):
        console = console if console is not None else Console(stderr=True)
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("  {task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(label, total=1.0, note="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, report: FileReport, share: float) -> None:
        """Say how far it is."""
        if self._bar is not None:
            note = f"{report.rows:,} rows, {report.alarms:,} alarms"
            self._bar.update(self._task, completed=share, note=note)
