"""The law of several statistics: what each term is, that it never ends or turns, and that the terms add up."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from training.law import KernelLaw
from training.statistics.law import JointLaw, TailLaw

RNG = np.random.default_rng(3)
REFERENCE = torch.from_numpy(RNG.gamma(2.0, 3.0, size=500))
HEAVY = torch.from_numpy(RNG.pareto(2.0, size=2000))
FEW = torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0, 5.0]).double()
LAWS = {
    (name, direction): TailLaw(values if direction == "high" else -values, direction)
    for name, values in {"gamma": REFERENCE, "heavy": HEAVY, "few": FEW}.items()
    for direction in ("low", "high")
}


def terms(law: torch.nn.Module, values: object) -> np.ndarray:
    return law(torch.as_tensor(values, dtype=torch.float64)).numpy()


def test_the_term_is_the_share_of_reference_values_as_high() -> None:
    ordered = REFERENCE.sort().values
    got = np.exp(-terms(TailLaw(REFERENCE, "high"), ordered[:450]))
    assert got == pytest.approx((501 - np.arange(1, 451)) / 501, abs=0.01)


def test_low_is_high_of_what_is_turned_round() -> None:
    at = torch.linspace(-50, 50, 200).double()
    assert torch.equal(TailLaw(-REFERENCE, "low")(-at), TailLaw(REFERENCE, "high")(at))


@pytest.mark.parametrize(("values", "shape", "scale"), [(HEAVY, 0.5, None), (REFERENCE, 0.0, 3.0)])
def test_the_tail_is_the_law_of_the_excesses(values: torch.Tensor, shape: float, scale: float | None) -> None:
    law = TailLaw(values, "high")
    threshold = float(law.knots[-1])
    assert law.shape == pytest.approx(shape, abs=0.2)
    assert scale is None or law.scale == pytest.approx(scale, rel=0.3)
    # As SciPy has it: -log of its survival function, on top of the threshold's.
    beyond = threshold + np.array([0.1, 1.0, 10.0, 100.0])
    expected = -stats.genpareto(law.shape, loc=threshold, scale=law.scale).logsf(beyond)
    assert terms(law, beyond) - terms(law, [threshold]) == pytest.approx(expected)


def test_the_density_that_the_tail_stands_for_integrates_to_the_share_beyond() -> None:
    law = TailLaw(HEAVY, "high")
    threshold = float(law.knots[-1])

    def density(s: float) -> float:
        step = 1e-6 * s
        up, down = (np.exp(-terms(law, [s + side])[0]) for side in (step, -step))
        return float((down - up) / (2 * step))

    mass, _ = integrate.quad(density, threshold * (1 + 2e-6), 1e4, limit=500, points=[10.0, 100.0, 1000.0])
    upto = np.exp(-terms(law, [threshold])[0])
    assert mass == pytest.approx(upto - np.exp(-terms(law, [1e4])[0]), rel=1e-3)
    assert upto == pytest.approx(0.1, abs=0.01)


@given(
    st.sampled_from(sorted(LAWS)),
    st.lists(st.floats(-1e90, 1e90, allow_subnormal=False), min_size=2, max_size=30, unique=True),
)
def test_a_term_is_monotone_finite_and_above_nothing_however_far_a_row_lies(
    which: tuple[str, Literal["low", "high"]], values: list[float]
) -> None:
    turned = -1.0 if which[1] == "low" else 1.0
    got = terms(LAWS[which], turned * np.sort(values))
    assert np.isfinite(got).all()
    assert (got > 0).all()
    assert (np.diff(got) >= 0).all()


@given(st.sampled_from(sorted(LAWS)), st.integers(-2000, 2000))
def test_a_farther_row_is_stranger_by_more_than_nothing(
    which: tuple[str, Literal["low", "high"]], eighths: int
) -> None:
    turned = -1.0 if which[1] == "low" else 1.0
    near, far = terms(LAWS[which], turned * np.array([eighths / 8, (eighths + 1) / 8]))
    assert far > near


def test_what_is_beyond_all_doubles_has_a_term_too_and_what_is_no_number_has_none() -> None:
    low, high = terms(TailLaw(REFERENCE, "high"), [-np.inf, np.inf])
    assert 0 < low < high < np.inf
    assert np.isnan(terms(TailLaw(REFERENCE, "high"), [np.nan])[0])


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [0.0, float("inf")]])
def test_values_without_a_law_are_refused_by_the_statistic_s_name(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^neighbours: .*(do not vary|not finite)"):
        JointLaw({"neighbours": torch.tensor(values)}, {"neighbours": "high"})


def test_the_score_is_the_sum_of_what_each_statistic_says() -> None:
    law = JointLaw({"a": REFERENCE, "b": HEAVY, "c": -HEAVY}, {"a": "both", "b": "high", "c": "low"})
    a, b, c = (torch.linspace(low, high, 50).double() for low, high in ((-5, 40), (-3, 200), (-70, 2)))
    by_hand = terms(KernelLaw(REFERENCE), a) + terms(TailLaw(HEAVY, "high"), b) + terms(TailLaw(-HEAVY, "low"), c)
    assert law([a, b, c]).numpy() == pytest.approx(by_hand, rel=1e-14)
    assert law.words == (
        "score = minus the log-density of a, by a Gaussian kernel estimate, plus minus the log-probability of c as "
        "low, with a generalised Pareto tail, plus minus the log-probability of b as high, with a generalised Pareto "
        "tail"
    )
