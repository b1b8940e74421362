"""Seven detectors of PyOD (Y. Zhao, Z. Nasrullah and Z. Li 2019), with their default parameters.

They are there to be compared with, and PyOD is imported here alone, when one of them is asked for. Rows are
standardised by the training rows; a column in which these do not vary is left out, as it is for ours. ECOD and COPOD
rank a test row among training and test rows together, as PyOD has it.
"""

from __future__ import annotations

import importlib
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.labelled import Split
from training.errors import TrainingInputError

__all__ = ["DETECTORS", "DetectorError", "pyod_version", "scores_of"]

DETECTORS = {
    "IForest": "iforest",
    "ECOD": "ecod",
    "COPOD": "copod",
    "KNN": "knn",
    "LOF": "lof",
    "OCSVM": "ocsvm",
    "PCA": "pca",
}
"""Name of a detector, and of its module in ``pyod.models``."""

_DRAWING = ("IForest", "PCA")  # have a random state, which is the seed of the split

_NEEDED = "pip install 'nonesuch[training,benchmark]'"


class DetectorError(Exception):
    """A detector failed on these rows, or gave a score that is no number."""


def pyod_version() -> str:
    """The version of PyOD that is installed.

    Raises:
        TrainingInputError: it is not; says how to install it.
    """
    _module("pyod")
    return version("pyod")


def scores_of(name: str, split: Split) -> NDArray[np.float64]:
    """Scores of the test rows by a detector that was fitted on the training rows, larger for stranger ones: [m].

    Raises:
        DetectorError: the detector raised, or a score is NaN.
        TrainingInputError: PyOD is not installed.
    """
    module = _module(f"pyod.models.{DETECTORS[name]}")
    varies = np.ptp(split.train, axis=0) > 0
    mean, spread = split.train[:, varies].mean(axis=0), split.train[:, varies].std(axis=0)
    train, test = ((rows[:, varies] - mean) / spread for rows in (split.train, split.test))
    chosen = {"random_state": split.seed} if name in _DRAWING else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of repeats, or of small samples: of no account to a comparison
            detector = getattr(module, name)(**chosen)
            detector.fit(train)
            scores = np.asarray(detector.decision_function(test), dtype=np.float64)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        raise DetectorError(f"{name}: {' '.join(str(error).split())}") from None
    if np.isnan(scores).any():
        raise DetectorError(f"{name}: {int(np.isnan(scores).sum())} of {len(scores)} scores are NaN")
    return scores


def _module(name: str) -> Any:  # PyOD comes without types
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise TrainingInputError(f"PyOD's detectors need {error.name}, which is not installed: {_NEEDED}") from None
