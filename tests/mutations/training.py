"""Deliberate errors in training and benchmarks."""

from __future__ import annotations

from tests.mutations.mutant import family_test, mutants_of

__all__ = ["TRAINING"]

TRAINING = [
    *mutants_of(
        "training/results.py",
        *(
            f"tests/training/test_results.py::{test}"
            for test in (
                "test_what_is_not_alike_is_never_in_one_table",
                "test_values_of_one_kind_are_sorted_best_first",
                "test_of_bits_per_dimension_less_is_better",
                "test_published_values_stand_beside_their_own_kind_alone",
            )
        ),
        values_of_different_kinds_share_a_table=(
            "return _Group(title, line.test_fold, metric.name, metric.units, metric.kind)",
            'return _Group(title, line.test_fold, metric.name, metric.units, "exact")',
        ),
        values_of_different_test_rows_share_a_table=(
            "return _Group(title, line.test_fold, metric.name,",
            'return _Group(title, "0" * 64, metric.name,',
        ),
        the_worst_comes_first=("sign = 1.0 if group", "sign = -1.0 if group"),
        published_values_of_any_kind_stand_beside=("if value.kind == group.kind", "if value.kind != ''"),
    ),
    *mutants_of(
        "training/measured.py",
        "tests/training/test_results.py",
        equal_layers_of_one_graph_count_once=("values.size] += 1", "values.size] = 1"),
        figures_of_what_is_not_here_are_dropped=("{**before, **lines}", "lines"),
        figures_from_before_win=("{**before, **lines}", "{**lines, **before}"),
        a_time_goes_to_whatever_has_the_name=("known.digest == line.digest and ", ""),
    ),
    *mutants_of(
        "benchmarks/tools/rounded.py",
        "tests/benchmarks/test_rounded.py",
        noise_is_twice_as_wide_as_a_cell=("uniform(-0.5, 0.5,", "uniform(-1.0, 1.0,"),
        the_resolution_is_the_mean_distance=("np.diff(places).min()", "np.diff(places).mean()"),
    ),
    *mutants_of(
        "training/evaluate.py",
        "tests/service/test_rbm_over_http.py::test_the_figures_carry_the_shared_error",
        a_shared_error_is_left_out=("math.hypot(over_rows, shared)", "over_rows"),
    ),
    *mutants_of(
        "training/draft_pictures.py",
        "tests/training/test_draft_pictures.py",
        of_several_sizes_the_first_is_taken_for_all=("(sizes != sizes[0]).any() or", "False or"),
        every_array_is_pictures=("array.dtype in (np.uint8, np.bool_)", "array.ndim > 2"),
        a_few_pictures_are_enough=("len(rows) < FEWEST_ROWS", "len(data.rows) < 1"),
        pictures_of_any_size_are_kept_as_many=("_KEPT_NUMBERS // size", "_KEPT_NUMBERS // 784"),
    ),
    *mutants_of(
        "training/loop.py",
        "tests/training/test_finish.py",
        what_is_found_last_is_not_saved=(
            "        if isinstance(model, HasFinish):\n            report = replace(",
            "        if isinstance(model, HasFinish) and (folder / WEIGHTS).exists():\n            report = replace(",
        ),
    ),
    *mutants_of(
        "training/graphs.py",
        "tests/models/test_maf_image.py::test_the_export_of_a_picture_is_the_model",
        a_decoder_in_steps_stops_before_the_end=(
            "steps=_steps(model.decode_steps)",
            "steps=_steps(model.decode_steps - 1)",
        ),
    ),
    *mutants_of(
        "training/parity.py",
        "tests/models/test_maf_image.py::test_the_export_of_a_picture_is_the_model",
        what_is_decoded_in_steps_must_be_equal_to_the_level=("or decoded\n", "\n"),
    ),
    *mutants_of(
        "training/adapter.py",
        "tests/training/test_layout.py",
        a_gradient_lies_otherwise_than_its_parameter=(
            "return torch.empty_like(parameter).copy_(gradient)",
            "return gradient.clone()",
        ),
    ),
    *mutants_of(
        "training/adapter.py",
        "tests/training/test_finish.py",
        a_family_s_own_validation_loss_is_not_asked=(
            "if isinstance(model, HasValidationLoss):",
            "if not isinstance(model, GenerativeModel):",
        ),
    ),
    *mutants_of(
        "training/data/series.py",
        "tests/training/test_series.py",
        windows_leave_their_block=(
            "range(begin, min(begin + block, last) - window + 1, stride)",
            "range(begin, min(begin + block, last), stride)",
        ),
        levels_are_rounded_to_the_nearest=("np.floor((values - low)", "np.round((values - low)"),
        a_gap_is_passed_over=(
            "np.flatnonzero(steps != spacings[counts.argmax()]) + 1",
            "np.flatnonzero(steps < 0) + 1",
        ),
    ),
    *mutants_of(
        "training/folds.py",
        "tests/training/test_series.py",
        windows_are_dealt_one_by_one=("if fold.groups is not None:", "if fold.groups is None and False:"),
    ),
    *mutants_of(
        "training/adapter.py",
        family_test("the_best_weights_are_the_ones_that_ship", "realnvp"),
        the_last_weights_are_kept=("if value < progress.best:", "if value == value:"),
    ),
    *mutants_of(
        "training/adapter.py",
        "tests/training/test_distributed.py::test_two_processes_take_the_steps_of_one",
        a_process_weighs_its_part_as_the_whole=("flat * share if share else", "flat if share else"),
        a_stand_in_counts=("flat * share if share else torch.zeros_like(flat)", "flat * max(share, 0.1)"),
    ),
    *mutants_of(
        "training/adapter.py",
        "tests/training/test_loop.py",
        pictures_are_turned_upside_down=("x.flip(2), x)", "x.flip(1), x)"),
        pixels_are_drawn_alike_in_each_epoch=(
            "_drawn(x, torch.full_like(row, self.seed), row)",
            "_drawn(x, row * 0, position)",
        ),
    ),
    *mutants_of(
        "training/data/dataset.py",
        "tests/training/test_folds.py",
        labels_stay_behind=(
            "None if x is None else x[which] for",
            "None if x is None else x[: len(self.rows[which])] for",
        ),
    ),
    *mutants_of(
        "training/data/columns.py",
        "tests/training/data/test_tables.py",
        any_value_is_taken=(
            "np.append(good, column.missing_allowed)",
            "np.append(good | True, column.missing_allowed)",
        ),
        categories_follow_the_file=(
            "return sorted(raw.words[word] for word in words)",
            "return [raw.words[word] for word in words]",
        ),
    ),
    *mutants_of(
        "training/statistics/law.py",
        "tests/training/statistics/test_law.py",
        a_tail_may_have_an_end=("if not shape > 0.0:", "if shape == 0.0:"),
        the_shape_of_the_tail_is_turned=("2.0 - mean / rest if", "mean / rest - 2.0 if"),
        a_low_direction_is_a_high_one=('-1.0 if direction == "low" else 1.0', "1.0"),
    ),
    *mutants_of(
        "training/statistics/neighbours.py",
        "tests/training/statistics/test_statistics.py",
        a_kept_row_is_its_own_neighbour=("k + 1)[0] for start", "k)[0] for start"),
    ),
    *mutants_of(
        "training/statistics/complexity.py",
        "tests/training/statistics/test_statistics.py",
        the_predictor_has_no_edges=(
            "torch.maximum(low, torch.minimum(high, left + above - corner))",
            "left + above - corner",
        ),
    ),
    *mutants_of(
        "training/calibrate.py",
        "tests/training/test_calibrate.py::test_a_recipe_calibrates_each_label_apart",
        "tests/training/test_series.py",
        labels_are_not_kept_apart=("if recipe.anomaly.by_label:", "if False:"),
        blocks_are_forgotten=("blocks=fold.groups,", "blocks=None,"),
    ),
    *mutants_of(
        "training/evaluate.py",
        "tests/training/test_series.py::test_a_series_becomes_a_bundle_that_is_calibrated_by_whole_blocks",
        rows_of_a_block_count_each_by_itself=(
            "return clustered_error(values, groups),",
            "return _standard_error(values),",
        ),
    ),
    *mutants_of(
        "training/calibrate.py",
        "tests/training/statistics/test_scores.py::test_cross_fitted_rows_never_meet_themselves",
        rows_are_cross_fitted_by_statistics_that_have_seen_them=(
            "parts.append(all_statistics(other, found, held_out))",
            "parts.append(all_statistics(other, listed, held_out))",
        ),
    ),
]
