"""The table of results: what bundles were measured to be, and what others report, each among its own kind."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from contract.bundle import Bundle, list_versions, open_bundle
from contract.manifest import Manifest, Metric
from runtime.loop import run_program
from runtime.model import LoadedModel, load_model
from training.errors import TrainingInputError
from training.hardware import cpu_name
from training.progress import Reporter
from training.published import PublishedSet, PublishedValue, published_sets

__all__ = ["BATCH", "Entry", "SamplingTime", "count_parameters", "entries", "results_page", "time_sampling"]

BATCH = 64
"""Rows of the batch in which sampling is timed."""

_SECONDS = 1.0
_LEAST_RUNS = 3
_LONG = 10.0
_NOT_RECORDED = "not recorded"
_LESS_IS_BETTER = ("test_bits_per_dimension",)
_COUNTED = ("test_log_prob", "test_bits_per_dimension", "auroc_")
_PAGES = {
    "results-tabular.md": "density of fifteen tables, over splits",
    "results-breast-cancer.md": "false alarms and detections over splits of the breast-cancer rows",
    "convergence-rates.md": "convergence rates of density estimates in one dimension",
}
_KINDS = ("exact", "lower_bound", "estimate", "unnormalised", "rank")


@dataclass(frozen=True)
class SamplingTime:
    """Seconds a row takes: alone, and in a batch of ``BATCH``."""

    alone: float
    in_batch: float


@dataclass(frozen=True)
class Entry:
    """A bundle, and what the table says of it beside its metrics.

    Attributes:
        manifest: the bundle's manifest.
        parameters: as ``count_parameters`` counts them.
        sampling: how long it takes to sample, if that was measured and the bundle can.
    """

    manifest: Manifest
    parameters: int
    sampling: SamplingTime | None

    @property
    def name(self) -> str:
        """Name and version."""
        return f"{self.manifest.name} {self.manifest.version}"


@dataclass(frozen=True, order=True)
class _Group:
    """Values that may be compared: of one quantity and kind, in the same units, on the same test rows."""

    title: str
    test_fold: str
    metric: str
    units: str
    kind: str


def entries(folders: Iterable[Path], *, sampling: bool, reporter: Reporter) -> list[Entry]:
    """Every version of every bundle in some folders of bundles, read and checked.

    Args:
        folders: folders of bundles; a bundle that is in two of them counts once.
        sampling: whether to measure how long sampling takes.
        reporter: where to say how it goes.

    Raises:
        TrainingInputError: there is no bundle.
        BundleError: a bundle is not what its manifest says.
    """
    found: dict[Path, Path] = {}
    for root in folders:
        for name, versions in list_versions(root).items():
            for version in versions:
                folder = root / name / str(version)
                found.setdefault(folder.resolve(), folder)
    if not found:
        raise TrainingInputError(f"{', '.join(map(str, folders))}: no bundles there")
    read = []
    with reporter.bar("bundles", len(found), unit="bundle") as bar:
        seen: set[str] = set()
        for done, folder in enumerate(found):
            bar.update(done, f"{folder.parent.name} {folder.name}")
            bundle = open_bundle(folder)
            if bundle.digest in seen:
                continue
            seen.add(bundle.digest)
            model = load_model(bundle) if sampling else None
            timed = time_sampling(model) if model is not None else None
            read.append(Entry(bundle.manifest, count_parameters(bundle), timed))
    return read


def count_parameters(bundle: Bundle) -> int:
    """Floating-point numbers in the tensors that a bundle's graphs hold, masked weights and kept rows among them.

    A tensor that several graphs hold counts once; the graph that turns statistics into a score does not count, nor do
    single numbers without a shape, which are constants of formulas.
    """
    score = {"score"} if "score" in bundle.manifest.capabilities else set()
    shared = {name for has, part in bundle.manifest.capabilities.items() if has not in score for name in part.graphs}
    most: Counter[tuple[str, tuple[int, ...], int]] = Counter()
    for name in shared:
        held: Counter[tuple[str, tuple[int, ...], int]] = Counter()
        for tensor in onnx.load(str(bundle.path(bundle.manifest.graphs[name].file))).graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype.kind == "f" and values.ndim:
                content = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
                held[content, tuple(tensor.dims), values.size] += 1
        most |= held  # of two layers with equal weights in one graph, both count
    return sum(size * times for (_, _, size), times in most.items())


def time_sampling(model: LoadedModel) -> SamplingTime | None:
    """How long a row takes to sample on this machine's CPU; None where the bundle does not sample.

    Processor time of the one thread that a graph runs on, so that what else the machine does is no part of it: the
    median of three runs or more, a second of them at least, after one that does not count; of runs of more than ten
    seconds, the first counts alone. The number of steps is the program's default.
    """
    if "sample" not in model.manifest.capabilities:
        return None
    return SamplingTime(_seconds(model, 1), _seconds(model, BATCH) / BATCH)


def _seconds(model: LoadedModel, n: int) -> float:
    times: list[float] = []
    while len(times) <= _LEAST_RUNS or sum(times[1:]) < _SECONDS:
        start = len(times) * n
        address = {"seed": np.full(n, 42, dtype=np.int64), "row": np.arange(start, start + n, dtype=np.int64)}
        started = time.process_time()
        run_program(model, "sample", address)
        times.append(time.process_time() - started)
        if times[0] > _LONG:
            return times[0]
    return statistics.median(times[1:])


def results_page(
    found: Sequence[Entry],
    *,
    sampling: bool,
    published: Sequence[PublishedSet] | None = None,
    beside: Collection[str] = (),
) -> str:
    """The page, as Markdown.

    Args:
        found: the bundles.
        sampling: whether sampling was timed.
        beside: files in the page's folder; those that hold other results are linked.
        published: what others report; ``published.yaml`` if None.
    """
    known = published_sets() if published is None else published
    groups: dict[_Group, list[tuple[Entry, Metric]]] = {}
    for entry in found:
        for metric in entry.manifest.metrics:
            if metric.name.startswith(_COUNTED):
                groups.setdefault(_group(entry.manifest, metric, known), []).append((entry, metric))
    parts = [_head(found, sampling)]
    if links := [f"- [{words}]({page})" for page, words in _PAGES.items() if page in beside]:
        parts.append("Measured elsewhere, in other ways:\n\n" + "\n".join(links))
    title = None
    for group in sorted(groups, key=lambda each: (each.title, each.metric, each.units, _KINDS.index(each.kind))):
        if (group.title, group.test_fold) != title:
            title = (group.title, group.test_fold)
            fold = groups[group][0][0].manifest.provenance.folds.get("test")
            rows = f"\n\nTest fold `{group.test_fold[:12]}…`, {fold['n']:,} rows." if fold else ""
            parts.append(f"## {group.title}{rows}")
        parts.append(_section(group, groups[group], known, sampling))
    without = [entry.name for entry in found if not any(m.name.startswith(_COUNTED) for m in entry.manifest.metrics)]
    if without:
        parts.append(f"## Without a figure\n\n{', '.join(sorted(without))}: the family has no number to measure.")
    return "\n\n".join(parts) + "\n"


def _group(manifest: Manifest, metric: Metric, known: Sequence[PublishedSet]) -> _Group:
    fold = manifest.provenance.folds.get("test", {})
    digest = str(fold.get("sha256", manifest.provenance.data_sha256))
    title = next((each.title for each in known if digest in each.test_folds), manifest.provenance.data)
    return _Group(title, digest, metric.name, metric.units, metric.kind)


def _section(group: _Group, rows: list[tuple[Entry, Metric]], known: Sequence[PublishedSet], sampling: bool) -> str:
    sign = 1.0 if group.metric.startswith(_LESS_IS_BETTER) else -1.0
    reported = [
        (each, value)
        for each in known
        if group.test_fold in each.test_folds and (each.metric, each.units) == (group.metric, group.units)
        for value in each.values
        if value.kind == group.kind
    ]
    headings = ["family", "bundle", f"value, {_units(group.units)}", "published", "parameters", "training", "on"]
    headings += ["sampling a row, alone", f"in a batch of {BATCH}"] if sampling else []
    lines = []
    for entry, metric in sorted(rows, key=lambda row: (sign * row[1].value, row[0].name)):
        theirs = [value for _, value in reported if value.family == entry.manifest.family]
        lines.append([*_cells(entry, metric, theirs), *(_sampling_cells(entry) if sampling else [])])
    better = "less" if sign > 0 else "more"
    text = f"### {_quantity(group.metric)}: {group.kind.replace('_', ' ')}, {better} is better\n\n"
    text += _table(headings, lines)
    if reported:
        others = [
            [value.model, f"{value.value:g}", value.source]
            for _, value in sorted(reported, key=lambda pair: sign * pair[1].value)
        ]
        text += "\n\nReported by others, of the same kind:\n\n" + _table(["model", "value", "source"], others)
        remarks = {each.remark for each, _ in reported if each.remark}
        text += "".join(f"\n\n{remark.strip()}" for remark in sorted(remarks))
    return text


def _cells(entry: Entry, metric: Metric, theirs: Sequence[PublishedValue]) -> list[str]:
    provenance = entry.manifest.provenance
    seconds = provenance.training_seconds
    return [
        f"`{entry.manifest.family}`",
        entry.name,
        value_with_error(metric.value, metric.standard_error),
        " and ".join(f"{value.value:g} ({value.model}; {value.source})" for value in theirs) or "–",
        f"{entry.parameters:,}",
        _NOT_RECORDED if seconds is None else duration(seconds),
        provenance.hardware or _NOT_RECORDED,
    ]


def _sampling_cells(entry: Entry) -> list[str]:
    if entry.sampling is None:
        return ["does not sample", "does not sample"]
    return [duration(entry.sampling.alone), duration(entry.sampling.in_batch)]


def value_with_error(value: float, error: float | None) -> str:
    """The error to two significant digits, and the value to as many decimals: ``−2046 ± 180``, ``0.9404 ± 0.0150``."""
    if error is None or not error > 0.0:
        return f"{value:.5g}".replace("-", "−")
    decimals = 1 - math.floor(math.log10(error))
    shown = max(0, decimals)
    return f"{round(value, shown):.{shown}f} ± {round(error, decimals):.{shown}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Three significant digits in the unit that suits: 740 µs, 12.3 ms, 4.56 s, 78.9 min, 4.2 h."""
    for limit, size, unit in ((1e-3, 1e-6, "µs"), (1.0, 1e-3, "ms"), (120.0, 1.0, "s"), (7200.0, 60.0, "min")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 3600.0:.3g} h"


