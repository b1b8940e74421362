"""Measuring all of it, or what is asked for, and writing the page; a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from evaluation.cells import ALL, OURS, PROTOCOL, cells_of, measure_all
from evaluation.detectors import pyod_version
from evaluation.labelled import SETTINGS, Labelled, Setting, read_labelled, read_sets
from evaluation.lines import add_line, read_lines
from evaluation.page import write_page
from evaluation.pictures import measure_pictures
from evaluation.plots import needs_matplotlib
from evaluation.series import read_series, series_names
from training.errors import TrainingInputError
from training.progress import Reporter

__all__ = ["PARTS", "Plan", "run"]

PARTS = ("tables", "series")
_TABLES, _SERIES = "tabular-anomaly", Path("timeseries/nab")
_SERIES_SEEDS = 1


@dataclass(frozen=True)
class Plan:
    """What to measure, and where to write.

    Attributes:
        data: the data folder, with ``tabular-anomaly/`` and ``timeseries/nab/`` in it; or the folder of tables itself.
        lines: file of lines that measurements are added to.
        out: the page; None: none is written.
        parts: of ``PARTS``.
        sets: tables by name; None: all.
        seeds: how many lots of each table.
        detectors: of ``ALL``.
        settings: of the tables.
        pictures: bundle, file of ordinary pictures and file of strange ones; None: none.
        minutes: begin no further cell after so long.
        scores: folder that our scores are kept in; None: nowhere.
    """

    data: Path
    lines: Path
    out: Path | None
    parts: tuple[str, ...] = PARTS
    sets: tuple[str, ...] | None = None
    seeds: int = 5
    detectors: tuple[str, ...] = ALL
    settings: tuple[Setting, ...] = tuple(SETTINGS)
    pictures: tuple[Path, str, str] | None = None
    minutes: float = math.inf
    scores: Path | None = None


def run(plan: Plan, reporter: Reporter) -> None:
    """Measure what the lines lack of a plan, and write the page.

    Raises:
        TrainingInputError: a part, set or detector that there is not, data that are not there, PyOD or matplotlib
            missing, or no line of ours to write of.
        BundleError: the bundle of pictures cannot be trusted.
    """
    _check("part", plan.parts, PARTS)
    _check("detector", plan.detectors, ALL)
    _check("setting", plan.settings, tuple(SETTINGS))
    if set(plan.detectors) - {OURS} and plan.parts:
        pyod_version()
    if plan.out is not None:
        needs_matplotlib()
    if "tables" in plan.parts:
        folder = plan.data / _TABLES
        paths = {path.stem: path for path in read_sets(folder if folder.is_dir() else plan.data, plan.sets)}
        digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}

        def read(name: str) -> Labelled:
            return read_labelled(paths[name])

        _measure(plan, "tables", list(paths), range(plan.seeds), plan.settings, read, digests, reporter)
    if "series" in plan.parts:
        names = series_names(plan.data / _SERIES)
        of_series = partial(read_series, plan.data / _SERIES)
        digests = {name: of_series(name).sha256 for name in names}
        _measure(plan, "series", names, range(_SERIES_SEEDS), ("A",), of_series, digests, reporter)
    if plan.pictures is not None:
        bundle, ordinary, strange = plan.pictures
        found = {"part": "pictures", "protocol": PROTOCOL, **measure_pictures(bundle, ordinary, strange, plan.data)}
        add_line(plan.lines, found)
        reporter.line(f"{bundle}: AUROC {found['score']['auroc']:.3f} of {strange} among {ordinary}")
    if plan.out is not None:
        write_page(read_lines(plan.lines), plan.out)
        reporter.line(str(plan.out))


def _measure(
    plan: Plan,
    part: str,
    names: Sequence[str],
    seeds: range,
    settings: Sequence[Setting],
    read: Callable[[str], Labelled],
    digests: dict[str, str],
    reporter: Reporter,
) -> None:
    cells = cells_of(part, names, seeds, plan.detectors, settings)
    last = lru_cache(maxsize=1)(read)
    measure_all(cells, last, digests, plan.lines, minutes=plan.minutes, scores=plan.scores, reporter=reporter)


def _check(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise TrainingInputError(f"there is no {what} {name!r}; there are {', '.join(known)}")
