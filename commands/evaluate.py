"""``nonesuch evaluate BUNDLE``: measure the test metrics of a bundle again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["evaluate"]


def evaluate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder, …/NAME/VERSION.")],
    data: Annotated[
        Path, typer.Option(envvar="NONESUCH_DATA", help="Data folder that the recipe's paths are relative to.")
    ] = Path("data"),
) -> None:
    """Measure a bundle's test metrics again, with its graphs, and compare them with its manifest.

    Exit status 1 if a metric lies outside the recipe's tolerance, 2 if the bundle or the data cannot be used.
    """
    from contract.errors import BundleError
    from training.errors import TrainingInputError
    from training.progress import Reporter
    from training.report import compared_table, reevaluate

    try:
        compared = reevaluate(bundle, data)
    except (BundleError, TrainingInputError, OSError) as error:
        print(f"nonesuch evaluate: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    Reporter().console.print(compared_table(bundle, compared))
    outside = [line.name for line in compared if line.within is False]
    if outside:
        print(f"nonesuch evaluate: outside the recipe's tolerance: {', '.join(outside)}", file=sys.stderr)
        raise typer.Exit(1)
