"""What a run of a graph costs: seconds as a line in the number of rows, learnt while serving."""

from __future__ import annotations

__all__ = ["CostModel"]

_FORGET = 0.98  # weight of the past at each new run: about the last fifty runs count
_LEARNING = 64  # runs after which the line moves slowly, and is fitted anew now and then
_MOST_ROWS = 2**17  # a row that costs nothing is not in a run of infinitely many
_PATIENCE = 8  # then so many runs apart
_CLIP = 4.0  # a run interrupted by the machine counts as at most this many times its prediction


class CostModel:
    """Seconds of one run as ``fixed + per_row * rows``, by exponentially weighted least squares.

    Args:
        measured: (rows, seconds) pairs from warming up, at two sizes or more; they are never quite forgotten, so
            that the line stays defined when all later runs have the same size.
    """

    def __init__(self, measured: list[tuple[int, float]]):
        if len({rows for rows, _ in measured}) < 2:
            raise ValueError("two different numbers of rows are needed to tell the fixed cost from the cost of a row")
        self._anchors = list(measured)
        self._shared: tuple[float, float] | None = None
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._runs = 0
        self._fit()

    def seconds(self, rows: int) -> float:
        """Predicted seconds of one run over ``rows`` rows."""
        return self._fixed + self._per_row * rows

    def rows_within(self, seconds: float) -> int:
        """The most rows whose run is predicted to take ``seconds`` at most; at least 1."""
        if self._per_row <= 0.0:
            return 2**31
        return max(1, int((seconds - self._fixed) / self._per_row))

    def shared_row_seconds(self, seconds: float) -> float:
        """Predicted seconds a row in runs that are as large as ``seconds`` allows."""
        if self._shared is None or self._shared[0] != seconds:
            rows = min(self.rows_within(seconds), _MOST_ROWS)
            self._shared = seconds, self.seconds(rows) / rows
        return self._shared[1]

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from a run."""
        y = min(seconds, _CLIP * self.seconds(rows) + 1e-5)
        w, n, nn, t, nt = self._sums
        self._sums = (
            _FORGET * w + 1.0,
            _FORGET * n + rows,
            _FORGET * nn + rows * rows,
            _FORGET * t + y,
            _FORGET * nt + rows * y,
        )
        self._runs += 1
        if self._runs <= _LEARNING or self._runs % _PATIENCE == 0:
            self._fit()

    def _fit(self) -> None:
        w, n, nn, y, ny = self._sums
        for rows, seconds in self._anchors:
            w, n, nn, y, ny = w + 1.0, n + rows, nn + rows * rows, y + seconds, ny + rows * seconds
        determinant = w * nn - n * n
        per_row = (w * ny - n * y) / determinant
        # A noisy fit may tilt below zero; then all of the cost is put on the rows or on the run.
        self._per_row = min(max(per_row, 0.0), ny / nn)
        self._fixed = max((y - self._per_row * n) / w, 1e-7)
        self._shared = None
