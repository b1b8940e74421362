"""Rows on their way through a program: which graph they need next, with what, and what they know by then.

The reference loop and the service's scheduler both drive this class, so that a step means the same to both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contract.errors import InputError
from contract.programs import Program, ProgramInput
from contract.randomness import row_address

__all__ = ["Journey", "NotConvergedError", "OneShot", "Rows", "environment", "journey"]

Env = dict[str, NDArray[Any]]


class NotConvergedError(RuntimeError):
    """A row had not converged when its steps were spent; its value is not an answer."""


class Rows:
    """n rows of one program, advanced graph by graph.

    Args:
        program: the program.
        inputs: arrays [n, …] by name; a parameter left out takes its default.
        steps: number of steps, one for all or [n]; the program's default if None.
        checked: the inputs are what ``environment`` gave, and are not looked at again.

    Raises:
        InputError: an input is missing, has another shape or lies out of range; names the row.
    """

    def __init__(
        self,
        program: Program,
        inputs: Mapping[str, NDArray[Any]],
        steps: ArrayLike | None = None,
        *,
        checked: bool = False,
    ):
        self.program = program
        self.n = len(next(iter(inputs.values())))
        self._env = dict(inputs) if checked else environment(program, inputs, self.n)
        self._steps = self._checked_steps(steps)
        self._t = np.zeros(self.n, dtype=np.int64)
        self._active: NDArray[np.int64] | None = None  # None: every row
        self._converged = np.zeros(self.n, dtype=np.bool_) if program.done else None
        self._phase = "init" if program.init else "step"

    @property
    def graph(self) -> str | None:
        """Name of the graph that the rows need next; None when they are done."""
        return {"init": self.program.init, "step": self.program.step, "final": self.program.final}.get(self._phase)

    @property
    def count(self) -> int:
        """Rows that the next run takes; rows that are done early stay behind."""
        return self.n if self._active is None else len(self._active)

    @property
    def nbytes(self) -> int:
        """Memory of all rows' values by now."""
        return sum(array.nbytes for array in self._env.values())

    @property
    def steps_left(self) -> int:
        """Steps still ahead, over all rows, unless rows end early."""
        if self._phase in ("final", "end"):
            return 0
        rows = slice(None) if self._active is None else self._active
        return int((self._steps[rows] - self._t[rows]).sum())

    @property
    def steps_all(self) -> int:
        """Steps from start to end, over all rows, unless rows end early."""
        return int(self._steps.sum())

    @property
    def steps_taken(self) -> int:
        """Steps that every row has taken that is not done yet; of the slowest if all are."""
        rows = slice(None) if self._active is None else self._active
        return int(self._t[rows].min())

    def now(self, names: Iterable[str]) -> Env:
        """Values of the rows as they stand, copies [n, …] by name; those that no graph has written yet are left out."""
        return {name: self._env[name].copy() for name in names if name in self._env}

    @property
    def runs_left(self) -> int:
        """Runs of a graph still ahead of the slowest row, the next one included."""
        final = 1 if self.program.final else 0
        if self._phase == "init":
            return 1 + int(self._steps.max()) + final
        if self._phase == "step":
            rows = slice(None) if self._active is None else self._active
            return int((self._steps[rows] - self._t[rows]).max()) + final
        return final if self._phase == "final" else 0

    def feeds(self) -> Env:
        """Arrays [count, …] for the next run, by name."""
        if self._phase != "step":
            return self._env
        pick = self._active
        env = self._env if pick is None else {name: array[pick] for name, array in self._env.items()}
        t = self._t if pick is None else self._t[pick]
        scheduled = self._scheduled(t, self._steps if pick is None else self._steps[pick])
        return {**env, "t": t, **scheduled}

    def accept(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Take what the run wrote, arrays [count, …] by name, and move on.

        Raises:
            NotConvergedError: steps are spent and a row has not converged.
        """
        self._write(outputs)
        if self._phase == "init":
            self._phase = "step"
            return
        if self._phase == "final":
            self._phase = "end"
            return
        rows = np.arange(self.n) if self._active is None else self._active
        self._t[rows] += 1
        going = self._t[rows] < self._steps[rows]
        if self.program.done is not None and self._converged is not None:
            done = np.asarray(outputs[self.program.done], dtype=np.bool_).reshape(-1)
            self._converged[rows] = done
            if (~going & ~done).any():
                first = int(rows[np.flatnonzero(~going & ~done)[0]])
                raise NotConvergedError(f"row {first} has not converged after {int(self._steps[first])} steps")
            going &= ~done
        if not going.all():
            self._active = rows[going]
            if not len(self._active):
                self._active = None
                self._phase = "final" if self.program.final else "end"

    def result(self) -> Env:
        """The program's outputs, arrays [n, …] by name; only when ``graph`` is None."""
        return {output.name: self._env[output.name] for output in self.program.outputs}

    def _write(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        if self._active is None:
            self._env.update(outputs)
            return
        for name, value in outputs.items():
            if name not in self._env:
                self._env[name] = np.zeros((self.n, *value.shape[1:]), dtype=value.dtype)
            elif not self._env[name].flags.writeable or self._env[name].base is not None:
                self._env[name] = self._env[name].copy()
            self._env[name][self._active] = value

    def _scheduled(self, t: NDArray[np.int64], steps: NDArray[np.int64]) -> Env:
        scheduled: Env = {}
        for part in self.program.inputs:
            if part.source == "schedule" and part.name != "t":
                values = np.empty(len(t), dtype=part.dtype)
                for count in np.unique(steps):
                    mine = steps == count
                    values[mine] = np.asarray(self.program.schedules[int(count)][part.name])[t[mine]]
                scheduled[part.name] = values
        return scheduled

    def _checked_steps(self, steps: ArrayLike | None) -> NDArray[np.int64]:
        known = self.program.steps
        if steps is None:
            return np.full(self.n, known.default, dtype=np.int64)
        array = np.broadcast_to(np.asarray(steps, dtype=np.int64), (self.n,)).copy()
        for count in np.unique(array):
            if not known.allows(int(count)):
                row = int(np.flatnonzero(array == count)[0])
                raise InputError(row=row, column=known.parameter, expected=known.expected, got=str(count))
        return array


class OneShot:
    """n rows of a one-shot program: the way of ``Rows`` when it is a single run, without the bookkeeping of steps.

    Args:
        program: the program.
        env: what ``environment`` gave.
    """

    __slots__ = ("_env", "_program", "count", "graph")

    def __init__(self, program: Program, env: Env):
        self._program = program
        self._env = env
        self.graph: str | None = program.step
        self.count = len(next(iter(env.values())))

    @property
    def runs_left(self) -> int:
        """Runs still ahead."""
        return 0 if self.graph is None else 1

    def feeds(self) -> Env:
        """Arrays [n, …] for the run, by name."""
        return self._env

    def accept(self, outputs: Env) -> None:
        """Take what the run wrote."""
        self._env = outputs
        self.graph = None

    def result(self) -> Env:
        """The program's outputs, arrays [n, …] by name."""
        return {output.name: self._env[output.name] for output in self._program.outputs}


Journey = Rows | OneShot
"""Rows on their way."""


def journey(program: Program, env: Env, steps: ArrayLike | None = None) -> Journey:
    """Rows at the start of a program, from what ``environment`` gave, which is not looked at again.

    Raises:
        InputError: a number of steps is not allowed.
    """
    if program.one_shot and steps is None:
        return OneShot(program, env)
    return Rows(program, env, steps, checked=True)


def environment(program: Program, inputs: Mapping[str, NDArray[Any]], n: int) -> Env:
    """The first environment of n rows: every input but the schedule's, with its dtype, defaults filled in.

    The address of a question about data, where it is not given, is seed 0 and a hash of the row's bytes.

    Raises:
        InputError: an input is missing, has another shape or lies out of range; names the row.
    """
    env: Env = {}
    data = program.data_input
    # Data first: an address may follow from them.
    for part in sorted(program.inputs, key=lambda part: part.source == "address"):
        if part.source == "schedule":
            continue
        if part.name in inputs:
            array = np.ascontiguousarray(inputs[part.name], dtype=part.dtype)
        elif part.default is not None:
            array = np.full((n, *part.shape), part.default, dtype=part.dtype)
        elif part.source == "address" and data is not None:
            array = row_address(env[data.name]) if part.name == "row" else np.zeros(n, dtype=np.int64)
        else:
            raise InputError(column=part.name, expected=f"an array of shape {['n', *part.shape]}", got="nothing")
        if array.shape != (n, *part.shape):
            raise InputError(
                column=part.name, expected=f"an array of shape {[n, *part.shape]}", got=f"one of {list(array.shape)}"
            )
        _check_range(part, array)
        env[part.name] = array
    return env


def _check_range(part: ProgramInput, array: NDArray[Any]) -> None:
    least, most = part.minimum, part.maximum
    if part.vocabulary is not None:
        last = len(part.vocabulary) - 1
        least, most = 0, last if part.default is None else max(last, part.default)
    if least is not None:
        _require(array >= least, part, array, f"at least {least:g}")
    if most is not None:
        _require(array <= most, part, array, f"at most {most:g}")


def _require(good: NDArray[np.bool_], part: ProgramInput, array: NDArray[Any], words: str) -> None:
    if not good.all():
        at = tuple(np.argwhere(~good)[0])
        raise InputError(row=int(at[0]), column=part.name, expected=words, got=f"{array[at]:g}")
