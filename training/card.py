"""The card of a bundle: what a person should know before using it, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contract.capabilities import KIND_WORDS
from contract.manifest import Calibration, Metric, Provenance
from contract.programs import Output, Program
from runtime.card import anomalies_section
from training.recipe import Recipe
from training.sections import SeriesData

__all__ = ["figure", "write_card"]

_FOLD_WORDS = {
    "train": "the parameters were fitted on them",
    "validation": "early stopping looked at them",
    "reference": "the anomaly law was fitted on them",
    "calibration": "their scores turn scores into p-values",
    "test": "the figures above were measured on them, once",
}


def figure(metric: Metric) -> str:
    """A metric's value with its standard error and units: ``-89.31 ± 0.25 nats``; four digits of what varies."""
    error = "" if metric.standard_error is None else f" ± {metric.standard_error:.2g}"
    units = "" if metric.units == "1" else f" {metric.units}"
    return f"{metric.value:.4g}{error}{units}" if abs(metric.value) < 1000 else f"{metric.value:.1f}{error}{units}"


def write_card(
    recipe: Recipe,
    *,
    version: int,
    programs: Mapping[str, Program],
    refusals: Mapping[str, str],
    metrics: Sequence[Metric],
    calibration: Calibration | None,
    law_rows: str | None,
    provenance: Provenance,
    tools: Mapping[str, str],
) -> str:
    """The card's text.

    Args:
        recipe: what the bundle was made from.
        version: the bundle's version.
        programs: the program of each capability.
        refusals: why each other capability is absent.
        metrics: what was measured.
        calibration: how scores become p-values, if they do.
        law_rows: which rows the law of the scores was fitted on, in words.
        provenance: data, folds and commit.
        tools: versions of what trained and exported it.
    """
    sections = [
        f"# {recipe.name} {version}\n\n*{recipe.title}.*\n\n{recipe.description.strip()}",
        f"## Data\n\n{provenance.data}.\n\nSHA-256 of the rows: `{provenance.data_sha256}`.",
        f"## Licence\n\n{recipe.licence.strip()}",
        _capabilities(programs, refusals),
        _metrics(metrics),
    ]
    if calibration is not None:
        sections.append(anomalies_section(calibration, law_rows, metrics=metrics))
    sections += [_folds(recipe, provenance), _reproduce(recipe, provenance, tools)]
    return "\n\n".join(sections) + "\n"


def _capabilities(programs: Mapping[str, Program], refusals: Mapping[str, str]) -> str:
    lines = ["## What it answers", "", "| capability | numbers | steps |", "|---|---|---|"]
    for name, program in programs.items():
        parts = []
        for output in program.outputs:
            kind = output.kind.replace("_", " ")
            meaning = next((words for known, words in KIND_WORDS.items() if known == output.kind), output.description)
            units = "" if output.units in ("data", "code", "none") else f", {output.units}"
            parts.append(f"`{output.name}`: {kind}{units}" + (f" ({meaning})" if meaning else "") + _error(output))
        lines.append(f"| {name} | {'; '.join(parts)} | {program.steps.default} |")
    if refusals:
        lines += ["", "It refuses:", ""]
        lines += [f"- {name}: {reason}." for name, reason in refusals.items()]
    return "\n".join(lines)


def _error(output: Output) -> str:
    if output.error is None or output.error.standard_error is None:
        return ""
    bias = f"; {output.error.bias}" if output.error.bias else ""
    return f", with a standard error of {output.error.standard_error:.2g} that all rows share{bias}"


def _metrics(metrics: Sequence[Metric]) -> str:
    if not metrics:
        return "## Figures\n\nNone: the family has no number to measure."
    shared = ", with the error that all rows share" if any(m.kind == "estimate" for m in metrics) else ""
    blocks = ", and over blocks where these are named" if any(m.blocks for m in metrics) else ""
    about = f"Measured with the exported graphs; ± is one standard error over rows{shared}{blocks}."
    lines = ["## Figures", "", about, ""]
    lines += ["| figure | value | kind | fold | rows |", "|---|---|---|---|---|"]
    for m in metrics:
        rows = f"{m.n:,}" + (f" in {m.blocks:,} blocks" if m.blocks else "")
        lines.append(f"| {m.name} | {figure(m)} | {m.kind.replace('_', ' ')} | {m.fold} | {rows} |")
    return "\n".join(lines)


def _folds(recipe: Recipe, provenance: Provenance) -> str:
    repeats = {"together": "equal rows share a fold", "apart": "of equal rows each is dealt on its own"}
    dealt = f"Disjoint, by a keyed hash of each row's bytes; {repeats[recipe.folds.repeats]}."
    if isinstance(recipe.data, SeriesData):
        dealt = "Disjoint, by a keyed hash of the number of each row's block of the series; blocks share no sample."
    lines = [
        "## Folds",
        "",
        dealt,
        "",
        "| fold | rows | what for | SHA-256 |",
        "|---|---|---|---|",
    ]
    for name, fold in provenance.folds.items():
        lines.append(f"| {name} | {fold['n']:,} | {_FOLD_WORDS[name]} | `{str(fold['sha256'])[:16]}…` |")
    if provenance.contains_training_rows:
        lines += ["", "The bundle contains its training rows: whoever has it has them."]
    return "\n".join(lines)


def _reproduce(recipe: Recipe, provenance: Provenance, tools: Mapping[str, str]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in tools.items())
    return "\n".join(
        [
            "## How to make it again",
            "",
            "Save the recipe below as a file and train it; the result is a new version, whose figures lie within the "
            "recipe's tolerance of these.",
            "",
            f"    nonesuch train {recipe.name}.yaml --data DATA_FOLDER",
            "",
            f"Source tree: commit `{provenance.commit}`. Tools: {versions}.",
            "",
            "```yaml",
            provenance.recipe.rstrip(),
            "```",
        ]
    )
