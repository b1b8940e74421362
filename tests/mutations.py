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


MUTANTS = [
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
        alarm_rank_falls_to_rounding=("alpha * (n + 1) + _RANK_SLACK", "alpha * (n + 1)"),
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
        a_regular_key=("KEY = 0xC58EFD154CE32F6D", "KEY = 0x0000000000000001"),
    ),
    # -- the families -----------------------------------------------------------------------------------------------
    *_in(
        "models/randomness.py",
        "tests/models/test_randomness.py",
        the_seed_is_ignored=("return link(link(0, seed), row)", "return link(link(0, seed * 0), row)"),
        the_row_is_ignored=("return link(link(0, seed), row)", "return link(link(0, seed), row * 0)"),
        the_step_is_ignored=("link(addresses, steps * 8 + int(stream))", "link(addresses, steps * 0 + int(stream))"),
        a_rotation_is_arithmetic=("((x >> 32) & _LOW_HALF) | (x << 32)", "(x >> 32) | (x << 32)"),
        uniforms_reach_one=(
            "torch.floor(bits(states, dims).double() * 2.0**-8)",
            "torch.ceil(bits(states, dims).double() * 2.0**-8)",
        ),
    ),
    *_in(
        "models/realnvp.py",
        "tests/models/test_realnvp.py",
        log_det_of_a_coupling_has_the_wrong_sign=(
            "return y.index_select(1, self.back), row_sum(log_scale.double())",
            "return y.index_select(1, self.back), -row_sum(log_scale.double())",
        ),
        jacobian_of_the_scaling_is_dropped=("return z, outer + inner", "return z, inner"),
        jacobian_of_the_couplings_is_dropped=("return z, outer + inner", "return z, outer"),
        a_coupling_is_undone_with_the_wrong_shift=(
            "(b - shift) * (-log_scale).exp()",
            "b * (-log_scale).exp() - shift",
        ),
    ),
]
