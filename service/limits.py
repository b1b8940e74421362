"""Bounds on what a request may hold while it is here."""

from __future__ import annotations

from types import TracebackType

from service.errors import Overloaded

__all__ = ["ByteBudget", "Reservation"]


class ByteBudget:
    """Bytes of request bodies held at once, over all requests.

    Room is reserved from ``Content-Length`` before a body is read, so that a burst of large bodies is refused while
    it is still on the wire and not when memory has run out.

    Args:
        limit: most bytes held at once.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes reserved now."""
        return self._held

    def has_room(self, size: int) -> bool:
        """Whether ``size`` bytes could be reserved now."""
        return self._held + size <= self.limit

    def reserve(self, size: int = 0) -> Reservation:
        """Reserve room for ``size`` bytes; a context manager that gives it back.

        Raises:
            Overloaded: there is no room now.
        """
        reservation = Reservation(self)
        reservation.grow(size)
        return reservation

    def take(self, size: int) -> None:
        """Take room for ``size`` bytes, to be given back.

        Raises:
            Overloaded: there is no room now.
        """
        if self._held + size > self.limit:
            raise Overloaded(retry_after=1.0)
        self._held += size

    def give(self, size: int) -> None:
        """Give room back that was taken."""
        self._held -= size


class Reservation:
    """Room held in a ``ByteBudget`` until it is closed."""

    def __init__(self, budget: ByteBudget):
        self._budget = budget
        self._size = 0

    def grow(self, size: int) -> None:
        """Reserve ``size`` bytes more.

        Raises:
            Overloaded: there is no room now; what was held before still is.
        """
        self._budget.take(size)
        self._size += size

    def close(self) -> None:
        """Give the room back; again does nothing."""
        self._budget.give(self._size)
        self._size = 0

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
