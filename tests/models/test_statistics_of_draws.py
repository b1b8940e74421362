"""The draws are uniform and independent along every part of an address, and the tests would see it if they were not.

Every address is fixed, so that each verdict is the same on every run. Thresholds are for the smallest p-value of a
whole battery after Bonferroni's correction: an honest generator falls below 1e-4 once in ten thousand choices of
addresses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from contract.randomness import ADDRESS_LIMIT, KEY, Stream, bits, normal, squares32, state, uniform
from tests.statistics_of_draws import avalanche, battery, chi_square, kolmogorov_smirnov, lag_correlations, smallest

PASSES = 1e-4
FAILS = 1e-9

AXES = ("seed", "row", "t", "stream", "dim")
SEEDS = np.arange(1001)
SHAPE = (6, 6, len(Stream), 8)

Block = NDArray[np.float32]


def addressed(seeds: NDArray[np.int64], rows: NDArray[np.int64], key: int = KEY) -> Block:
    """Draws by address: [seeds, rows, steps, streams, dims]."""
    seed, row, t = seeds[:, None, None], rows[None, :, None], np.arange(SHAPE[1])[None, None, :]
    return np.stack([uniform(seed, row, stream, t, dims=SHAPE[-1], key=key) for stream in Stream], axis=3)


def counted(key_of: Callable[[int], int], start_of: Callable[[int], int]) -> Block:
    """Draws by plain counting, the generator without the chain of links; laid out as by address."""
    counter = np.arange(np.prod(SHAPE))
    draws = np.stack([squares32(counter + start_of(seed), key_of(seed)) for seed in SEEDS.tolist()])
    return ((draws >> np.uint32(8)) * 2.0**-24).astype(np.float32).reshape(len(SEEDS), *SHAPE)


def test_draws_by_address_pass() -> None:
    p, statistic = smallest(battery(addressed(SEEDS, np.arange(SHAPE[0])), AXES))
    assert p > PASSES, statistic


def test_draws_at_the_end_of_the_addresses_pass() -> None:
    last = ADDRESS_LIMIT - 1
    p, statistic = smallest(battery(addressed(last - SEEDS, last - np.arange(SHAPE[0])), AXES))
    assert p > PASSES, statistic


def test_every_seed_gives_a_uniform_picture_of_independent_pixels() -> None:
    # 784 dimensions of one row of each seed: what failed when the seed was the key.
    block = uniform(SEEDS, 0, Stream.STEP, dims=784)
    p, statistic = smallest({"seeds": kolmogorov_smirnov(block), "lags": lag_correlations(block, 1, range(1, 100))})
    assert p > PASSES, statistic
    by_step = np.stack([uniform(SEEDS[:101], 0, Stream.STEP, t, dims=1)[:, 0] for t in range(784)], axis=1)
    p, statistic = smallest({"seeds": kolmogorov_smirnov(by_step), "lags": lag_correlations(by_step, 1, range(1, 100))})
    assert p > PASSES, statistic


def test_counting_passes_with_the_published_key() -> None:
    length = int(np.prod(SHAPE))
    p, statistic = smallest(battery(counted(lambda seed: KEY, lambda seed: seed * length), AXES))
    assert p > PASSES, statistic


@pytest.mark.parametrize(
    "weak",
    [
        pytest.param(lambda: counted(lambda seed: 1, lambda seed: seed * int(np.prod(SHAPE))), id="key 1"),
        pytest.param(lambda: counted(lambda seed: seed, lambda seed: 0), id="the seed as key"),
    ],
)
def test_every_statistic_fails_for_a_weak_key(weak: Callable[[], Block]) -> None:
    found = battery(weak(), AXES)
    count = sum(values.size for values in found.values())
    passed = {name: float(values.min()) for name, values in found.items() if values.min() * count > FAILS}
    assert passed == {}


def test_draws_by_address_fail_with_the_seed_as_key() -> None:
    rows = np.arange(SHAPE[0])
    found = battery(np.concatenate([addressed(SEEDS[[s]], rows, key=s) for s in SEEDS.tolist()]), AXES)
    assert smallest(found)[0] < FAILS


def first_draw(part: str, key: int) -> Callable[[NDArray[np.int64]], NDArray[np.uint32]]:
    where = {
        "seed": lambda value: state(value, 7, Stream.STEP, 3, key),
        "row": lambda value: state(42, value, Stream.STEP, 3, key),
        "t": lambda value: state(42, 7, Stream.STEP, value, key),
    }[part]
    return lambda value: bits(where(value), 1, key)[:, 0]


@pytest.mark.parametrize(("part", "width"), [("seed", 53), ("row", 53), ("t", 30)])
def test_each_bit_of_an_address_flips_half_of_a_draw(part: str, width: int) -> None:
    found = avalanche(first_draw(part, KEY), SEEDS, width)
    assert smallest({part: found.ravel()})[0] > PASSES


def test_each_bit_of_a_counter_flips_half_of_a_draw_but_not_with_a_weak_key() -> None:
    assert smallest({"published": avalanche(squares32, SEEDS, 53).ravel()})[0] > PASSES
    for weak in (0, 1, 3):
        assert smallest({"weak": avalanche(lambda c, k=weak: squares32(c, k), SEEDS, 53).ravel()})[0] < FAILS


def test_normals_are_normal_and_independent() -> None:
    draws = normal(SEEDS[:, None], np.arange(20)[None, :], Stream.LATENT, dims=8)  # [seeds, rows, dims]
    as_uniform = stats.norm.cdf(draws.astype(np.float64)).astype(np.float32)
    p, statistic = smallest(battery(as_uniform, ("seed", "row", "dim")))
    assert p > PASSES, statistic
    # A normal and its neighbour share no draw, but Box and Muller's pairs would: their radius is common.
    squares = stats.chi2.cdf(np.square(draws.astype(np.float64)), 1).astype(np.float32).reshape(-1, 2)
    assert chi_square(squares, 20) > PASSES


def test_the_statistics_pass_honest_draws_and_fail_dependent_ones() -> None:
    honest = np.random.default_rng(0).random((200, 12, 64), dtype=np.float32)
    p, statistic = smallest(battery(honest, ("a", "b", "c")))
    assert p > PASSES, statistic
    shifted = honest * 0.99
    assert kolmogorov_smirnov(shifted.reshape(1, -1))[0] < FAILS
    echo = np.where(np.arange(64) % 2 == 1, 0.8 * np.roll(honest, 1, axis=2) + 0.2 * honest, honest)
    for name in ("2-D along c", "lags along c"):
        assert battery(echo, ("a", "b", "c"))[name].min() < FAILS
    # Each pair of three is independent, the three are not: x + y + z mod 1 is constant.
    pairs = np.random.default_rng(1).random((2, 40_000))
    triple = np.stack([*pairs, (1.0 - pairs.sum(axis=0)) % 1.0], axis=1).astype(np.float32)
    assert chi_square(triple[:, [0, 2]], 20) > PASSES
    assert chi_square(triple, 10) < FAILS
