"""Test metrics, measured with the exported graphs: what is served is what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.blocks import clustered_error
from contract.calibration import CalibrationRows
from contract.capabilities import Capability
from contract.conformal import p_values
from contract.manifest import Metric
from contract.programs import Program
from runtime.loop import run_program
from runtime.model import LoadedModel
from training.data import Fold

__all__ = ["ALARM_RATES", "answers", "auroc", "measure", "tolerated"]

ALARM_RATES = (0.05, 0.1)
"""Rates at which alarms are counted."""

_BATCH = 500

Array = NDArray[Any]


def answers(model: LoadedModel, capability: Capability, rows: Array, **conditions: Array) -> dict[str, Array]:
    """What the exported program says of data rows, given conditions [n]: [n, *shape] -> arrays [n, …] by output."""
    data = model.program(capability).data_input
    assert data is not None
    inputs = {data.name: rows, **conditions}
    parts = [
        run_program(model, capability, {name: array[start : start + _BATCH] for name, array in inputs.items()})
        for start in range(0, len(rows), _BATCH)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measure(
    model: LoadedModel, test: Fold, anomalies: Mapping[str, Array], calibration: CalibrationRows | None = None
) -> tuple[Metric, ...]:
    """Every metric of a bundle.

    Args:
        model: the bundle, loaded.
        test: the test fold.
        anomalies: labelled rows that are not ordinary, by label; they count where the bundle has a score.
        calibration: the calibration rows, scored, which give figures of their own where they come in blocks.

    Returns:
        Metrics with standard errors, kinds and units: mean test log-probability, and bits per dimension on discrete
        supports, both without a label and, of a conditional model, given each row's own (``…_given_label``); false
        alarms and detections at ``ALARM_RATES``, and the AUROC of each label. An error that all rows of an
        estimate share, which no number of rows makes smaller, is part of its mean's standard error. Standard errors
        are over groups of rows where test rows come in such, as windows of a series do.
    """
    by_block = () if calibration is None else calibration.metrics()
    return (*_likelihood(model, test), *_alarms(model, test, anomalies), *by_block)


def tolerated(name: str, value: float, reference: float, tolerance: Mapping[str, float]) -> bool | None:
    """Whether a metric lies within the recipe's tolerance of another value; None where the recipe gives none."""
    return abs(value - reference) <= tolerance[name] if name in tolerance else None


def auroc(ordinary: Array, strange: Array) -> tuple[float, float]:
    """Area under the ROC curve and its standard error (DeLong, DeLong and Clarke-Pearson 1988).

    Args:
        ordinary: scores of ordinary rows, [m].
        strange: scores of anomalies, [n]; larger should mean stranger. Ties count half.

    Returns:
        (P(strange > ordinary) + P(equal) / 2, standard error).
    """
    below = _wins(strange, ordinary)  # for each strange row, the share of ordinary rows that it beats
    above = 1.0 - _wins(ordinary, strange)
    variance = sum(np.var(part, ddof=1) / len(part) if len(part) > 1 else 0.0 for part in (below, above))
    return float(below.mean()), math.sqrt(variance)


def _wins(scores: Array, others: Array) -> Array:
    ranked = np.sort(others)
    return (np.searchsorted(ranked, scores, "left") + np.searchsorted(ranked, scores, "right")) / (2 * len(ranked))


def _likelihood(model: LoadedModel, test: Fold) -> Iterator[Metric]:
    program = model.manifest.capabilities.get("log_prob")
    if program is None:
        return
    yield from _likelihood_figures(model, program, test, "")
    if test.labels is not None and program.input("label") is not None:
        yield from _likelihood_figures(model, program, test, "_given_label", label=test.labels)


def _likelihood_figures(
    model: LoadedModel, program: Program, test: Fold, suffix: str, **conditions: Array
) -> Iterator[Metric]:
    output = next(output for output in program.outputs if output.name == "log_prob")
    shared = (output.error.standard_error if output.error is not None else None) or 0.0
    values = answers(model, "log_prob", test.rows, **conditions)["log_prob"]
    over_rows, blocks = _error_of_mean(values, test.groups)
    mean, error = float(values.mean()), None if over_rows is None else math.hypot(over_rows, shared)
    about: dict[str, Any] = {"kind": output.kind, "fold": "test", "n": len(values), "blocks": blocks}
    yield Metric(name=f"test_log_prob{suffix}", value=mean, standard_error=error, units="nats", **about)
    support = model.manifest.support
    if support.discrete:
        scale = 1.0 / (support.size * math.log(2.0))
        name = f"test_bits_per_dimension{suffix}"
        in_bits = None if error is None else error * scale
        yield Metric(name=name, value=-mean * scale, standard_error=in_bits, units="bits", **about)


def _alarms(model: LoadedModel, test: Fold, anomalies: Mapping[str, Array]) -> Iterator[Metric]:
    about = model.manifest.calibration
    if model.calibration_scores is None or about is None:
        return
    ordinary = answers(model, "score", test.rows)["score"]
    strange = {label: answers(model, "score", rows)["score"] for label, rows in sorted(anomalies.items())}
    for label, scores in strange.items():
        value, delong = auroc(ordinary, scores)
        about_auroc: dict[str, Any] = {"kind": "rank", "units": "1", "fold": "test", "n": len(ordinary) + len(scores)}
        yield Metric(name=f"auroc_{label}", value=value, standard_error=delong, **about_auroc)
    for alpha in ALARM_RATES:
        for name, scores in {
            "false_alarms": ordinary,
            **{f"detected_{label}": s for label, s in strange.items()},
        }.items():
            flagged = p_values(model.calibration_scores, scores, about.contaminated) <= alpha
            error, blocks = _error_of_mean(flagged, test.groups if name == "false_alarms" else None)
            yield Metric(
                name=f"{name}_at_{alpha:g}",
                value=float(flagged.mean()),
                standard_error=error,
                kind="rank",
                units="1",
                fold="test",
                n=len(flagged),
                blocks=blocks,
            )


def _error_of_mean(values: Array, groups: Array | None) -> tuple[float | None, int | None]:
    """Standard error of the mean over rows, or over groups of rows where they come in such, and how many of these."""
    if groups is None:
        return _standard_error(values), None
    return clustered_error(values, groups), len(np.unique(groups))


def _standard_error(values: Array) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
