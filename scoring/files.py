"""A file of rows scored into a Parquet file, piece by piece: it never needs to fit into memory."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from scoring.batches import columns_of
from scoring.rows import ROW, Errors
from scoring.sources import Piece, Source
from scoring.tables import TableScorer

__all__ = ["Answered", "FileReport", "answer", "score_file", "write_answers"]

_GROUP_ROWS = 2**17


@dataclass
class FileReport:
    """What became of a file's rows.

    Attributes:
        rows: how many there are.
        alarms: how many are flagged.
        unscored: how many could not be scored.
    """

    rows: int = 0
    alarms: int = 0
    unscored: int = 0


@dataclass(frozen=True)
class Answered:
    """The answer for a piece of a file.

    Attributes:
        batch: as the output's schema says, in the order of the file.
        share: of the file, how much has been read.
        alarms: how many of the rows are flagged.
        errors: why rows could not be scored, by position in the file.
    """

    batch: Any
    share: float
    alarms: int
    errors: Errors


def score_file(
    source: Source,
    table_scorer: TableScorer,
    out: Path,
    *,
    promise: str | Mapping[str, str] = "",
    progress: Callable[[FileReport, float], None] | None = None,
) -> FileReport:
    """Score every row of a file into a Parquet file, which appears under its name when it is whole.

    Args:
        source: the file.
        table_scorer: what scores its batches.
        out: the Parquet file. Columns ``row`` (position in the source, from 0), those kept, ``score``, ``p_value``,
            ``is_anomaly``, each statistic, and ``error`` where rows may be skipped. Which bundle gave them at which
            alpha is in the file's metadata, under ``nonesuch``, as JSON.
        promise: what the alarms promise, for the metadata; by label where rows have labels.
        progress: called after each piece with the report so far and the share of the file that has been read.

    Raises:
        FileError: the source is damaged, lacks a column, or has two of one name.
        InputError: a row cannot be scored; names it by its position in the file.
        OSError: the output cannot be written.
    """
    columns = columns_of(source, table_scorer.scorer.support, table_scorer.beside)
    kept = source.types(table_scorer.keep)
    answers = (answer(piece, table_scorer, kept, source.share) for piece in source.pieces(columns))
    return write_answers(answers, table_scorer, kept, out, promise=promise, progress=progress)


def answer(piece: Piece, table_scorer: TableScorer, kept: Mapping[str, Any], share: float) -> Answered:
    """The answer for a piece, its broken rows included; arguments and errors as for ``score_file``."""
    if piece.broken and table_scorer.on_error == "fail":
        first = min(piece.broken)
        before = int((piece.positions < first).sum())
        table_scorer(piece.batch.slice(0, before), piece.positions[:before])  # may name an earlier row
        raise piece.broken[first]
    batch, scores = table_scorer(piece.batch, piece.positions)
    if piece.broken:
        lost = table_scorer.unscored(piece.broken, kept)
        both = pyarrow.Table.from_batches([batch, lost]).sort_by(ROW).combine_chunks()
        batch = both.to_batches()[0]
    errors = {int(piece.positions[row]): error for row, error in scores.errors.items()} | piece.broken
    return Answered(batch, share, scores.alarms, errors)


def write_answers(
    answers: Iterable[Answered],
    table_scorer: TableScorer,
    kept: Mapping[str, Any],
    out: Path,
    *,
    promise: str | Mapping[str, str] = "",
    progress: Callable[[FileReport, float], None] | None = None,
) -> FileReport:
    """Write answers, in the order of the file, as ``score_file`` says; ``kept`` are the types of columns handed on."""
    schema = table_scorer.schema(kept).with_metadata({"nonesuch": json.dumps(_about(table_scorer, promise))})
    report = FileReport()
    with _appearing(out) as draft, pyarrow.parquet.ParquetWriter(draft, schema) as writer:
        gathered: list[Any] = []
        for answered in answers:
            gathered.append(answered.batch.replace_schema_metadata(schema.metadata))
            report.rows += answered.batch.num_rows
            report.alarms += answered.alarms
            report.unscored += len(answered.errors)
            if sum(batch.num_rows for batch in gathered) >= _GROUP_ROWS:
                writer.write_table(pyarrow.Table.from_batches(gathered, schema))
                gathered = []
            if progress is not None:
                progress(report, answered.share)
        if gathered:
            writer.write_table(pyarrow.Table.from_batches(gathered, schema))
    return report


def _about(table_scorer: TableScorer, promise: str | Mapping[str, str]) -> dict[str, Any]:
    scorer = table_scorer.scorer
    return {
        "model": scorer.manifest.name,
        "version": scorer.manifest.version,
        "digest": scorer.model.digest,
        "profile": scorer.model.profile,
        "alpha": scorer.alpha,
        "guarantee": None if scorer.calibration.dependent else scorer.guarantee,
        "n_calibration": scorer.calibration.n,
        **({"n_blocks": scorer.calibration.blocks} if scorer.calibration.dependent else {}),
        "ordinary_rows": scorer.calibration.rows,
        **({} if scorer.label is None else {"label": scorer.label}),
        "promise": promise if isinstance(promise, str) else dict(promise),
    }


@contextlib.contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place when all went well, and vanishes otherwise."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
