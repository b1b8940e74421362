"""A bundle's anomaly score over rows in pieces: scores, p-values and alarms, the bits of the service's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from contract.alarms import alarm_rule
from contract.bundle import MANIFEST, list_versions, open_bundle
from contract.conformal import Guarantee, ranks
from contract.errors import BundleError, InputError
from contract.lock import read_lock
from contract.manifest import Calibration, Manifest
from contract.programs import Program
from contract.support import Support
from runtime.loop import run_program
from runtime.model import LoadedModel, load_model
from runtime.rows import NotConvergedError

__all__ = ["Scorer", "Scores", "find_bundle"]

Array = NDArray[Any]

# Numbers of a run, and rows: enough that it costs more than its call. Larger ones are no faster, and where a law has
# thousands of kernels a row becomes as many numbers on its way.
_MOST_NUMBERS = 2**17
_MOST_ROWS = 256


@dataclass(frozen=True)
class Scores:
    """What a bundle says of n rows.

    Attributes:
        score: float64 [n]; larger is stranger. NaN where a row could not be scored.
        p_value: conformal, float64 [n]; NaN where a row could not be scored.
        is_anomaly: whether each row is flagged at the scorer's alpha, bool [n]; None when so few calibration rows
            cannot reach it.
        statistics: what the score is made of, float64 [n, …] by name.
        errors: why rows could not be scored, by position.
    """

    score: NDArray[np.float64]
    p_value: NDArray[np.float64]
    is_anomaly: NDArray[np.bool_] | None
    statistics: dict[str, Array]
    errors: dict[int, InputError]

    @property
    def alarms(self) -> int:
        """Rows that are flagged."""
        return 0 if self.is_anomaly is None else int(self.is_anomaly.sum())


class Scorer:
    """A bundle's anomaly score, calibrated, at one rate of false alarms.

    It needs neither HTTP nor tables. A worker of a cluster makes one from a folder and keeps it: ``Scorer.open`` there,
    rather than sent there, for sessions of ONNX Runtime do not travel.

    Args:
        model: the bundle, loaded.
        alpha: rate of false alarms to keep, in (0, 1).
        guarantee: whether it is kept on average over calibration sets, or by 95 % of them each for itself.

    Raises:
        BundleError: the bundle has no score.
        InputError: alpha is no rate.
    """

    def __init__(self, model: LoadedModel, alpha: float = 0.05, guarantee: Guarantee = "marginal"):
        program, calibration = model.manifest.capabilities.get("score"), model.manifest.calibration
        scores = model.calibration_scores
        if program is None or calibration is None or scores is None:
            raise BundleError(f"{model.bundle.folder}: it has no anomaly score: {model.manifest.reasons['score']}")
        if not 0.0 < alpha < 1.0:
            raise InputError(column="alpha", expected="a number between 0 and 1, both excluded", got=f"{alpha:g}")
        self.model = model
        self.alpha = alpha
        self.guarantee: Guarantee = guarantee
        self.program: Program = program
        self.calibration: Calibration = calibration
        self._calibration_scores = scores
        self._rule = alarm_rule(calibration, alpha, guarantee)
        data = program.data_input
        assert data is not None
        self._data = data.name
        self._score = next(part.name for part in program.outputs if part.kind == "score")

    @classmethod
    def open(
        cls,
        folder: Path,
        alpha: float = 0.05,
        provider: str = "cpu",
        *,
        guarantee: Guarantee = "marginal",
        verify: bool = True,
    ) -> Self:
        """Load a bundle from its folder.

        Args:
            folder: ``…/NAME/VERSION``.
            alpha: rate of false alarms to keep, in (0, 1).
            provider: ``cpu`` or ``cuda``.
            guarantee: how that rate is kept, as for the class.
            verify: whether to check all that the service checks before it serves a bundle: what its graphs may hold,
                the digest that ``bundles.lock`` pins, and that its goldens come out on this machine. Otherwise its
                files are only compared with its manifest.

        Raises:
            BundleError: the bundle is not what it should be, or has no score.
            InputError: alpha is no rate.
        """
        if verify:
            from runtime.verify import verify as verified  # with the onnx package, which scoring itself can do without

            pin = read_lock(folder.absolute().parent.parent).get(f"{folder.absolute().parent.name}/{folder.name}")
            verdict = verified(folder.absolute(), pin, provider)
            if not verdict["ok"]:
                raise BundleError(str(verdict["reason"]))
        return cls(load_model(open_bundle(folder.absolute()), provider), alpha, guarantee)

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.model.manifest

    @property
    def support(self) -> Support:
        """What a row is."""
        return self.manifest.support

    @property
    def can_alarm(self) -> bool:
        """Whether so many calibration rows can reach alpha."""
        return self._rule.rank > 0

    @cached_property
    def statistics(self) -> dict[str, tuple[int, ...]]:
        """Names of the statistics and the shape that each has for one row."""
        return {part.name: part.shape for part in self.program.outputs if part.kind == "statistic"}

    @cached_property
    def rows_at_once(self) -> int:
        """Rows of one run."""
        return max(1, min(_MOST_ROWS, _MOST_NUMBERS // self.support.size))

    def score(self, x: Array) -> Scores:
        """Score rows, as many as there are.

        Args:
            x: rows as the support's ``check`` gives them, [n, *shape].

        Raises:
            InputError: a row whose steps do not converge, or whose score is NaN; names the first.
        """
        scores = self.try_score(x)
        if scores.errors:
            raise scores.errors[min(scores.errors)]
        return scores

    def try_score(self, x: Array) -> Scores:
        """As ``score``; rows that cannot be scored are told in ``errors`` rather than raised."""
        n = len(x)
        score = np.full(n, np.nan)
        statistics = {name: np.full((n, *shape), np.nan) for name, shape in self.statistics.items()}
        errors: dict[int, InputError] = {}
        for start, outputs in self._runs(x, errors):
            stop = start + len(outputs[self._score])
            score[start:stop] = outputs[self._score]
            for name, values in statistics.items():
                values[start:stop] = outputs[name]
        for row in np.flatnonzero(np.isnan(score)).tolist():
            if row not in errors:
                errors[row] = InputError(row=row, expected="a row whose score is a number", got="NaN")
        good = ~np.isnan(score)
        rank = ranks(self._calibration_scores, score[good])
        p_value = np.full(n, np.nan)
        p_value[good] = self._rule.p_values(rank)
        is_anomaly, flagged = None, self._rule.flagged(rank)
        if flagged is not None:
            is_anomaly = np.zeros(n, dtype=np.bool_)
            is_anomaly[good] = flagged
        return Scores(score, p_value, is_anomaly, statistics, errors)

    def _runs(self, x: Array, errors: dict[int, InputError]) -> Iterator[tuple[int, dict[str, Array]]]:
        """Outputs of the program for rows from a position on; a run that fails is halved until its row is alone."""
        # Without a condition and at the default number of steps, as the calibration rows were scored.
        left = [(start, min(start + self.rows_at_once, len(x))) for start in range(0, len(x), self.rows_at_once)]
        left.reverse()
        while left:
            start, stop = left.pop()
            try:
                yield start, run_program(self.model, "score", {self._data: x[start:stop]})
            except NotConvergedError as error:
                if stop - start == 1:
                    errors[start] = InputError(row=start, expected="a row whose steps converge", got=str(error))
                else:
                    middle = (start + stop) // 2
                    left += [(middle, stop), (start, middle)]


def find_bundle(bundle: str, root: Path) -> Path:
    """The folder of a bundle named by itself, or in a root as ``NAME`` (its newest version) or ``NAME/VERSION``.

    Raises:
        BundleError: there is none; lists those that there are.
    """
    path = Path(bundle)
    if (path / MANIFEST).is_file():
        return path
    name, _, version = bundle.partition("/")
    there = list_versions(root)
    if name in there and not version:
        return root / name / str(there[name][-1])
    if name in there and version in map(str, there[name]):
        return root / name / version
    if name in there:
        raise BundleError(f"{root}: {name} has no version {version!r}, only {', '.join(map(str, there[name]))}")
    known = ", ".join(there) or "none"
    raise BundleError(f"{bundle!r} is neither a bundle's folder, …/NAME/VERSION, nor one of those in {root}: {known}")