def _head(found: Sequence[Entry], sampling: bool) -> str:
    flag = " --time-sampling" if sampling else ""
    lines = [
        "# Results",
        f"Written by `nonesuch evaluate --table{flag}` from the manifests of {len(found)} bundles; do not edit.",
        "Every value was measured with the bundle's exported graphs on its test fold, which nothing else has looked "
        "at, when the bundle was made; ± is one standard error over rows, with the error that all rows share where the "
        "value is an estimate. `nonesuch evaluate BUNDLE` measures it again.",
        "Only what stands in one table may be compared: the same test rows, the same quantity, the same units and the "
        "same kind of number. An exact log-probability, a lower bound on one and an estimate of one are different "
        "things, and are never ranked together; the same holds for what others report. A table is sorted, the best "
        "first.",
        "Parameters are the floating-point numbers in the graphs' tensors, each tensor once, without the law of the "
        "anomaly score: weights that a mask has set to zero count, and so do training rows where they are kept. "
        f"Training is the time of the fit alone; of a bundle from before it was written down it is {_NOT_RECORDED}.",
    ]
    if sampling:
        lines.append(
            f"Sampling was timed when this page was written: processor time of the reference loop, on one thread of "
            f"{cpu_name()}, with the default number of steps; one row alone, and per row in a batch of {BATCH}. It is "
            f"the median of {_LEAST_RUNS} runs or more; runs of over {_LONG:g} s were made once."
        )
    return "\n\n".join(lines)


def _quantity(metric: str) -> str:
    words = metric.removeprefix("test_").replace("_", " ")
    if words.startswith("auroc "):
        return f"AUROC of {words.removeprefix('auroc ')}"
    return words.replace("log prob", "log-probability").replace("given label", "given the label").capitalize()


def _units(units: str) -> str:
    return {"1": "from 0 to 1", "bits": "bits per dimension"}.get(units, units)


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|".join("---" for _ in headings)
    rows = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
    return "\n".join([f"| {' | '.join(headings)} |", f"|{rule}|", *rows])
