"""The deliberate errors that ``tests/mutants.py`` puts into the code, and the tests that must notice each."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MUTANTS", "Mutant"]


@dataclass(frozen=True)
class Mutant:
    """One deliberate error.

    Attributes:
        name: what is wrong.
        file: where, from the root of the tree.
        old: text that occurs there exactly once.
        new: text that takes its place.
        tests: files or test ids for pytest: the tests that must notice.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _in(file: str, *tests: str, **changes: tuple[str, str]) -> list[Mutant]:
    """Mutants of one file that the same tests must notice: what is wrong, with underscores, = (old, new)."""
    return [Mutant(name.replace("_", " "), file, old, new, tests) for name, (old, new) in changes.items()]


def _family(test: str, family: str) -> str:
    """One of the contract tests, on one family; it trains the family first, with the error in it."""
    return f"tests/contract/test_families.py::test_{test}[{family}]"


MUTANTS = [
    # -- results ----------------------------------------------------------------------------------------------------
    *_in(
        "training/results.py",
        *(
            f"tests/training/test_results.py::{test}"
            for test in (
                "test_what_is_not_alike_is_never_in_one_table",
                "test_values_of_one_kind_are_sorted_best_first",
                "test_of_bits_per_dimension_less_is_better",
                "test_published_values_stand_beside_their_own_kind_alone",
                "test_equal_tensors_count_twice_in_one_graph_and_once_in_two",
            )
        ),
        values_of_different_kinds_share_a_table=(
            "return _Group(title, digest, metric.name, metric.units, metric.kind)",
            'return _Group(title, digest, metric.name, metric.units, "exact")',
        ),
        values_of_different_test_rows_share_a_table=(
            "return _Group(title, digest, metric.name,",
            'return _Group(title, "0" * 64, metric.name,',
        ),
        the_worst_comes_first=("sign = 1.0 if group", "sign = -1.0 if group"),
        published_values_of_any_kind_stand_beside=("if value.kind == group.kind", "if value.kind != ''"),
        equal_layers_of_one_graph_count_once=("values.size] += 1", "values.size] = 1"),
    ),
    *_in(
        "benchmarks/tools/rounded.py",
        "tests/benchmarks/test_rounded.py",
        noise_is_twice_as_wide_as_a_cell=("uniform(-0.5, 0.5,", "uniform(-1.0, 1.0,"),
        the_resolution_is_the_mean_distance=("np.diff(places).min()", "np.diff(places).mean()"),
    ),
    # -- the contract -----------------------------------------------------------------------------------------------
    *_in(
        "contract/conformal.py",
        "tests/contract/test_conformal.py",
        p_value_does_not_count_the_row_itself=(
            "return 1 + len(calibration) - np.searchsorted",
            "return len(calibration) - np.searchsorted",
        ),
        p_value_ignores_ties=('side="left"', 'side="right"'),
        p_value_is_divided_by_n=(
            "ranks(calibration, scores) / (len(calibration) + 1)",
            "ranks(calibration, scores) / len(calibration)",
        ),
        alarm_rank_is_one_too_high=("alpha * (n + 1) + _RANK_SLACK", "alpha * (n + 1) + 1"),
        alarm_rank_falls_to_a_rounding_error=("alpha * (n + 1) + _RANK_SLACK", "alpha * (n + 1)"),
        false_alarm_interval_is_of_another_beta_law=("terms = np.arange(k, n + 1)", "terms = np.arange(k + 1, n + 1)"),
    ),
    *_in(
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
    *_in(
        "contract/digest.py",
        "tests/contract/test_digest.py",
        program_digest_ignores_the_weights=("+ ([manifest.weights] if manifest.weights else [])", "+ []"),
        program_digest_moves_with_the_title=(
            '"program": program.model_dump(mode="json"),',
            '"program": program.model_dump(mode="json"), "title": manifest.title,',
        ),
    ),
    *_in(
        "contract/bundle.py",
        "tests/contract/test_bundle.py",
        links_in_a_bundle_are_followed=("if entry.is_symlink() or not entry.is_file():", "if not entry.is_file():"),
        hashes_are_not_compared=(" or sha256(data) != entry_of.sha256:", ":"),
        pickles_are_read=("np.load(file, allow_pickle=False)", "np.load(file, allow_pickle=True)"),
    ),
    *_in(
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
    # -- the families -----------------------------------------------------------------------------------------------
    *_in(
        "models/randomness.py",
        "tests/models/test_randomness.py",
        torch_ignores_the_step=("link(addresses, steps * 8 + int(stream))", "link(addresses, steps * 0 + int(stream))"),
        a_rotation_is_arithmetic=("((x >> 32) & _LOW_HALF) | (x << 32)", "(x >> 32) | (x << 32)"),
        uniforms_reach_one=(
            "torch.floor(bits(states, dims).double() * 2.0**-8)",
            "torch.ceil(bits(states, dims).double() * 2.0**-8)",
        ),
    ),
    *_in(
        "models/randomness.py",
        _family("every_seed_and_row_has_a_draw_of_its_own", "gaussian"),
        the_seed_is_ignored=("return link(link(0, seed), row)", "return link(link(0, seed * 0), row)"),
        the_row_is_ignored=("return link(link(0, seed), row)", "return link(link(0, seed), row * 0)"),
    ),
    *_in(
        "models/realnvp.py",
        _family("an_exact_law_integrates_or_sums_to_one", "realnvp"),
        a_coupling_s_log_det_has_the_wrong_sign=(
            "return y.index_select(1, self.back), row_sum(log_scale.double())",
            "return y.index_select(1, self.back), -row_sum(log_scale.double())",
        ),
        the_jacobian_of_the_scaling_is_dropped=("return z, outer + inner", "return z, inner"),
        the_jacobian_of_the_couplings_is_dropped=("return z, outer + inner", "return z, outer"),
    ),
    *_in(
        "models/realnvp.py",
        _family("decode_undoes_encode_and_encode_decode", "realnvp"),
        a_coupling_is_undone_with_the_wrong_shift=(
            "(b - shift) * (-log_scale).exp()",
            "b * (-log_scale).exp() - shift",
        ),
    ),
    *_in(
        "models/gaussian.py",
        _family("an_exact_law_integrates_or_sums_to_one", "gaussian"),
        the_jacobian_of_the_whitening_is_dropped=(
            "return self.latent_log_prob(z) + log_det",
            "return self.latent_log_prob(z) + 0 * log_det",
        ),
    ),
    *_in(
        "models/nets/laws.py",
        _family("draws_fall_where_the_law_puts_them", "gaussian"),
        draws_are_too_wide=("temperature[:, None]", "(1.05 * temperature[:, None])"),
    ),
    *_in(
        "models/nets/laws.py",
        "tests/models/test_gaussian.py",
        the_base_law_ignores_the_temperature=("* temperature[:, None]", "* temperature[:, None].clamp(1, 1)"),
    ),
    *_in(
        "models/made.py",
        _family("an_exact_law_integrates_or_sums_to_one", "made"),
        a_mask_is_off_by_one=("(position[:, None] > degree).float()", "(position[:, None] >= degree).float()"),
        a_coordinate_sees_itself=("(position[:, None] > position).float()", "(position[:, None] >= position).float()"),
    ),
    *_in(
        "models/made.py",
        _family("draws_fall_where_the_law_puts_them", "made"),
        every_step_draws_the_same_number=(
            "stream_state(addresses, Stream.STEP, t)",
            "stream_state(addresses, Stream.STEP, 0 * t)",
        ),
        a_step_forgets_the_direct_connections=(
            "logit = logit + row_sum(self.direct.masked_weight.index_select(0, t) * pixels)",
            "logit = logit + 0 * row_sum(self.direct.masked_weight.index_select(0, t) * pixels)",
        ),
    ),
    *_in(
        "models/made.py",
        _family("every_parameter_receives_a_gradient_and_changes", "made"),
        the_direct_connections_get_no_gradient=(
            "else logits + self.direct(rows)",
            "else logits + self.direct(rows).detach()",
        ),
    ),
    *_in(
        "models/rbm.py",
        "tests/models/test_rbm.py",
        the_particles_start_anew_at_every_update=(
            "self.particles.copy_(moved)",
            "self.particles.copy_(self.particles)",
        ),
        the_particles_draw_the_same_numbers_again=("self.particle_steps.add_(self.k)", "self.particle_steps.add_(0)"),
        the_offsets_are_dropped_rather_than_folded=(
            "_, visible_bias, hidden_bias = self._machine()",
            "_, visible_bias, hidden_bias = self.weight, self.visible_bias, self.hidden_bias",
        ),
        weights_are_rounded_too_finely=("math.ceil(math.log2(largest) - 23)", "math.ceil(math.log2(largest) - 29)"),
        a_turned_coordinate_is_turned_the_other_way=("turn = 1.0 - 2.0 * rows", "turn = 2.0 * rows - 1.0"),
        every_probe_is_the_first=("* dims).long()", "* 0).long()"),
        visible_units_reuse_the_draws_of_the_hidden=("(drawn[:, hidden:] <", "(drawn.flip(1)[:, hidden:] <"),
        a_chain_starts_at_even_chances=("(drawn < torch.sigmoid(self.base_logits.double()))", "(drawn < 0.5)"),
    ),
    *_in(
        "models/nets/partition.py",
        "tests/models/test_rbm.py",
        the_base_counts_no_hidden_units=("base = len(hidden_bias) * math.log(2.0) + softplus", "base = softplus"),
        the_error_is_one_chain_s=("(w.std() / mean).item() / math.sqrt(chains)", "(w.std() / mean).item()"),
        weights_are_gathered_after_the_sweep_s_temperature=("softplus(before * wide)", "softplus(beta * wide - 1e-3)"),
        the_sweep_lags_behind=("h = bernoulli(beta * field)", "h = bernoulli(field)"),
    ),
    *_in(
        "training/evaluate.py",
        "tests/service/test_rbm_over_http.py::test_the_figures_carry_the_shared_error",
        a_shared_error_is_left_out=("math.hypot(_standard_error(values), shared)", "_standard_error(values)"),
    ),
    *_in(
        "training/loop.py",
        "tests/training/test_finish.py",
        what_is_found_last_is_not_saved=(
            "        if isinstance(model, HasFinish):\n            report = replace(",
            "        if isinstance(model, HasFinish) and (folder / WEIGHTS).exists():\n            report = replace(",
        ),
    ),
    *_in(
        "training/adapter.py",
        "tests/training/test_finish.py",
        a_family_s_own_validation_loss_is_not_asked=(
            "if isinstance(model, HasValidationLoss):",
            "if not isinstance(model, GenerativeModel):",
        ),
    ),
    *_in(
        "models/made.py",
        "tests/models/test_made.py",
        the_steps_ignore_the_temperature=("logit / temperature.float()", "logit / temperature.float().clamp(1, 1)"),
    ),
    *_in(
        "models/vae.py",
        "tests/models/test_vae.py::test_a_weight_by_hand",
        the_prior_is_left_out=("likelihood + prior - row_sum(posterior)", "likelihood - row_sum(posterior)"),
        levels_are_not_dequantised=("((rows + offset) / self.levels - mean)", "(rows / self.levels - mean)"),
        densities_are_of_the_whole_range=("+ log(self.levels))", "+ 0 * log(self.levels))"),
    ),
    *_in(
        "models/vae.py",
        "tests/models/test_vae.py::test_without_observation_noise_a_draw_is_the_decoded_code",
        the_noise_is_never_off=("mean + noise * log_scale.exp() * draws", "mean + log_scale.exp() * draws"),
    ),
    *_in(
        "models/vae.py",
        "tests/models/test_vae.py::TestLabels::test_training_withholds_the_label_of_some_rows",
        no_label_is_ever_withheld=("dims=1)[:, 0] < self.label_dropout", "dims=1)[:, 0] < 0 * self.label_dropout"),
    ),
    *_in(
        "models/nets/prior.py",
        "tests/models/test_vae.py::test_a_flow_prior_has_the_density_of_its_draws",
        the_prior_s_log_det_has_the_wrong_sign=("total + row_sum(log_scale", "total - row_sum(log_scale"),
    ),
    *_in(
        "models/realnvp_image.py",
        "tests/models/test_realnvp_image.py::TestFlow::test_the_weight_is_the_base_law_and_autodiff_s_determinant",
        the_jacobian_of_the_logit_is_dropped=(
            "self.support.size * slope - row_sum(below + above)",
            "self.support.size * slope - 0 * row_sum(below + above)",
        ),
        the_units_of_the_levels_are_dropped=("* slope - row_sum", "* 0 * slope - row_sum"),
    ),
    *_in(
        "models/realnvp_image.py",
        "tests/models/test_realnvp_image.py::TestFlow::test_decode_undoes_encode",
        a_code_is_of_the_edge_of_its_level=("double() + 0.5)[0]", "double() + 0.0)[0]"),
    ),
    *_in(
        "models/pixelcnn.py",
        _family("an_exact_law_integrates_or_sums_to_one", "pixelcnn"),
        a_pixel_is_seen_before_it_is_drawn=(
            "torch.cat([seen, where.expand(",
            "torch.cat([seen.roll(-1, 3), where.expand(",
        ),
    ),
    *_in(
        "models/pixelcnn.py",
        _family("draws_fall_where_the_law_puts_them", "pixelcnn"),
        every_pixel_draws_the_same_number=(
            "stream_state(addresses, Stream.STEP, t)",
            "stream_state(addresses, Stream.STEP, 0 * t)",
        ),
        a_window_ends_a_row_too_early=("(t // self.columns)[:, None, None]", "(t // self.columns - 1)[:, None, None]"),
    ),
    *_in(
        "models/pixelcnn.py",
        "tests/models/test_pixelcnn.py::test_the_window_of_a_pixel_gives_the_law_that_the_whole_picture_gives",
        a_window_wraps_around_the_picture=("(columns >= 0) & (columns < self.columns)", "(columns < 10**6)"),
        features_of_a_window_are_not_zero_outside=("where], dim=1) * within", "where], dim=1)"),
    ),
    *_in(
        "models/pixelcnn.py",
        "tests/models/test_pixelcnn.py::TestLabels::test_training_withholds_the_label_of_some_rows",
        no_label_of_a_picture_is_withheld=(
            "dims=1)[:, 0] < self.label_dropout",
            "dims=1)[:, 0] < 0 * self.label_dropout",
        ),
    ),
    *_in(
        "models/nets/gated.py",
        "tests/models/test_pixelcnn.py",
        the_vertical_stack_sees_its_own_row=(
            "(self.reach, self.reach, self.reach, 0))[:, :, : height + self.reach - 1]",
            "(self.reach, self.reach, self.reach - 1, 0))[:, :, : height + self.reach - 1]",
        ),
        the_horizontal_stack_sees_its_own_pixel=(
            "(self.reach, 0))[..., : columns + self.reach - 1]",
            "(self.reach - 1, 0))[..., : columns + self.reach - 1]",
        ),
        the_vertical_stack_tells_the_horizontal_one_nothing=("+ self.link(found)", "+ 0 * self.link(found)"),
        layers_of_a_window_are_not_zero_outside=("v, h = v * here, h * here[", "v, h = v * 1, h * here["),
    ),
    *_in(
        "models/nets/pixels.py",
        "tests/models/test_pixelcnn.py",
        copies_from_beyond_the_edge=("torch.where(around >= 0, 0.0, _NEVER)", "torch.where(around >= 0, 0.0, 0.0)"),
        colours_of_the_palette_count_as_none=("[..., None], mine, _NEVER)", "[..., None], mine - 99.0, _NEVER)"),
        one_copy_counts_for_all=(
            "torch.where(around == code[..., None], logits[..., : self.copies], _NEVER)",
            "torch.where(around[..., :1] == code[..., None], logits[..., : self.copies], _NEVER)",
        ),
        the_ends_of_the_range_lose_their_tails=("torch.where(x < 0.5, -right,", "torch.where(x < -0.5, -right,"),
        channels_are_drawn_apart=(
            "[self._scaled(level) for level in smooth], c)",
            "[level * 0 for level in smooth], c)",
        ),
        channels_of_few_levels_are_drawn_apart=(
            "logits + one_hot[..., : c * self.levels] @ self.tables[c - 1]",
            "logits + 0 * one_hot[..., : c * self.levels] @ self.tables[c - 1]",
        ),
        the_palette_is_of_the_rarest_colours=("descending=True", "descending=False"),
    ),
    # -- training ---------------------------------------------------------------------------------------------------
    *_in(
        "training/adapter.py",
        _family("the_best_weights_are_the_ones_that_ship", "realnvp"),
        the_last_weights_are_kept=("if value < progress.best:", "if value == value:"),
    ),
    *_in(
        "training/adapter.py",
        "tests/training/test_distributed.py::test_two_processes_take_the_steps_of_one",
        a_process_weighs_its_part_as_the_whole=("flat * share if share else", "flat if share else"),
        a_stand_in_counts=("flat * share if share else torch.zeros_like(flat)", "flat * max(share, 0.1)"),
    ),
    *_in(
        "training/adapter.py",
        "tests/training/test_loop.py",
        pictures_are_turned_upside_down=("x.flip(2), x)", "x.flip(1), x)"),
    ),
    *_in(
        "training/data/dataset.py",
        "tests/training/test_folds.py",
        labels_stay_behind=("self.labels[which])", "self.labels[: len(self.rows[which])])"),
    ),
    *_in(
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
    # -- anomaly scores ---------------------------------------------------------------------------------------------
    *_in(
        "contract/conformal.py",
        _family("p_values_are_super_uniform", "gaussian"),
        p_values_are_shifted=("return 1 + len(calibration) -", "return len(calibration) -"),
    ),
    # -- the service ------------------------------------------------------------------------------------------------
    *_in(
        "service/cache_rows.py",
        "tests/service/test_cache_rows.py",
        a_tag_does_not_hold_for_its_key=("        tag.update(key)\n", ""),
    ),
    *_in(
        "service/scheduler.py",
        "tests/service/test_scheduler.py",
        callers_get_each_other_s_rows=("                start += count\n", ""),
        deadlines_are_not_kept=("self._clock() >= ticket.errand.deadline", "False"),
        too_late_is_admitted=("            if late > 0.0:", "            if late > 1e9:"),
        runs_go_on_for_nobody=("                batch.stop_if_useless()\n", "                pass\n"),
        memory_is_not_bounded=("(backlog.bytes + ticket.bytes - limits.bytes)", "-float(ticket.bytes)"),
    ),
    *_in(
        "service/turns.py",
        "tests/service/test_scheduler.py",
        clients_are_not_charged=("                flow.virtual += count * row_seconds\n", ""),
    ),
    *_in(
        "service/operations.py",
        "tests/service/test_answers.py",
        samples_begin_at_row_zero=("np.arange(start, start + n, dtype=np.int64)", "np.arange(n, dtype=np.int64)"),
    ),
    *_in(
        "service/bursts.py",
        "tests/service/test_bursts.py",
        a_burst_gives_everybody_the_first_rows=("            start = end", "            start = 0"),
        a_deadline_is_no_matter_in_a_burst=("self._clock() >= waiting.deadline", "False"),
        a_burst_takes_whatever_comes=("alone > self._alone or self._seconds + more > self._waiting", "False"),
        what_waits_for_the_next_turn_is_forgotten=("        if groups:\n            self._call()\n", ""),
    ),
    *_in(
        "service/api/wire.py",
        "tests/service/test_wire.py",
        a_second_request_need_not_wait=("if self.cycle is not None and not self.cycle.response_complete:", "if False:"),
        the_connection_is_kept_open=(
            "            self.transport.close()\n        self.questions",
            "        self.questions",
        ),
        room_is_never_given_back=("            self.parts.budget.give(left.head.length)\n", "            pass\n"),
    ),
    *_in(
        "service/predictions.py",
        "tests/service/test_predictions.py",
        a_chain_is_one_step=("self._round_seconds(model, program.step, together, ahead) *", "0.0 *"),
        nobody_is_ahead=("max(run, self.shared_row_seconds(model, graph) * ahead)", "run"),
    ),
    *_in(
        "service/answers.py",
        "tests/service/test_answers.py",
        bits_per_dimension_are_nats=("-1.0 / (log(2.0) * support.size)", "-1.0 / support.size"),
        an_alarm_needs_a_rank_below_k=("np.less_equal(rank, k) if k else None", "np.less(rank, k) if k else None"),
    ),
    *_in(
        "models/tabular_made.py",
        "tests/models/test_tabular_made.py",
        tabular_made_sees_itself=(
            "(outputs[:, None] + 1 > features).float()",
            "(outputs[:, None] + 1 >= features).float()",
        ),
        a_cell_is_not_divided_by_its_width=(
            "row_logsumexp(log_weight + cell) - per",
            "row_logsumexp(log_weight + cell)",
        ),
        missing_is_free=("terms.append(-row_sum(full_lanes(_softplus, -odds)))", "terms.append(0.0 * row_sum(odds))"),
        the_slope_is_dropped=("row_logsumexp(log_weight + point) + slope", "row_logsumexp(log_weight + point)"),
    ),
    *_in(
        "models/nets/importance.py",
        "tests/models/test_importance.py",
        the_mean_of_weights_is_their_sum=("mean = weights / count", "mean = weights"),
        draws_ignore_their_number=(
            "self.model).log_weight(x, seed, row, t, ",
            "self.model).log_weight(x, seed, row, 0 * t, ",
        ),
    ),
    *_in(
        "service/api/fast_json.py",
        "tests/service/test_fast_path.py",
        large_bodies_may_nest=('if not n or body.count(b"[") != n + 1:', "if not n:"),
        rows_of_any_length=("if left or not width or any(len(row) != width for row in rows):", "if left or not width:"),
    ),
    *_in(
        "service/api/fast_names.py",
        "tests/service/test_fast_path.py",
        body_and_query_may_disagree=("and one != other for one", "and False for one"),
        any_alpha_is_plain=("or not 0.0 < alpha < 1.0", ""),
    ),
    *_in(
        "service/api/plain.py",
        "tests/service/test_fast_path.py",
        an_error_is_left_out_of_npy=('if "standard_error" not in arrays_of(empty):', "if True:"),
        the_last_of_two_types_counts=("            if given is not None:\n                return None\n", ""),
        npy_has_the_limit_of_json=("min(settings.max_binary_bytes, _LONGEST_NPY)", "_LONGEST_NPY"),
    ),
    *_in(
        "service/web/samples.py",
        "tests/service/test_pages.py",
        pictures_share_one_entity_tag=("{address.seed}|{address.row}|", ""),
    ),
    *_in(
        "service/web/samples.py",
        "tests/service/test_choices.py",
        a_tag_forgets_what_was_chosen=("|{address.chosen.query}", ""),
        a_picture_is_drawn_without_its_label=("condition=dict(chosen.condition)", "condition={}"),
    ),
    *_in(
        "service/web/choices.py",
        "tests/service/test_choices.py",
        a_default_that_is_spelt_out_is_a_choice=("if value != defaults[name]", "if True"),
        bounds_of_a_knob_are_left_to_later=("environment(program, {**address, **knobs.inputs}, 1)", "address"),
        the_model_s_own_noise_is_shown=("if noise is not None and noise.name not in given:", "if False:"),
    ),
    *_in(
        "service/web/store.py",
        "tests/service/test_kept_pictures.py",
        the_last_to_draw_wins=("os.link(draft, path)", "draft.replace(path)"),
        a_kept_picture_is_drawn_again=(
            "return path.read_bytes()\n        except FileNotFoundError",
            "return None\n        except FileNotFoundError",
        ),
    ),
    *_in(
        "service/api/arrays.py",
        "tests/service/test_arrays.py",
        bytes_beyond_the_array_are_ignored=("if len(body) - start != wanted:", "if len(body) - start < wanted:"),
        fortran_order_is_ignored=("array.reshape(shape[::-1]).T if fortran", "array.reshape(shape) if fortran"),
        big_endian_is_read_as_it_lies=('dtype.newbyteorder("=")', "dtype"),
        complex_numbers_are_numbers=('not in "biuf"', 'not in "biufc"'),
    ),
    *_in(
        "service/reading.py",
        "tests/service/test_arrays_over_http.py",
        a_row_is_named_by_its_place_in_a_piece=("row=error.row + start", "row=error.row"),
    ),
    *_in(
        "service/api/query.py",
        "tests/service/test_query.py",
        the_query_overrules_the_body=("if isinstance(body, bool) or body != query:", "if False:"),
    ),
    *_in(
        "service/auth.py",
        "tests/service/test_auth.py",
        keys_are_compared_with_an_early_exit=(
            "if hmac.compare_digest(key.digest, digest):",
            "if key.digest == digest:",
        ),
        the_first_key_that_fits_ends_the_search=("                found = key\n", "                return key\n"),
        new_routes_are_open=(
            "if self.keyring is None or self._is_open(path):",
            'if self.keyring is None or "/x" not in path:',
        ),
        public_pages_open_the_questions=('(path == "/" or path.startswith("/x/"))', 'path.startswith("/")'),
    ),
    *_in(
        "service/quotas.py",
        "tests/service/test_quotas.py",
        a_dead_redis_is_an_error=("                self._failed(error)\n", "                raise\n"),
        redis_counts_for_nobody_else=("_count(self._shared, item", "_count(self._memory, item"),
        one_row_is_counted_whatever_was_asked=("hit(item, account, cost=rows)", "hit(item, account, cost=1)"),
        the_wait_forgets_that_this_minute_counts_in_the_next=(
            "return window.current_left + WINDOW",
            "return 0.0 * WINDOW",
        ),
    ),
    *_in(
        "service/api/fast.py",
        "tests/service/test_keys_over_http.py",
        the_fast_path_asks_nobody_for_a_key=("            admit(parts, scope)\n", "            pass\n"),
        the_fast_path_charges_nothing=("standing = await charge(parts, scope, len(asked.x))", "standing = {}"),
    ),
]
