"""Tables of mixed columns with holes, drawn from a law that is known: what a model's log-probability is held against.

A row belongs to one of a few classes that nobody sees; given the class its columns are independent, and so are the
holes. The joint density is the sum over classes, a missing value being a value of its column:

    p(x) = sum_c w_c prod_d [ h_cd if x_d is missing, else (1 - h_cd) f_cd(x_d) ]
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import logsumexp

from contract.support import Column, ColumnKind, Support
from training.data.dataset import Dataset
from training.sections import MadeData

__all__ = ["MadeColumn", "MadeTable", "made_table", "tables", "write_csv"]

Reals = NDArray[np.float64]

_FINE = 1e-6
"""Reals are rounded to this, so that the rows, and their hashes, are the same on every machine."""


@dataclass(frozen=True)
class MadeColumn:
    """A column and its law in each class.

    Attributes:
        column: name and kind.
        laws: one a class: frozen SciPy laws of reals and counts, or the probabilities of the values.
        holes: probability of a missing value, one a class.
    """

    column: Column
    laws: Sequence[Any]
    holes: Sequence[float]

    def draw(self, of: NDArray[np.int64], rng: np.random.Generator) -> Reals:
        """A value for each row's class: int64 [n] -> float64 [n], NaN where missing."""
        values = np.empty(len(of))
        for c, law in enumerate(self.laws):
            mine = of == c
            size = int(mine.sum())
            if isinstance(law, tuple):
                values[mine] = rng.choice(len(law), size=size, p=law)
            else:
                values[mine] = law.rvs(size=size, random_state=rng)
        if self.column.base_measure == "lebesgue":
            step = self.column.resolution or _FINE
            values = np.round(np.round(values / step) * step, 9) + 0.0
            if self.column.kind == "positive":
                values = np.maximum(values, step)
        hole = rng.random(len(of)) < np.asarray(self.holes)[of]
        return np.where(hole, np.nan, values)

    def log_prob(self, values: Reals) -> Reals:
        """log of the law of each value in each class: float64 [n] -> [n, classes]."""
        missing = np.isnan(values)
        seen = np.where(missing, 1.0, values)
        out = np.empty((len(values), len(self.laws)))
        for c, (law, hole) in enumerate(zip(self.laws, self.holes, strict=True)):
            with np.errstate(divide="ignore"):
                if isinstance(law, tuple):
                    inside = np.log(np.asarray(law)[np.where(missing, 0, values).astype(int)])
                elif self.column.kind == "count":
                    inside = law.logpmf(seen)
                elif self.column.resolution is not None and self.column.resolution > _FINE:
                    step = self.column.resolution
                    inside = np.log((law.cdf(seen + step / 2) - law.cdf(seen - step / 2)) / step)
                else:
                    inside = law.logpdf(seen)
                out[:, c] = np.where(missing, np.log(hole), np.log1p(-hole) + inside)
        return out


@dataclass(frozen=True)
class MadeTable:
    """A law of mixed columns.

    Attributes:
        words: what it is.
        weights: of the classes.
        columns: the columns.
    """

    words: str
    weights: Sequence[float]
    columns: Sequence[MadeColumn]

    @property
    def support(self) -> Support:
        """What a row is."""
        return Support(shape=(len(self.columns),), columns=tuple(made.column for made in self.columns))

    def draw(self, n: int, seed: int) -> Reals:
        """n rows: float64 [n, d], NaN where missing."""
        rng = np.random.default_rng(seed)
        of = rng.choice(len(self.weights), size=n, p=self.weights)
        return np.stack([made.draw(of, rng) for made in self.columns], axis=1)

    def log_prob(self, rows: Reals) -> Reals:
        """The true log-density, in nats: float64 [n, d] -> [n]."""
        per_class = np.log(self.weights) + sum(made.log_prob(rows[:, i]) for i, made in enumerate(self.columns))
        found: Reals = logsumexp(per_class, axis=1)
        return found


def made_table(spec: MadeData) -> Dataset:
    """A made table as a data set."""
    table = tables()[spec.table]
    words = f"{table.words}: {spec.n:,} rows of seed {spec.seed}, from a law that is known"
    return Dataset(table.draw(spec.n, spec.seed), table.support, words)


