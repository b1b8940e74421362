"""A bundle's anomaly score over rows in pieces: scores, p-values and alarms, the bits of the service's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from contract.alarms import AlarmRule, alarm_rule, unknown_label
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
        undecided: rows whose label has so few calibration rows that these cannot reach alpha, bool [n]; None where
            rows have no labels.
    """

    score: NDArray[np.float64]
    p_value: NDArray[np.float64]
    is_anomaly: NDArray[np.bool_] | None
    statistics: dict[str, Array]
    errors: dict[int, InputError]
    undecided: NDArray[np.bool_] | None = None

    @property
    def alarms(self) -> int:
        """Rows that are flagged."""
        return 0 if self.is_anomaly is None else int(self.is_anomaly.sum())


class _Reference(NamedTuple):
    """What rows are held against: calibration scores, ascending, and the rule by which ranks among them alarm."""

    scores: NDArray[np.float64]
    rule: AlarmRule


class Scorer:
    """A bundle's anomaly score, calibrated, at one rate of false alarms.

    It needs neither HTTP nor tables. A worker of a cluster makes one from a folder and keeps it: ``Scorer.open`` there,
    rather than sent there, for sessions of ONNX Runtime do not travel.

    Args:
        model: the bundle, loaded.
        alpha: rate of false alarms to keep, in (0, 1).
        guarantee: whether it is kept on average over calibration sets, or by 95 % of them each for itself.
        label: what holds each row's label, by name, if a row is to be held against the calibration rows of its label
            alone.

    Raises:
        BundleError: the bundle has no score.
        InputError: alpha is no rate; the bundle was calibrated without labels, and rows have some; the guarantee cannot
            be kept, since calibration rows depend on each other.
    """

    def __init__(
        self, model: LoadedModel, alpha: float = 0.05, guarantee: Guarantee = "marginal", *, label: str | None = None
    ):
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
        self.label = label
        if label is not None and not calibration.groups:
            expected = "no labels, for this version was calibrated without any (nonesuch calibrate --label)"
            raise InputError(column=label, expected=expected)
        self._references = {
            name: _Reference(model.group_scores[name], alarm_rule(calibration.of(name), alpha, guarantee))
            for name in (() if self.label is None else calibration.labels)
        }
        self._reference = _Reference(scores, alarm_rule(calibration, alpha, guarantee))
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
        label: str | None = None,
        verify: bool = True,
    ) -> Self:
        """Load a bundle from its folder.

        Args:
            folder: ``…/NAME/VERSION``.
            alpha: rate of false alarms to keep, in (0, 1).
            provider: ``cpu`` or ``cuda``.
            guarantee: how that rate is kept, as for the class.
            label: what holds labels, as for the class.
            verify: whether to check all that the service checks before it serves a bundle: what its graphs may hold,
                the digest that ``bundles.lock`` pins, and that its goldens come out on this machine. Otherwise its
                files are only compared with its manifest.

        Raises:
            BundleError: the bundle is not what it should be, or has no score.
            InputError: as for the class.
        """
        if verify:
            from runtime.verify import verify as verified  # with the onnx package, which scoring itself can do without

            pin = read_lock(folder.absolute().parent.parent).get(f"{folder.absolute().parent.name}/{folder.name}")
            verdict = verified(folder.absolute(), pin, provider)
            if not verdict["ok"]:
                raise BundleError(str(verdict["reason"]))
        return cls(load_model(open_bundle(folder.absolute()), provider), alpha, guarantee, label=label)

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
        """Whether so many calibration rows can reach alpha; where rows have labels, those of any."""
        return any(reference.rule.rank for reference in self._references.values() or [self._reference])

    @cached_property
    def statistics(self) -> dict[str, tuple[int, ...]]:
        """Names of the statistics and the shape that each has for one row."""
        return {part.name: part.shape for part in self.program.outputs if part.kind == "statistic"}

    @cached_property
    def rows_at_once(self) -> int:
        """Rows of one run."""
        return max(1, min(_MOST_ROWS, _MOST_NUMBERS // self.support.size))

    def score(self, x: Array, labels: Sequence[str] | None = None) -> Scores:
        """Score rows, as many as there are.

        Args:
            x: rows as the support's ``check`` gives them, [n, *shape].
            labels: of the rows, [n], where the scorer was told what holds them.

        Raises:
            InputError: a row whose steps do not converge, whose score is NaN, or whose label no calibration row has;
                names the first.
            ValueError: rows without labels, or labels that nobody asked for.
        """
        scores = self.try_score(x, labels)
        if scores.errors:
            raise scores.errors[min(scores.errors)]
        return scores

    def try_score(self, x: Array, labels: Sequence[str] | None = None) -> Scores:
        """As ``score``; rows that cannot be scored are told in ``errors`` rather than raised."""
        if (labels is None) != (self.label is None) or (labels is not None and len(labels) != len(x)):
            raise ValueError("each row has a label where rows are held against those of their label, and else none has")
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
        return self._ranked(score, statistics, errors, labels)

    def _ranked(
        self,
        score: NDArray[np.float64],
        statistics: dict[str, Array],
        errors: dict[int, InputError],
        labels: Sequence[str] | None,
    ) -> Scores:
        """P-values and alarms of scores, [n], NaN where a row has none."""
        p_value, is_anomaly = np.full(len(score), np.nan), np.zeros(len(score), dtype=np.bool_)
        good = ~np.isnan(score)

        def rank(which: NDArray[np.bool_], reference: _Reference) -> bool:
            """Rank some rows; whether any of them could alarm."""
            found = ranks(reference.scores, score[which])
            p_value[which] = reference.rule.p_values(found)
            flagged = reference.rule.flagged(found)
            if flagged is not None:
                is_anomaly[which] = flagged
            return flagged is not None

        if labels is None:
            decided = rank(good, self._reference)
            return Scores(score, p_value, is_anomaly if decided else None, statistics, errors)
        undecided = np.zeros(len(score), dtype=np.bool_)
        of = np.array(labels, dtype=object)
        for label in sorted(set(labels)):
            own = of == label
            reference = self._references.get(label)
            if reference is not None:
                undecided |= own & (not rank(own & good, reference))
                continue
            for row in np.flatnonzero(own).tolist():
                unknown = unknown_label(self.calibration, label, self.label or "label", row)
                assert unknown is not None
                errors.setdefault(row, unknown)
            score[own] = np.nan
            for values in statistics.values():
                values[own] = np.nan
        return Scores(score, p_value, is_anomaly, statistics, errors, undecided)

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
