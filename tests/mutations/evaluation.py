"""Deliberate errors in what is measured of anomaly scores."""

from __future__ import annotations

from tests.mutations.mutant import mutants_of

__all__ = ["EVALUATION"]

EVALUATION = [
    *mutants_of(
        "evaluation/labelled.py",
        "tests/evaluation/test_labelled.py",
        anomalies_train_in_setting_a=("few, many = 0,", "few, many = 1,"),
        a_group_parts=(
            "chosen = np.isin(keys, numbers",
            "chosen = np.arange(len(keys)) % 2 == 0 & np.isin(keys, numbers",
        ),
        groups_with_anomalies_train=("pool = ~mixed if", "pool = mixed | ~mixed if"),
    ),
    *mutants_of(
        "evaluation/figures.py",
        "tests/evaluation/test_figures.py",
        ties_waive_nothing=("(0 if tied > TIED else int(low))", "int(low)"),
        false_discoveries_are_counted_among_all_rows=("false / max(1, false + true)", "false / len(called)"),
        a_tie_with_the_last_rank_is_no_alarm=("int((places <= k).sum())", "int((places < k).sum())"),
        anomalies_come_first=(">= len(ordinary)\n    precision", "< len(ordinary)\n    precision"),
    ),
    *mutants_of(
        "evaluation/bootstrap.py",
        "tests/evaluation/test_bootstrap.py",
        seeds_are_never_drawn_anew=("generator.random((_RESAMPLES, u, s, k)) *", "np.zeros((_RESAMPLES, u, s, k)) *"),
        sources_count_as_sets=("name if units is None else units[name]", "name"),
    ),
    *mutants_of(
        "evaluation/collected.py",
        "tests/evaluation/test_run.py::test_a_failure_is_listed_and_counts_as_a_guess",
        a_failure_counts_as_the_best=('return 0.5 if figure == "auroc"', 'return 1.0 if figure == "auroc"'),
    ),
    *mutants_of(
        "evaluation/ours.py",
        "tests/evaluation/test_ours.py::test_the_recipe_is_drafted_for_anomaly_scores",
        the_draft_is_for_densities=('data_root=folder, purpose="anomaly"', 'data_root=folder, purpose="density"'),
    ),
]
