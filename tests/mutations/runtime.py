"""Deliberate errors in the runtime."""

from __future__ import annotations

from tests.mutations.mutant import mutants_of

__all__ = ["RUNTIME"]

RUNTIME = [
    *mutants_of(
        "runtime/calibration.py",
        "tests/commands/test_calibrate.py::test_rows_in_blocks_are_ranked_and_promised_nothing",
        "tests/commands/test_calibrate.py::test_a_calibration_without_blocks_takes_their_figures_back",
        figures_of_blocks_held_out_stay=("|false_alarms_by_block|", "|"),
        blocks_are_not_handed_on=("blocks=blocks,", "blocks=None,"),
    ),
    *mutants_of(
        "runtime/calibration.py",
        "tests/commands/test_calibrate.py",
        figures_of_the_former_calibration_stay=("if metric.name not in dropped", "if metric"),
        the_next_version_forgets_those_that_are_there=(
            "max([manifest.version, *list_versions(out).get(manifest.name, [])])",
            "manifest.version",
        ),
        a_bundle_is_calibrated_whatever_its_pin=("verify(folder, pin)", "verify(folder)"),
    ),
]
