"""The bar of a file: on a terminal, and nowhere else."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from scoring.files import FileReport
from scoring.progress import FileProgress


def shown(**options: bool) -> str:
    text = StringIO()
    with FileProgress("rows.csv", Console(file=text, width=100, **options)) as progress:
        progress(FileReport(rows=12_345, alarms=67), 0.5)
    return text.getvalue()


def test_a_terminal_sees_rows_alarms_and_the_share_of_the_file() -> None:
    for words in ("rows.csv", "50%", "12,345 rows, 67 alarms"):
        assert words in shown(force_terminal=True)


def test_a_pipe_sees_nothing() -> None:
    assert shown(force_terminal=False) == ""
