"""Deliberate errors in the families."""

from __future__ import annotations

from tests.mutations.mutant import family_test, mutants_of, partial_test

__all__ = ["FAMILIES"]

_UNSTRETCHED = "self._joint_of_known(y, known)) - 0.0 * row_sum(stretched)"
_BLIND = "self._draw(u, self.cumulative, seed, row)"

FAMILIES = [
    *mutants_of(
        "models/randomness.py",
        "tests/models/test_randomness.py",
        torch_ignores_the_step=("link(addresses, steps * 8 + int(stream))", "link(addresses, steps * 0 + int(stream))"),
        a_rotation_is_arithmetic=("((x >> 32) & _LOW_HALF) | (x << 32)", "(x >> 32) | (x << 32)"),
        uniforms_reach_one=(
            "torch.floor(bits(states, dims).double() * 2.0**-8)",
            "torch.ceil(bits(states, dims).double() * 2.0**-8)",
        ),
    ),
    *mutants_of(
        "models/randomness.py",
        family_test("every_seed_and_row_has_a_draw_of_its_own", "gaussian"),
        the_seed_is_ignored=("return link(link(0, seed), row)", "return link(link(0, seed * 0), row)"),
        the_row_is_ignored=("return link(link(0, seed), row)", "return link(link(0, seed), row * 0)"),
    ),
    *mutants_of(
        "models/realnvp.py",
        family_test("an_exact_law_integrates_or_sums_to_one", "realnvp"),
        a_coupling_s_log_det_has_the_wrong_sign=(
            "return y.index_select(1, self.back), row_sum(log_scale.double())",
            "return y.index_select(1, self.back), -row_sum(log_scale.double())",
        ),
    ),
    *mutants_of(
        "models/nice.py",
        "tests/models/test_flows.py",
        the_diagonal_s_log_det_is_dropped=(
            "row_sum(self.log_scale).expand(x.shape[0])",
            "0 * row_sum(self.log_scale).expand(x.shape[0])",
        ),
    ),
    *mutants_of(
        "models/realnvp.py",
        family_test("decode_undoes_encode_and_encode_decode", "realnvp"),
        a_coupling_is_undone_with_the_wrong_shift=(
            "(b - shift) * (-log_scale).exp()",
            "b * (-log_scale).exp() - shift",
        ),
    ),
    *mutants_of(
        "models/gaussian.py",
        family_test("an_exact_law_integrates_or_sums_to_one", "gaussian"),
        the_jacobian_of_the_whitening_is_dropped=(
            "return self.latent_log_prob(z) + log_det",
            "return self.latent_log_prob(z) + 0 * log_det",
        ),
    ),
    *mutants_of(
        "models/made.py",
        family_test("an_exact_law_integrates_or_sums_to_one", "made"),
        a_mask_is_off_by_one=("(position[:, None] > degree).float()", "(position[:, None] >= degree).float()"),
        a_coordinate_sees_itself=("(position[:, None] > position).float()", "(position[:, None] >= position).float()"),
    ),
    *mutants_of(
        "models/made.py",
        family_test("draws_fall_where_the_law_puts_them", "made"),
        every_step_draws_the_same_number=(
            "stream_state(addresses, Stream.STEP, t)",
            "stream_state(addresses, Stream.STEP, 0 * t)",
        ),
        a_step_forgets_the_direct_connections=(
            "logit = logit + row_sum(self.direct.masked_weight.index_select(0, t) * pixels)",
            "logit = logit + 0 * row_sum(self.direct.masked_weight.index_select(0, t) * pixels)",
        ),
    ),
    *mutants_of(
        "models/made.py",
        family_test("every_parameter_receives_a_gradient_and_changes", "made"),
        the_direct_connections_get_no_gradient=(
            "else logits + self.direct(rows)",
            "else logits + self.direct(rows).detach()",
        ),
    ),
    *mutants_of(
        "models/rbm.py",
        "tests/models/test_rbm.py",
        a_turned_coordinate_is_turned_the_other_way=("turn = 1.0 - 2.0 * visible", "turn = 2.0 * visible - 1.0"),
        every_probe_is_the_first=("* dims).long()", "* 0).long()"),
        visible_units_reuse_the_draws_of_the_hidden=("(drawn[:, hidden:] <", "(drawn.flip(1)[:, hidden:] <"),
    ),
    *mutants_of(
        "models/rbm_gaussian_hidden.py",
        "tests/models/test_rbm_gaussian_hidden.py",
        a_spin_sees_its_field_once=("sigmoid(2.0 * (z @ weight", "sigmoid(1.0 * (z @ weight"),
        the_hidden_units_have_no_noise=("+ noise.double()", "+ 0.0 * noise.double()"),
        the_energy_of_the_overlaps_is_not_halved=("- 0.5 * row_sum(overlap", "- 1.0 * row_sum(overlap"),
        a_turned_spin_keeps_its_self_coupling=("2.0 * weight.square().sum(dim=0) - 2.0", "0.0 - 2.0"),
    ),
    *mutants_of(
        "models/made.py",
        "tests/models/test_made.py",
        the_steps_ignore_the_temperature=("logit / temperature.float()", "logit / temperature.float().clamp(1, 1)"),
    ),
    *mutants_of(
        "models/vae.py",
        "tests/models/test_vae.py::test_a_weight_by_hand",
        the_prior_is_left_out=("likelihood + prior - row_sum(posterior)", "likelihood - row_sum(posterior)"),
        levels_are_not_dequantised=("((rows + offset) / self.levels - mean)", "(rows / self.levels - mean)"),
        densities_are_of_the_whole_range=("+ log(self.levels))", "+ 0 * log(self.levels))"),
    ),
    *mutants_of(
        "models/vae.py",
        "tests/models/test_vae.py::test_without_observation_noise_a_draw_is_the_decoded_code",
        the_noise_is_never_off=("mean + noise * log_scale.exp() * draws", "mean + log_scale.exp() * draws"),
    ),
    *mutants_of(
        "models/maf_image.py",
        "tests/models/test_maf_image.py::TestFlow",
        "tests/models/test_maf_image.py::test_a_pixel_that_never_varies_has_a_scale_and_a_draw",
        the_scaling_has_no_determinant=("return z, outer + scaling + inner", "return z, outer + inner"),
        all_values_of_a_level_are_its_lower_edge=("(places + 0.5) / _PARTS", "(places // _PARTS * _PARTS) / _PARTS"),
        the_levels_of_a_pixel_are_counted_as_another_s=("(rows + place)", "(rows.flip(1) + place)"),
    ),
    *mutants_of(
        "models/glow.py",
        "tests/models/test_glow.py::TestLayer",
        "tests/models/test_glow.py::TestFlow",
        "tests/models/test_glow.py::test_to_begin_with_the_channels_of_the_rows_have_mean_0_and_deviation_1",
        "tests/models/test_glow.py::test_a_label_conditions_the_law_of_the_last_scale_alone",
        the_mixing_has_no_determinant=(
            "self.log_diagonal.double().sum()).expand",
            "0.0 * self.log_diagonal.double().sum()).expand",
        ),
        a_channel_counts_once_for_all_pixels=(
            "(x.shape[2] * x.shape[3] * self.log_scale.double()",
            "(1 * 1 * self.log_scale.double()",
        ),
        channels_start_unscaled=("-x.std(dim=(0, 2, 3), keepdim=True)[0].clamp", "-x[0, :, :1, :1].clamp"),
        the_last_scale_s_law_is_left_out_of_the_bound=(
            "log_det - row_sum(log_scale.double())",
            "log_det - 0 * row_sum(log_scale.double())",
        ),
        no_label_is_heard=("self.top(conditions[0])", "self.top(0 * conditions[0])"),
    ),
    *mutants_of(
        "models/pixelcnn.py",
        "tests/models/test_pixelcnn.py",
        the_first_convolution_sees_its_own_pixel=("reach, sees_itself=False)", "reach, sees_itself=True)"),
        blocks_of_a_window_are_not_zero_outside=(
            "if inside is None else middle * inside",
            "if inside is None else middle",
        ),
    ),
    *mutants_of(
        "models/pixelcnn_plus_plus.py",
        "tests/models/test_pixelcnn.py",
        the_row_of_the_pixel_is_taken_for_one_above=(
            "self.above(functional.pad(x, (1, 1, 2, 0))[:, :, :-1])",
            "self.above(functional.pad(x, (1, 1, 1, 0)))",
        ),
        the_two_streams_do_not_meet=("found + self.link(_celu(other))", "found + 0 * self.link(_celu(other))"),
    ),
    *mutants_of(
        "models/wavenet.py",
        "tests/models/test_wavenet.py",
        a_sample_is_seen_before_it_is_drawn=(
            "before = functional.pad(levels[:, :-1], (1, 0)",
            "before = functional.pad(levels[:, 1:], (1, 0)",
        ),
        a_ring_is_a_place_too_short=(
            "(t % layer.dilation)[:, None, None]",
            "((t + 1) % layer.dilation)[:, None, None]",
        ),
        the_last_layer_alone_is_heard=(
            "            found = found + skip\n        logits = self._logits(found).double()",
            "            found = skip\n        logits = self._logits(found).double()",
        ),
    ),
    *mutants_of(
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
        missing_is_free=("terms.append(-full_lanes(_softplus, -odds))", "terms.append(0.0 * odds)"),
        the_slope_is_dropped=("row_logsumexp(log_weight + point) + slope", "row_logsumexp(log_weight + point)"),
    ),
    *mutants_of(
        "models/mixture_of_gaussians.py",
        partial_test("a_marginal_is_the_law_summed_or_integrated_over_the_rest", "mixture-of-gaussians"),
        a_marginal_is_of_standardised_columns=("self._joint_of_known(y, known)) - row_sum(stretched)", _UNSTRETCHED),
    ),
    *mutants_of(
        "models/mixture_of_gaussians.py",
        partial_test("holes_are_filled_by_the_law_given_what_is_known", "mixture-of-gaussians"),
        a_component_is_chosen_without_looking_at_the_row=("self._draw(u, cumulative, seed, row)", _BLIND),
    ),
    *mutants_of(
        "models/made.py",
        partial_test("what_is_known_stays_and_what_is_drawn_is_allowed", "made"),
        a_known_coordinate_is_drawn_anew=("torch.where(held.gather(1, at),", "torch.where(held.gather(1, at) & False,"),
    ),
    *mutants_of(
        "models/nets/boltzmann.py",
        partial_test("what_is_known_stays_and_what_is_drawn_is_allowed", "rbm"),
        clamped_units_move=(
            "torch.where(clamped, visible, self.gibbs(",
            "torch.where(clamped & False, visible, self.gibbs(",
        ),
    ),
]
