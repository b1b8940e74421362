"""What work will cost: together with others, by itself, and along a chain."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.model import LoadedModel, load_model
from service.predictions import Predictions
from tests import bundles

STEPS = 5.0


@pytest.fixture
def counter(tmp_path: Path) -> LoadedModel:
    return load_model(bundles.write(tmp_path, bundles.counter()))


@pytest.fixture
def known(counter: LoadedModel) -> Predictions:
    """As if rows had shown that they take five steps; a run costs a millisecond and little a row."""
    predictions = Predictions(0.005)
    predictions.ended(counter, "sample", STEPS)
    return predictions


def test_the_steps_of_a_lone_row_come_one_after_the_other(counter: LoadedModel, known: Predictions) -> None:
    program = counter.program("sample")
    runs = known.cost(counter, program.step).seconds(1) * STEPS
    runs += sum(known.cost(counter, name).seconds(1) for name in (program.init, program.final) if name is not None)
    assert known.chain_seconds(counter, "sample", 1, 1, None) == pytest.approx(runs)
    assert known.shared_seconds(counter, "sample", 1, None) < runs / 10, "its share of full runs is little"


def test_in_a_crowd_the_chain_is_the_queue(counter: LoadedModel, known: Predictions) -> None:
    n = 100_000
    assert known.chain_seconds(counter, "sample", n, n, None) == pytest.approx(
        known.shared_seconds(counter, "sample", n, None)
    )


def test_behind_few_of_many_each_step_is_a_full_run(counter: LoadedModel, known: Predictions) -> None:
    behind_all = known.chain_seconds(counter, "sample", 100_000, 100_000, None)
    behind_few = known.chain_seconds(counter, "sample", 100_000, 2, None)
    alone = known.chain_seconds(counter, "sample", 1, 1, None)
    assert alone < behind_few < behind_all / 10
    program = counter.program("sample")
    runs = len([name for name in (program.init, program.final) if name is not None]) + STEPS
    assert behind_few == pytest.approx(0.005 * runs, rel=0.01)
