"""What alarms and discoveries promise, in words."""

from __future__ import annotations

from contract.alarms import NO_GUARANTEE, AlarmRule
from contract.conformal import CONFIDENCE, TIED, Guarantee, calibration_needed, smallest_p_value
from contract.manifest import Calibration

__all__ = ["promise_of_alarms", "promise_of_discoveries"]

_NOTHING = "Nothing is promised when the data drift, when rows depend on each other, or for rows seen in training."


def promise_of_alarms(about: Calibration, alpha: float, guarantee: Guarantee, rule: AlarmRule) -> str:
    """What ``is_anomaly`` promises, and what it does not.

    Args:
        about: the calibration.
        alpha: rate of false alarms asked for.
        guarantee: how it is to be kept.
        rule: by which rows alarm.
    """
    if not rule.rank:
        said = _alarms_out_of_reach(about, alpha, guarantee)
        return f"{NO_GUARANTEE}. {said}" if about.dependent else said
    if rule.interval is None:
        return (
            f"{NO_GUARANTEE}. The {about.n} calibration rows ({about.rows}) come in {about.blocks} "
            f"block{'s' * (about.blocks != 1)} ({about.blocked_by}) of rows that depend on each other, so that a "
            "p-value is a row's rank among them, no rate of false alarms is promised, and no interval of one is known."
        )
    low, high = rule.interval
    if guarantee == "training_conditional":
        said = (
            f"With {100 * CONFIDENCE:g} % probability over draws of {_basis(about)}, rows exchangeable with them are "
            f"flagged at a rate of at most {alpha:g}: not on average, but by this bundle itself. So a row is flagged "
            f"when its p-value is at most {rule.rank / rule.places:.3g}."
        )
    else:
        within = f"between {low:.3g} and {high:.3g}" if low > 0.0 else f"at or below {high:.3g}"
        said = (
            f"A row exchangeable with {_basis(about)} is flagged with probability at most {alpha:g}, on average over "
            f"draws of those rows; with this bundle's own, the rate lies {within} with 95 % probability."
        )
    return " ".join([said, *_reserves(about), _NOTHING])


def promise_of_discoveries(about: Calibration, fdr: float, m: int, fewest: int | None) -> str:
    """What ``is_discovery`` promises over the m rows of a request, and what it does not.

    Args:
        about: the calibration.
        fdr: rate of false discoveries asked for.
        m: rows in the request.
        fewest: rows that can be discovered, at the least; None where none can.
    """
    if fewest is None:
        return (
            f"{_count(about)} cannot reach fdr = {fdr:g}: the smallest p-value they can give is "
            f"{smallest_p_value(about.ordinary):.3g}, so no discovery is given either way; it takes "
            f"{_needed(fdr, 'marginal')}."
        )
    said = (
        f"Of the rows with is_discovery, a share of at most {fdr:g} is ordinary, in expectation (none being a share of "
        f"0), if the ordinary rows among these {m} are exchangeable with {_basis(about)}, independent of each other, "
        "and of the anomalies. That is said of this request, on average over draws of the calibration rows; nothing is "
        "promised of one row, of some of them, or across requests."
    )
    if fewest == 1:
        lone = f"A lone row of {m} can be discovered."
    else:
        lone = (
            f"A lone row of {m} cannot be discovered: that takes {m}/{fdr:g} - 1, or {_needed(fdr / m, 'marginal')}; "
            f"with {about.ordinary}, it takes {fewest} rows together."
        )
    return " ".join([said, lone, *_reserves(about), _NOTHING])


def _alarms_out_of_reach(about: Calibration, alpha: float, guarantee: Guarantee) -> str:
    if guarantee == "training_conditional":
        why = f"no alarms by them keep that rate with {100 * CONFIDENCE:g} % probability"
    else:
        why = f"the smallest p-value they can give is {smallest_p_value(about.ordinary):.3g}"
    return (
        f"{_count(about)} cannot reach alpha = {alpha:g}: {why}, so no alarm is given either way; it takes "
        f"{_needed(alpha, guarantee)}."
    )


def _basis(about: Calibration) -> str:
    rows = f"the {about.n} calibration rows ({about.rows})"
    return f"the ordinary ones, at least {about.ordinary}, of {rows}" if about.contaminated else rows


def _count(about: Calibration) -> str:
    return f"{about.n} calibration rows" + (
        f", of which {about.contaminated} may be anomalies," if about.contaminated else ""
    )


def _reserves(about: Calibration) -> list[str]:
    said = []
    if about.of_a_label:
        said.append("That is said of rows that have this label, by themselves; of wrongly labelled ones it is not.")
    if about.contaminated:
        said.append("Whatever the others score, the promise holds; if they score high, they hide anomalies like them.")
    if about.tied > TIED:
        said.append(f"{100 * about.tied:.0f} % of the calibration rows tie with another one, which makes alarms rarer.")
    return said


def _needed(level: float, guarantee: Guarantee) -> str:
    needed = calibration_needed(level, guarantee)
    return f"{'more than a billion' if needed is None else needed} ordinary calibration rows"
