"""How much work is ahead, and how long it will take: what decides whether a new request can be answered in time."""

from __future__ import annotations

from contract.capabilities import Capability
from service.lanes import Ticket

__all__ = ["Backlog"]

_WINDOW = 0.25  # seconds of unbroken work after which the pace is looked at
_FORGET = 0.6  # weight of the pace so far at each look
_DOUBT = 3.0  # how much longer than predicted work may take, as long as nothing is known: a refusal is better than
# work done in vain, and a sudden crowd slows everything down before anybody is late
_CROWD = 16  # tickets; with fewer the doubt is less
_LEAST_DOUBT, _MOST_DOUBT = 2.0, 8.0
_RISE, _FALL = 0.3, 0.02  # weight of a ticket that took longer than expected, and of one that did not
_PRESSED = 0.25  # share of its time that a ticket must have been expected to take, for it to say anything
_RELIEF = 0.5  # share of the doubt that is left each time that nothing is left to do
_SLOWEST, _FASTEST = 0.02, 512.0  # a pace outside is a stopped machine's, or a mistake


class Backlog:
    """Predicted seconds of admitted work, by client and in all, held against the clock.

    Work is predicted for rows that share full runs, as they do when there is much of it. The pace, predicted seconds of
    runs a second of the clock, is measured while there is work without a break: in it are the number of threads,
    whatever else the machine does, and the predictions' own error. What is still wrong is learnt from the tickets
    themselves, by how much longer they took than was expected of them. Only those that came near their deadline are
    asked: where there is little work, runs are small and take longer than their share of full ones, and nobody is late.

    Attributes:
        work: predicted seconds ahead.
        rows: rows admitted and not yet answered.
        bytes: memory of those rows.
        tickets: how many tickets are open.
        pace: predicted seconds of runs a second.
        doubt: how much longer tickets take than expected under pressure.
    """

    def __init__(self) -> None:
        self.work = 0.0
        self.rows = 0
        self.bytes = 0
        self.tickets = 0
        self.pace = 1.0
        self.doubt = _DOUBT
        self._flows = 0
        self._alike: dict[tuple[str, Capability], int] = {}  # rows, by what they are on the way through
        self._since = 0.0
        self._done = 0.0

    def add(self, ticket: Ticket, now: float) -> None:
        """Count a ticket that was admitted."""
        if not self.tickets:
            self._since, self._done = now, 0.0
        ticket.admitted = now
        ticket.expected = self.seconds_until(ticket) / self._doubt_of(self.tickets + 1)
        ticket.whole = ticket.work
        self.tickets += 1
        self._flows += not ticket.flow.tickets
        ticket.flow.tickets += 1
        ticket.flow.work += ticket.work
        ticket.turn = ticket.flow.clock + ticket.work
        self.work += ticket.work
        self.rows += ticket.n
        self.bytes += ticket.bytes
        way = ticket.model.digest, ticket.capability
        for alike in (self._alike, ticket.flow.alike):
            alike[way] = alike.get(way, 0) + ticket.n

    def done(self, ticket: Ticket, work: float) -> None:
        """Count work done for a ticket, in the measure of ``Ticket.work``."""
        # Steps may end early, and predictions change on the way: no ticket gives back more than it brought.
        work = min(work, ticket.work)
        if not work:
            return
        ticket.work -= work
        ticket.flow.work -= work
        ticket.flow.clock += work / ticket.flow.tickets
        self.work -= work

    def ran(self, predicted: float, now: float) -> bool:
        """Count a run that was predicted to take so long; True if the pace was measured."""
        self._done += predicted
        passed = now - self._since
        if passed < _WINDOW:
            return False
        measured = min(max(self._done / passed, _SLOWEST), _FASTEST)
        self.pace = _FORGET * self.pace + (1.0 - _FORGET) * measured
        self._since, self._done = now, 0.0
        return True

    def remove(self, ticket: Ticket, now: float) -> None:
        """Forget a ticket that is answered, dropped or gone, and learn from the time that it took."""
        deadline = ticket.errand.deadline
        if deadline is not None and ticket.expected > _PRESSED * (deadline - ticket.admitted):
            took = (now - ticket.admitted) / ticket.expected
            if not ticket.open_cohorts:
                self._learn(took)
            elif now >= deadline - 0.001:
                self._learn(took / max(0.1, 1.0 - ticket.work / ticket.whole))
        self.tickets -= 1
        self.rows -= ticket.n
        self.bytes -= ticket.bytes
        way = ticket.model.digest, ticket.capability
        for alike in (self._alike, ticket.flow.alike):
            if left := alike.pop(way) - ticket.n:
                alike[way] = left
        self.work -= ticket.work
        flow = ticket.flow
        flow.tickets -= 1
        flow.work -= ticket.work
        ticket.work = 0.0
        if not flow.tickets:
            flow.work = 0.0  # and no remains of rounding
            self._flows -= 1
        if not self.tickets:
            self.work = 0.0
            self.doubt = _DOUBT + _RELIEF * (self.doubt - _DOUBT)

    def _learn(self, took: float) -> None:
        weight = _RISE if took > self.doubt else _FALL
        self.doubt = min(max(self.doubt + weight * (took - self.doubt), _LEAST_DOUBT), _MOST_DOUBT)

    def _doubt_of(self, tickets: int) -> float:
        # Few do not slow each other down much, and may well be done in time where a crowd would not.
        return 1.0 + (self.doubt - 1.0) * min(1.0, tickets / _CROWD)

    @property
    def seconds(self) -> float:
        """Seconds until all that is admitted is done."""
        return self.work / self.pace

    def alike(self, ticket: Ticket) -> tuple[int, int]:
        """Rows that would take the same way as a new ticket's, its own included: all, and those that it waits for.

        However many rows the other clients have there, each of them gets as much as this one.
        """
        way = ticket.model.digest, ticket.capability
        every = self._alike.get(way, 0) + ticket.n
        mine = ticket.flow.alike.get(way, 0) + ticket.n
        others = self._flows - (ticket.flow.tickets > 0)
        return every, min(every, (others + 1) * mine)

    def seconds_until(self, ticket: Ticket) -> float:
        """Seconds until a new ticket would be done."""
        flow, work = ticket.flow, ticket.work
        others = self._flows - (flow.tickets > 0)
        # Each of the others gets as much as this client, as long as it has work. However little that is, the steps of a
        # chain come one after the other, and each is for all rows that are on the same way.
        queue = min(self.work + work, (others + 1) * (flow.work + work))
        return self._doubt_of(self.tickets + 1) * max(queue, ticket.chain) / self.pace
