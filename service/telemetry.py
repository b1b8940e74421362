"""What the service says of itself: Prometheus metrics and log lines."""

from __future__ import annotations

import logging
import os
import sys
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST as PLAIN
from prometheus_client.exposition import generate_latest as generate_plain
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

__all__ = ["Metrics", "configure_logging"]

# Local variables stay out of the log: they may be anybody's data.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))

# A second series for every counter, with the time of its first increment, that nobody reads.
disable_created_metrics()  # type: ignore[no-untyped-call,unused-ignore]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
GATHER = 512
"""So many observations are gathered at most."""

Figures = Mapping[tuple[str, ...], float]
"""Figures by the values of their labels."""


class Metrics:
    """Prometheus metrics of one application.

    Children are kept in dictionaries of our own: looking one up by labels through the client costs more than the
    increment. What happens thousands of times a second is gathered, and handed to the client when somebody asks, or
    when there is much of it.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "nonesuch_requests", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "nonesuch_request_seconds",
            "Time from the request's head to the answer's end.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._rows = Counter("nonesuch_rows", "Rows answered.", ["model", "capability"], registry=self.registry)
        self._cache = Counter(
            "nonesuch_cache_answers",
            "Answers by what the cache gave: hit, partial, miss, or bypass where it was not worth a look.",
            ["model", "capability", "result"],
            registry=self.registry,
        )
        self._events = Counter(
            "nonesuch_cache_events", "What happened in the cache, by rows.", ["event"], registry=self.registry
        )
        self._batch = Histogram(
            "nonesuch_batch_rows", "Rows in one run of a graph.", ["model"], buckets=ROWS, registry=self.registry
        )
        self._run = Histogram(
            "nonesuch_run_seconds",
            "Processor time of one run of a graph; of one below half a millisecond or on a GPU, the time that passed.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._told = Counter(
            "nonesuch_key_rows", "Rows answered, by the name of the key.", ["key"], registry=self.registry
        )
        self._refused = Counter(
            "nonesuch_quota_refusals", "Requests refused over a quota.", ["key"], registry=self.registry
        )
        self._children: dict[tuple[Any, ...], Any] = {}
        self._gathered: list[_Answers | _Runs] = []
        self._answers: dict[tuple[str, str, str], _Answers] = {}
        self._runs: dict[str, _Runs] = {}
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []
        self._families: list[tuple[Gauge, Callable[[], Figures], set[tuple[str, ...]]]] = []
        # One of several workers: each keeps its figures in files, and any of them tells those of all.
        self.shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ

    def gauge(self, name: str, words: str, read: Callable[[], float], among: Literal["sum", "min"] = "sum") -> None:
        """A figure that is read when somebody asks for it; of several workers, their sum or the least of theirs."""
        mode: Literal["livesum", "livemin"] = "livesum" if among == "sum" else "livemin"
        gauge = Gauge(name, words, registry=self.registry, multiprocess_mode=mode)
        if self.shared:
            self._gauges.append((gauge, read))
        else:
            gauge.set_function(read)

    def gauges(self, name: str, words: str, labels: Sequence[str], read: Callable[[], Figures]) -> None:
        """Figures by labels that are read when somebody asks; of several workers, the greatest of theirs.

        What is no longer among them is shown no more; where there are several workers, whose files keep it, as 0.
        """
        gauge = Gauge(name, words, labels, registry=self.registry, multiprocess_mode="livemax")
        self._families.append((gauge, read, set()))

    def refresh(self) -> None:
        """Write down what was gathered and, for other workers if there are any, this one's gauges."""
        for gathered in self._gathered:
            gathered.write()
        for gauge, read in self._gauges:
            gauge.set(read())
        for gauge, figures, shown in self._families:
            now = figures()
            for labels in shown - now.keys():
                if self.shared:
                    gauge.labels(*labels).set(0.0)
                else:
                    gauge.remove(*labels)
            for labels, value in now.items():
                gauge.labels(*labels).set(value)
            shown.clear()
            shown.update(now)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered; ``route`` is the path's template, never the path itself."""
        self._child(self._requests, route, method, str(status)).inc()
        self._child(self._seconds, route).observe(seconds)

    def counter_of(self, route: str, model: str, capability: str) -> Callable[[int, float], None]:
        """What counts answers of one kind, with rows and seconds, that are computed without a look into the cache."""
        about = route, model, capability
        if about not in self._answers:  # all versions of a model share it
            self._answers[about] = _Answers(self, *about)
            self._gathered.append(self._answers[about])
        return self._answers[about].add

    def write_answers(self, route: str, model: str, capability: str, rows: int, seconds: Sequence[float]) -> None:
        """Write answers down that ``counter_of`` has counted: so many rows, and the seconds of each."""
        self._child(self._requests, route, "POST", "200").inc(len(seconds))
        self._child(self._rows, model, capability).inc(rows)
        self._child(self._cache, model, capability, "bypass").inc(len(seconds))
        _observe_all(self._child(self._seconds, route), seconds)

    def answered(self, model: str, capability: str, rows: int, cache: str) -> None:
        """A model answered a question about so many rows."""
        self._child(self._rows, model, capability).inc(rows)
        self._child(self._cache, model, capability, cache).inc()

    def answered_to(self, key: str, rows: int) -> None:
        """Whoever has the key of this name, or none, was answered about so many rows."""
        self._child(self._told, key).inc(rows)

    def quota_refused(self, key: str) -> None:
        """A request was refused because the quota is used up."""
        self._child(self._refused, key).inc()

    def cache_event(self, event: str, times: int) -> None:
        """Something happened in the cache so many times."""
        self._child(self._events, event).inc(times)

    def ran(self, model: str, rows: int, seconds: float) -> None:
        """A graph of a model ran over so many rows."""
        runs = self._runs.get(model)
        if runs is None:
            runs = self._runs[model] = _Runs(self._child(self._batch, model), self._child(self._run, model))
            self._gathered.append(runs)
        runs.add(rows, seconds)

    def exposition(self, accept: str | None) -> tuple[bytes, str]:
        """All metrics, and their content type: OpenMetrics for a scraper that asks for it, else Prometheus text."""
        registry = self.registry
        self.refresh()
        if self.shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call,unused-ignore]
        if accept is not None and "application/openmetrics-text" in accept:
            return generate_openmetrics(registry), OPENMETRICS  # type: ignore[no-untyped-call,unused-ignore]
        return generate_plain(registry), PLAIN

    def _child(self, metric: Any, *labels: str) -> Any:
        key = (id(metric), *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child


class _Answers:
    """Answers of one kind, gathered."""

    __slots__ = ("_about", "_metrics", "_rows", "_times")

    def __init__(self, metrics: Metrics, route: str, model: str, capability: str):
        self._metrics = metrics
        self._about = route, model, capability
        self._times: list[float] = []
        self._rows = 0

    def add(self, rows: int, seconds: float) -> None:
        """One more."""
        self._rows += rows
        self._times.append(seconds)
        if len(self._times) >= GATHER:
            self.write()

    def write(self) -> None:
        """Hand them to the client."""
        if self._times:
            route, model, capability = self._about
            self._metrics.write_answers(route, model, capability, self._rows, self._times)
            self._rows, self._times = 0, []


class _Runs:
    """Runs of one model's graphs, gathered."""

    __slots__ = ("_batch", "_rows", "_seconds", "_times")

    def __init__(self, batch: Any, seconds: Any):
        self._batch, self._seconds = batch, seconds
        self._rows: list[int] = []
        self._times: list[float] = []

    def add(self, rows: int, seconds: float) -> None:
        """One more."""
        self._rows.append(rows)
        self._times.append(seconds)
        if len(self._times) >= GATHER:
            self.write()

    def write(self) -> None:
        """Hand them to the client."""
        if self._times:
            _observe_all(self._batch, self._rows)
            _observe_all(self._seconds, self._times)
            self._rows, self._times = [], []


def _observe_all(histogram: Any, amounts: Sequence[float]) -> None:
    """``observe`` for each amount, with one increment a bucket; the client has no public way for many."""
    histogram._sum.inc(sum(amounts))
    for bucket, times in Counts(bisect_left(histogram._upper_bounds, amount) for amount in amounts).items():
        histogram._buckets[bucket].inc(times)


def configure_logging(form: Literal["console", "json"], level: str) -> None:
    """Log lines to standard error, ours and the libraries' alike, for people or for machines."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=form == "json"),
    ]
    last: list[Any] = (
        [_TRACEBACKS, structlog.processors.JSONRenderer()]
        if form == "json"
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Uvicorn's own lines say when it starts and stops, which the service says better.
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, root.level))
