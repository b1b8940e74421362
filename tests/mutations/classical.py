"""Deliberate errors in the classical families, by file and test."""

from __future__ import annotations

__all__ = ["CLASSICAL"]

CLASSICAL: dict[tuple[str, str], dict[str, tuple[str, str]]] = {
    ("models/nets/inversion.py", "tests/models/test_univariate.py"): {
        "uniforms_reach_zero": (".double() + 0.5) * 2.0**-32", ".double()) * 2.0**-32 * 0"),
        "a_step_s_lower_end_is_the_one_before_s": ("cumulative[..., :-1] <= u", "cumulative[..., :-1] < u"),
    },
    ("models/nets/normal.py", "tests/models/test_univariate.py"): {
        "a_digit_of_the_normal_law_is_wrong": ("2.46196981473530512524e-10", "2.46196981473530512524e-9"),
        "the_upper_tail_is_the_lower_one_s": ("0.5 * erfc, 1.0 - 0.5 * erfc", "0.5 * erfc, 0.5 * erfc"),
    },
    ("models/nets/univariate.py", "tests/models/test_univariate.py"): {
        "small_weibull_probabilities_cancel": ("2.0 * half / (1.0 + half)", "1.0 - full_lanes(torch.exp, -power)"),
        "a_count_s_code_is_the_end_of_its_step": ("0.5 * (below + upto)", "upto"),
        "the_weibull_scale_is_the_mean": ("centre + largest + log(", "centre + largest + 0.0 * log("),
    },
    ("models/parametric.py", "tests/models/test_parametric.py"): {
        "columns_stay_in_the_order_of_their_laws": ("[together.index(i) for i in range(support.size)]", "together"),
    },
    ("models/histogram.py", "tests/models/test_histogram.py"): {
        "the_risk_counts_each_row_for_itself": ("(2.0 - (n + 1.0) * squares)", "(1.0 - n * squares)"),
        "edges_lie_on_rounded_values": ("low - 0.5 * resolution, each", "low, each"),
    },
    ("models/nets/tails.py", "tests/models/test_histogram.py"): {
        "tails_have_no_mass": ("self.mass.fill_(1.0 / (n + 1.0))", "self.mass.fill_(1e-12)"),
    },
    ("models/orthogonal_series.py", "tests/models/test_orthogonal_series.py"): {
        "the_risk_counts_each_row_for_itself": ("2.0 * squares - (n + 1) * coefficients", "squares - n * coefficients"),
        "what_is_negative_stays": ("positive = series.clamp(min=0.0)", "positive = series.abs()"),
        "slopes_are_left_out_of_areas": ("(first + 0.5 * slope * share)", "(first + slope * share)"),
    },
    ("models/nets/levels.py", "tests/models/test_independent.py"): {
        "short_columns_have_the_values_of_long_ones": (
            "torch.where(self.real, counts + smoothing",
            "torch.where(self.real | True, counts + smoothing",
        ),
        "pseudo_counts_are_forgotten": ("self.real, counts + smoothing,", "self.real, counts + 1e-9,"),
    },
    ("models/naive_bayes.py", "tests/models/test_independent.py"): {
        "labels_are_all_as_likely": ("shares = counts / counts.sum()", "shares = counts / counts / len(counts)"),
        "the_label_that_is_given_is_not_drawn": ("torch.where(label < len(self.labels), label, drawn)", "drawn"),
    },
    ("models/mixture_of_bernoullis.py", "tests/models/test_mixture_of_bernoullis.py"): {
        "pseudo_rows_are_not_counted": ("/ (sizes + smoothing)[:, None]", "/ (sizes + 1e-9)[:, None].clamp(min=1.0)"),
        "bits_that_are_off_cost_nothing": ("weights.log() + off.sum(dim=1)", "weights.log()"),
        "the_last_pass_is_kept": ("if judged > best:", "if judged != best:"),
        "it_never_stops": ("if since >= self.patience:", "if since > 1000:"),
    },
    ("models/kernel_density.py", "tests/models/test_kernel_density.py"): {
        "a_column_s_code_forgets_the_columns_before": ("if self.support.size > 1:", "if self.support.size > 99:"),
    },
}
"""By the file with the error and the tests that must notice: what is wrong, with underscores, and (old, new)."""
