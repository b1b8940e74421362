"""Dependent rows: blocks held out are counted as by hand, errors are over blocks, and nothing is promised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import stats

from contract.alarms import alarm_rule, check_promises
from contract.blocks import BLOCK_RATES, clustered_error, held_out_alarms
from contract.calibration import BY_BLOCK, CalibrationRows
from contract.conformal import alarm_rank, p_values
from contract.errors import InputError
from contract.manifest import Calibration, CalibrationGroup, Metric

Numbers = NDArray[Any]
ABOUT = {"file": "calibration.npz", "statistics": ("log_prob",), "law": "larger is stranger", "rows": "days"}
BLOCKED = {"blocks": 12, "blocked_by": "the column day"}


def calibration(n: int = 240, **fields: Any) -> Calibration:
    return Calibration(**ABOUT, n=n, **fields)


# -- what is measured --------------------------------------------------------------------------------------------------


@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), min_size=2, max_size=60).filter(
        lambda rows: len({block for _, block in rows}) > 1
    ),
    alpha=st.sampled_from([0.1, 0.25, 0.5]),
)
def test_a_block_held_out_is_ranked_among_the_others_alone(rows: list[tuple[int, int]], alpha: float) -> None:
    scores = np.array([float(score) for score, _ in rows])  # many of them tie
    blocks = np.array([f"day {block}" for _, block in rows])
    shares, reached = [], True
    for block in set(blocks.tolist()):
        own, others = scores[blocks == block], np.sort(scores[blocks != block])
        reached &= alarm_rank(len(others), alpha) > 0
        shares.append(float(np.mean(p_values(others, own) <= alpha + 1e-12)))
    found = held_out_alarms(scores, blocks, alpha)
    assert (found is not None) == reached
    if found is not None:
        assert found.blocks == len(shares)
        assert found.mean == pytest.approx(np.mean(shares))
        assert found.standard_error == pytest.approx(stats.sem(shares))


@given(st.integers(20, 200), st.sampled_from(BLOCK_RATES), st.integers(0, 2**32 - 1))
def test_of_rows_that_stand_alone_just_as_many_alarm_as_may(n: int, alpha: float, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=n)
    found = held_out_alarms(scores, np.arange(n), alpha)
    rank = alarm_rank(n - 1, alpha)
    assert (found is None) == (rank == 0)
    if found is not None:
        assert found.mean == pytest.approx(rank / n)


def drawn(random: np.random.Generator, blocks: int, size: int, spread: float) -> Numbers:
    """Scores of rows in blocks, normal with variance 1, of which spread^2 is the block's own, [blocks * size]."""
    own = random.normal(size=(blocks, 1)) * spread
    return (own + random.normal(size=(blocks, size)) * np.sqrt(1.0 - spread**2)).ravel()


@pytest.mark.parametrize("spread", [0.0, 0.8])
def test_its_error_is_how_far_the_realised_rate_scatters(spread: float) -> None:
    random, (blocks, size), alpha = np.random.default_rng(39), (60, 10), 0.1
    of = np.repeat(np.arange(blocks), size)
    rates, errors, means = [], [], []
    for _ in range(300):
        scores = drawn(random, blocks, size, spread)
        found = held_out_alarms(scores, of, alpha)
        assert found is not None
        errors.append(found.standard_error)
        means.append(found.mean)
        # Of a new block's rows, each of which is normal, so many reach the score that is the last to alarm.
        rates.append(float(stats.norm.sf(np.sort(scores)[-alarm_rank(len(scores), alpha)])))
    scatter, independent = np.std(rates), np.std(stats.beta(60, 541).rvs(100_000, random_state=1))
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(scatter, rel=0.15)
    assert np.mean(means) == pytest.approx(np.mean(rates), abs=0.012)
    if spread:
        assert scatter > 1.8 * independent, "the beta law of independent rows would be much too narrow"
    else:
        assert scatter == pytest.approx(independent, rel=0.15)


def test_what_no_other_rows_can_reach_is_not_measured() -> None:
    blocks = np.repeat([0, 1], [95, 10])
    scores = np.arange(105.0)
    assert held_out_alarms(scores, blocks, 0.05) is None, "10 rows beside the first block reach 1 in 11 at best"
    assert held_out_alarms(scores, blocks, 0.1) is not None
    with pytest.raises(ValueError, match="only one"):
        held_out_alarms(scores, np.zeros(105), 0.1)


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=30), st.integers(2, 4), st.integers(0, 99))
def test_an_error_over_blocks_is_that_of_their_sums(values: list[float], count: int, seed: int) -> None:
    x = np.array(values)
    assert clustered_error(x, np.arange(len(x))) == pytest.approx(stats.sem(x), abs=1e-12)
    # Repeating each row in its block adds nothing to what is known.
    assert clustered_error(np.repeat(x, count), np.repeat(np.arange(len(x)), count)) == pytest.approx(
        stats.sem(x), abs=1e-12
    )
    assert clustered_error(x, np.full(len(x), seed)) is None


