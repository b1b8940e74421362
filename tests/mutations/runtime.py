"""Deliberate errors in the runtime."""

from __future__ import annotations

from tests.mutations.mutant import mutants_of

__all__ = ["RUNTIME"]

RUNTIME = [
    *mutants_of(
        "runtime/calibration.py",
        "tests/commands/test_calibrate.py",
        figures_of_the_former_calibration_stay=("if metric.name not in dropped", "if metric"),
        the_next_version_forgets_those_that_are_there=(
            "max([manifest.version, *list_versions(out).get(manifest.name, [])])",
            "manifest.version",
        ),
        calibration_scores_are_not_sorted=("scores = np.sort(found)", "scores = found"),
        contaminated_rows_are_forgotten=("contaminated=apart,", "contaminated=0,"),
        ties_are_not_counted=("round(tied_share(scores), 4)", "0.0"),
        every_label_has_all_rows=("own = np.sort(scores[of == label])", "own = np.sort(scores)"),
        a_label_forgets_its_contamination=("apart = _at_most(contaminated, len(own))", "apart = 0"),
        a_bundle_is_calibrated_whatever_its_pin=("verify(folder, pin)", "verify(folder)"),
    ),
]
