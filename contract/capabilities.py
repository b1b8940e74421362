"""The questions that a bundle can answer, and the kinds of number that an answer can be."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["CAPABILITIES", "KIND_WORDS", "Capability", "NumberKind"]

Capability = Literal["sample", "latent", "decode", "encode", "log_prob", "score"]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)

NumberKind = Literal["exact", "lower_bound", "estimate", "unnormalised"]
"""Kinds of log-probability. Numbers of different kinds are never ranked together."""

KIND_WORDS: dict[NumberKind, str] = {
    "exact": "the model's log-probability itself, to rounding",
    "lower_bound": "at most the model's log-probability",
    "estimate": "a random estimate of the model's log-probability, with its error",
    "unnormalised": "known up to a constant: only differences mean anything",
}
