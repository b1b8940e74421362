"""From a program's outputs to the answer of a question: what the numbers are, and what they promise."""

from __future__ import annotations

from functools import lru_cache
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.conformal import alarm_rank, false_alarm_interval, ranks, smallest_p_value
from contract.programs import Program
from contract.support import Support
from runtime.model import LoadedModel
from service.knobs import Knobs

__all__ = [
    "answer_head",
    "answer_of",
    "bits_per_nat",
    "classify_answer",
    "columns_of",
    "condition_of",
    "log_prob_answer",
    "score_answer",
]

Env = dict[str, NDArray[Any]]


def answer_head(model: LoadedModel) -> dict[str, Any]:
    """Which bundle answered, and in which numeric profile."""
    manifest = model.manifest
    return {"model": manifest.name, "version": manifest.version, "digest": model.digest, "profile": model.profile}


def columns_of(model: LoadedModel) -> dict[str, Any]:
    """Names of the columns, where they have any."""
    columns = model.manifest.support.columns
    return {} if columns is None else {"columns": [column.name for column in columns]}


def condition_of(knobs: Knobs | None) -> dict[str, Any]:
    """What was conditioned on, where the model can be."""
    return {"condition": knobs.condition} if knobs is not None and knobs.condition else {}


def answer_of(program: Program, outputs: Env, kind: str) -> NDArray[Any]:
    """The output of a kind, [n, …]."""
    return outputs[next(part.name for part in program.outputs if part.kind == kind)]


def log_prob_answer(
    model: LoadedModel,
    program: Program,
    outputs: Env,
    knobs: Knobs | None = None,
    seed: int | None = None,
    *,
    trace: bool = False,
) -> dict[str, Any]:
    """Log-probabilities with their kind, units and error.

    Args:
        model: what answered.
        program: its log_prob.
        outputs: of the program, [n] by name.
        knobs: what the request set, where the program takes anything.
        seed: the seed that was used, where anything is drawn.
        trace: whether the terms that each number is the sum of are asked for.
    """
    output = next(part for part in program.outputs if part.name == "log_prob")
    values = outputs["log_prob"]
    body = {**answer_head(model), "kind": output.kind, "units": output.units}
    if knobs is not None and knobs.parameters:
        body["parameters"] = knobs.parameters
    body |= condition_of(knobs)
    if seed is not None:
        body["seed"] = seed
    body["log_prob"] = values
    if output.error is not None:
        name = output.error.output
        body["standard_error"] = output.error.standard_error if name is None else outputs[name]
        body["error_scope"] = output.error.scope
        body["bias"] = output.error.bias
    if "free_energy" in outputs:
        body["free_energy"] = outputs["free_energy"]
    if trace:
        body["trace"] = outputs["trace"]
    bits = bits_per_nat(model.manifest.support)
    if bits is not None:
        body["bits_per_dimension"] = values * bits
    return body


def classify_answer(model: LoadedModel, program: Program, outputs: Env) -> dict[str, Any]:
    """Probabilities of the labels of each row, and the most probable one."""
    output = program.outputs[0]
    labels, values = output.vocabulary or (), outputs[output.name]
    return {
        **answer_head(model),
        "kind": output.kind,
        "labels": labels,
        "prior": output.prior,
        "predicted": [labels[i] for i in values.argmax(axis=1)],
        "probabilities": np.exp(values),
    }


def bits_per_nat(support: Support) -> float | None:
    """What takes a log-probability in nats to bits per dimension, where every coordinate is discrete."""
    return -1.0 / (log(2.0) * support.size) if support.discrete else None


def score_answer(model: LoadedModel, program: Program, outputs: Env, alpha: float) -> dict[str, Any]:
    """Anomaly scores with conformal p-values, alarms at the false-alarm rate ``alpha``, and what they promise."""
    calibration, about = model.calibration_scores, model.manifest.calibration
    assert calibration is not None
    assert about is not None
    score = answer_of(program, outputs, "score")
    rank = ranks(calibration, score)
    k, smallest, interval, guarantee = _promise(about.n, about.rows, alpha)
    return {
        **answer_head(model),
        "alpha": alpha,
        "score": score,
        "statistics": {part.name: outputs[part.name] for part in program.outputs if part.kind == "statistic"},
        "p_value": rank / (about.n + 1),
        "is_anomaly": np.less_equal(rank, k) if k else None,
        "n_calibration": about.n,
        "ordinary_rows": about.rows,
        "smallest_p_value": smallest,
        "false_alarm_interval": interval,
        "guarantee": guarantee,
    }


@lru_cache(maxsize=1024)
def _promise(n: int, ordinary: str, alpha: float) -> tuple[int, float, tuple[float, float] | None, str]:
    interval = false_alarm_interval(n, alpha)
    return alarm_rank(n, alpha), smallest_p_value(n), interval, _guarantee(n, ordinary, alpha)


def _guarantee(n: int, ordinary: str, alpha: float) -> str:
    interval = false_alarm_interval(n, alpha)
    if interval is None:
        return (
            f"{n} calibration rows cannot reach alpha = {alpha:g}: the smallest p-value they can give is "
            f"{smallest_p_value(n):.3g}, so no alarm is given either way."
        )
    low, high = interval
    return (
        f"A row exchangeable with the {n} calibration rows ({ordinary}) is flagged with probability at most {alpha:g}, "
        f"on average over draws of those rows; with this bundle's own, the rate lies between {low:.3g} and {high:.3g} "
        f"with 95 % probability. Nothing is promised when the data drift, when rows depend on each other, or for rows "
        f"seen in training."
    )
