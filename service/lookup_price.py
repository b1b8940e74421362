"""What a look-up costs, and whether it pays."""

from __future__ import annotations

from collections.abc import Callable

from service.costs import CostModel

__all__ = ["LookupPrice"]

_WORTH = 2.0  # computing must cost more than so many look-ups
_LOOK_ANYWAY_SECONDS = 5.0  # how often a layer that seems too slow is measured again


class LookupPrice:
    """Moving price of looking for rows in one place.

    Args:
        measured: (rows, seconds) pairs to start from, at two sizes or more.
        clock: monotonic seconds.
    """

    def __init__(self, measured: list[tuple[int, float]], clock: Callable[[], float]):
        self._model = CostModel(measured)
        self._clock = clock
        self._observed = clock()

    def seconds(self, rows: int) -> float:
        """Predicted seconds of looking for ``rows`` rows."""
        return self._model.seconds(rows)

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from a look-up."""
        self._observed = self._clock()
        self._model.observe(rows, seconds)

    def worth(self, rows: int, compute_seconds: float, other_seconds: float = 0.0) -> bool:
        """Whether computing costs more than two look-ups, ``other_seconds`` more each, or the price is an old one.

        An old price lets a look-up through, or a place that was slow once could never be found to be fast again.
        """
        return (
            compute_seconds > _WORTH * (self.seconds(rows) + other_seconds)
            or self._clock() - self._observed >= _LOOK_ANYWAY_SECONDS
        )
