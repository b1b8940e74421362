"""The table of results: what bundles were measured to be, and what others report, each among its own kind."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from contract.manifest import Metric
from training.measured import BATCH, LEAST_RUNS, LONG, Measured
from training.published import PublishedSet, PublishedValue, published_sets

__all__ = ["results_page", "value_with_error"]

_NOT_RECORDED = "not recorded"
_LESS_IS_BETTER = ("test_bits_per_dimension",)
_PAGES = {
    "results-tabular.md": "density of fifteen tables, over splits",
    "results-breast-cancer.md": "false alarms and detections over splits of the breast-cancer rows",
    "convergence-rates.md": "convergence rates of density estimates in one dimension",
}
_KINDS = ("exact", "lower_bound", "estimate", "unnormalised", "rank")


@dataclass(frozen=True, order=True)
class _Group:
    """Values that may be compared: of one quantity and kind, in the same units, on the same test rows."""

    title: str
    test_fold: str
    metric: str
    units: str
    kind: str


def results_page(
    found: Sequence[Measured], *, published: Sequence[PublishedSet] | None = None, beside: Collection[str] = ()
) -> str:
    """The page, as Markdown. How long sampling takes has columns of its own where it was timed for any bundle.

    Args:
        found: the bundles.
        beside: files in the page's folder; those that hold other results are linked.
        published: what others report; ``published.yaml`` if None.
    """
    known = published_sets() if published is None else published
    timed = sorted({line.sampling.on for line in found if line.sampling is not None})
    groups: dict[_Group, list[tuple[Measured, Metric]]] = {}
    for line in found:
        for metric in line.metrics:
            groups.setdefault(_group(line, metric, known), []).append((line, metric))
    parts = [_head(found, timed)]
    if links := [f"- [{words}]({page})" for page, words in _PAGES.items() if page in beside]:
        parts.append("Measured elsewhere, in other ways:\n\n" + "\n".join(links))
    title = None
    for group in sorted(groups, key=lambda each: (each.title, each.metric, each.units, _KINDS.index(each.kind))):
        if (group.title, group.test_fold) != title:
            title = (group.title, group.test_fold)
            n = groups[group][0][0].test_rows
            rows = f"\n\nTest fold `{group.test_fold[:12]}…`, {n:,} rows." if n is not None else ""
            parts.append(f"## {group.title}{rows}")
        parts.append(_section(group, groups[group], known, timed))
    if without := [line.title for line in found if not line.metrics]:
        parts.append(f"## Without a figure\n\n{', '.join(sorted(without))}: the family has no number to measure.")
    return "\n\n".join(parts) + "\n"


def _group(line: Measured, metric: Metric, known: Sequence[PublishedSet]) -> _Group:
    title = next((each.title for each in known if line.test_fold in each.test_folds), line.data)
    return _Group(title, line.test_fold, metric.name, metric.units, metric.kind)


def _section(
    group: _Group, rows: list[tuple[Measured, Metric]], known: Sequence[PublishedSet], timed: Sequence[str]
) -> str:
    sign = 1.0 if group.metric.startswith(_LESS_IS_BETTER) else -1.0
    reported = [
        (each, value)
        for each in known
        if group.test_fold in each.test_folds and (each.metric, each.units) == (group.metric, group.units)
        for value in each.values
        if value.kind == group.kind
    ]
    headings = ["family", "bundle", f"value, {_units(group.units)}", "published", "parameters", "training", "on"]
    headings += ["sampling a row, alone", f"in a batch of {BATCH}", "sampled on"][: _sampling_columns(timed)]
    lines = []
    for line, metric in sorted(rows, key=lambda row: (sign * row[1].value, row[0].title)):
        theirs = [value for _, value in reported if value.family == line.family]
        lines.append([*_cells(line, metric, theirs), *_sampling_cells(line)[: _sampling_columns(timed)]])
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


def _cells(line: Measured, metric: Metric, theirs: Sequence[PublishedValue]) -> list[str]:
    return [
        f"`{line.family}`",
        line.title,
        value_with_error(metric.value, metric.standard_error),
        " and ".join(f"{value.value:g} ({value.model}; {value.source})" for value in theirs) or "–",
        f"{line.parameters:,}",
        _NOT_RECORDED if line.training_seconds is None else duration(line.training_seconds),
        line.hardware or _NOT_RECORDED,
    ]


def _sampling_columns(timed: Sequence[str]) -> int:
    """None where nothing was timed; the processor has a column where it is not the same for all."""
    return 0 if not timed else 2 if len(timed) == 1 else 3


def _sampling_cells(line: Measured) -> list[str]:
    if line.sampling is None:
        return ["not timed" if line.samples else "does not sample"] * 3
    return [duration(line.sampling.alone), duration(line.sampling.in_batch), line.sampling.on]


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


def _head(found: Sequence[Measured], timed: Sequence[str]) -> str:
    lines = [
        "# Results",
        f"Written by `nonesuch evaluate --table` from the figures of {len(found)} bundles, which are kept in the file "
        "of the same name with the ending .jsonl; do not edit. Not all of these bundles ship.",
        "Every value was measured with the bundle's exported graphs on its test fold, which nothing else has looked "
        "at, when the bundle was made; ± is one standard error over rows, or over blocks of a series whose rows depend "
        "on each other, with the error that all rows share where the value is an estimate. `nonesuch evaluate BUNDLE` "
        "measures it again.",
        "Only what stands in one table may be compared: the same test rows, the same quantity, the same units and the "
        "same kind of number. An exact log-probability, a lower bound on one and an estimate of one are different "
        "things, and are never ranked together; the same holds for what others report. A table is sorted, the best "
        "first.",
        "Parameters are the floating-point numbers in the graphs' tensors, each tensor once, without the law of the "
        "anomaly score: weights that a mask has set to zero count, and so do training rows where they are kept. "
        f"Training is the time of the fit alone; of a bundle from before it was written down it is {_NOT_RECORDED}.",
    ]
    if timed:
        lines.append(
            "Sampling was timed when a bundle's figures were read: processor time of the reference loop, on one thread "
            f"of {' or '.join(timed)}, with the default number of steps; one row alone, and per row in a batch of "
            f"{BATCH}. It is the median of {LEAST_RUNS} runs or more; runs of over {LONG:g} s were made once."
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
