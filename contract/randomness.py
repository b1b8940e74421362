"""Counter-based random numbers: the numpy reference.

A sample has an address (seed, row). Every number it needs is a pure function of that address, of a stream, of the
step ``t`` and of the dimension, so that it does not depend on the batch, the order or the machine.

The mixing function is ``squares32`` (Widynski, "Squares: A Fast Counter-Based RNG", 2020), with one fixed,
published key. The seed is never the key: with small, regular keys the generator fails (a test shows it). The address
is hashed by a chain of links; a link carries 64 bits, made of two calls::

    link(s, v)  = squares32(s + v) * 2**32 + squares32(s + v + LOW_OFFSET)
    state       = link(link(link(0, seed), row), t * 8 + stream)
    bits(d)     = squares32(state + d)

A uniform takes the upper 24 bits of one draw; a normal takes two draws, by Box-Muller in double, rounded to float32.
All arithmetic is modulo 2**64. The same functions exist for torch and ONNX in ``models/randomness.py``.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ADDRESS_LIMIT",
    "KEY",
    "LOW_OFFSET",
    "Stream",
    "bits",
    "link",
    "normal",
    "row_address",
    "squares32",
    "state",
    "uniform",
]

KEY = 0xC58EFD154CE32F6D
"""The one published key: an odd number with irregular hexadecimal digits, as the paper asks."""

LOW_OFFSET = 0x9E3779B97F4A7C15
"""Distance between the two counters of a link, far from every address (2**64 divided by the golden ratio)."""

ADDRESS_LIMIT = 2**53
"""Seeds and rows lie in [0, ADDRESS_LIMIT), which JSON numbers carry exactly."""


class Stream(IntEnum):
    """What a draw is for. Streams of one address are independent of each other."""

    INIT = 0
    STEP = 1
    LATENT = 2
    OBSERVATION = 3
    PROBE = 4


def _u64(values: ArrayLike) -> NDArray[np.uint64]:
    # Signed int64 keeps its bit pattern: torch and ONNX carry counters in int64.
    array = np.asarray(values)
    return array.astype(np.int64).view(np.uint64) if array.dtype != np.uint64 else array


def squares32(counter: ArrayLike, key: int = KEY) -> NDArray[np.uint32]:
    """32 random bits for each 64-bit counter (Widynski 2020, four rounds).

    Args:
        counter: integers of any shape, taken modulo 2**64.
        key: the generator's key; only tests pass another than ``KEY``.

    Returns:
        uint32 array of the same shape.
    """
    k = np.uint64(key)
    half = np.uint64(32)
    with np.errstate(over="ignore"):
        x = _u64(counter) * k
        y = x
        z = y + k
        for add in (y, z, y):
            x = x * x + add
            x = (x >> half) | (x << half)
        x = x * x + z
    return np.asarray(x >> half).astype(np.uint32)


def link(previous: ArrayLike, value: ArrayLike, key: int = KEY) -> NDArray[np.uint64]:
    """One link of the address chain: 64 bits in, an integer mixed in, 64 bits out. Arguments broadcast."""
    with np.errstate(over="ignore"):
        counter = _u64(previous) + _u64(value)
        high = squares32(counter, key).astype(np.uint64)
        low = squares32(counter + np.uint64(LOW_OFFSET), key).astype(np.uint64)
    return (high << np.uint64(32)) | low


def state(seed: ArrayLike, row: ArrayLike, stream: Stream, t: ArrayLike = 0, key: int = KEY) -> NDArray[np.uint64]:
    """The 64-bit state of an address: integers ``seed``, ``row`` and ``t`` of shape [n] (they broadcast) -> [n]."""
    steps = np.asarray(t, dtype=np.int64) * 8 + int(stream)
    return link(link(link(0, seed, key), row, key), steps, key)


def bits(states: ArrayLike, count: int, key: int = KEY) -> NDArray[np.uint32]:
    """``count`` draws of 32 bits for each state: [n] -> uint32 [n, count]."""
    with np.errstate(over="ignore"):
        counters = _u64(states)[..., None] + np.arange(count, dtype=np.uint64)
    return squares32(counters, key)


def uniform(
    seed: ArrayLike, row: ArrayLike, stream: Stream, t: ArrayLike = 0, *, dims: int, key: int = KEY
) -> NDArray[np.float32]:
    """Uniforms on [0, 1), multiples of 2**-24.

    Args:
        seed, row, t: integers of shape [n] (they broadcast).
        stream: what the draws are for.
        dims: draws per row.

    Returns:
        float32 [n, dims]; never 1, so ``u < p`` always holds for p = 1 and never for p = 0.
    """
    draws = bits(state(seed, row, stream, t, key), dims, key)
    return ((draws >> np.uint32(8)).astype(np.float64) * 2.0**-24).astype(np.float32)


def normal(
    seed: ArrayLike, row: ArrayLike, stream: Stream, t: ArrayLike = 0, *, dims: int, key: int = KEY
) -> NDArray[np.float32]:
    """Standard normals by Box-Muller (1958), dimension d from draws 2d and 2d + 1, computed in double.

    Arguments as for ``uniform``.

    Returns:
        float32 [n, dims]; at most 6.77 in magnitude, the resolution of 32 bits.
    """
    draws = bits(state(seed, row, stream, t, key), 2 * dims, key).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((draws[..., 0::2] + 0.5) * 2.0**-32))
    return (radius * np.cos(draws[..., 1::2] * (2.0 * np.pi * 2.0**-32))).astype(np.float32)


def row_address(rows: NDArray[Any]) -> NDArray[np.int64]:
    """The row address of questions about data: a 63-bit hash (BLAKE2b) of each row's bytes, never its position.

    What a stochastic answer draws then depends on the row alone: it can be repeated, and cached.

    Args:
        rows: [n, *shape] of any numeric dtype; equal values have equal bytes, 0 and -0 included, and all NaN are one.

    Returns:
        int64 [n], from 0 to 2**63 - 1: beyond the addresses that requests may name.
    """
    if rows.dtype.kind == "f":
        rows = np.where(np.isnan(rows), np.array(np.nan, dtype=rows.dtype), rows + rows.dtype.type(0))
    data = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<")).reshape(len(rows), -1)
    hashes = [
        int.from_bytes(blake2b(row.tobytes(), digest_size=8, person=b"nonesuch-row-1").digest(), "little")
        for row in data
    ]
    return (np.array(hashes, dtype=np.uint64) >> np.uint64(1)).astype(np.int64)
