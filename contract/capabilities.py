"""The questions that a bundle can answer, and the kinds of number that an answer can be."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["CAPABILITIES", "KIND_WORDS", "UNASKED", "Capability", "NumberKind"]

Capability = Literal["sample", "latent", "decode", "encode", "log_prob", "score", "classify", "marginal", "inpaint"]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)

UNASKED: dict[Capability, str] = {
    "classify": "this bundle holds no law of labels given a row",
    "marginal": "this bundle knows the law of whole rows, and none of some of their coordinates alone",
    "inpaint": "this bundle holds nothing that draws what is missing of a row given what is known",
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
