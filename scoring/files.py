"""A file of rows scored into a Parquet file, piece by piece: it never needs to fit into memory."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from scoring.batches import columns_of
from scoring.rows import ROW
from scoring.sources import Piece, Source
from scoring.tables import TableScorer

__all__ = ["FileReport", "score_file"]

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


def score_file(
    source: Source,
    table_scorer: TableScorer,
    out: Path,
    *,
    promise: str = "",
    progress: Callable[[FileReport, float], None] | None = None,
) -> FileReport:
    """Score every row of a file into a Parquet file, which appears under its name when it is whole.

    Args:
        source: the file.
        table_scorer: what scores its batches.
        out: the Parquet file. Columns ``row`` (position in the source, from 0), those kept, ``score``, ``p_value``,
            ``is_anomaly``, each statistic, and ``error`` where rows may be skipped. Which bundle gave them at which
            alpha is in the file's metadata, under ``nonesuch``, as JSON.
        promise: what the alarms promise, for the metadata.
        progress: called after each piece with the report so far and the share of the file that has been read.

    Raises:
        FileError: the source is damaged, lacks a column, or has two of one name.
        InputError: a row cannot be scored; names it by its position in the file.
        OSError: the output cannot be written.
    """
    columns = columns_of(source, table_scorer.scorer.support, table_scorer.keep)
    kept = source.types(table_scorer.keep)
    schema = table_scorer.schema(kept).with_metadata({"nonesuch": json.dumps(_about(table_scorer, promise))})
    report = FileReport()
    with _appearing(out) as draft, pyarrow.parquet.ParquetWriter(draft, schema) as writer:
        gathered: list[Any] = []
        for piece in source.pieces(columns):
            answer = _answer(piece, table_scorer, kept, report)
            gathered.append(answer.replace_schema_metadata(schema.metadata))
            if sum(batch.num_rows for batch in gathered) >= _GROUP_ROWS:
                writer.write_table(pyarrow.Table.from_batches(gathered, schema))
                gathered = []
            if progress is not None:
                progress(report, source.share)
        if gathered:
            writer.write_table(pyarrow.Table.from_batches(gathered, schema))
    return report


def _answer(piece: Piece, table_scorer: TableScorer, kept: dict[str, Any], report: FileReport) -> Any:
    if piece.broken and table_scorer.on_error == "fail":
        first = min(piece.broken)
        before = int((piece.positions < first).sum())
        table_scorer(piece.batch.slice(0, before), piece.positions[:before])  # may name an earlier row
        raise piece.broken[first]
    answer, scores = table_scorer(piece.batch, piece.positions)
    report.rows += piece.batch.num_rows + len(piece.broken)
    report.alarms += scores.alarms
    report.unscored += len(scores.errors) + len(piece.broken)
    if not piece.broken:
        return answer
    lost = table_scorer.unscored(piece.broken, kept)
    both = pyarrow.Table.from_batches([answer, lost]).sort_by(ROW).combine_chunks()
    return both.to_batches()[0]


def _about(table_scorer: TableScorer, promise: str) -> dict[str, Any]:
    scorer = table_scorer.scorer
    return {
        "model": scorer.manifest.name,
        "version": scorer.manifest.version,
        "digest": scorer.model.digest,
        "profile": scorer.model.profile,
        "alpha": scorer.alpha,
        "guarantee": scorer.guarantee,
        "n_calibration": scorer.calibration.n,
        "ordinary_rows": scorer.calibration.rows,
        "promise": promise,
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
