"""A file scored by the workers of a Ray cluster, with the rows, the order and the bits of a single process.

One task reads the file, piece by piece as a single process reads it, and each actor opens the bundle once and scores
whole pieces. Both give the same blocks when they are asked again, so that Ray may kill, lose and repeat either. What
comes back is put together here in the order of the file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask
from ray.exceptions import RayError

from contract.conformal import Guarantee
from contract.errors import BundleError, InputError
from scoring.batches import columns_of, rows_of
from scoring.files import Answered, FileReport, answer, write_answers
from scoring.rows import ROW, ClusterError, FileError
from scoring.scorer import Scorer
from scoring.sources import Piece, Source, open_source
from scoring.tables import TableScorer

__all__ = ["connected", "score_file_on"]

_BLOCK_BYTES = 2**20
_FAULT = "fault"
_CONNECT_SECONDS = 10.0
_STORE_BYTES = 2**28  # of a cluster on this machine alone; a piece is a megabyte or two


@dataclass(frozen=True)
class _Work:
    """What a worker must know; all of it travels.

    Attributes:
        path: the file, as workers see it.
        reading: arguments of ``open_source``.
        columns: what is read of it.
        folder: of the bundle, as workers see it.
        digest: that its bundle must have.
        profile: numeric profile that a worker must have.
        alpha: rate of false alarms.
        guarantee: how it is kept.
        label: column of labels, if rows have any.
        provider: where graphs run.
        keep: columns handed on.
        kept: their types.
        missing: words for a missing value.
    """

    path: Path
    reading: Mapping[str, Any]
    columns: tuple[str, ...]
    folder: Path
    digest: str
    profile: str
    alpha: float
    guarantee: Guarantee
    label: str | None
    provider: str
    keep: tuple[str, ...]
    kept: Mapping[str, Any]
    missing: tuple[str, ...]


@contextlib.contextmanager
def connected(address: str | None, workers: int | None) -> Iterator[int]:
    """A connection to a cluster; gives the number of workers that score there.

    Args:
        address: of a cluster that runs, as ``ray.init`` takes it; None starts one on this machine, and ends it again.
        workers: how many score; as many as the cluster has processors if None.

    Raises:
        ClusterError: there is no such cluster, or none can be started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what concerns the file is said here
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    _listens(address)
    here: dict[str, Any] = {}
    if address is None:
        here = {
            "num_cpus": workers or os.cpu_count(),
            "object_store_memory": _STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **here)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no Ray cluster at {address or 'this machine'}: {_plain(error)}") from None
    try:
        resources: Callable[[], Mapping[str, float]] = ray.cluster_resources
        yield workers or max(1, int(resources().get("CPU", 1)))
    finally:
        ray.shutdown()


