"""``nonesuch evaluate``: measure the test metrics of a bundle again, or put those of many into a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

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
    out: Annotated[Path, typer.Option(help="With --table: the file to write.")] = Path("docs/results.md"),
    time_sampling: Annotated[
        bool, typer.Option("--time-sampling", help="With --table: measure here how long sampling a row takes.")
    ] = False,
) -> None:
    """Measure a bundle's test metrics again, with its graphs, and compare them with its manifest.

    Exit status 1 if a metric lies outside the recipe's tolerance, 2 if the bundle or the data cannot be used.

    With --table, nothing is measured again: the metrics in the manifests of all bundles in some folders are written
    as a page, sorted among those that may be compared, beside what others report.
    """
    from contract.errors import BundleError
    from training.errors import TrainingInputError

    try:
        if table:
            _write_table(bundle or [Path("bundles")], out, time_sampling)
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


def _measure_again(bundle: Path, data: Path) -> list[str]:
    """Print a bundle's figures beside its manifest's; the names of those outside the tolerance."""
    from training.progress import Reporter
    from training.report import compared_table, reevaluate

    compared = reevaluate(bundle, data)
    Reporter().console.print(compared_table(bundle, compared))
    return [line.name for line in compared if line.within is False]


def _write_table(folders: list[Path], out: Path, time_sampling: bool) -> None:
    from training.progress import Reporter
    from training.results import entries, results_page

    reporter = Reporter()
    found = entries(folders, sampling=time_sampling, reporter=reporter)
    beside = [path.name for path in out.parent.iterdir()] if out.parent.is_dir() else []
    out.write_text(results_page(found, sampling=time_sampling, beside=beside), encoding="utf-8")
    reporter.line(f"{out}: {len(found)} bundles")
