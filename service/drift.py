"""Watches the anomaly scores that are given out, and tells whether they still look like the calibration scores.

Each version has a watch of its own in each process, which begins with its first row and ends when the version is no
longer served. What raises the alarm is a martingale on online p-values (``contract/drift.py``, record 31).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from math import log
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
import structlog
from numpy.typing import NDArray

from contract.drift import CHUNK, Martingale, OnlineRanks, kolmogorov_smirnov
from runtime.model import LoadedModel
from service.catalogue import Catalogue
from service.telemetry import Metrics

__all__ = ["WINDOW", "Drift", "Watch"]

WINDOW = 1024
"""The distance from the calibration scores is that of so many last scores."""

_AT_ONCE = 4 * CHUNK  # scores looked at in one turn of the event loop, in about a millisecond
_MOST_WAITING = 2**18  # what comes beyond is looked at before anything else is done
_LN10 = log(10.0)

_log = structlog.get_logger("nonesuch")


class Watch:
    """What is known of one version's scores. Its memory does not grow with their number, but for those yet to be seen.

    Args:
        calibration: scores, sorted ascending, [n].
        dependent: whether calibration rows depend on each other. They are not exchangeable with any rows then, however
            ordinary, and a bet against it would be won for that alone: nothing is bet, and no alarm ever raised. The
            distance is measured all the same.
        seed: of the coins that p-values need, so that the same scores always give the same figures.
        level: the alarm is raised with this probability at most while the null hypothesis holds.

    Attributes:
        since: when the first score came, or None.
        alarm_at: the row at which the alarm was raised, from 1; None while it was not.
        rows: scores that were looked at.
    """

    def __init__(self, calibration: NDArray[np.float64], *, seed: int, level: float, dependent: bool = False):
        self.level = level
        self.dependent = dependent
        self.rows = 0
        self.since: datetime | None = None
        self.alarm_at: int | None = None
        self._highest = 0.0
        self._calibration = calibration
        self._ranks = OnlineRanks(calibration, np.random.Generator(np.random.PCG64(seed)))
        self._martingale = Martingale()
        self._last = np.empty(WINDOW)  # the row r is at r % WINDOW
        self._held = np.empty(2 * CHUNK)  # scores yet to be looked at: from the start to the end
        self._start = self._end = 0
        self._distance: tuple[int, tuple[float, float]] | None = None  # by the number of rows

    @property
    def waiting(self) -> int:
        """Scores that wait to be looked at; from ``CHUNK`` on they are worth it."""
        return self._end - self._start

    @property
    def log10_martingale(self) -> float | None:
        """Decimal logarithm of the martingale as it stands; None where nothing is bet."""
        return None if self.dependent else self._martingale.log / _LN10

    @property
    def log10_highest(self) -> float | None:
        """The same at its highest."""
        return None if self.dependent else self._highest / _LN10

    @property
    def window(self) -> int:
        """Scores that the distance is measured of."""
        return min(self.rows, WINDOW)

    def add(self, scores: NDArray[np.floating]) -> None:
        """Hold scores, [k], until they are looked at; they are copied."""
        if self.since is None:
            self.since = datetime.now(UTC)
        end = self._end + len(scores)
        if end > len(self._held):
            room = np.empty(CHUNK + self.waiting // 2)
            self._held = np.concatenate([self._held[self._start : self._end], scores, room])
            self._start, end = 0, end - self._start
        else:
            self._held[self._end : end] = scores
        self._end = end

    def look(self, most: int | None = None) -> None:
        """Look at all that is held, or at about so many scores of it, in whole chunks."""
        least, until = (1, self._end) if most is None else (CHUNK, self._start + most)
        while self.waiting >= least and self._start < until:
            some = self._held[self._start : min(self._end, self._start + CHUNK)]
            self._see(some)
            self._start += len(some)
        if (rest := self.waiting) < CHUNK:
            room = self._held if len(self._held) == 2 * CHUNK else np.empty(2 * CHUNK)
            room[:rest] = self._held[self._start : self._end]
            self._held, self._start, self._end = room, 0, rest

    def _see(self, scores: NDArray[np.float64]) -> None:
        before = self.rows
        self._last[(before + np.arange(len(scores))) % WINDOW] = scores
        self.rows += len(scores)
        if self.dependent:
            return
        path = self._martingale(self._ranks(scores))
        self._highest = max(self._highest, float(path.max()))
        if self.alarm_at is None and self._highest >= -log(self.level):
            self.alarm_at = before + 1 + int(np.argmax(path >= -log(self.level)))

    def distance(self) -> tuple[float, float] | None:
        """Kolmogorov–Smirnov statistic and p-value of the last scores; None before there are any."""
        if not self.rows:
            return None
        if self._distance is None or self._distance[0] != self.rows:
            self._distance = self.rows, kolmogorov_smirnov(self._calibration, self._last[: self.window])
        return self._distance[1]


class Drift:
    """The watches of all versions that score anomalies.

    Use it from one event loop.

    Args:
        catalogue: what is served.
        level: probability of a false alarm for each version's whole life, all processes together.
        workers: processes that serve. Each sees its own share of the rows, and takes its share of the level.
    """

    def __init__(self, catalogue: Catalogue, *, level: float, workers: int = 1):
        self._catalogue = catalogue
        self._level = level / workers
        self._watches: WeakKeyDictionary[LoadedModel, Watch] = WeakKeyDictionary()
        self._behind: WeakSet[LoadedModel] = WeakSet()  # whose scores are looked at in the loop's next turns

    def observe(self, model: LoadedModel, scores: NDArray[np.floating]) -> None:
        """Scores were given out, [n]."""
        watch = self._watches.get(model) or self._begin(model)
        watch.add(scores)
        if watch.waiting >= CHUNK and model not in self._behind:
            self._look(model, watch)
        elif watch.waiting > _MOST_WAITING:
            self._see(model, watch, watch.waiting - _MOST_WAITING)

    def of(self, model: LoadedModel) -> Watch:
        """The watch of a model that scores anomalies; with every score looked at, unless it is behind."""
        watch = self._watches.get(model) or self._begin(model)
        if model not in self._behind:
            self._see(model, watch, None)
        return watch

    async def caught_up(self, model: LoadedModel) -> Watch:
        """The same, with every score looked at that has been given out by then."""
        while model in self._behind:
            await asyncio.sleep(0)
        return self.of(model)

    def tell(self, metrics: Metrics) -> None:
        """Show in the metrics how each version stands that is served and scores anomalies."""
        labels = "model", "version"
        metrics.gauges(
            "nonesuch_drift_ks",
            "Kolmogorov-Smirnov distance of the last anomaly scores given out from the calibration scores.",
            labels,
            lambda: self._figures(lambda watch: (watch.distance() or (None,))[0]),
        )
        metrics.gauges(
            "nonesuch_drift_log10_martingale",
            "Evidence that anomaly scores given out are not exchangeable with the calibration scores; 0 at the start.",
            labels,
            lambda: self._figures(lambda watch: watch.log10_martingale),
        )
        metrics.gauges(
            "nonesuch_drift_alarm",
            "1 once that evidence has been what NONESUCH_DRIFT_LEVEL asks for.",
            labels,
            lambda: self._figures(lambda watch: None if watch.dependent else float(watch.alarm_at is not None)),
        )

    def _figures(self, read: Callable[[Watch], float | None]) -> dict[tuple[str, ...], float]:
        """A figure of each version, by the model's name and the version, where there is one."""
        found = {(model.manifest.name, str(model.manifest.version)): read(self.of(model)) for model in self._served()}
        return {labels: value for labels, value in found.items() if value is not None}

    def _served(self) -> Iterator[LoadedModel]:
        for name in self._catalogue.names():
            for version in self._catalogue.versions(name):
                model = self._catalogue.get(name, version)
                if model.calibration_scores is not None:
                    yield model

    def _begin(self, model: LoadedModel) -> Watch:
        scores, about = model.calibration_scores, model.manifest.calibration
        assert scores is not None
        assert about is not None
        watch = Watch(scores, seed=int(model.digest, 16), level=self._level, dependent=about.dependent)
        self._watches[model] = watch
        return watch

    def _look(self, model: LoadedModel, watch: Watch) -> None:
        """Look at what waits, a part of it in each turn of the loop: a large answer keeps nobody else waiting."""
        self._see(model, watch, _AT_ONCE)
        if watch.waiting >= CHUNK:
            self._behind.add(model)
            asyncio.get_running_loop().call_soon(self._look, model, watch)
        else:
            self._behind.discard(model)

    def _see(self, model: LoadedModel, watch: Watch, most: int | None) -> None:
        before = watch.alarm_at
        watch.look(most)
        if watch.alarm_at != before:
            name, version = model.manifest.name, model.manifest.version
            _log.warning("served scores drift", model=name, version=version, row=watch.alarm_at)
