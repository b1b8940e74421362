"""A recipe by inspection: what the columns of a file are, a family that fits them, and a budget of minutes.

What holds pictures is drafted in ``draft_pictures.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import yaml
from numpy.typing import NDArray
from rich.table import Table

from contract.support import Column, Support
from models.base import family as family_called
from models.protocols import HasLosses
from training.data.columns import Finding, label_codes
from training.data.tables import RawTable, findings_of, read_table, tabulate
from training.draft_anomaly import STATISTICS, anomaly_section, choose_model, taken_for_numbers
from training.draft_pictures import draft_pictures, is_pictures
from training.drafts import FEWEST_ROWS, Draft, Purpose, place_of, slug
from training.errors import DataError, RecipeError
from training.recipe import parse_recipe
from training.sections import CsvData, ParquetData

__all__ = ["ENDINGS", "budget", "choose_family", "draft_recipe", "findings_table", "is_data"]

ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
"""Endings of tables that a recipe can be drafted for."""

_COARSE = 0.1  # a rounded column is no continuous one beyond this share of its standard deviation
_MODELS: dict[str, dict[str, Any]] = {
    "realnvp": {"preprocess": "whiten", "layers": 8, "hidden": [64, 64]},
    "tabular-made": {"hidden": [64, 64], "components": 5, "dropout": 0.2},
}
_STEPS = 8000  # of optimisation, for a narrow table: a few minutes on two cores


def draft_recipe(
    path: Path,
    *,
    data_root: Path,
    label: str | None = None,
    ordinary: str | None = None,
    drop: Sequence[str] = (),
    name: str | None = None,
    purpose: Purpose = "density",
) -> Draft:
    """Inspect a CSV or Parquet file, or pictures, and write a recipe for it.

    Args:
        path: the file; of pictures a folder as well.
        data_root: data folder; the file's own folder takes its place where the file is not in it.
        label: column that holds the label of each row, if any; of an npz file of pictures, the labels' key.
        ordinary: which label the rows to model have.
        drop: columns to leave out.
        name: of the bundle; the file's name if absent.
        purpose: what it is tuned for: log-probabilities and draws, or anomaly scores.

    Raises:
        TrainingInputError: the file is missing or damaged, has too few rows, or lacks a column or label.
    """
    if is_pictures(path):
        if drop:
            raise RecipeError(f"{path}: --drop: pictures have no columns to leave out")
        return draft_pictures(path, data_root=data_root, label=label, ordinary=ordinary, name=name, purpose=purpose)
    if (label is None) != (ordinary is None):
        missing = "--ordinary VALUE: which rows are to be modelled" if ordinary is None else "--label COLUMN"
        raise RecipeError(f"{path}: --label and --ordinary go together; name {missing} as well")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    root, file = place_of(path, data_root)
    name = name if name is not None else slug(path.name.partition(".")[0], "table")
    spec = _spec(path, root, file)
    raw = read_table(path, spec)
    mask = np.ones(raw.n, dtype=np.bool_)
    if label is not None:
        codes, known = label_codes(raw.column(label, "--label"), raw.where)
        if ordinary not in known:
            raise DataError(f"{path}: --ordinary: no label {ordinary!r}; column {label!r} has {', '.join(known[:20])}")
        mask = codes == known.index(ordinary)
    if mask.sum() < FEWEST_ROWS:
        raise DataError(f"{path}: {mask.sum()} rows to model; at least {FEWEST_ROWS} are needed to train and measure")
    findings = findings_of(raw, {}, drop, label, mask)
    if purpose == "anomaly":
        findings = taken_for_numbers(raw, findings)
    rows, support = tabulate(raw, findings)
    rows = rows[mask]
    if purpose == "anomaly":
        family, model, why = choose_model(support, rows)
    else:
        family, why = choose_family(support, rows)
        model = _MODELS[family]
    text = _text(
        raw,
        spec,
        findings,
        name=name,
        label=label,
        ordinary=ordinary,
        drop=drop,
        family=family,
        model=model,
        n=len(rows),
        purpose=purpose,
    )
    parse_recipe(text, f"the recipe drafted for {path}")
    about = f"{raw.n:,} rows"
    return Draft(name, text, tuple(findings), f"{family}: {why}", raw.n, root, about)


def is_data(path: Path) -> bool:
    """Whether a recipe is to be drafted for a path, rather than read there: it is called like data, or is a folder."""
    return path.name.lower().endswith(ENDINGS) or is_pictures(path)


def choose_family(support: Support, rows: NDArray[np.float64]) -> tuple[str, str]:
    """A family for a table, and why it is that one: rows float64 [n, d] -> (name, reason)."""
    columns = support.columns or ()
    discrete = [column.name for column in columns if column.base_measure == "counting"]
    holes = [column.name for column in columns if column.missing_allowed]
    if discrete or holes:
        reasons = [f"{len(discrete)} of {len(columns)} columns are not continuous"] if discrete else []
        reasons += [f"{len(holes)} have holes"] if holes else []
        return "tabular-made", " and ".join(reasons)
    coarse = [c.name for c, v in zip(columns, rows.T, strict=True) if (c.resolution or 0) > _COARSE * v.std()]
    if coarse:
        return "tabular-made", f"column {coarse[0]!r} is too coarsely rounded for a density alone"
    if len(columns) < 2:
        return "tabular-made", "a flow by couplings needs two columns"
    return "realnvp", "every column is continuous and has no holes, so that a bijection gives codes as well"


def budget(n: int, d: int) -> dict[str, Any]:
    """A training section for n rows of d columns: minutes at most on two cores, and stopped by the validation fold."""
    batch = 32 if n < 2_000 else 128 if n < 20_000 else 512
    steps = _STEPS / (1 + d / 25)
    epochs = int(np.clip(round(steps * batch / n), 5, 200))
    return {
        "max_epochs": epochs,
        "batch_size": batch,
        "learning_rate": 0.001,
        "weight_decay": 0.01,
        "patience": max(5, epochs // 8),
        "ema": 0.99,
        "clip": 5.0,
    }


def findings_table(draft: Draft) -> Table:
    """What was found of each column, for a person to read."""
    table = Table(title=f"{draft.name}: {draft.about}")
    for heading in ("column", "kind", "missing", "examples", "remark"):
        table.add_column(heading, justify="right" if heading == "missing" else "left", overflow="fold")
    for finding in draft.findings:
        missing = f"{100 * finding.missing:.1f} %" if finding.missing else ""
        style = "dim" if finding.column is None else None
        kind = _kind(finding.column) if finding.column is not None else "–"
        examples = ", ".join(word if len(word) <= 16 else f"{word[:15]}…" for word in finding.examples)
        table.add_row(finding.name, kind, missing, examples, finding.remark, style=style)
    return table


# -- the file ------------------------------------------------------------------------------------------------------


def _spec(path: Path, root: Path, file: str) -> CsvData | ParquetData:
    words = f"{path.name}, a table"
    if path.name.endswith(".parquet"):
        return ParquetData(loader="parquet", file=file, description=words)
    try:
        with pyarrow.input_stream(str(path), compression="detect") as stream:
            start = stream.read(1 << 16)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    encoding = "utf-8"
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:  # else a character is cut in two
            encoding = "cp1252"
    delimiter = _delimiter(start.decode(encoding, errors="replace"))
    spec = CsvData(loader="csv", file=file, delimiter=delimiter, encoding=encoding, description=words)
    if delimiter == ",":
        return spec
    comma = spec.model_copy(update={"decimal": ","})
    return comma if _numeric_columns(path, comma) > _numeric_columns(path, spec) else spec


def _delimiter(start: str) -> str:
    """The sign that splits the first lines into the same number of parts, and into the most parts if several do."""
    lines = [line for line in start.splitlines()[:50] if line.strip()]
    lines = lines[:-1] if len(lines) > 2 else lines  # the last may be cut
    if not lines:
        return ","
    best = {}
    for sign in (",", ";", "\t", "|"):
        parts, times = Counter(line.count(sign) for line in lines).most_common(1)[0]
        best[sign] = times / len(lines) if parts else 0.0, parts
    return max(best, key=lambda sign: best[sign])


def _numeric_columns(path: Path, spec: CsvData) -> int:
    return sum(bool(np.isfinite(column.numbers).all()) for column in read_table(path, spec).columns)


# -- the recipe ----------------------------------------------------------------------------------------------------


def _text(
    raw: RawTable,
    spec: CsvData | ParquetData,
    findings: Sequence[Finding],
    *,
    name: str,
    label: str | None,
    ordinary: str | None,
    drop: Sequence[str],
    family: str,
    model: dict[str, Any],
    n: int,
    purpose: Purpose,
) -> str:
    kept = [finding.column for finding in findings if finding.column is not None]
    rows = f"rows of {raw.path.name}" + (f" whose {label} is {ordinary}" if label is not None else "")
    words = f"A {family} model of {n:,} {rows}, in {len(kept)} columns. Its recipe was drafted by inspection."
    about = {"description": f"{raw.path.name}: {raw.n:,} rows"}
    section: dict[str, Any] = {"loader": spec.loader, "file": spec.file} | spec.model_dump(exclude_defaults=True)
    section |= about | ({"label": label} if label is not None else {})
    section |= {"drop": list(drop)} if drop else {}
    section |= {"columns": {column.name: _told(column) for column in kept}}
    recipe: dict[str, Any] = {
        "name": name,
        "title": f"This row of {raw.path.name.partition('.')[0]} does not exist",
        "description": words,
        "licence": "not stated: it follows from that of the data",
        "family": family,
        "data": section,
    }
    recipe |= {"ordinary": ordinary} if ordinary is not None else {}
    recipe["model"] = model
    recipe |= {"training": budget(n, len(kept))} if issubclass(family_called(family), HasLosses) else {}
    recipe |= anomaly_section(rows, n, STATISTICS) if purpose == "anomaly" else {"anomaly": {"rows": rows}}
    recipe["seed"] = 0
    gone = {f.name: f.remark.removeprefix("left out: ") for f in findings if f.column is None}
    lines = [f"# Drafted from {raw.path.name}; edit it and train it again."]
    lines += ["# Of its columns, these are left out:"] if gone else []
    lines += [f"#   {_one_line(column)}: {_one_line(remark)}" for column, remark in gone.items()]
    dumped = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=110)
    return "\n".join(lines) + "\n" + dumped


def _told(column: Column) -> Any:
    if column.levels is not None:
        return {"kind": column.kind, "levels": column.levels}
    return column.kind


def _kind(column: Column) -> str:
    if column.levels is not None:
        return f"ordinal, {column.levels} levels"
    return f"categorical, {len(column.categories)}" if column.categories is not None else column.kind


def _one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)
