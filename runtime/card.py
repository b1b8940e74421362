"""The part of a bundle's card that is about anomaly scores, and how a new calibration changes a card."""

from __future__ import annotations

import re

from contract.conformal import alarm_rank, rate_interval, smallest_p_value
from contract.manifest import Calibration

__all__ = ["anomalies_section", "recalibrated_card"]

_HEADING = "## Anomaly scores"


def anomalies_section(calibration: Calibration, law_rows: str | None, basis: str = "the calibration fold") -> str:
    """The section's text.

    Args:
        calibration: how scores become p-values.
        law_rows: which rows the law of the scores was fitted on, in words, if any.
        basis: whose scores they are compared with, in words.
    """
    n = calibration.n
    lines = [
        _HEADING,
        "",
        f"Ordinary rows: {calibration.rows}. Statistic: {', '.join(calibration.statistics)}. "
        f"Score: {calibration.law}" + (f", fitted on {law_rows}." if law_rows else "."),
        "",
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
    lines += ["", "Nothing is promised under drift, for rows that depend on each other, or for rows seen in training."]
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


def recalibrated_card(
    card: str, *, name: str, version: int, former: int, calibration: Calibration, dropped: list[str]
) -> str:
    """A card as it reads after a new calibration.

    Args:
        card: the former version's.
        name: the bundle's name.
        version: the new version.
        former: the version whose calibration is replaced.
        calibration: the new one.
        dropped: names of the figures that the former calibration gave.
    """
    lines = [line for line in card.splitlines() if not any(line.startswith(f"| {metric} |") for metric in dropped)]
    if lines and lines[0].startswith(f"# {name}"):
        lines[0] = f"# {name} {version}"
    text = "\n".join(lines).rstrip() + "\n"
    found = re.search(rf"^{_HEADING}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    law = re.search(rf"Score: {re.escape(calibration.law)}, fitted on (.+)\.$", found[0] if found else "", re.MULTILINE)
    section = anomalies_section(calibration, law[1] if law else None, "a file of rows of its own")
    section += (
        f"\n\nThe file's SHA-256 is `{calibration.source_sha256}`. All else in this bundle is version {former}'s: its "
        "calibration rows do not count any more"
        + (", and the figures of alarms by them are left out.\n" if dropped else ".\n")
    )
    if found is None:
        return f"{text}\n{section}"
    return text[: found.start()] + section + ("\n" if found.end() < len(text) else "") + text[found.end() :]
