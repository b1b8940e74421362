"""Whose turn it is: clients by the time that they have used, and the lanes of each likewise.

Start-time fair queueing (P. Goyal, H. M. Vin and H. Cheng 1996). The client whose turn it is chooses the lane; whoever
waits there for the same graph may come along, and is charged for his rows as if it were his turn.
"""

from __future__ import annotations

from collections.abc import Callable

from service.lanes import Cohort, Flow, Lane, Ticket
from service.predictions import Predictions

__all__ = ["Turns"]


class Turns:
    """Cohorts that wait, by client and lane.

    Args:
        predictions: what runs cost.
        run_seconds: a run is predicted to take this long at most, unless its first cohort takes longer.
    """

    def __init__(self, predictions: Predictions, run_seconds: float):
        self._predictions = predictions
        self._run_seconds = run_seconds
        self.lanes: dict[tuple[str, str], Lane] = {}
        self.flows: dict[str, Flow] = {}
        self._virtual = 0.0  # where a client starts when there is no other
        self._lane_virtual = 0.0  # and a lane
        self._arrivals = 0

    def flow(self, client: str) -> Flow:
        """The client's flow; one that was idle starts at the present at the earliest: idling earns no credit."""
        flow = self.flows.get(client) or Flow(client, 0.0)
        if not flow.tickets:
            flow.virtual = max(flow.virtual, self._present())
        return flow

    def enqueue(self, cohort: Cohort) -> None:
        """Put a cohort where rows wait for the graph that it needs."""
        graph = cohort.rows.graph
        assert graph is not None
        model = cohort.ticket.model
        key = (model.digest, graph)
        lane = self.lanes.get(key)
        if lane is None:
            virtual = min((lane.virtual for lane in self.lanes.values()), default=self._lane_virtual)
            lane = Lane(model, graph, model.graphs[graph], self._predictions.cost(model, graph), virtual)
            self.lanes[key] = lane
        self._arrivals += 1
        lane.push(self._arrivals, cohort)

    def choose(self, can_run: Callable[[Lane], bool]) -> tuple[Flow, Lane] | None:
        """Whose turn it is, and for which graph, among the lanes that can run."""
        best: tuple[Flow, Lane] | None = None
        for flow in self.flows.values():
            if not flow.waiting or (best is not None and best[0].virtual <= flow.virtual):
                continue
            first: tuple[int, float] | None = None
            for lane, heap in flow.waiting.items():
                rank = (heap[0][0], lane.virtual)
                if (first is None or rank < first) and can_run(lane):
                    first = rank
                    best = (flow, lane)
        return best

    def take(self, flow: Flow, lane: Lane, is_wanted: Callable[[Ticket], bool]) -> list[Cohort]:
        """Cohorts for the next run of a lane, the first of them the flow's; those not wanted any more are dropped."""
        most = lane.cost.rows_within(self._run_seconds)
        row_seconds = lane.cost.seconds(min(lane.rows, most)) / min(lane.rows, most)
        self._virtual = max(self._virtual, flow.virtual)
        self._lane_virtual = max(self._lane_virtual, lane.virtual)
        batch: list[Cohort] = []
        rows = 0
        while True:
            cohort = lane.pop(flow)
            if is_wanted(cohort.ticket):
                count = cohort.rows.count
                batch.append(cohort)
                rows += count
                flow.virtual += count * row_seconds
            if not lane.flows:
                return batch
            if len(lane.flows) > 1 or flow not in lane.flows:
                flow = min(lane.flows, key=_virtual)
            if batch and rows + flow.waiting[lane][0][-1].rows.count > most:
                return batch

    def drop(self, flow: Flow) -> None:
        """Forget what waits of a client whose requests have all ended."""
        for lane in list(flow.waiting):
            lane.drop(flow)
            self.retire(lane)

    def retire(self, lane: Lane) -> None:
        """Forget a lane in which nothing waits or runs."""
        if not lane.flows and not lane.running:
            self.lanes.pop((lane.model.digest, lane.graph), None)

    def tidy(self) -> None:
        """Forget clients who have nothing here and have used no more than others."""
        present = self._present()
        for client, flow in list(self.flows.items()):
            if not flow.tickets and flow.virtual <= present:
                del self.flows[client]

    def _present(self) -> float:
        """The virtual time of the client who has used least, of those who have work here."""
        return min((flow.virtual for flow in self.flows.values() if flow.tickets), default=self._virtual)


def _virtual(flow: Flow) -> float:
    return flow.virtual
