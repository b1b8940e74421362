"""Orders of a table's columns, one a layer, so that layers of a flow treat columns differently."""

from __future__ import annotations

import numpy as np

from contract import randomness
from contract.randomness import Stream

__all__ = ["column_orders"]


def column_orders(dims: int, layers: int) -> list[list[int]]:
    """A permutation of the columns a layer; each odd one is the one before turned round.

    The first is the natural order, further ones are drawn, and are the same whenever they are drawn.

    Example:
        >>> column_orders(3, 2)
        [[0, 1, 2], [2, 1, 0]]
    """
    orders: list[list[int]] = []
    for layer in range(layers):
        if layer % 2:
            orders.append(orders[-1][::-1])
        elif layer == 0:
            orders.append(list(range(dims)))
        else:
            draws = randomness.uniform(0, [layer], Stream.INIT, dims=dims)[0]
            orders.append([int(i) for i in np.argsort(draws, kind="stable")])
    return orders
