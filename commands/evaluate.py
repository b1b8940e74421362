"""``nonesuch evaluate``: the test metrics of a bundle again, those of many in a table, or anomaly scores over sets."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["evaluate"]


def evaluate(
    bundle: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="BUNDLE|FOLDER...", help="A bundle's folder, …/NAME/VERSION; with --table, folders of bundles."
        ),
    ] = None,
    data: Annotated[
        Path, typer.Option(envvar="NONESUCH_DATA", help="Data folder that the recipe's paths are relative to.")
    ] = Path("data"),
    table: Annotated[
        bool,
        typer.Option(
            "--table", help="Write the table of what all bundles of the folders (bundles/) were measured to be."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write.",
            show_default="docs/results.md with --table, docs/anomaly.md with --anomaly",
        ),
    ] = None,
    time_sampling: Annotated[
        bool, typer.Option("--time-sampling", help="With --table: measure here how long sampling a row takes.")
    ] = False,
    anomaly: Annotated[
        bool,
        typer.Option("--anomaly", help="Measure the anomaly scores of the tabular default over sets of labelled rows."),
    ] = False,
    lines: Annotated[Path, typer.Option(help="With --anomaly: file of measurements, added to.")] = Path(
        "runs/anomaly.jsonl"
    ),
    parts: Annotated[
        str, typer.Option(help="With --anomaly: tables, series, both, or '' to write the page of what was measured.")
    ] = "tables,series",
    sets: Annotated[
        str | None, typer.Option(help="With --anomaly: tables, separated by commas.", show_default="all")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="With --anomaly: lots that each table is split by.")] = 5,
    detectors: Annotated[
        str | None,
        typer.Option(help="With --anomaly: separated by commas; ours is nonesuch.", show_default="ours and PyOD's"),
    ] = None,
    minutes: Annotated[
        float, typer.Option(help="With --anomaly: begin nothing new after so long; the same command goes on.")
    ] = math.inf,
    pictures: Annotated[
        tuple[Path, str, str] | None,
        typer.Option(
            metavar="BUNDLE ORDINARY STRANGE",
            help="With --anomaly: score two files of pictures (idx, or npz as FILE:KEY) with a bundle, too.",
        ),
    ] = None,
) -> None:
    """Measure a bundle's test metrics again, with its graphs, and compare them with its manifest.

    Exit status 1 if a metric lies outside the recipe's tolerance, 2 if the bundle or the data cannot be used.

    With --table, nothing is measured again: the metrics in the manifests of all bundles in some folders are written
    as a page, sorted among those that may be compared, beside what others report. Figures are kept beside the page
    (results.jsonl), so that those of a bundle which is not here stay on it: delete a line there to leave one out.

    With --anomaly, the tabular default is trained on sets of labelled rows (DATA/tabular-anomaly/*.npz, of ADBench) and
    on windows of series (DATA/timeseries/nab), beside seven detectors of PyOD: how well anomalies are ranked, and
    whether alarms and discoveries keep their rates. It takes hours, says how far it is, and goes on where it stopped.
    """
    from contract.errors import BundleError
    from training.errors import TrainingInputError

    try:
        if table and anomaly:
            raise TrainingInputError("--table and --anomaly are two pages; ask for one at a time")
        if table:
            _write_table(bundle or [Path("bundles")], out or Path("docs/results.md"), time_sampling)
            return
        if anomaly:
            if bundle or time_sampling:
                given = "--time-sampling" if time_sampling else str((bundle or [])[0])
                raise TrainingInputError(f"--anomaly trains what it measures; {given} does not go with it")
            _measure_anomaly_scores(
                data=data,
                lines=lines,
                out=out or Path("docs/anomaly.md"),
                parts=_words(parts),
                sets=_words(sets) or None,
                seeds=seeds,
                detectors=_words(detectors),
                pictures=pictures,
                minutes=minutes,
            )
            return
        if bundle is None or len(bundle) != 1:
            raise TrainingInputError(
                f"expected one bundle, got {len(bundle or [])}; folders of bundles go with --table"
            )
        if time_sampling:
            raise TrainingInputError("--time-sampling goes with --table")
        outside = _measure_again(bundle[0], data)
    except (BundleError, TrainingInputError, OSError) as error:
        print(f"nonesuch evaluate: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    if outside:
        print(f"nonesuch evaluate: outside the recipe's tolerance: {', '.join(outside)}", file=sys.stderr)
        raise typer.Exit(1)


def _words(given: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (given or "").split(",") if word.strip())


def _measure_anomaly_scores(*, detectors: tuple[str, ...], **plan: Any) -> None:
    import torch

    from evaluation.cells import ALL
    from evaluation.run import Plan, run
    from training.progress import Reporter

    torch.set_num_threads(1)  # batches are small: more threads wait for each other
    run(Plan(detectors=detectors or ALL, **plan), Reporter())


def _measure_again(bundle: Path, data: Path) -> list[str]:
    """Print a bundle's figures beside its manifest's; the names of those outside the tolerance."""
    from training.progress import Reporter
    from training.report import compared_table, reevaluate

    compared = reevaluate(bundle, data)
    Reporter().console.print(compared_table(bundle, compared))
    return [line.name for line in compared if line.within is False]


def _write_table(folders: list[Path], out: Path, time_sampling: bool) -> None:
    from training.errors import TrainingInputError
    from training.measured import keep, measured_bundles, read_measured, write_measured
    from training.progress import Reporter
    from training.results import results_page

    figures = out.with_suffix(".jsonl")
    if figures == out:
        raise TrainingInputError(f"{out}: expected a page's name, such as results.md; figures are kept in this one")
    earlier = read_measured(figures)
    reporter = Reporter()
    now = measured_bundles(folders, sampling=time_sampling, reporter=reporter)
    lines = keep(earlier, now)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_measured(figures, lines)
    beside = [path.name for path in out.parent.iterdir()]
    out.write_text(results_page(lines, beside=beside), encoding="utf-8")
    reporter.line(f"{out}: {len(lines)} bundles, {len(lines) - len(now)} of them as {figures} had them")
