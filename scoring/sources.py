"""CSV and Parquet files of any size, read piece by piece."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from contract.errors import InputError
from scoring.rows import FileError

__all__ = ["CsvSource", "ParquetSource", "Piece", "Source", "open_source"]

_BLOCK_BYTES = 2**20  # Arrow reads some thirty of them ahead
_PARQUET_NUMBERS = 2**18
_PARQUET_BUFFER = 2**20
_COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_CSV = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Piece:
    """Rows of a file.

    Attributes:
        batch: an Arrow record batch of the columns that are read, n rows.
        positions: where each of them is in the file, from 0, int64 [n].
        broken: rows between them that have not the right number of values, by position.
    """

    batch: Any
    positions: NDArray[np.int64]
    broken: dict[int, InputError] = field(default_factory=dict)


class Source(Protocol):
    """A file of named columns."""

    path: Path
    names: list[str]

    @property
    def share(self) -> float:
        """How much of the file has been read, from 0 to 1."""
        ...

    def types(self, columns: Sequence[str]) -> dict[str, Any]:
        """Arrow types of columns."""
        ...

    def pieces(self, columns: Sequence[str]) -> Iterator[Piece]:
        """The rows' columns, piece by piece.

        Raises:
            FileError: the file is damaged, or changed while it was read.
        """
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def open_source(path: Path, *, delimiter: str | None = None, encoding: str = "utf-8") -> Source:
    """A file by the ending of its name: ``.csv``, ``.tsv`` (``.gz``, ``.bz2``, ``.zst`` after it) or ``.parquet``.

    Args:
        path: the file.
        delimiter: between the values of a line of CSV; a comma, of ``.tsv`` a tab, if None.
        encoding: of CSV.

    Raises:
        FileError: no such file, another ending, an empty or damaged file.
    """
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    if not path.is_file():
        raise FileError(f"{path}: no such file")
    if endings and endings[-1] in (".parquet", ".pq"):
        return ParquetSource(path)
    compression = _COMPRESSED.get(endings[-1]) if endings else None
    kind = endings[-2] if compression and len(endings) > 1 else endings[-1] if endings else ""
    if kind not in _CSV:
        raise FileError(f"{path}: expected a file .csv, .tsv (or either .gz, .bz2, .zst) or .parquet")
    between = delimiter or ("\t" if kind == ".tsv" else ",")
    return CsvSource(path, delimiter=between, encoding=encoding, compression=compression)


class CsvSource:
    """A file of text with a line of names; all values are words here. Errors as for ``open_source``."""

    def __init__(self, path: Path, *, delimiter: str, encoding: str, compression: str | None):
        self.path = path
        self._delimiter = delimiter
        self._encoding = encoding
        self._compression = compression
        self._size = max(1, path.stat().st_size)
        self._file: BinaryIO | None = None
        self.names = self._header()

    @property
    def share(self) -> float:
        """How much of the file has been read, from 0 to 1."""
        return min(1.0, self._file.tell() / self._size) if self._file is not None and not self._file.closed else 1.0

    def types(self, columns: Sequence[str]) -> dict[str, Any]:
        """Words, all of them."""
        return dict.fromkeys(columns, pyarrow.string())

    def pieces(self, columns: Sequence[str]) -> Iterator[Piece]:
        """Rows in pieces of a few megabytes; errors as for ``Source.pieces``."""
        misfits: list[Any] = []

        def misfit(row: Any) -> str:
            misfits.append(row)
            return "skip"

        try:
            reader = pyarrow.csv.open_csv(
                self._stream(),
                # One thread: only then does a row that does not fit know its number.
                read_options=pyarrow.csv.ReadOptions(
                    use_threads=False, encoding=self._encoding, block_size=_BLOCK_BYTES
                ),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=misfit
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=list(columns),
                    column_types=dict.fromkeys(self.names, pyarrow.string()),
                    strings_can_be_null=False,
                ),
            )
            at = 0
            broken: dict[int, InputError] = {}
            for batch in reader:
                broken |= dict(map(_told, misfits))
                misfits.clear()
                positions = _positions(at, batch.num_rows, broken)
                at = int(positions[-1]) + 1 if len(positions) else at
                passed = {row: broken.pop(row) for row in [row for row in broken if row < at]}
                yield Piece(batch, positions, passed)
            broken |= dict(map(_told, misfits))
            if broken:
                empty = pyarrow.record_batch(
                    [pyarrow.array([], pyarrow.string()) for _ in columns], names=list(columns)
                )
                yield Piece(empty, np.empty(0, dtype=np.int64), broken)
        except pyarrow.ArrowInvalid as error:
            if "UTF8" in str(error):
                raise self._not_text() from None
            raise FileError(f"{self.path}: cannot be read: {_plain(error)}") from None
        except UnicodeError:
            raise self._not_text() from None
        except (OSError, EOFError) as error:
            raise FileError(f"{self.path}: cannot be read: {_plain(error)}") from None
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _not_text(self) -> FileError:
        return FileError(f"{self.path}: it is not {self._encoding}; name its encoding: --encoding latin-1")

    def _stream(self) -> Any:
        self._file = self.path.open("rb")
        return self._file if self._compression is None else pyarrow.CompressedInputStream(self._file, self._compression)

    def _header(self) -> list[str]:
        try:
            words = io.TextIOWrapper(self._bytes(), encoding=self._encoding.replace("utf-8", "utf-8-sig"), newline="")
            names = next((record for record in csv.reader(words, delimiter=self._delimiter) if record), None)
        except UnicodeError:
            raise self._not_text() from None
        except (OSError, EOFError, LookupError, TypeError, csv.Error, pyarrow.ArrowException) as error:
            raise FileError(f"{self.path}: cannot be read: {_plain(error)}") from None
        finally:
            self.close()
        if names is None:
            raise FileError(f"{self.path}: an empty file; expected a line of column names, and rows")
        return names

    def _bytes(self) -> Any:
        stream = self._stream()
        return stream if self._compression is None else io.BufferedReader(_Raw(stream))


class _Raw(io.RawIOBase):
    """What Arrow decompresses, as Python's own readers take it."""

    def __init__(self, stream: Any):
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class ParquetSource:
    """A Parquet file. Errors as for ``open_source``."""

    def __init__(self, path: Path):
        self.path = path
        try:
            # Read ahead, whole row groups would be in memory at once, however large their writer made them.
            self._file = pyarrow.parquet.ParquetFile(path, buffer_size=_PARQUET_BUFFER, pre_buffer=False)
        except (OSError, pyarrow.ArrowException) as error:
            raise FileError(f"{path}: cannot be read: {_plain(error)}") from None
        self._rows = self._file.metadata.num_rows
        self._read = 0
        self.names = list(self._file.schema_arrow.names)

    @property
    def share(self) -> float:
        """How much of the file has been read, from 0 to 1."""
        return self._read / self._rows if self._rows else 1.0

    def types(self, columns: Sequence[str]) -> dict[str, Any]:
        """Arrow types of columns."""
        return {name: self._file.schema_arrow.field(name).type for name in columns}

    def pieces(self, columns: Sequence[str]) -> Iterator[Piece]:
        """Rows in pieces of some hundred thousand numbers; errors as for ``Source.pieces``."""
        rows = max(64, _PARQUET_NUMBERS // max(1, self._widths(columns)))
        try:
            for batch in self._file.iter_batches(batch_size=rows, columns=list(columns), use_threads=False):
                positions = np.arange(self._read, self._read + batch.num_rows, dtype=np.int64)
                self._read += batch.num_rows
                yield Piece(batch, positions)
        except (OSError, pyarrow.ArrowException) as error:
            raise FileError(f"{self.path}: cannot be read: {_plain(error)}") from None
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _widths(self, columns: Sequence[str]) -> int:
        """Values of a row; of lists, what the first row group has on average."""
        if not self._rows:
            return len(columns)
        group = self._file.metadata.row_group(0)
        wanted = set(columns)
        values = sum(
            group.column(i).num_values
            for i in range(group.num_columns)
            if group.column(i).path_in_schema.partition(".")[0] in wanted or group.column(i).path_in_schema in wanted
        )
        return int(values // max(1, group.num_rows))


def _told(misfit: Any) -> tuple[int, InputError]:
    """Position of a row that does not fit, and what is wrong with it."""
    row = misfit.number - 2  # Arrow counts from 1, the line of names included
    expected = f"{misfit.expected_columns} values, as in the line of names"
    return row, InputError(row=row, expected=expected, got=str(misfit.actual_columns))


def _positions(at: int, n: int, broken: dict[int, InputError]) -> NDArray[np.int64]:
    """The n first positions from ``at`` on that are not broken."""
    around = sorted(row for row in broken if row >= at)
    positions = np.arange(at, at + n, dtype=np.int64)
    for row in around:  # ascending: each moves all that come after it
        positions[np.searchsorted(positions, row) :] += 1
    return positions


def _plain(error: Exception) -> str:
    return " ".join(str(error).split())
