"""Buffers whose size the training rows decide: how many bins, how long a table."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["SizedByData"]


class SizedByData(nn.Module):
    """A module whose own buffers take the sizes of those that a checkpoint holds.

    Example:
        >>> class Bins(SizedByData):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.register_buffer("edges", torch.zeros(0))
        >>> bins = Bins()
        >>> bins.load_state_dict({"edges": torch.tensor([1.0, 2.0])})
        <All keys matched successfully>
        >>> bins.edges.tolist()
        [1.0, 2.0]
    """

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self._buffers:
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)
