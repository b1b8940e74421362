"""A table's rows in, a table of scores out, batch by batch, as Arrow's record batches.

``TableScorer`` is what a file is scored with piece by piece. It holds no state between batches, so that a cluster's
workers may each call one of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any, Literal

import numpy as np
import pyarrow
from numpy.typing import NDArray

from contract.errors import InputError
from contract.words import MISSING
from scoring.batches import names_in, rows_of
from scoring.rows import ROW, Errors, located
from scoring.scorer import Scorer, Scores

__all__ = ["OnError", "TableScorer"]

OnError = Literal["fail", "skip"]
Array = NDArray[Any]


class TableScorer:
    """Scores tables batch by batch.

    Args:
        scorer: the bundle; what it says holds labels is a column of the tables.
        keep: columns that are handed on beside the scores.
        on_error: whether a row that cannot be scored ends it all, or gets no scores and a line in the column ``error``.
        missing: words for a missing value, beside the usual ones.

    Raises:
        InputError: a column to keep has the name of a column of the answer.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        keep: Sequence[str] = (),
        on_error: OnError = "fail",
        missing: Collection[str] = (),
    ):
        self.scorer = scorer
        self.keep = tuple(dict.fromkeys(keep))
        self.on_error = on_error
        self.missing: Set[str] = MISSING | {word.strip().lower() for word in missing}
        taken = [ROW, "score", "p_value", "is_anomaly", *scorer.statistics, *(["error"] if on_error == "skip" else [])]
        for name in self.keep:
            if name in taken:
                raise InputError(column=name, expected="another name: the answer has a column of that name itself")

    def schema(self, kept: Mapping[str, Any]) -> Any:
        """The answer's Arrow schema, given the types of the columns that are kept."""
        double = pyarrow.float64()
        fields = [(ROW, pyarrow.int64())]
        fields += [(name, kept[name]) for name in self.keep]
        fields += [("score", double), ("p_value", double), ("is_anomaly", pyarrow.bool_())]
        for name, shape in self.scorer.statistics.items():
            fields.append((name, pyarrow.list_(double, int(np.prod(shape))) if shape else double))
        if self.on_error == "skip":
            fields.append(("error", pyarrow.string()))
        return pyarrow.schema(fields)

    def __call__(self, batch: Any, positions: Array | None = None) -> tuple[Any, Scores]:
        """Score a record batch.

        Args:
            batch: columns by name, n rows.
            positions: where each row is in its table, int64 [n]; from 0 on if None.

        Returns:
            The answer as a record batch of n rows, and the same as arrays.

        Raises:
            InputError: a column is not there or of no use; a row cannot be scored and ``on_error`` is ``fail``.
        """
        x, labels, errors = self.rows(batch)
        place = np.arange(batch.num_rows, dtype=np.int64) if positions is None else positions
        if errors and self.on_error == "fail":
            first = min(errors)
            raise located(errors[first], int(place[first]))
        good = np.setdiff1d(np.arange(batch.num_rows), np.fromiter(errors, dtype=np.int64, count=len(errors)))
        if errors:
            x, labels = x[good], None if labels is None else [labels[row] for row in good.tolist()]
        found = self.scorer.try_score(x, labels)
        for row, error in found.errors.items():
            errors[int(good[row])] = error
        if errors and self.on_error == "fail":
            first = min(errors)
            raise located(errors[first], int(place[first]))
        scores = _spread(found, good, batch.num_rows, errors) if errors else found
        return self._answer(batch, place, scores), scores

    @property
    def beside(self) -> tuple[str, ...]:
        """Columns that are read beside those of a row: to keep, and of labels."""
        return self.keep if self.scorer.label is None else tuple(dict.fromkeys([*self.keep, self.scorer.label]))

    def rows(self, batch: Any) -> tuple[Array, list[str] | None, Errors]:
        """A batch's rows as the model takes them, their labels if they have any, and why some are none, by position."""
        x, errors = rows_of(batch, self.scorer.support, self.missing, self.beside)
        if self.scorer.label is None:
            return x, None, errors
        labels, without = names_in(batch, self.scorer.label, self.missing)
        return x, labels, without | errors

    def unscored(self, errors: Errors, kept: Mapping[str, Any]) -> Any:
        """The answer for rows of which there is nothing but the reason why they are none, by position in the table."""
        schema = self.schema(kept)
        words = [str(located(error, None)) for error in errors.values()]
        columns = {ROW: pyarrow.array(list(errors), pyarrow.int64()), "error": pyarrow.array(words, pyarrow.string())}
        return pyarrow.record_batch(
            [columns.get(field.name, pyarrow.nulls(len(errors), field.type)) for field in schema], schema=schema
        )

    def _answer(self, batch: Any, positions: Array, scores: Scores) -> Any:
        n = len(scores.score)
        bad = np.isnan(scores.score)
        columns: dict[str, Any] = {
            ROW: pyarrow.array(positions, pyarrow.int64()),
            "score": pyarrow.array(scores.score, mask=bad),
            "p_value": pyarrow.array(scores.p_value, mask=bad),
            "is_anomaly": pyarrow.nulls(n, pyarrow.bool_())
            if scores.is_anomaly is None
            else pyarrow.array(scores.is_anomaly, mask=bad if scores.undecided is None else bad | scores.undecided),
        }
        for name, values in scores.statistics.items():
            if values.ndim == 1:
                columns[name] = pyarrow.array(values, mask=bad)
            else:
                flat = pyarrow.array(np.ascontiguousarray(values).reshape(-1))
                width = int(np.prod(values.shape[1:]))
                columns[name] = pyarrow.FixedSizeListArray.from_arrays(flat, width, mask=pyarrow.array(bad))
        if self.on_error == "skip":
            words: list[str | None] = [None] * n
            for row, error in scores.errors.items():
                words[row] = str(located(error, None))
            columns["error"] = pyarrow.array(words, pyarrow.string())
        kept = {name: batch.column(name) for name in self.keep}
        schema = self.schema({name: column.type for name, column in kept.items()})
        return pyarrow.record_batch([(kept | columns)[name] for name in schema.names], schema=schema)


def _spread(scores: Scores, good: Array, n: int, errors: Errors) -> Scores:
    """Scores of some rows among n."""

    def among(values: Array, empty: Any) -> Array:
        whole = np.full((n, *values.shape[1:]), empty, dtype=values.dtype)
        whole[good] = values
        return whole

    return Scores(
        among(scores.score, np.nan),
        among(scores.p_value, np.nan),
        None if scores.is_anomaly is None else among(scores.is_anomaly, False),
        {name: among(values, np.nan) for name, values in scores.statistics.items()},
        errors,
        None if scores.undecided is None else among(scores.undecided, False),
    )
