"""Deliberate errors in what families share."""

from __future__ import annotations

from tests.mutations.mutant import family_test, mutants_of, partial_test

__all__ = ["NETS"]

_SAME_LABEL = "torch.arange(x.shape[0], device=x.device)[:, None].clamp(max=count - 1).expand(-1, count)"

NETS = [
    *mutants_of(
        "models/nets/flow.py",
        family_test("an_exact_law_integrates_or_sums_to_one", "realnvp"),
        the_jacobian_of_the_scaling_is_dropped=("return z, outer + inner", "return z, inner"),
        the_jacobian_of_the_couplings_is_dropped=("return z, outer + inner", "return z, outer"),
    ),
    *mutants_of(
        "models/nets/autoregressive.py",
        "tests/models/test_flows.py",
        a_column_sees_itself=(
            "repeat_interleave(outputs)[:, None] > degree",
            "repeat_interleave(outputs)[:, None] >= degree",
        ),
        the_way_back_has_the_sign_of_the_way_there=(
            "return x, -row_sum(torch.cat(log_slopes, dim=1))",
            "return x, row_sum(torch.cat(log_slopes, dim=1))",
        ),
        columns_are_found_in_another_order=("for column in self.order:", "for column in sorted(self.order):"),
    ),
    *mutants_of(
        "models/nets/elementwise.py",
        "tests/models/test_elementwise.py",
        a_spline_s_slope_is_not_squared=("(s / below).square() * inside", "(s / below) * inside"),
        a_spline_s_ends_have_another_slope=("pad(slopes, (1, 1), value=1.0)", "pad(slopes, (1, 1), value=2.0)"),
        a_spline_is_undone_by_the_other_root=("2.0 * c / (-b - root)", "2.0 * c / (-b + root)"),
    ),
    *mutants_of(
        "models/nets/coupling.py",
        "tests/models/test_flows.py",
        a_coupling_layer_s_log_det_is_dropped=(
            "index_select(1, self.back), row_sum(log_slope)",
            "index_select(1, self.back), 0 * row_sum(log_slope)",
        ),
    ),
    *mutants_of(
        "models/nets/dequantise.py",
        "tests/models/test_dequantise.py",
        a_value_is_spread_over_half_its_cell=("(high - low) * (u.double()", "0.5 * (high - low) * (u.double()"),
        a_cut_cell_counts_as_a_whole_one=(
            "return self._density(value) + log_share",
            "return self._density(value) + 0 * log_share",
        ),
        draws_are_not_rounded=("return torch.where(self.rounded, self.offset + on_grid, x)", "return x + 0 * on_grid"),
    ),
    *mutants_of(
        "models/nets/laws.py",
        family_test("draws_fall_where_the_law_puts_them", "gaussian"),
        draws_are_too_wide=("temperature[:, None]", "(1.05 * temperature[:, None])"),
    ),
    *mutants_of(
        "models/nets/laws.py",
        "tests/models/test_gaussian.py",
        the_base_law_ignores_the_temperature=("* temperature[:, None]", "* temperature[:, None].clamp(1, 1)"),
    ),
    *mutants_of(
        "models/nets/boltzmann.py",
        "tests/models/test_rbm.py",
        the_particles_start_anew_at_every_update=(
            "self.particles.copy_(moved)",
            "self.particles.copy_(self.particles)",
        ),
        the_particles_draw_the_same_numbers_again=("self.particle_steps.add_(self.k)", "self.particle_steps.add_(0)"),
        the_offsets_are_dropped_rather_than_folded=("parameter.copy_(plain)", "parameter.copy_(parameter)"),
        weights_are_rounded_too_finely=("math.ceil(math.log2(largest) - 23)", "math.ceil(math.log2(largest) - 29)"),
        a_chain_starts_at_even_chances=("(drawn < torch.sigmoid(self.base_logits.double()))", "(drawn < 0.5)"),
    ),
    *mutants_of(
        "models/nets/partition.py",
        "tests/models/test_rbm_gaussian_hidden.py",
        the_spins_start_in_half_their_field=("draw.spins(base_field.expand", "draw.spins(0.5 * base_field.expand"),
        the_coupling_is_not_warmed_with_the_field=("z = math.sqrt(beta) * mean", "z = mean"),
    ),
    *mutants_of(
        "models/nets/partition.py",
        "tests/models/test_rbm.py",
        the_base_counts_no_hidden_units=("base = len(hidden_bias) * math.log(2.0) + softplus", "base = softplus"),
        the_error_is_one_chain_s=("(w.std() / mean).item() / math.sqrt(chains)", "(w.std() / mean).item()"),
        weights_are_gathered_after_the_sweep_s_temperature=("softplus(before * wide)", "softplus(beta * wide - 1e-3)"),
        the_sweep_lags_behind=("h = draw.bernoulli(beta * field)", "h = draw.bernoulli(field)"),
    ),
    *mutants_of(
        "models/nets/labels.py",
        "tests/models/test_vae.py::TestLabels::test_training_withholds_the_label_of_some_rows",
        no_label_is_ever_withheld=("dims=1)[:, 0] < share", "dims=1)[:, 0] < 0 * share"),
    ),
    *mutants_of(
        "models/nets/prior.py",
        "tests/models/test_vae.py::test_a_flow_prior_has_the_density_of_its_draws",
        the_prior_s_log_det_has_the_wrong_sign=("total + row_sum(log_scale", "total - row_sum(log_scale"),
    ),
    *mutants_of(
        "models/nets/autoregressive_steps.py",
        "tests/models/test_maf_image.py::TestLayers",
        a_pixel_sees_itself=("self.degree > rank[:, None]", "self.degree >= rank[:, None]"),
        steps_take_every_layer_in_the_natural_order=("torch.where(layer % 2 == 1,", "torch.where(layer % 2 == 2,"),
        steps_go_on_with_the_hidden_units_of_the_layer_before=(
            "torch.where(ended, anew,",
            "torch.where(ended & False, anew,",
        ),
        steps_forget_that_a_network_s_view_is_bounded=("h + softly_bounded(value, _SEEN) *", "h + value *"),
        the_layers_are_undone_in_their_own_order=("layer, rank = self.layers - 1 - t //", "layer, rank = t //"),
    ),
    *mutants_of(
        "models/nets/autoregressive_steps.py",
        "tests/models/test_maf_image.py::test_a_code_beyond_all_measure_is_still_a_picture",
        what_is_not_finite_spreads=("value = value.clamp(-_MOST, _MOST)", "value = value * 1.0"),
    ),
    *mutants_of(
        "models/nets/picture_flow.py",
        "tests/models/test_realnvp_image.py::TestFlow::test_the_weight_is_the_base_law_and_autodiff_s_determinant",
        the_jacobian_of_the_logit_is_dropped=(
            "size * slope - row_sum(below + above)",
            "size * slope - 0 * row_sum(below + above)",
        ),
        the_units_of_the_levels_are_dropped=("* slope - row_sum", "* 0 * slope - row_sum"),
    ),
    *mutants_of(
        "models/nets/picture_flow.py",
        "tests/models/test_realnvp_image.py::TestFlow::test_decode_undoes_encode",
        a_code_is_of_the_edge_of_its_level=("double() + 0.5, ", "double() + 0.0, "),
    ),
    *mutants_of(
        "models/nets/raster.py",
        family_test("an_exact_law_integrates_or_sums_to_one", "gated-pixelcnn"),
        a_pixel_is_seen_before_it_is_drawn=(
            "torch.cat([seen, where.expand(",
            "torch.cat([seen.roll(-1, 3), where.expand(",
        ),
    ),
    *mutants_of(
        "models/nets/raster.py",
        family_test("draws_fall_where_the_law_puts_them", "gated-pixelcnn"),
        every_pixel_draws_the_same_number=(
            "stream_state(addresses, Stream.STEP, t)",
            "stream_state(addresses, Stream.STEP, 0 * t)",
        ),
        a_window_ends_a_row_too_early=("(t // self.columns)[:, None, None]", "(t // self.columns - 1)[:, None, None]"),
    ),
    *mutants_of(
        "models/nets/raster.py",
        "tests/models/test_gated_pixelcnn.py::test_the_window_of_a_pixel_gives_the_law_that_the_whole_picture_gives",
        a_window_wraps_around_the_picture=("(columns >= 0) & (columns < self.columns)", "(columns < 10**6)"),
        features_of_a_window_are_not_zero_outside=("where], dim=1) * within", "where], dim=1)"),
    ),
    *mutants_of(
        "models/nets/labels.py",
        "tests/models/test_gated_pixelcnn.py::TestLabels::test_training_withholds_the_label_of_some_rows",
        no_label_of_a_picture_is_withheld=(
            "dims=1)[:, 0] < share",
            "dims=1)[:, 0] < 0 * share",
        ),
    ),
    *mutants_of(
        "models/nets/gated.py",
        "tests/models/test_gated_pixelcnn.py",
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
    *mutants_of(
        "models/nets/pixels.py",
        "tests/models/test_gated_pixelcnn.py",
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
    *mutants_of(
        "models/nets/importance.py",
        "tests/models/test_importance.py",
        the_mean_of_weights_is_their_sum=("mean = weights / count", "mean = weights"),
        draws_ignore_their_number=(
            "self.model).log_weight(x, seed, row, t, ",
            "self.model).log_weight(x, seed, row, 0 * t, ",
        ),
    ),
    *mutants_of(
        "models/nets/labels.py",
        "tests/contract/test_conditional_families.py::"
        "test_probabilities_of_labels_are_bayes_rule_on_the_served_log_prob[pixelcnn]",
        bayes_rule_forgets_the_prior=("joint = log_prior + log_prob(", "joint = 0.0 * log_prior + log_prob("),
        labels_and_rows_are_paired_wrongly=("torch.arange(count, device=x.device).expand(x.shape[0], -1)", _SAME_LABEL),
    ),
    *mutants_of(
        "models/nets/labels.py",
        "tests/contract/test_conditional_families.py::"
        "test_the_prior_is_the_labels_shares_of_the_training_rows[pixelcnn]",
        the_prior_counts_no_rows=("minlength=count).double() + 0.5", "minlength=count).double() * 0.0 + 0.5"),
    ),
    *mutants_of(
        "models/nets/conditioning.py",
        partial_test("a_marginal_is_the_law_summed_or_integrated_over_the_rest", "gaussian"),
        what_is_not_known_is_conditioned_on=("here = known[..., k]", "here = known[..., k] | True"),
        a_covariance_stays_as_it_was=("gain[..., :, None] * column[..., None, :]", "0.0 * gain[..., :, None]"),
    ),
]