def write_csv(path: Path, table: MadeTable, rows: Reals) -> None:
    """Rows as a CSV file, as people have them: categories by their names, holes as empty cells."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([made.column.name for made in table.columns])
        for record in table.support.array_to_records(rows):
            writer.writerow(["" if value is None else value for value in record.values()])


def _column(name: str, kind: ColumnKind, laws: Sequence[Any], holes: Sequence[float], **more: Any) -> MadeColumn:
    measure = "lebesgue" if kind in ("real", "positive") else "counting"
    missing = any(hole > 0 for hole in holes)
    column = Column.model_validate(
        {"name": name, "kind": kind, "base_measure": measure, "missing_allowed": missing, **more}
    )
    return MadeColumn(column, laws, holes)


def tables() -> dict[str, MadeTable]:
    """The made tables by name: ``visits`` has three columns, ``people`` twenty, ``lamps`` two and ``waits`` one."""
    normal, none = stats.norm, (0.0, 0.0, 0.0)
    visits = MadeTable(
        "made visits",
        (0.5, 0.3, 0.2),
        [
            _column(
                "ward",
                "categorical",
                [(0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.2, 0.2, 0.6)],
                none,
                categories=("north", "south", "west"),
            ),
            _column("weight", "real", [normal(60, 8), normal(75, 6), normal(90, 12)], (0.05, 0.2, 0.4)),
            _column("calls", "count", [stats.poisson(1), stats.poisson(4), stats.poisson(2)], none),
        ],
    )
    columns = [
        _column("age", "count", [stats.poisson(30), stats.poisson(48), stats.poisson(67)], (0.0, 0.02, 0.05)),
        _column("height", "real", [normal(172, 9), normal(168, 9), normal(165, 8)], none, resolution=1.0),
        _column("weight", "real", [normal(68, 9), normal(80, 12), normal(72, 10)], (0.1, 0.05, 0.1), resolution=0.1),
        _column("pulse", "real", [normal(66, 7), normal(74, 8), normal(78, 9)], (0.02, 0.02, 0.3)),
        _column("pressure", "real", [normal(118, 9), normal(134, 12), normal(141, 15)], none),
        _column("oxygen", "real", [normal(98, 0.7), normal(97, 0.9), normal(95.5, 1.4)], none),
        _column(
            "income", "positive", [stats.lognorm(0.5, scale=2100.0)] + [stats.lognorm(0.6, scale=3200.0)] * 2, none
        ),
        _column(
            "savings",
            "positive",
            [stats.lognorm(1.1, scale=4e3), stats.lognorm(1.2, scale=2e4), stats.lognorm(0.9, scale=5e4)],
            (0.25, 0.25, 0.4),
        ),
        _column("balance", "real", [stats.t(2.5, 0, 10), stats.t(2.5, 50, 40), stats.t(2.5, 120, 60)], none),
        _column("return", "real", [stats.t(3, 0, 0.01), stats.t(3, 0.001, 0.02), stats.t(3, 0.0, 0.005)], none),
        _column("visits", "count", [stats.poisson(1.5), stats.poisson(4), stats.poisson(9)], none),
        _column("claims", "count", [stats.nbinom(1, 0.8), stats.nbinom(1, 0.5), stats.nbinom(2, 0.4)], (0.0, 0.1, 0.0)),
        _column("children", "count", [stats.poisson(0.3), stats.poisson(1.9), stats.poisson(2.2)], none),
        _column("smoker", "binary", [(0.75, 0.25), (0.7, 0.3), (0.85, 0.15)], (0.1, 0.1, 0.1)),
        _column("insured", "binary", [(0.4, 0.6), (0.1, 0.9), (0.02, 0.98)], none),
        _column(
            "region",
            "categorical",
            [(0.4, 0.3, 0.2, 0.1), (0.25, 0.25, 0.25, 0.25), (0.1, 0.2, 0.3, 0.4)],
            none,
            categories=("east", "north", "south", "west"),
        ),
        _column(
            "contract",
            "categorical",
            [(0.6, 0.3, 0.1), (0.2, 0.7, 0.1), (0.05, 0.15, 0.8)],
            (0.05, 0.0, 0.0),
            categories=("fixed", "open", "retired"),
        ),
        _column(
            "satisfaction", "ordinal", [(0.1, 0.1, 0.2, 0.3, 0.3)] * 2 + [(0.3, 0.3, 0.2, 0.1, 0.1)], none, levels=5
        ),
        _column(
            "distance",
            "positive",
            [stats.gamma(2, scale=3.0), stats.gamma(3, scale=5.0), stats.gamma(2, scale=1.5)],
            none,
        ),
        _column("score", "real", [normal(0.62, 0.1), normal(0.5, 0.12), normal(0.41, 0.1)], (0.0, 0.5, 0.0)),
    ]
    lamps = MadeTable(
        "made lamps",
        (1.0,),
        [
            _column("hours", "positive", [stats.weibull_min(3.0, scale=1200.0)], (0.0,)),
            _column("faults", "count", [stats.poisson(3)], (0.0,)),
        ],
    )
    waits = MadeTable("made waits", (0.4, 0.6), [_column("wait", "real", [normal(55, 6), normal(80, 6)], (0.0, 0.0))])
    people = MadeTable("made people", (0.45, 0.35, 0.2), columns)
    return {"visits": visits, "people": people, "lamps": lamps, "waits": waits}
