"""The part of a bundle's card that is about anomaly scores, and how a new calibration changes a card."""

from __future__ import annotations

import re
from collections.abc import Sequence

from contract.alarms import NO_GUARANTEE
from contract.calibration import BY_BLOCK
from contract.conformal import alarm_rank, rate_interval, smallest_p_value
from contract.manifest import Calibration, Metric

__all__ = ["anomalies_section", "recalibrated_card"]

_HEADING = "## Anomaly scores"


def anomalies_section(
    calibration: Calibration,
    law_rows: str | None,
    basis: str = "the calibration fold",
    metrics: Sequence[Metric] = (),
) -> str:
    """The section's text.

    Args:
        calibration: how scores become p-values.
        law_rows: which rows the law of the scores was fitted on, in words, if any.
        basis: whose scores they are compared with, in words.
        metrics: the bundle's figures, some of which may be of blocks held out.
    """
    lines = [
        _HEADING,
        "",
        f"Ordinary rows: {calibration.rows}. Statistic: {', '.join(calibration.statistics)}. "
        f"Score: {calibration.law}" + (f", fitted on {law_rows}." if law_rows else "."),
        "",
        *(_in_blocks(calibration, basis, metrics) if calibration.dependent else _kept(calibration, basis)),
    ]
    if calibration.tied:
        lines += ["", f"{100 * calibration.tied:.1f} % of the rows tie with another one; ties make alarms rarer."]
    if calibration.groups:
        lines += [
            "",
            f"By {calibration.labelled_by}, for rows whose label is given:",
            "",
            "| label | rows | smallest p |",
        ]
        lines += ["|---|---|---|"]
        for group in calibration.groups:
            ordinary = calibration.of(group.label).ordinary
            lines.append(f"| {group.label} | {group.n:,} | {smallest_p_value(ordinary):.2g} |")
    return "\n".join(lines)


def _kept(calibration: Calibration, basis: str) -> list[str]:
    """What alarms keep, and how exactly."""
    n = calibration.n
    lines = [
        f"A score becomes a p-value among the {n:,} scores of {basis}; the smallest possible is "
        f"{smallest_p_value(calibration.ordinary):.2g}. For rows exchangeable with the calibration rows, P(p ≤ α) ≤ α "
        "on average over calibration draws."
        + (
            f" At most {calibration.contaminated:,} of these may be anomalies, whatever they score; the promise is "
            "about rows exchangeable with the others."
            if calibration.contaminated
            else ""
        )
        + " With these scores the realised rate lies, with probability 95 %, in:",
        "",
        "| α | realised rate of false alarms |",
        "|---|---|",
    ]
    for alpha in (0.01, 0.05, 0.1):
        interval = rate_interval(n, alarm_rank(calibration.ordinary, alpha), calibration.contaminated)
        words = "no alarm is possible" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
        lines.append(f"| {alpha:g} | {words} |")
    return [
        *lines,
        "",
        "Nothing is promised under drift, for rows that depend on each other, or for rows seen in training.",
    ]


def _in_blocks(calibration: Calibration, basis: str, metrics: Sequence[Metric]) -> list[str]:
    """That nothing is kept, and what was measured in its place."""
    lines = [
        f"A score is ranked among the {calibration.n:,} scores of {basis}, which come in {calibration.blocks:,} blocks "
        f"({calibration.blocked_by}); the smallest possible p-value is {smallest_p_value(calibration.ordinary):.2g}. "
        f"**{NO_GUARANTEE.capitalize()}.** The rows of a block depend on each other, so that no rate of alarms is "
        "promised, and the interval of the realised rate, which is that of independent rows, is not given.",
    ]
    found = [metric for metric in metrics if metric.name.startswith(BY_BLOCK)]
    if not found:
        return lines
    lines += [
        "",
        "In its place, each block was held out in turn and its rows ranked among those of the other blocks:",
        "",
        "| α | share of a block's rows that alarm, ± one standard error over blocks |",
        "|---|---|",
    ]
    for metric in found:
        lines.append(f"| {metric.name.removeprefix(BY_BLOCK)} | {metric.value:.3f} ± {metric.standard_error:.2g} |")
    return [*lines, "", "Blocks that are next to each other in time may depend on each other too, which does not show."]


def recalibrated_card(
    card: str,
    *,
    name: str,
    version: int,
    former: int,
    calibration: Calibration,
    dropped: list[str],
    metrics: Sequence[Metric] = (),
) -> str:
    """A card as it reads after a new calibration.

    Args:
        card: the former version's.
        name: the bundle's name.
        version: the new version.
        former: the version whose calibration is replaced.
        calibration: the new one.
        dropped: names of the figures that the former calibration gave.
        metrics: figures that the new one gives.
    """
    lines = [line for line in card.splitlines() if not any(line.startswith(f"| {metric} |") for metric in dropped)]
    if lines and lines[0].startswith(f"# {name}"):
        lines[0] = f"# {name} {version}"
    text = "\n".join(lines).rstrip() + "\n"
    found = re.search(rf"^{_HEADING}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    law = re.search(rf"Score: {re.escape(calibration.law)}, fitted on (.+)\.$", found[0] if found else "", re.MULTILINE)
    section = anomalies_section(calibration, law[1] if law else None, "a file of rows of its own", metrics)
    section += (
        f"\n\nThe file's SHA-256 is `{calibration.source_sha256}`. All else in this bundle is version {former}'s: its "
        "calibration rows do not count any more"
        + (", and the figures of alarms by them are left out.\n" if dropped else ".\n")
    )
    if found is None:
        return f"{text}\n{section}"
    return text[: found.start()] + section + ("\n" if found.end() < len(text) else "") + text[found.end() :]
