"""Deliberate errors in the contract."""

from __future__ import annotations

from tests.mutations.mutant import family_test, mutants_of

__all__ = ["CONTRACT"]

CONTRACT = [
    *mutants_of(
        "contract/calibration.py",
        "tests/commands/test_calibrate.py",
        calibration_scores_are_not_sorted=('"scores": np.sort(self.scores), **own', '"scores": self.scores, **own'),
        contaminated_rows_are_forgotten=(
            "contaminated=_at_most(self.contaminated, len(self.scores)),",
            "contaminated=0,",
        ),
        ties_are_not_counted=("tied=round(tied_share(self.scores), 4)", "tied=0.0"),
        every_label_has_all_rows=("own = self.scores[which]", "own = self.scores"),
        a_label_forgets_its_contamination=("contaminated=_at_most(self.contaminated, len(own)),", "contaminated=0,"),
    ),
    *mutants_of(
        "contract/calibration.py",
        "tests/contract/test_blocks.py",
        one_block_is_enough=("if len(np.unique(np.asarray(self.blocks))) < 2:", "if False:"),
        contaminated_rows_may_depend_on_each_other=("        if self.contaminated:\n", "        if False:\n"),
        a_label_is_in_all_blocks=("blocks=self._count(which)", "blocks=self._count(slice(None))"),
    ),
    *mutants_of(
        "contract/blocks.py",
        "tests/contract/test_blocks.py",
        a_block_is_ranked_among_its_own_rows=("ranks(every, own) - (ranks(own, own) - 1)", "ranks(every, own)"),
        a_block_s_own_rows_count_towards_the_rank=(
            "alarm_rank(len(every) - len(own), alpha)",
            "alarm_rank(len(every), alpha)",
        ),
        the_error_is_over_rows=("/ sqrt(len(shares)), len(shares))", "/ sqrt(len(scores)), len(shares))"),
        a_block_that_cannot_alarm_counts_as_quiet=("        if not rank:\n            return None\n", ""),
        an_error_over_blocks_forgets_that_the_mean_is_theirs=("count / (count - 1) * float", "float"),
    ),
    *mutants_of(
        "contract/alarms.py",
        "tests/contract/test_blocks.py",
        dependent_rows_have_the_interval_of_independent_ones=(
            "None if about.dependent else rate_interval",
            "rate_interval",
        ),
        a_guarantee_is_kept_whatever_the_rows=('if guarantee != "marginal":', "if False:"),
        discoveries_are_kept_whatever_the_rows=("    if fdr is not None:\n", "    if False:\n"),
    ),
    *mutants_of(
        "contract/manifest.py",
        "tests/contract/test_blocks.py",
        blocks_are_said_where_there_are_none=('"groups", "blocks", "blocked_by"}', '"groups"}'),
        a_label_s_rows_are_in_all_blocks=('                "blocks": group.blocks,\n', ""),
    ),
    *mutants_of(
        "contract/manifest.py",
        "tests/commands/test_calibrate.py::test_rows_of_a_label_are_held_against_those_of_that_label",
        a_label_has_as_many_rows_as_all=('                "n": group.n,\n', ""),
    ),
    *mutants_of(
        "contract/alarms.py",
        "tests/contract/test_alarms.py",
        an_alarm_needs_a_rank_below_k=("np.less_equal(rank, self.rank)", "np.less(rank, self.rank)"),
        what_cannot_alarm_is_no_anomaly=("if self.rank else None\n\n\n", "\n\n\n"),
        every_guarantee_is_marginal=(
            'if guarantee == "training_conditional" else alarm_rank',
            "if False else alarm_rank",
        ),
        p_values_forget_the_row_itself=("about.ordinary + 1, interval", "about.ordinary, interval"),
        contaminated_rows_count_as_ordinary=("AlarmRule(k, about.ordinary + 1", "AlarmRule(k, about.n + 1"),
        ties_leave_the_interval_alone=("if interval is not None and about.tied > TIED:", "if False:"),
    ),
    *mutants_of(
        "contract/conformal.py",
        "tests/contract/test_conformal.py",
        p_value_does_not_count_the_row_itself=(
            "return 1 + len(calibration) - np.searchsorted",
            "return len(calibration) - np.searchsorted",
        ),
        p_value_ignores_ties=('side="left"', 'side="right"'),
        p_value_is_divided_by_n=(
            "(len(calibration) - contaminated + 1), 1.0)",
            "(len(calibration) - contaminated), 1.0)",
        ),
        alarm_rank_is_one_too_high=("alpha * (n + 1) + _RANK_SLACK", "alpha * (n + 1) + 1"),
        alarm_rank_falls_to_a_rounding_error=("alpha * (n + 1) + _RANK_SLACK", "alpha * (n + 1)"),
        false_alarm_interval_is_of_another_beta_law=("terms[max(0, k - start) :]", "terms[max(0, k + 1 - start) :]"),
        contamination_widens_no_interval=(
            "_beta_quantile(k, n - contaminated, 1.0 - tail)",
            "_beta_quantile(k, n, 1.0 - tail)",
        ),
        contaminated_rows_that_score_high_are_forgotten=(
            "_beta_quantile(k - contaminated, n - contaminated, tail)",
            "_beta_quantile(k, n - contaminated, tail)",
        ),
        training_conditional_rank_is_one_too_high=(
            "(at_least >= confidence).sum()) - 1",
            "(at_least >= confidence).sum())",
        ),
    ),
    *mutants_of(
        "contract/conformal.py",
        "tests/contract/test_discoveries.py",
        discoveries_need_not_be_the_last_that_pass=("most[passing[-1]]", "most[passing[0]]"),
        discoveries_are_of_n_and_not_of_n_plus_one=("(fdr * (n + 1)) / m + _RANK_SLACK", "(fdr * n) / m + _RANK_SLACK"),
        discoveries_are_not_corrected_for_their_number=(
            "(fdr * (n + 1)) / m + _RANK_SLACK",
            "(fdr * (n + 1)) + _RANK_SLACK",
        ),
    ),
    *mutants_of(
        "contract/support.py",
        "tests/contract/test_support.py",
        missing_values_are_taken_everywhere=(
            "return good | np.isnan(values) if self.missing_allowed else good",
            "return good | np.isnan(values)",
        ),
        positive_columns_take_zero=("good = finite & (values > 0)", "good = finite & (values >= 0)"),
        ordinal_columns_take_a_level_too_many=(
            "top = (self.levels or len(self.categories or ())) - 1",
            "top = self.levels or len(self.categories or ())",
        ),
        records_may_hold_other_columns=(
            "if len(record) > len(names) or any(name not in names for name in record):",
            "if len(record) > len(names) + 9:",
        ),
    ),
    *mutants_of(
        "contract/digest.py",
        "tests/contract/test_digest.py",
        program_digest_ignores_the_weights=("+ ([manifest.weights] if manifest.weights else [])", "+ []"),
        program_digest_moves_with_the_title=(
            '"program": program.model_dump(mode="json"),',
            '"program": program.model_dump(mode="json"), "title": manifest.title,',
        ),
    ),
    *mutants_of(
        "contract/bundle.py",
        "tests/contract/test_bundle.py",
        links_in_a_bundle_are_followed=("if entry.is_symlink() or not entry.is_file():", "if not entry.is_file():"),
        hashes_are_not_compared=(" or sha256(data) != entry_of.sha256:", ":"),
        pickles_are_read=("np.load(file, allow_pickle=False)", "np.load(file, allow_pickle=True)"),
    ),
    *mutants_of(
        "contract/randomness.py",
        "tests/models/test_statistics_of_draws.py",
        "tests/models/test_randomness.py",
        numpy_ignores_the_seed=("link(link(link(0, seed, key), row, key)", "link(link(link(0, 0, key), row, key)"),
        numpy_ignores_the_stream=(
            "np.asarray(t, dtype=np.int64) * 8 + int(stream)",
            "np.asarray(t, dtype=np.int64) * 8",
        ),
        the_key_is_regular=("KEY = 0xC58EFD154CE32F6D", "KEY = 0x0000000000000001"),
    ),
    *mutants_of(
        "contract/conformal.py",
        family_test("p_values_are_super_uniform", "gaussian"),
        p_values_are_shifted=("return 1 + len(calibration) -", "return len(calibration) -"),
    ),
    *mutants_of(
        "contract/drift.py",
        "tests/contract/test_drift.py",
        earlier_scores_of_a_chunk_are_forgotten=("higher &= _BEFORE[:k, :k]", "higher &= False"),
        served_scores_are_not_remembered=("np.add.at(self._weights, cells, 1)", "np.add.at(self._weights, cells, 0)"),
        equals_are_always_the_lower=("cells[tied] + coins[tied, 1]", "cells[tied] + 0.0 * coins[tied, 1]"),
        a_bet_is_better_than_fair=("bets += 1.0", "bets += 1.002"),
        what_is_bet_stays_cash_too=("cash = 1.0 / (1.0 + np.log1p(t))", "cash = 1.0 / (1.0 + np.log1p(0 * t))"),
        wealth_is_not_carried_on=("put_in[0] + self._placed", "put_in[0] + 0.0 * self._placed"),
        the_distance_is_one_sided=("np.abs(distances).max()", "distances.max()"),
    ),
]
