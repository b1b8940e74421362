"""What about a row is unlikely: contributions of its columns to its log-probability, and what these numbers are.

Three methods, the first that a model allows. With x_-i a row without its column i:

- ``chain_rule``: log p(x_i | earlier columns), the terms of an autoregressive model's log-probability, which they add
  up to. A law of one column has one term.
- ``conditional``: log p(x_i | x_-i) = log p(x) - log p(x_-i), where a model knows the law of some columns by
  themselves. Of independent columns these are the terms of log p(x); of others they add up to no particular number
  (J. Besag 1975, "Statistical analysis of non-lattice data", calls their sum the log-pseudo-likelihood).
- ``replacement``: log p(x) - log p(x_-i, r_i), with r_i a usual value of column i: an approximation, which sees how
  columns depend on each other only along that one line (as do the occlusions of M. Zeiler and R. Fergus 2014).

Whichever it is, low values say what is unlikely about a row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from contract.capabilities import Capability
from contract.errors import InputError
from contract.support import Column, Support
from runtime.model import LoadedModel
from service.answers import columns_of
from service.partial import Partial

__all__ = ["MOST_COLUMNS", "MOST_RUNS", "Explainer", "Method", "method_of", "rows_worked", "usual_row"]

Array = NDArray[Any]
Env = dict[str, Array]
Run = Callable[[LoadedModel, Capability, Env], Awaitable[Env]]
"""Runs a capability over n rows, by name of the inputs."""

Method = Literal["chain_rule", "conditional", "replacement"]

MOST_COLUMNS = 256
"""Columns of a row that can be explained by runs without each of them."""

MOST_RUNS = 2**15
"""Runs, one for each column of each row, that a request may ask for."""

USUAL_DRAWS = 255
"""Rows that the model draws to know the usual value of a column: an odd number, so that a median is one of them."""

_CHAIN = (
    "Each number is log p(a column, pixel or sample | those that the model takes before it): they add up to log_prob."
)
_ALONE = "The row's only column bears all of log_prob."
_CONDITIONAL = (
    "Each number is log p(column | all others) = log p(row) - log p(row without it). They do not add up to log_prob, "
    "unless the columns are independent."
)
_REPLACEMENT = (
    "Each number is log_prob less what it would be with the column's usual value, the median (the most frequent "
    f"category) of {USUAL_DRAWS} rows that the model draws: an approximation, which sees the column's ties to others "
    "only along that line. They do not add up to log_prob."
)


def method_of(model: LoadedModel) -> Method:
    """How a model's rows are explained.

    Raises:
        InputError: they are not; says why.
    """
    capabilities = model.manifest.capabilities
    size = model.manifest.support.size
    program = capabilities.get("log_prob")
    if program is None:
        raise _unexplained(f"this model has no log-probability to explain ({model.manifest.reasons['log_prob']})")
    if program.input("seed") is not None:
        raise _unexplained("this model's log-probability is drawn at random, and its differences are too")
    if size == 1 or any(part.name == "trace" for part in program.outputs):
        return "chain_rule"
    if size > MOST_COLUMNS:
        raise _unexplained(f"rows of this model have {size} columns, of which at most {MOST_COLUMNS} can be explained")
    if "marginal" in capabilities:
        return "conditional"
    if "sample" not in capabilities:
        raise _unexplained("this model draws no rows, so that the usual values of its columns are not known")
    return "replacement"


def rows_worked(model: LoadedModel, n: int) -> int:
    """How many rows are run to score and explain n of them: without the chain rule one more for each column of each.

    Raises:
        InputError: they are not explained; says why.
    """
    return n if method_of(model) == "chain_rule" else n * (1 + model.manifest.support.size)


class Explainer:
    """Explains rows; it keeps the usual row of each model."""

    def __init__(self) -> None:
        self._usual: WeakKeyDictionary[LoadedModel, Array] = WeakKeyDictionary()

    async def explain(self, model: LoadedModel, x: Array, run: Run) -> dict[str, Any]:
        """Members of an answer that explain rows: what the contributions are, and these.

        Args:
            model: the model.
            x: rows [n, *shape], as the support's ``check`` gives them.
            run: runs programs.

        Raises:
            InputError: such rows are not explained, or so many of them at once.
            And what running the programs raises.
        """
        method, n, size = method_of(model), len(x), model.manifest.support.size
        if method != "chain_rule" and n * size > MOST_RUNS:
            raise InputError(
                column="explain",
                expected=f"at most {MOST_RUNS // size} rows of {size} columns, for each column takes a run",
                got=f"{n} rows",
            )
        whole = await run(model, "log_prob", {"x": x})
        log_prob: NDArray[np.float64] = whole["log_prob"].astype(np.float64)
        match method:
            case "chain_rule" if "trace" in whole:
                contributions, meaning = whole["trace"], _CHAIN
            case "chain_rule":
                contributions, meaning = log_prob.reshape(n, 1), _ALONE
            case "conditional":
                contributions, meaning = log_prob[:, None] - await _without(model, x, run), _CONDITIONAL
            case "replacement":
                contributions, meaning = log_prob[:, None] - await self._replaced(model, x, run), _REPLACEMENT
        output = next(part for part in model.program("log_prob").outputs if part.name == "log_prob")
        if contributions.shape[1:] == (size,):
            contributions = contributions.reshape(n, *model.manifest.support.shape)
        said = {
            "method": method,
            "exact": method != "replacement" and output.kind == "exact",
            "kind": output.kind,
            "units": output.units,
            "meaning": meaning,
        }
        return {"explanation": said, "contributions": contributions, **columns_of(model)}

    async def _replaced(self, model: LoadedModel, x: Array, run: Run) -> NDArray[np.float64]:
        """log p of rows with the usual value in the place of each column, [n, columns]."""
        n, size = len(x), model.manifest.support.size
        usual = self._usual.get(model)
        if usual is None:
            address = {"seed": np.zeros(USUAL_DRAWS, dtype=np.int64), "row": np.arange(USUAL_DRAWS, dtype=np.int64)}
            drawn = await run(model, "sample", address)
            program = model.program("sample")
            rows = drawn[next(part.name for part in program.outputs if part.kind == "sample")]
            usual = self._usual[model] = usual_row(model.manifest.support, rows)
        rows = np.repeat(x.reshape(n, size), size, axis=0)
        at = np.arange(n * size)
        rows[at, at % size] = usual[at % size]
        found = await run(model, "log_prob", {"x": rows.reshape(-1, *x.shape[1:])})
        return found["log_prob"].astype(np.float64).reshape(n, size)


async def _without(model: LoadedModel, x: Array, run: Run) -> NDArray[np.float64]:
    """log p of rows without each column, [n, columns]."""
    n, size = len(x), model.manifest.support.size
    rows = np.repeat(x.reshape(n, size), size, axis=0)
    known = np.tile(~np.eye(size, dtype=np.bool_), (n, 1))
    rows[~known] = 1  # as in every hole
    partial = Partial(rows.reshape(-1, *x.shape[1:]), known.reshape(-1, *x.shape[1:]))
    found = await run(model, "marginal", partial.inputs(model.program("marginal")))
    return found["log_prob"].reshape(n, size)


def usual_row(support: Support, rows: Array) -> Array:
    """The usual value of each flat coordinate in rows [n, *shape]: [size], each of them a value of one of the rows.

    The median of numbers, the lower one of two; of categories the most frequent, the first of several. A missing value
    is passed over, unless there is nothing else.
    """
    flat = rows.reshape(len(rows), support.size)
    return np.array([_usual(flat[:, i], support.column_at(i)) for i in range(support.size)], dtype=support.dtype)


def _usual(values: Array, column: Column) -> Any:
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    if not len(known):
        return values[0]
    if column.kind == "categorical":
        different, counts = np.unique(known, return_counts=True)
        return different[counts.argmax()]
    return np.sort(known)[(len(known) - 1) // 2]


def _unexplained(why: str) -> InputError:
    return InputError(column="explain", expected=f"false or nothing, for {why}", got="true")
