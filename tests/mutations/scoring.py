"""Deliberate errors in what scores files and streams."""

from __future__ import annotations

from tests.mutations.mutant import mutants_of

__all__ = ["SCORING"]

SCORING = [
    *mutants_of(
        "scoring/scorer.py",
        "tests/scoring/test_labels.py",
        every_row_is_held_against_all=("reference = self._references.get(label)", "reference = self._reference"),
        a_label_that_cannot_alarm_is_quiet=(
            "undecided |= own & (not rank(own & good, reference))",
            "rank(own & good, reference)",
        ),
        what_has_an_unknown_label_keeps_its_score=("            score[own] = np.nan\n", ""),
    ),
    *mutants_of(
        "scoring/tables.py",
        "tests/scoring/test_labels.py",
        labels_of_rows_that_are_none_move_those_of_others=(
            "[labels[row] for row in good.tolist()]",
            "labels[: len(good)]",
        ),
        a_missing_label_hides_what_else_is_wrong=(
            "return x, labels, without | errors",
            "return x, labels, errors | without",
        ),
        what_no_label_decides_is_no_alarm=("else bad | scores.undecided)", "else bad)"),
    ),
    *mutants_of(
        "scoring/entries.py",
        "tests/scoring/test_labels.py",
        a_label_of_a_stream_is_not_told=("        if labels is not None:\n", "        if False:\n"),
    ),
    *mutants_of(
        "scoring/scorer.py",
        "tests/scoring/test_scorer.py",
        a_row_that_does_not_converge_takes_its_run_along=("if stop - start == 1:", "if True:"),
        a_pin_is_not_asked_for=(
            "verified(folder.absolute(), pin, provider)",
            "verified(folder.absolute(), None, provider)",
        ),
    ),
    *mutants_of(
        "scoring/rows.py",
        "tests/scoring/test_columns.py",
        a_number_is_an_index_before_it_is_a_label=(
            "return float(labels.index(spelt)) if spelt in labels else number",
            "return number",
        ),
    ),
    *mutants_of(
        "scoring/columns.py",
        "tests/scoring/test_columns.py",
        what_arrow_reads_as_a_number_is_one=(
            "if np.isfinite(array).sum() + words.null_count != len(array):",
            "if False:",
        ),
    ),
    *mutants_of(
        "scoring/row_files.py",
        "tests/scoring/test_row_files.py",
        lines_that_are_no_rows_are_passed_over=(" | piece.broken", ""),
        rows_are_counted_anew_in_each_piece=("{int(piece.positions[row]): error", "{row: error"),
        words_for_a_missing_value_are_forgotten=("MISSING | {word.strip().lower() for word in missing}", "MISSING"),
    ),
    *mutants_of(
        "scoring/sources.py",
        "tests/scoring/test_files.py",
        broken_lines_move_no_later_row=("positions[np.searchsorted(positions, row) :] += 1", "pass"),
        each_piece_of_parquet_counts_anew=("self._read += batch.num_rows", "pass"),
    ),
    *mutants_of(
        "scoring/files.py",
        "tests/scoring/test_files.py",
        a_file_is_written_in_its_place=(
            'draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")',
            "draft = path",
        ),
    ),
    *mutants_of(
        "scoring/cluster.py",
        "tests/scoring/test_cluster.py::test_files_are_scored_as_by_one_process",
        broken_lines_come_last=("yield table.sort_by(str(len(work.columns))) if why else table", "yield table"),
        any_error_ends_it=("raise errors[min(errors)]", "raise errors[max(errors)]"),
    ),
    *mutants_of(
        "scoring/stream.py",
        "tests/scoring/test_stream.py",
        an_answer_is_written_whoever_has_answered=("if #redis.call('XPENDING'", "if true or #redis.call('XPENDING'"),
        nobody_claims_what_the_dead_have_left=("if now >= self._look_for_left:", "if False:"),
        what_was_in_hand_in_another_life_is_forgotten=(
            "self._look_for_own = True  # what",
            "self._look_for_own = False  # what",
        ),
        an_entry_is_never_acknowledged=("        redis.call('XACK', KEYS[1], ARGV[1], id)\n", ""),
    ),
]
