"""``nonesuch train RECIPE``: from a recipe to a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["train"]


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")],
    data: Annotated[
        Path, typer.Option(envvar="NONESUCH_DATA", help="Data folder that the recipe's paths are relative to.")
    ] = Path("data"),
    out: Annotated[Path, typer.Option(help="Folder of bundles; the bundle is OUT/NAME/NEXT_VERSION.")] = Path(
        "bundles"
    ),
    runs: Annotated[Path, typer.Option(help="Folder of runs: resume files, TensorBoard logs.")] = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew even if an interrupted run could go on.")] = False,
) -> None:
    """Train a recipe into a bundle. A run that was interrupted goes on where it stopped."""
    from training import train as training
    from training.errors import TrainingError, TrainingInputError
    from training.export import ExportError
    from training.progress import Reporter
    from training.report import trained_table

    reporter = Reporter()
    try:
        trained = training.train(recipe, data_root=data, out=out, runs=runs, fresh=fresh, reporter=reporter)
    except TrainingInputError as error:
        print(f"nonesuch train: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except (TrainingError, ExportError) as error:
        print(f"nonesuch train: {recipe}: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("nonesuch train: interrupted; the same command goes on where it stopped", file=sys.stderr)
        raise typer.Exit(130) from None
    except OSError as error:
        print(f"nonesuch train: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    reporter.console.print(trained_table(trained))
    reporter.line(str(trained.bundle.folder))
