"""The page of what was measured, ``docs/anomaly.md``: written from the lines alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import words
from evaluation.bootstrap import bootstrap, verdict
from evaluation.cells import OURS
from evaluation.collected import (
    Measured,
    best_of_the_others,
    collect,
    compare,
    failures,
    figures_of,
    ours_of,
    shared,
)
from evaluation.detectors import DETECTORS
from evaluation.labelled import SETTINGS
from evaluation.page_of_alarms import alarm_blocks, discovery_blocks
from evaluation.plots import ranks_plot
from evaluation.words import table
from training.errors import DataError

__all__ = ["write_page"]

Line = Mapping[str, Any]


def write_page(lines: Sequence[Line], out: Path) -> None:
    """Write the page, its plots and its figures as CSV beside it.

    Args:
        lines: what was measured.
        out: the page; ``NAME-auroc.svg``, ``NAME-alarms.svg`` and ``NAME.csv`` are written beside it.

    Raises:
        DataError: nothing of ours was measured yet.
    """
    tables: dict[str, Measured] = {setting: collect(lines, "tables", setting) for setting in SETTINGS}
    if OURS not in tables["A"]:
        raise DataError("nothing of ours was measured yet")
    out.parent.mkdir(parents=True, exist_ok=True)
    blocks = [words.HEAD, _coverage(tables["A"])]
    for setting, measured in tables.items():
        if OURS in measured:
            blocks += [f"## {words.RANKING[setting]}", *_ranking(measured, out, plotted=setting == "A")]
    blocks += ["## False alarms", words.ALARMS, *alarm_blocks(tables["A"], out)]
    blocks += ["## Discoveries", words.DISCOVERIES, *discovery_blocks(tables["A"])]
    series: dict[str, Measured] = {setting: collect(lines, "series", setting) for setting in SETTINGS}
    if OURS in series["A"]:
        blocks += ["## Series", words.SERIES, *_series(series["A"])]
    by_pair = {(line["bundle"], line["strange"]): line for line in lines if line["part"] == "pictures"}
    pictures = [by_pair[pair] for pair in sorted(by_pair)]
    if pictures:
        blocks += ["## Pictures", words.PICTURES, _pictures(pictures)]
    failed = [line for measured in (*tables.values(), *series.values()) for line in failures(measured)]
    if failed:
        blocks += ["## Failures", words.FAILURES, "\n".join(f"- {line}" for line in failed)]
    out.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    out.with_suffix(".csv").write_text(_csv({"tables": tables, "series": series}), encoding="utf-8")


# -- how well anomalies are ranked ---------------------------------------------------------------------------------


def _coverage(measured: Measured) -> str:
    ours = measured[OURS]
    seeds = sum(len(found) for found in ours.values())
    families: dict[str, int] = {}
    for line in ours_of(measured):
        if "family" in line:
            families[line["family"]] = families.get(line["family"], 0) + 1
    chosen = ", ".join(f"{family} in {count}" for family, count in sorted(families.items(), key=lambda one: -one[1]))
    versions = {
        line["version"] for sets in measured.values() for s in sets.values() for line in s.values() if "version" in line
    }
    beside = f" PyOD {', '.join(sorted(versions))}." if versions else ""
    return (
        f"Measured are {len(ours)} sets with up to {max(len(found) for found in ours.values())} seeds: {seeds} fits of "
        f"ours in setting A, of which the family drafted was {chosen}.{beside}"
    )


def _ranking(measured: Measured, out: Path, *, plotted: bool) -> list[str]:
    blocks = []
    if plotted:
        others = [name for name in measured if name != OURS]
        means = {name: _means(measured, name, "auroc") for name in measured}
        by_set = {name: [means[other][name] for other in others] for name in means[OURS]}
        plot = out.with_name(f"{out.stem}-auroc.svg")
        ranks_plot(plot, "AUROC, mean over seeds: ours (dot), the others (ticks)", means[OURS], by_set)
        blocks.append(f"![AUROC by set]({plot.name})")
    for figure, name in (("auroc", "AUROC"), ("aupr", "AUPR")):
        blocks += [f"### {name} over the sets", _comparison(measured, figure)]
    best = best_of_the_others(measured)
    if best is not None:
        found = {one.detector: one for one in compare(measured, "auroc")}[best]
        assert found.difference is not None
        blocks.append(
            f"The best of the seven by mean AUROC is {best}. Ours minus {best}: {found.difference.signed}. "
            f"By a margin of one point of AUROC (0.01): **{verdict(found.difference)}**."
        )
    low = _low_log_prob(measured)
    blocks += [low] if low else []
    blocks += ["### AUROC by set", words.BY_SET, _by_set(measured, "auroc")]
    return blocks


def _comparison(measured: Measured, figure: str) -> str:
    headings = ["detector", "mean over sets (95 %)", "ours minus it (95 %)", "sources drawn together", "sets won"]
    headings.append("with a margin of 0.01" if figure == "auroc" else "")
    rows = []
    n = len(shared(measured))
    for one in compare(measured, figure):
        if one.difference is None or one.by_source is None:
            rows.append([f"**{one.detector}**", str(one.mean), "", "", "", ""])
            continue
        says = verdict(one.difference) if figure == "auroc" else ""
        rows.append(
            [one.detector, str(one.mean), one.difference.signed, one.by_source.signed, f"{one.wins} of {n}", says]
        )
    return table(headings, rows)


def _by_set(measured: Measured, figure: str) -> str:
    names = list(measured)
    rows = []
    figures = {name: figures_of(measured, name, figure) for name in names}
    for key, seeds in shared(measured).items():
        line = measured[names[0]][key][seeds[0]]
        cells = [f"{np.mean(figures[name][key]):.3f} ± {_spread(figures[name][key]):.3f}" for name in names]
        rows.append([key, str(line["n_train"]), str(line["d"]), str(line["n_strange"]), *cells])
    return table(["set", "rows", "columns", "anomalies", *names], rows)


def _low_log_prob(measured: Measured) -> str:
    pairs = {
        name: [(line["auroc"], line["auroc_log_prob"]) for line in seeds.values() if "auroc_log_prob" in line]
        for name, seeds in measured[OURS].items()
    }
    pairs = {name: found for name, found in pairs.items() if found}
    if not pairs:
        return ""
    low = bootstrap({name: [b for _, b in found] for name, found in pairs.items()})
    gain = bootstrap({name: [a - b for a, b in found] for name, found in pairs.items()})
    return (
        f"The raw log-probability of the same models, a low one being strange, has a mean AUROC of {low}; "
        f"the score minus it: {gain.signed}."
    )


# -- series and pictures -------------------------------------------------------------------------------------------


def _series(measured: Measured) -> list[str]:
    best = compare(measured, "auroc")
    means = table(["detector", "mean AUROC over series (95 %)"], [[one.detector, str(one.mean)] for one in best])
    names = list(measured)
    figures = {name: figures_of(measured, name, "auroc") for name in names}
    rows = [
        [
            key.removesuffix(".csv"),
            str(measured[names[0]][key][seeds[0]]["n_train"]),
            str(measured[names[0]][key][seeds[0]]["n_strange"]),
        ]
        + [f"{np.mean(figures[name][key]):.3f}" for name in names]
        for key, seeds in shared(measured).items()
    ]
    return [means, table(["series", "windows", "strange", *names], rows)]


def _pictures(lines: Sequence[Line]) -> str:
    rows = []
    for line in lines:
        low = line["log_prob"]
        rows.append(
            [
                f"{line['bundle']} ({line['digest'][:8]})",
                line["family"],
                ", ".join(line.get("statistics", [])),
                f"{line['ordinary']} ({line['n_ordinary']:,})",
                f"{line['strange']} ({line['n_strange']:,})",
                _with_error(line["score"]),
                "" if low is None else f"{_with_error(low)} ({line['log_prob_kind'].replace('_', ' ')})",
            ]
        )
    headings = ["bundle", "family", "score of", "ordinary", "strange", "AUROC of the score", "AUROC of −log_prob"]
    return table(headings, rows)


def _with_error(figures: Line) -> str:
    return f"{figures['auroc']:.3f} ± {figures['auroc_standard_error']:.3f}"


# -- helpers -------------------------------------------------------------------------------------------------------


def _means(measured: Measured, detector: str, figure: str) -> dict[str, float]:
    return {name: float(np.mean(seeds)) for name, seeds in figures_of(measured, detector, figure).items()}


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _csv(parts: Mapping[str, Mapping[str, Measured]]) -> str:
    """Every measured ranking: part, setting, set, seed, detector, AUROC, AUPR."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["part", "setting", "set", "seed", "detector", "auroc", "aupr"])
    for part, settings in parts.items():
        for setting, measured in settings.items():
            for detector in (name for name in (OURS, *DETECTORS) if name in measured):
                for name, seeds in measured[detector].items():
                    for seed, line in sorted(seeds.items()):
                        figures = ["", ""] if "error" in line else [f"{line['auroc']:.5f}", f"{line['aupr']:.5f}"]
                        writer.writerow([part, setting, name, seed, detector, *figures])
    return text.getvalue()
