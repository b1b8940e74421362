"""Counter-based random numbers in torch: the twin of ``contract/randomness.py``.

The same functions under the same names, on int64 tensors that hold the same 64 bits. Uniforms are equal to the numpy
reference bit for bit, normals to one unit in the last place, in torch and in an exported graph.

The mixing function is ``squares32`` (Widynski, "Squares: A Fast Counter-Based RNG", 2020)::

    y = x = counter * key,  z = y + key
    x = rotate32(x * x + y);  x = rotate32(x * x + z);  x = rotate32(x * x + y)
    squares32 = (x * x + z) >> 32

with a rotation by 32 bits and arithmetic modulo 2**64. It is an operator of its own, so that export can translate it
into the unsigned arithmetic that ONNX has and torch lacks.

Example:
    >>> import torch
    >>> from contract import randomness as reference
    >>> from contract.randomness import Stream
    >>> seed, row = torch.tensor([42, 42]), torch.tensor([0, 7])
    >>> ours = uniform(seed, row, Stream.STEP, 3, dims=4)
    >>> bool((ours.numpy() == reference.uniform(seed.numpy(), row.numpy(), Stream.STEP, 3, dims=4)).all())
    True
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from contract.randomness import KEY, LOW_OFFSET, Stream
from models.nets.lanes import full_lanes

__all__ = [
    "address",
    "bits",
    "link",
    "normal",
    "normal_from",
    "squares32",
    "state",
    "stream_state",
    "uniform",
    "uniform_from",
]

_LOW_HALF = 0xFFFFFFFF


def _signed(value: int) -> int:
    """The int64 with the same 64 bits."""
    return value - 2**64 if value >= 2**63 else value


_KEY = _signed(KEY)
_LOW_OFFSET = _signed(LOW_OFFSET)


@torch.library.custom_op("nonesuch::squares32", mutates_args=())
def squares32(counter: Tensor) -> Tensor:
    """32 random bits for each 64-bit counter: int64 of any shape -> int64 in [0, 2**32), same shape."""
    x = counter * _KEY
    y = x
    z = y + _KEY
    for add in (y, z, y):
        x = x * x + add
        x = ((x >> 32) & _LOW_HALF) | (x << 32)  # the mask turns torch's arithmetic shift into a logical one
    x = x * x + z
    return (x >> 32) & _LOW_HALF


@squares32.register_fake
def _(counter: Tensor) -> Tensor:
    return torch.empty_like(counter)


def link(previous: Tensor | int, value: Tensor) -> Tensor:
    """One link of the address chain: int64 of one shape, 64 bits and an integer to mix in -> int64, 64 bits."""
    counter = previous + value
    pair: Tensor = squares32(torch.stack([counter, counter + _LOW_OFFSET], dim=-1))  # [..., 2]
    return pair[..., 0] * 2**32 + pair[..., 1]


def address(seed: Tensor, row: Tensor) -> Tensor:
    """The part of the chain that all streams and steps of an address share: int64 [n], [n] -> int64 [n].

    A sampler of many steps carries it as a state and so saves two links of three in each step.
    """
    return link(link(0, seed), row)


def stream_state(addresses: Tensor, stream: Stream, t: Tensor | int = 0) -> Tensor:
    """The state of a stream at step t of an address: int64 [n] -> int64 [n]."""
    steps = torch.zeros_like(addresses) + t
    return link(addresses, steps * 8 + int(stream))


def state(seed: Tensor, row: Tensor, stream: Stream, t: Tensor | int = 0) -> Tensor:
    """The 64-bit state of an address: seed and row int64 [n], t int64 [n] or a number -> int64 [n]."""
    return stream_state(address(seed, row), stream, t)


def bits(states: Tensor, count: int) -> Tensor:
    """``count`` draws of 32 bits for each state: int64 [n] -> int64 [n, count], in [0, 2**32)."""
    draws: Tensor = squares32(states[..., None] + torch.arange(count, dtype=torch.int64, device=states.device))
    return draws


def uniform_from(states: Tensor, dims: int) -> Tensor:
    """Uniforms on [0, 1), multiples of 2**-24, from states int64 [n] -> float32 [n, dims]."""
    # Floor in double is exact here, and ONNX has no 64-bit integer shift that every provider knows.
    return (torch.floor(bits(states, dims).double() * 2.0**-8) * 2.0**-24).float()


def uniform(seed: Tensor, row: Tensor, stream: Stream, t: Tensor | int = 0, *, dims: int) -> Tensor:
    """Uniforms on [0, 1), multiples of 2**-24; arguments as for ``state`` -> float32 [n, dims]."""
    return uniform_from(state(seed, row, stream, t), dims)


def normal_from(states: Tensor, dims: int) -> Tensor:
    """Standard normals by Box-Muller (1958) in double, rounded, from states int64 [n] -> float32 [n, dims].

    Dimension d uses draws 2d and 2d + 1.
    """
    draws = bits(states, 2 * dims).double().reshape(*states.shape, dims, 2)
    return full_lanes(_box_muller, draws[..., 0], draws[..., 1]).float()


def normal(seed: Tensor, row: Tensor, stream: Stream, t: Tensor | int = 0, *, dims: int) -> Tensor:
    """Standard normals, by ``normal_from``; arguments as for ``state`` -> float32 [n, dims]."""
    return normal_from(state(seed, row, stream, t), dims)


def _box_muller(first: Tensor, second: Tensor) -> Tensor:
    radius = torch.sqrt(-2.0 * torch.log((first + 0.5) * 2.0**-32))
    return radius * torch.cos(second * (2.0 * pi * 2.0**-32))
