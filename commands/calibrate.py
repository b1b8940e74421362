"""``nonesuch calibrate BUNDLE ROWS``: a bundle's next version, whose alarms are about somebody's own ordinary rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

__all__ = ["calibrate"]


def calibrate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder, …/NAME/VERSION.")],
    rows: Annotated[
        Path,
        typer.Argument(
            metavar="ROWS", help="Ordinary rows, not trained on: .npy, or a table as nonesuch score reads it."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of bundles.", show_default="the bundle's own")
    ] = None,
    ordinary: Annotated[
        str | None,
        typer.Option(help="Which rows count as ordinary, in words.", show_default="rows like those of the file"),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="A column of labels, such as a kind of machine. Questions that give a label are then answered among "
            "the rows of that label, and alarms keep their rate for each label by itself.",
        ),
    ] = None,
    block: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="A column that says which block (day, machine, run) a row belongs to, where the rows of a block "
            "depend on each other, as those of a time series do. No rate of alarms is promised then (no guarantee: "
            "dependent data); how often rows of each block alarm by the scores of the others is measured in its place.",
        ),
    ] = None,
    missing: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="A word for a missing value, beside NA, NaN, ? and the like; repeatable."),
    ] = None,
    contaminated: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Of the rows, at most this share may be anomalies. Alarms then keep their rate whatever these score, "
            "and are rarer; where they score high they hide others like them. Not with --block.",
        ),
    ] = 0.0,
) -> None:
    """Calibrate a bundle with your own ordinary rows: its next version, whose p-values are among their scores.

    The rows must not have been trained on. They are scored by the bundle's own graphs, and nothing else changes:
    samples, densities and scores stay what they are; a running service finds the new version and serves it beside the
    old one. Columns that the bundle does not know are passed over.
    """
    from contract.alarms import NO_GUARANTEE
    from contract.bundle import open_bundle
    from contract.calibration import BY_BLOCK
    from contract.conformal import TIED, calibration_needed, smallest_p_value
    from contract.errors import BundleError, InputError
    from runtime.calibration import recalibrate
    from scoring.row_files import read_rows_of
    from scoring.rows import FileError, in_file

    def say(line: str) -> None:
        print(line, flush=True)

    folder = bundle.resolve()
    try:
        support = open_bundle(folder).manifest.support
        found = read_rows_of(rows, support, missing=missing or (), label=label, block=block)
        if found.unused:
            say(f"columns that the bundle does not know: {', '.join(map(repr, found.unused))}")
        made = recalibrate(
            folder,
            found.rows,
            folder.parent.parent if out is None else out,
            ordinary=f"rows like those of {rows.name}" if ordinary is None else ordinary,
            source_sha256=found.sha256,
            contaminated=contaminated,
            labels=found.labels,
            labelled_by=label,
            blocks=found.blocks,
            blocked_by=None if block is None else f"the column {block}",
            say=say,
        )
    except InputError as error:
        _refuse(in_file(error, rows) if error.row is not None else str(error))
    except (BundleError, FileError, OSError) as error:
        _refuse(str(error))
    about = made.manifest.calibration
    assert about is not None
    print(f"{made.folder}: {about.n:,} calibration rows; digest {made.digest[:12]}…")
    print(f"The smallest p-value is {smallest_p_value(about.ordinary):.2g}.")
    if about.dependent:
        print(f"The rows come in {about.blocks:,} blocks ({about.blocked_by}). {NO_GUARANTEE.capitalize()}.")
        for metric in made.manifest.metrics:
            if metric.name.startswith(BY_BLOCK):
                alpha = metric.name.removeprefix(BY_BLOCK)
                share = f"{metric.value:.3f} ± {metric.standard_error:.2g}"
                print(f"  Of a block held out, a share of {share} alarms at alpha = {alpha}.")
    if about.contaminated:
        print(f"At most {about.contaminated:,} of the rows may be anomalies, and count against alarms.")
    needed = calibration_needed(0.05, "marginal")
    if needed is not None and about.ordinary < needed:
        print(f"No alarm at alpha = 0.05 is possible: that takes {needed} ordinary rows.")
    for group in about.groups:
        least = smallest_p_value(about.of(group.label).ordinary)
        print(f"  {label} = {group.label}: {group.n:,} rows; the smallest p-value is {least:.2g}.")
    if about.tied > TIED:
        print(f"{100 * about.tied:.0f} % of the rows tie with another one, which makes alarms rarer.")


def _refuse(words: str) -> NoReturn:
    print(f"nonesuch calibrate: {words}", file=sys.stderr)
    raise typer.Exit(2) from None