# -- what the manifest says --------------------------------------------------------------------------------------------


def test_a_manifest_from_before_says_nothing_of_blocks() -> None:
    about = calibration()
    assert not about.dependent
    assert {"blocks", "blocked_by"}.isdisjoint(about.model_dump(mode="json"))
    metric = Metric(name="a", value=0.1, kind="rank", units="1", fold="test", n=3)
    assert "blocks" not in metric.model_dump(mode="json")
    group = CalibrationGroup(label="a", n=3)
    assert "blocks" not in group.model_dump(mode="json")
    said = calibration(**BLOCKED).model_dump(mode="json")
    assert (said["blocks"], said["blocked_by"]) == (12, "the column day")
    assert Calibration.model_validate(said).dependent


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"blocks": 12}, "blocked_by says what"),
        ({"blocked_by": "the column day"}, "blocked_by says what"),
        ({**BLOCKED, "blocks": 1}, "two blocks or more"),
        ({**BLOCKED, "blocks": 241}, "two blocks or more"),
        ({**BLOCKED, "contaminated": 3}, "keep no rate"),
        ({**BLOCKED, "labelled_by": "kind", "groups": [{"label": "a", "n": 240}]}, "rows of every label"),
        ({"labelled_by": "kind", "groups": [{"label": "a", "n": 240, "blocks": 2}]}, "rows of every label"),
        ({**BLOCKED, "labelled_by": "kind", "groups": [{"label": "a", "n": 240, "blocks": 13}]}, "in no more blocks"),
    ],
)
def test_blocks_that_cannot_be_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        calibration(**fields)


def test_rows_make_a_calibration_its_arrays_and_its_figures() -> None:
    random = np.random.default_rng(3)
    blocks, labels = np.repeat(np.arange(12), 20), ["night", *["day"] * 19] * 12
    labels[0] = "day"
    rows = CalibrationRows(random.normal(size=240), labels, "shift", blocks, "the column day")
    about = rows.calibration(**ABOUT)
    assert (about.n, about.blocks, about.blocked_by, about.labelled_by) == (240, 12, "the column day", "shift")
    assert [(group.label, group.n, group.blocks) for group in about.groups] == [("day", 229, 12), ("night", 11, 11)]
    assert about.of("night").blocks == 11
    assert about.of("night").dependent
    arrays = rows.arrays()
    np.testing.assert_array_equal(arrays["scores"], np.sort(rows.scores))
    np.testing.assert_array_equal(arrays["scores.1"], np.sort(rows.scores[[label == "night" for label in labels]]))
    metrics = rows.metrics()
    assert [metric.name for metric in metrics] == [f"{BY_BLOCK}{alpha:g}" for alpha in BLOCK_RATES]
    for metric, alpha in zip(metrics, BLOCK_RATES, strict=True):
        found = held_out_alarms(rows.scores, blocks, alpha)
        assert found is not None
        assert (metric.value, metric.standard_error) == (found.mean, found.standard_error)
        assert (metric.fold, metric.kind, metric.n, metric.blocks) == ("calibration", "rank", 240, 12)
    assert CalibrationRows(rows.scores).metrics() == ()
    assert CalibrationRows(rows.scores).calibration(**ABOUT).blocks is None


def test_rows_that_make_no_calibration_are_refused() -> None:
    scores = np.arange(20.0)
    with pytest.raises(InputError, match="at least two blocks"):
        CalibrationRows(scores, blocks=["a"] * 20, blocked_by="the column day")
    with pytest.raises(InputError, match="no share of contaminated rows"):
        CalibrationRows(scores, blocks=["a", "b"] * 10, blocked_by="the column day", contaminated=0.1)
    with pytest.raises(InputError, match="a share from 0 to below 1"):
        CalibrationRows(scores, contaminated=1.0)


# -- what is promised --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.1])
def test_ranks_alarm_as_they_would_and_nothing_is_known_of_the_rate(alpha: float) -> None:
    rule, plain = (alarm_rule(about, alpha, "marginal") for about in (calibration(**BLOCKED), calibration()))
    assert rule.interval is None
    assert (rule.rank, rule.places) == (plain.rank, plain.places)


def test_what_cannot_be_promised_is_refused() -> None:
    about = calibration(**BLOCKED)
    check_promises(about, "marginal")
    for ask in (
        lambda: check_promises(about, "training_conditional"),
        lambda: alarm_rule(about, 0.1, "training_conditional"),
    ):
        with pytest.raises(InputError, match=r"no guarantee: dependent data.*12 blocks") as refused:
            ask()
        assert refused.value.column == "guarantee"
    with pytest.raises(InputError, match=r"no guarantee: dependent data.*got 0\.1") as refused:
        check_promises(about, "marginal", 0.1)
    assert refused.value.column == "fdr"
    check_promises(calibration(), "training_conditional", 0.1)
