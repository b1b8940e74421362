"""Families that know their log-probability as a sum: its terms, one for each coordinate given the earlier ones."""

from __future__ import annotations

import numpy as np
import pytest

from models.base import registry
from runtime.loop import run_program
from tests.families import trained

WITH_TRACE = [name for name, cls in registry().items() if hasattr(cls, "log_prob_and_trace")]


@pytest.mark.parametrize("name", WITH_TRACE)
def test_a_trace_adds_up_and_its_terms_know_nothing_later(name: str) -> None:
    family = trained(name)
    rows = family.folds.test.rows[:40]
    answer = run_program(family.served, "log_prob", {"x": rows})
    trace = answer["trace"].reshape(len(rows), -1)
    np.testing.assert_allclose(trace.sum(axis=1), answer["log_prob"], rtol=1e-12)
    each = rows.reshape(len(rows), trace.shape[1], -1)  # a pixel's channels have one term
    half = trace.shape[1] // 2
    other = each.copy()
    other[:, half:] = np.roll(each[:, half:], 1, axis=0)
    assert (other != each).any(), "these rows do not differ there"
    later = run_program(family.served, "log_prob", {"x": other.reshape(rows.shape)})["trace"].reshape(trace.shape)
    np.testing.assert_array_equal(later[:, :half], trace[:, :half])
    assert (later[:, half:] != trace[:, half:]).any()
