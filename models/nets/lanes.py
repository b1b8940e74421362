"""Functions of rows whose bits do not depend on the batch.

Vectorised kernels treat the ends of an array by other code than the rest, and the two may differ in the last place.
In ONNX Runtime, Log, Exp, Sin, Cos and Tanh in double, and Log, Sin, Cos and Softplus in single precision, give a row
other bits alone than in a batch; and a sum over a row depends on where in memory the row starts, so that no number of
rows added to the batch would help. In an array whose last axis is a multiple of the vector's width every row starts
on a whole vector and ends with one, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["LANES", "full_lanes", "row_logsumexp", "row_sum", "softplus"]

LANES = 16
"""Elements to a full vector: 512 bits of float32, two vectors of float64."""


def full_lanes(function: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """Apply an elementwise function in whole vectors: arguments [..., d] -> [..., d].

    Args:
        function: elementwise in all its arguments, and defined where all of them are 1.
        arguments: tensors of one shape.

    Example:
        >>> import torch
        >>> full_lanes(torch.log, torch.tensor([[1.0, 2.0]])).tolist() == [[0.0, torch.tensor(2.0).log().item()]]
        True
    """
    width = arguments[0].shape[-1]
    spare = -width % LANES
    if spare == 0:
        return function(*arguments)
    return function(*(pad(argument, (0, spare), value=1.0) for argument in arguments))[..., :width]


def row_sum(x: Tensor) -> Tensor:
    """Sum over the last axis, in whole vectors: [..., d] -> [...].

    Example:
        >>> import torch
        >>> row_sum(torch.tensor([[1.0, 2.0, 3.0]])).tolist()
        [6.0]
    """
    spare = -x.shape[-1] % LANES
    return (pad(x, (0, spare)) if spare else x).sum(dim=-1)


def row_logsumexp(x: Tensor) -> Tensor:
    """log sum exp over the last axis, in double and in whole vectors: [n, d] -> float64 [n]; -inf where all are.

    Example:
        >>> row_logsumexp(torch.tensor([[-1000.0, -1000.0], [-torch.inf, -torch.inf]])).tolist()
        [-999.3068528194401, -inf]
    """
    terms = pad(x.double(), (0, -x.shape[-1] % LANES), value=-torch.inf)
    # Finite, so that a row of nothing but -inf does not become inf - inf.
    largest = terms.amax(dim=-1, keepdim=True).clamp(min=-1e300)
    total = row_sum(torch.exp(terms - largest))[..., None]
    return (largest + full_lanes(torch.log, total))[..., 0]


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) without overflow, in double and in whole vectors: [..., d] -> float64 [..., d].

    Example:
        >>> softplus(torch.tensor([[-2000.0, 0.0, 2000.0]])).tolist()
        [[0.0, 0.6931471805599453, 2000.0]]
    """
    return full_lanes(_softplus, x.double())


def _softplus(x: Tensor) -> Tensor:
    # In double the logarithm of 1 + something small loses nothing that counts; ONNX Runtime's own is single.
    return torch.log(1.0 + torch.exp(-x.abs())) + x.relu()
