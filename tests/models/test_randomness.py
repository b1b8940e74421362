"""Random numbers in numpy, torch and ONNX Runtime: the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from contract import randomness as reference
from contract.programs import State
from contract.randomness import ADDRESS_LIMIT, KEY, Stream
from models import randomness
from runtime.session import GraphSession
from training.export import export_graph
from training.graphs import GraphModule

DIMS = 3
ULP = 1.0 / 2**23

counters = st.integers(-(2**63), 2**63 - 1)
addresses = st.integers(0, ADDRESS_LIMIT - 1)


class Draws(nn.Module):
    """One of everything that draws."""

    def draw(self, seed: Tensor, row: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        return (
            randomness.squares32(seed),
            randomness.state(seed, row, Stream.PROBE, t),
            randomness.uniform(seed, row, Stream.STEP, t, dims=DIMS),
            randomness.normal(seed, row, Stream.LATENT, t, dims=DIMS),
        )


NAMES = ("bits", "state", "uniform", "normal")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> GraphSession:
    ports = [State(name=name, dtype="int64") for name in ("seed", "row", "t")]
    path: Path = tmp_path_factory.mktemp("draws") / "draws.onnx"
    path.write_bytes(export_graph("draws", GraphModule(Draws(), "draw", ports, NAMES)).SerializeToString())
    return GraphSession(path)


def many_addresses() -> dict[str, NDArray[np.int64]]:
    """Seeds 0 to 1000, and the last one, at small and at the largest rows and steps."""
    seeds = np.append(np.arange(1001), ADDRESS_LIMIT - 1)
    corners = np.array([[0, 0], [7, 0], [1, 783], [ADDRESS_LIMIT - 1, 2**31]])
    seed, corner = (part.ravel() for part in np.meshgrid(seeds, np.arange(len(corners)), indexing="ij"))
    return {"seed": seed, "row": corners[corner, 0], "t": corners[corner, 1]}


def ulps(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float((np.abs(a.astype(np.float64) - b) / np.spacing(np.maximum(np.abs(a), np.abs(b)))).max())


def test_numpy_torch_and_onnx_agree(session: GraphSession) -> None:
    given_ = many_addresses()
    seed, row, t = given_["seed"], given_["row"], given_["t"]
    in_torch = [value.numpy() for value in Draws().draw(*(torch.from_numpy(given_[n]) for n in ("seed", "row", "t")))]
    in_onnx = session.run(given_)
    in_numpy = {
        "bits": reference.squares32(seed),
        "state": reference.state(seed, row, Stream.PROBE, t).view(np.int64),
        "uniform": reference.uniform(seed, row, Stream.STEP, t, dims=DIMS),
        "normal": reference.normal(seed, row, Stream.LATENT, t, dims=DIMS),
    }
    for name, ours in zip(NAMES, in_torch, strict=True):
        theirs = in_numpy[name]
        for other in (ours, in_onnx[name]):
            if name == "normal":
                assert other.dtype == np.float32
                assert ulps(other, theirs) <= 1.0, name
            else:
                assert np.array_equal(other, theirs), name


def test_onnx_draws_do_not_depend_on_the_batch(session: GraphSession) -> None:
    given_ = many_addresses()
    whole = session.run(given_)
    for rows in ([7], [7, 8, 9], list(range(100, 137))):
        part = session.run({name: array[rows] for name, array in given_.items()})
        for name in NAMES:
            assert part[name].tobytes() == whole[name][rows].tobytes(), name


@given(st.lists(counters, min_size=1, max_size=20))
def test_squares32_is_the_paper_s(values: list[int]) -> None:
    # Widynski 2020, figure 3, in plain integers.
    def by_hand(counter: int) -> int:
        mask = 2**64 - 1
        x = y = counter * KEY & mask
        z = (y + KEY) & mask
        for add in (y, z, y):
            x = (x * x + add) & mask
            x = (x >> 32) | (x << 32 & mask)
        return ((x * x + z) & mask) >> 32

    expected = [by_hand(value % 2**64) for value in values]
    assert reference.squares32(np.array(values, dtype=np.int64)).tolist() == expected
    assert randomness.squares32(torch.tensor(values, dtype=torch.int64)).tolist() == expected


@given(st.lists(st.tuples(addresses, addresses), min_size=1, max_size=8), st.integers(0, 10**6))
def test_torch_is_the_twin_of_numpy_at_any_address(where: list[tuple[int, int]], t: int) -> None:
    seed, row = np.array(where, dtype=np.int64).T
    ours = randomness.uniform(torch.tensor(seed), torch.tensor(row), Stream.INIT, t, dims=2).numpy()
    assert np.array_equal(ours, reference.uniform(seed, row, Stream.INIT, t, dims=2))


def test_a_chain_taken_apart_gives_the_same_draws() -> None:
    seed, row, t = torch.tensor([42, 42, 3]), torch.tensor([0, 7, 2**53 - 1]), torch.tensor([0, 5, 783])
    stream = randomness.stream_state(randomness.address(seed, row), Stream.STEP, t)
    assert torch.equal(randomness.uniform_from(stream, 4), randomness.uniform(seed, row, Stream.STEP, t, dims=4))


def test_uniforms_are_multiples_of_two_to_the_minus_24_below_one() -> None:
    draws = reference.uniform(0, np.arange(100_000), Stream.STEP, dims=1).astype(np.float64) * 2**24
    assert np.array_equal(draws, np.floor(draws))
    assert draws.min() >= 0
    assert draws.max() < 2**24
