"""Training rows kept as parameters, for families that compare a row with each of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.nets.lanes import row_sum

__all__ = ["KeptRows"]


class KeptRows(nn.Module):
    """m rows of d numbers; how many is known once they are kept, or restored from a checkpoint. In double.

    Example:
        >>> kept = KeptRows(2)
        >>> kept.keep(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        >>> kept.squared_distances(torch.tensor([[0.0, 0.0]]).double()).tolist()
        [[0.0, 25.0]]
        >>> again = KeptRows(2)
        >>> again.load_state_dict(kept.state_dict())
        <All keys matched successfully>
        >>> len(again)
        2
    """

    rows: Tensor
    squares: Tensor

    def __init__(self, dims: int):
        super().__init__()
        self.register_buffer("rows", torch.zeros(0, dims, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(0, dtype=torch.float64))

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    def keep(self, rows: Tensor) -> None:
        """Keep rows [m, d] in place of those kept so far."""
        self.rows = rows.double().clone()
        self.squares = self.rows.square().sum(dim=1)

    def take(self, positions: Tensor) -> Tensor:
        """The rows at positions, int64 [n, ...] -> float64 [n, ..., d]."""
        return self.rows.index_select(0, positions.reshape(-1)).reshape(*positions.shape, self.rows.shape[1])

    def squared_distances(self, x: Tensor) -> Tensor:
        """Squared distance to each row, by one product of matrices: float64 [n, d] -> [n, m].

        Off by a last place of the squared norms, so that rows should lie around 0.
        """
        return (row_sum(x.square())[:, None] + self.squares - 2.0 * (x @ self.rows.T)).relu()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("rows", "squares"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)
