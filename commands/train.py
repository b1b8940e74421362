"""``nonesuch train RECIPE``: from a recipe, or from a table alone, to a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from training.progress import Reporter

__all__ = ["train"]


def train(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE|TABLE|PICTURES",
            help="A recipe (YAML), or data: a table (.csv, .tsv, .parquet), or pictures (a folder of PNG or JPEG "
            "files, .npy, .npz or .npz:KEY, idx).",
        ),
    ],
    data: Annotated[
        Path, typer.Option(envvar="NONESUCH_DATA", help="Data folder that the recipe's paths are relative to.")
    ] = Path("data"),
    out: Annotated[Path, typer.Option(help="Folder of bundles; the bundle is OUT/NAME/NEXT_VERSION.")] = Path(
        "bundles"
    ),
    runs: Annotated[Path, typer.Option(help="Folder of runs: resume files, TensorBoard logs.")] = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew even if an interrupted run could go on.")] = False,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes that share the work on this machine; a GPU each where there are GPUs.")
    ] = 1,
    label: Annotated[
        str | None,
        typer.Option(
            help="Of a table: the column that says which rows are ordinary; it is not modelled. Of an npz file of "
            "pictures: the key of their labels."
        ),
    ] = None,
    ordinary: Annotated[
        str | None,
        typer.Option(
            help="Its value in ordinary rows; of a folder of pictures, their sub-folder. They are modelled; the others "
            "are the anomalies."
        ),
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Of a table: a column to leave out; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option(help="Of data: the bundle's name.", show_default="the file's")] = None,
    purpose: Annotated[
        Literal["density", "anomaly"],
        typer.Option(
            "--for",
            help="Of data: what their recipe is tuned for: log-probabilities and draws, or anomaly scores, whose "
            "statistics take seconds to fit. Of pictures only the latter is drafted.",
        ),
    ] = "density",
    recipe_only: Annotated[
        bool, typer.Option("--recipe-only", help="Of data: write the recipe and stop, to look at it first.")
    ] = False,
) -> None:
    """Train a recipe into a bundle. A run that was interrupted goes on where it stopped.

    Given a table instead of a recipe, it looks at the columns, says what it takes each of them for, writes a recipe
    NAME.yaml into the current folder (never over another one), and trains that. Edit the recipe where it is mistaken,
    and train it with: nonesuch train NAME.yaml --data FOLDER_OF_THE_TABLE. Given pictures and --for anomaly, it does
    the same; those of a folder that are of several sizes, or large, are resized.

    Several machines share the work under torchrun: torchrun --nnodes 2 … -m commands.main train RECIPE on each. A batch
    is the recipe's whatever the number of processes: each has its part of it.
    """
    from training import processes as others
    from training import train as training
    from training.draft import is_data
    from training.errors import RecipeError, TrainingError, TrainingInputError
    from training.export import ExportError
    from training.progress import Reporter
    from training.report import trained_table

    reporter = Reporter()
    options = {"label": label, "ordinary": ordinary, "drop": drop, "name": name, "recipe-only": recipe_only}
    options["for"] = purpose != "density"
    helpers = others.Helpers()
    try:
        if is_data(recipe):
            if others.expected() > 1:
                raise RecipeError(f"{recipe}: several processes train a recipe; write one first with --recipe-only")
            recipe, data = _drafted(recipe, data, label, ordinary, drop or [], name, purpose, reporter)
            if recipe_only:
                return
        elif given := [option for option, value in options.items() if value]:
            raise RecipeError(f"{recipe}: --{given[0]} goes with data, not with a recipe: edit the recipe instead")
        if processes > 1:
            paths = [f"--data={data}", f"--out={out}", f"--runs={runs}"]
            helpers = others.start_helpers(processes, ["train", str(recipe), *paths])
        with others.join():
            if others.rank() > 0:
                training.help_train(recipe, data_root=data, runs=runs)
                return
            trained = training.train(recipe, data_root=data, out=out, runs=runs, fresh=fresh, reporter=reporter)
    except TrainingInputError as error:
        print(f"nonesuch train: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except others.LostProcessError as error:
        why = helpers.why() if helpers.processes else f"process {others.rank()} lost another process ({error})"
        print(f"nonesuch train: {recipe}: {why}; the same command goes on where the run stopped", file=sys.stderr)
        helpers.end()
        others.leave(1)
    except (TrainingError, ExportError) as error:
        print(f"nonesuch train: {recipe}: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("nonesuch train: interrupted; the same command goes on where it stopped", file=sys.stderr)
        raise typer.Exit(130) from None
    except OSError as error:
        print(f"nonesuch train: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    finally:
        helpers.end()
    reporter.console.print(trained_table(trained))
    reporter.line(str(trained.bundle.folder))


def _drafted(
    given: Path,
    data: Path,
    label: str | None,
    ordinary: str | None,
    drop: list[str],
    name: str | None,
    purpose: Literal["density", "anomaly"],
    reporter: Reporter,
) -> tuple[Path, Path]:
    """Write a recipe for a table or pictures, and show it: the recipe and its data folder."""
    from training.draft import draft_recipe, findings_table
    from training.drafts import write_draft

    draft = draft_recipe(given, data_root=data, label=label, ordinary=ordinary, drop=drop, name=name, purpose=purpose)
    path, remark = write_draft(draft, Path())
    if draft.findings:
        reporter.console.print(findings_table(draft))
    else:
        reporter.line(f"{draft.name}: {draft.about}")
    reporter.line(f"family: {draft.family}")
    reporter.line(f"recipe: {path}" + (f" ({remark})" if remark else ""))
    reporter.line("".join(f"    {line}\n" for line in draft.text.splitlines()))
    reporter.line(f"to train it after editing it: nonesuch train {path} --data {draft.data}")
    return path, draft.data
