"""What a statistic is: a torch module that gives one number of a row, and says what the number is."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from contract.programs import Direction, Output, Units
from contract.support import Support
from models.base import GenerativeModel

__all__ = ["Statistic"]


class Statistic(nn.Module):
    """One number of a row, by which it may be strange.

    A subclass is fitted to training rows as it is made, so that it has no state before. It runs inside the graph
    ``score``, and gives a row the same bits in whatever batch (record 0008). What it gives must be finite.
    """

    name: ClassVar[str]
    units: ClassVar[Units]

    reads_log_prob: ClassVar[bool] = False
    """Whether it is made of the log-probability, which the graphs of /log_prob have found before."""

    @property
    def looks_at_model(self) -> bool:
        """Whether it depends on how the model of the bundle was fitted, and so is cross-fitted with it."""
        return True

    @property
    def keeps_rows(self) -> bool:
        """Whether training rows are among its tensors."""
        return False

    @property
    def words(self) -> str:
        """What the numbers are, in words, for the manifest."""
        raise NotImplementedError

    @classmethod
    def why_not(cls, family: type[GenerativeModel]) -> str | None:
        """None if the family can have it, else the reason in the field's terms."""
        return None

    @classmethod
    def why_not_of(cls, support: Support) -> str | None:
        """None if rows of this support can have it, else the reason in the field's terms."""
        return None

    def forward(self, x: Tensor, log_prob: Tensor | None, *conditions: Tensor) -> Tensor:
        """x [n, *shape] in original units, log_prob float64 [n] where it is read, conditions [n] -> float64 [n]."""
        raise NotImplementedError

    def output(self, direction: Direction) -> Output:
        """How the manifest lists it."""
        return Output(
            name=self.name,
            dtype="float64",
            kind="statistic",
            units=self.units,
            description=self.words,
            direction=direction,
        )
