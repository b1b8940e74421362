"""A circuit breaker: after a failure, leave the other side alone for a while, then let one trial through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

__all__ = ["Breaker", "BreakerState"]

BreakerState = Literal["closed", "open", "half-open"]


class Breaker:
    """Closed: all calls may go. Open: none. Half-open: one trial is under way, and no other call may go.

    One failure opens it, since what stands behind it is optional: being wrongly open costs speed for ``pause``
    seconds, being wrongly closed costs every caller a time-out. Each opening in a row doubles the pause.

    Args:
        clock: monotonic seconds.
        pause: seconds open before the first trial.
        longest_pause: seconds that doubling ends at.
    """

    def __init__(self, clock: Callable[[], float], pause: float = 0.5, longest_pause: float = 8.0):
        self._clock = clock
        self._first_pause = pause
        self._longest_pause = longest_pause
        self._pause = pause
        self._until = 0.0
        self._state: BreakerState = "closed"

    @property
    def state(self) -> BreakerState:
        """Where it stands."""
        return self._state

    @property
    def closed(self) -> bool:
        """Whether calls may go."""
        return self._state == "closed"

    def try_half_open(self) -> bool:
        """Become half-open if the pause is over; True obliges the caller to make a trial and say how it ended."""
        if self._state != "open" or self._clock() < self._until:
            return False
        self._state = "half-open"
        return True

    def failed(self) -> None:
        """A call or the trial failed."""
        if self._state == "open":  # a call that was under way when another one opened it
            return
        self._state = "open"
        self._until = self._clock() + self._pause
        self._pause = min(2.0 * self._pause, self._longest_pause)

    def succeeded(self) -> None:
        """A call succeeded: the next failure counts as the first again."""
        if self._state == "closed":
            self._pause = self._first_pause

    def trial_succeeded(self) -> None:
        """The trial succeeded: calls may go. The pause stays doubled until a real call has succeeded too."""
        if self._state == "half-open":
            self._state = "closed"
