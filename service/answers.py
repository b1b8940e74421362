"""From a program's outputs to the answer of a question: what the numbers are, and what they promise."""

from __future__ import annotations

from functools import lru_cache
from math import log
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.alarms import AlarmRule, alarm_rule, check_promises, unknown_label
from contract.conformal import Guarantee, discoveries, fewest_discoveries, ranks, smallest_p_value
from contract.errors import InputError
from contract.manifest import Calibration
from contract.programs import Program
from contract.support import Support
from runtime.model import LoadedModel
from service.knobs import Knobs
from service.promises import promise_of_alarms, promise_of_discoveries

__all__ = [
    "USUAL_ALARMS",
    "Alarms",
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


class Alarms(NamedTuple):
    """Which rows a question about anomalies wants to have flagged.

    Attributes:
        alpha: rate of false alarms to keep, in (0, 1).
        guarantee: whether it is kept on average over calibration sets, or by 95 % of them each for itself.
        fdr: rate of false discoveries to keep over the rows of the request, in (0, 1), if discoveries are wanted.
        label: of all the rows, if they are to be held against the calibration rows of that label alone.
    """

    alpha: float = 0.05
    guarantee: Guarantee = "marginal"
    fdr: float | None = None
    label: str | None = None

    def check(self) -> None:
        """Refuse rates that are none.

        Raises:
            InputError: a rate is not between 0 and 1.
        """
        for name, rate in (("alpha", self.alpha), ("fdr", self.fdr)):
            if rate is not None and not 0.0 < rate < 1.0:
                raise InputError(column=name, expected="a number between 0 and 1, both excluded", got=f"{rate:g}")

    def check_label(self, about: Calibration | None) -> None:
        """Refuse a label that no calibration row has.

        Raises:
            InputError: it is none of those that there are, or there are none.
        """
        error = None if self.label is None else unknown_label(about, self.label)
        if error is not None:
            raise error

    def check_promises(self, about: Calibration | None) -> None:
        """Refuse a promise that dependent calibration rows cannot keep.

        Raises:
            InputError: what is asked for is more than an alarm.
        """
        if about is not None:
            check_promises(about, self.guarantee, self.fdr)


USUAL_ALARMS = Alarms()
"""What is flagged where nobody asks for anything else."""


def score_answer(model: LoadedModel, program: Program, outputs: Env, alarms: Alarms) -> dict[str, Any]:
    """Anomaly scores with conformal p-values, the alarms and discoveries asked for, and what these promise."""
    calibration, about = model.calibration_scores, model.manifest.calibration
    assert calibration is not None
    assert about is not None
    if alarms.label is not None:
        calibration, about = model.group_scores[alarms.label], about.of(alarms.label)
    score = answer_of(program, outputs, "score")
    rank = ranks(calibration, score)
    rule, said = _ruled(about, alarms.alpha, alarms.guarantee)
    body = {
        **answer_head(model),
        "alpha": alarms.alpha,
        "guarantee": None if about.dependent else alarms.guarantee,
        **({} if alarms.label is None else {"label": alarms.label}),
        "score": score,
        "statistics": {part.name: outputs[part.name] for part in program.outputs if part.kind == "statistic"},
        "p_value": rule.p_values(rank),
        "is_anomaly": rule.flagged(rank),
        **said,
    }
    if alarms.fdr is not None:
        fewest, promise = _discovered(about, len(rank), alarms.fdr)
        body |= {
            "fdr": alarms.fdr,
            "is_discovery": None if fewest is None else discoveries(rank, about.ordinary, alarms.fdr),
            "fewest_discoveries": fewest,
            "fdr_promise": promise,
        }
    return body


@lru_cache(maxsize=1024)
def _ruled(about: Calibration, alpha: float, guarantee: Guarantee) -> tuple[AlarmRule, dict[str, Any]]:
    """Which ranks alarm, and what an answer says of its alarms, the same for all rows."""
    rule = alarm_rule(about, alpha, guarantee)
    return rule, {
        "largest_flagged_p_value": rule.largest_flagged_p_value,
        "n_calibration": about.n,
        **({"n_contaminated": about.contaminated} if about.contaminated else {}),
        **({"n_blocks": about.blocks} if about.dependent else {}),
        "ordinary_rows": about.rows,
        "smallest_p_value": smallest_p_value(about.ordinary),
        "false_alarm_interval": rule.interval,
        "promise": promise_of_alarms(about, alpha, guarantee, rule),
    }


@lru_cache(maxsize=1024)
def _discovered(about: Calibration, m: int, fdr: float) -> tuple[int | None, str]:
    """How many rows of m can be discovered at the least, and what discoveries promise."""
    fewest = fewest_discoveries(about.ordinary, m, fdr)
    return fewest, promise_of_discoveries(about, fdr, m, fewest)
