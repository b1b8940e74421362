"""The questions that a bundle can answer, and the kinds of number that an answer can be."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["CAPABILITIES", "KIND_WORDS", "UNASKED", "Capability", "NumberKind"]

Capability = Literal["sample", "latent", "decode", "encode", "log_prob", "score", "classify", "marginal", "inpaint"]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)

UNASKED: dict[Capability, str] = {
    "classify": "the model is no law of rows given a label, which Bayes' rule would need for each label",
    "marginal": "the law of some coordinates alone is an integral or sum over all others, which this model has no "
    "closed form of",
    "inpaint": "the law of what is missing given what is known has no closed form in this model, and no chain of it "
    "was exported",
}
"""Capabilities that came after the first bundles were written, each with why a bundle that says nothing of it lacks it.

A manifest from before need not refuse what nobody could ask for.
"""

NumberKind = Literal["exact", "lower_bound", "estimate", "unnormalised"]
"""Kinds of log-probability. Numbers of different kinds are never ranked together."""

KIND_WORDS: dict[NumberKind, str] = {
    "exact": "the model's log-probability itself, to rounding",
    "lower_bound": "at most the model's log-probability",
    "estimate": "a random estimate of the model's log-probability, with its error",
    "unnormalised": "known up to a constant: only differences mean anything",
}