def _listens(address: str | None) -> None:
    """Refuse an address where nobody is, for which Ray would wait for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise ClusterError(f"no Ray cluster at {address}: {_plain(error)}") from None


def score_file_on(
    source: Source,
    reading: Mapping[str, Any],
    table_scorer: TableScorer,
    out: Path,
    *,
    workers: int,
    missing: Sequence[str] = (),
    promise: str | Mapping[str, str] = "",
    progress: Callable[[FileReport, float], None] | None = None,
) -> FileReport:
    """``score_file`` by the workers of the cluster that is connected. Its arguments and errors, and:

    Args:
        source: the file, which the workers must find under the same path, as they must the bundle's folder.
        reading: arguments with which it was opened.
        table_scorer: what the workers do.
        out: the Parquet file, written here.
        workers: how many score.
        missing: words for a missing value, beside the usual ones.
        promise: as for ``score_file``.
        progress: as for ``score_file``.

    Raises:
        ClusterError: a worker lacks the file or the bundle, would give other bits, or dies again and again.
    """
    scorer = table_scorer.scorer
    columns = columns_of(source, scorer.support, table_scorer.beside)
    kept = source.types(table_scorer.keep)
    nothing = [pyarrow.array([], kind) for kind in source.types(columns).values()]
    rows_of(pyarrow.record_batch(nothing, columns), scorer.support, keep=table_scorer.beside)
    source.close()
    work = _Work(
        path=source.path.absolute(),
        reading=dict(reading),
        columns=tuple(columns),
        folder=scorer.model.bundle.folder,
        digest=scorer.model.digest,
        profile=scorer.model.profile,
        alpha=scorer.alpha,
        guarantee=scorer.guarantee,
        label=scorer.label,
        provider="cpu" if scorer.model.on_cpu else "cuda",
        keep=table_scorer.keep,
        kept=kept,
        missing=tuple(missing),
    )
    answers = _answers(work, workers, table_scorer)
    return write_answers(answers, table_scorer, kept, out, promise=promise, progress=progress)


# -- what runs on the workers ----------------------------------------------------------------------------------------
# Columns travel by their number, so that no name of a user's is taken for one of ours.


class _File(Datasource):
    """The file, read by one task as a single process reads it."""

    def __init__(self, work: _Work):
        begin: Callable[[], None] = super().__init__
        begin()
        self._work = work

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        work = self._work
        about = BlockMetadata(num_rows=None, size_bytes=None, input_files=(str(work.path),), exec_stats=None)
        return [ReadTask(lambda: _blocks(work), about)]


def _blocks(work: _Work) -> Iterator[Any]:
    """Pieces as tables: the columns, where each row is, why it is none, and the share of the file read so far."""
    source = open_source(work.path, **work.reading)
    for piece in source.pieces(work.columns):
        n = piece.batch.num_rows
        why = {row: _spelt(error) for row, error in piece.broken.items()}
        columns = [*piece.batch.columns, pyarrow.array(piece.positions), pyarrow.nulls(n, pyarrow.string())]
        if why:
            holes = [pyarrow.nulls(len(why), column.type) for column in piece.batch.columns]
            lost = [*holes, pyarrow.array(list(why), pyarrow.int64()), pyarrow.array(list(why.values()))]
            columns = [pyarrow.concat_arrays(both) for both in zip(columns, lost, strict=True)]
        columns.append(pyarrow.array(np.full(n + len(why), source.share)))
        table = pyarrow.table(columns, names=_numbered(columns))
        # In the order of the file, wherever Ray cuts it into blocks.
        yield table.sort_by(str(len(work.columns))) if why else table


class _Worker:
    """An actor: the bundle, opened once, and pieces scored by it."""

    def __init__(self, work: _Work):
        self._work = work
        there = f"on {socket.gethostname()}"
        try:
            scorer = Scorer.open(
                work.folder, work.alpha, work.provider, guarantee=work.guarantee, label=work.label, verify=False
            )
        except (BundleError, InputError, OSError) as error:
            self._fault: str | None = f"{there}: {error}"
            return
        model = scorer.model
        self._fault = None
        if model.digest != work.digest:
            self._fault = f"{there}: {work.folder} holds another bundle, {model.digest[:12]}…"
        elif model.profile != work.profile:
            self._fault = f"{there}: its numeric profile is {model.profile}, not {work.profile}: bits could differ"
        # Errors travel in the answer; whether they end it all is said where the order of the rows is known.
        self._scorer = TableScorer(scorer, keep=work.keep, on_error="skip", missing=work.missing)

    def __call__(self, block: Any) -> Any:
        if self._fault is not None:
            return pyarrow.table([[self._fault]], names=[_FAULT])  # raised, it would come back as Ray's words alone
        names = self._work.columns
        whole = block.combine_chunks()
        fits = pyarrow.compute.is_null(whole.column(len(names) + 1))
        rows, lost = whole.filter(fits).combine_chunks(), whole.filter(pyarrow.compute.invert(fits))
        positions = rows.column(len(names)).to_numpy()
        batch = pyarrow.record_batch([_array(rows.column(i)) for i in range(len(names))], names=list(names))
        broken = {
            row: _error(row, why)
            for row, why in zip(*(lost.column(len(names) + i).to_pylist() for i in (0, 1)), strict=True)
        }
        found = answer(Piece(batch, positions, broken), self._scorer, self._work.kept, 0.0)
        why = [_spelt(found.errors.get(row)) for row in found.batch.column(ROW).to_pylist()]
        columns = [*found.batch.columns, pyarrow.array(why, pyarrow.string()), _array(whole.column(len(names) + 2))]
        return pyarrow.table(columns, names=_numbered(columns))


def _answers(work: _Work, workers: int, table_scorer: TableScorer) -> Iterator[Answered]:
    """What the workers answer, in the order of the file."""
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = _BLOCK_BYTES
    schema = table_scorer.schema(work.kept)
    try:
        scored = ray.data.read_datasource(_File(work), num_cpus=0, override_num_blocks=1).map_batches(
            _Worker,
            fn_constructor_args=(work,),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
            num_cpus=1,
            num_gpus=0 if work.provider == "cpu" else 1,
        )
        for block in scored.iter_batches(batch_size=None, batch_format="pyarrow"):
            if block.column_names == [_FAULT]:
                raise ClusterError(f"a worker {block[_FAULT][0].as_py()}")
            if block.num_rows:
                yield _answered(block.combine_chunks(), schema, table_scorer.on_error == "fail")
    except RayError as error:
        raise _told(error) from None


def _answered(block: Any, schema: Any, fail: bool) -> Answered:
    *columns, why, share = (_array(column) for column in block.columns)
    rows, words = columns[0].to_pylist(), why.to_pylist()
    errors = {row: _error(row, spelt) for row, spelt in zip(rows, words, strict=True) if spelt is not None}
    if errors and fail:
        raise errors[min(errors)]
    batch = pyarrow.record_batch(columns[: len(schema)], schema=schema)
    alarms = pyarrow.compute.sum(batch.column("is_anomaly")).as_py() or 0
    return Answered(batch, share[-1].as_py(), alarms, errors)


def _told(error: RayError) -> Exception:
    """The error of a worker as it would be here, or what became of the worker."""
    cause: Any = error
    while isinstance(cause, RayError) and getattr(cause, "cause", None) is not None:
        cause = vars(cause)["cause"]
    if isinstance(cause, FileError):
        return FileError(str(cause))
    return ClusterError(f"the cluster: {_plain(cause)}")


def _numbered(columns: Sequence[Any]) -> list[str]:
    return [str(i) for i in range(len(columns))]


def _array(column: Any) -> Any:
    """One array of a column that has at most one chunk."""
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _spelt(error: InputError | None) -> str | None:
    return None if error is None else json.dumps([error.column, error.expected, error.got])


def _error(row: int, spelt: str) -> InputError:
    column, expected, got = json.loads(spelt)
    return InputError(row=row, column=column, expected=expected, got=got)


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]
