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


CONFORMAL = ("tests/contract/test_conformal.py",)
SUPPORT = ("tests/contract/test_support.py",)
DIGEST = ("tests/contract/test_digest.py",)
BUNDLE = ("tests/contract/test_bundle.py",)
CACHE = ("tests/service/test_cache_rows.py",)

MUTANTS = [
    # -- conformal p-values ---------------------------------------------------------------------------------------
    Mutant(
        "p-value shifted: the row itself is not counted",
        "contract/conformal.py",
        "return 1 + len(calibration) - np.searchsorted",
        "return len(calibration) - np.searchsorted",
        CONFORMAL,
    ),
    Mutant(
        "p-value ignores ties",
        "contract/conformal.py",
        'side="left"',
        'side="right"',
        CONFORMAL,
    ),
    Mutant(
        "p-value divided by n",
        "contract/conformal.py",
        "ranks(calibration, scores) / (len(calibration) + 1)",
        "ranks(calibration, scores) / len(calibration)",
        CONFORMAL,
    ),
    Mutant(
        "alarm rank rounded up",
        "contract/conformal.py",
        "return floor(alpha * (n + 1) + _RANK_SLACK)",
        "return floor(alpha * (n + 1) + 1)",
        CONFORMAL,
    ),
    Mutant(
        "alarm rank loses the rounding of alpha (n + 1)",
        "contract/conformal.py",
        "return floor(alpha * (n + 1) + _RANK_SLACK)",
        "return floor(alpha * (n + 1))",
        CONFORMAL,
    ),
    Mutant(
        "false-alarm interval of Beta(k + 1, n - k)",
        "contract/conformal.py",
        "terms = np.arange(k, n + 1)",
        "terms = np.arange(k + 1, n + 1)",
        CONFORMAL,
    ),
    # -- records and rows -----------------------------------------------------------------------------------------
    Mutant(
        "missing values allowed everywhere",
        "contract/support.py",
        "return good | np.isnan(values) if self.missing_allowed else good",
        "return good | np.isnan(values)",
        SUPPORT,
    ),
    Mutant(
        "positive columns take zero",
        "contract/support.py",
        "good = finite & (values > 0)",
        "good = finite & (values >= 0)",
        SUPPORT,
    ),
    Mutant(
        "ordinal columns take one level too many",
        "contract/support.py",
        "top = (self.levels or len(self.categories or ())) - 1",
        "top = self.levels or len(self.categories or ())",
        SUPPORT,
    ),
    Mutant(
        "records may hold other columns",
        "contract/support.py",
        "if len(record) > len(names) or any(name not in names for name in record):",
        "if len(record) > len(names) + 9:",
        SUPPORT,
    ),
    # -- digests and bundle files ---------------------------------------------------------------------------------
    Mutant(
        "program digest ignores the weights",
        "contract/digest.py",
        "+ ([manifest.weights] if manifest.weights else [])",
        "+ []",
        DIGEST,
    ),
    Mutant(
        "program digest moves with the bundle",
        "contract/digest.py",
        '"program": program.model_dump(mode="json"),',
        '"program": program.model_dump(mode="json"), "title": manifest.title,',
        DIGEST,
    ),
    Mutant(
        "a link in a bundle is followed",
        "contract/bundle.py",
        "if entry.is_symlink() or not entry.is_file():",
        "if not entry.is_file():",
        BUNDLE,
    ),
    Mutant(
        "hashes are not compared",
        "contract/bundle.py",
        "if len(data) != entry_of.size or sha256(data) != entry_of.sha256:",
        "if len(data) != entry_of.size:",
        BUNDLE,
    ),
    Mutant(
        "pickles are read",
        "contract/bundle.py",
        "np.load(file, allow_pickle=False)",
        "np.load(file, allow_pickle=True)",
        BUNDLE,
    ),
    # -- the cache ------------------------------------------------------------------------------------------------
    Mutant(
        "cache key ignores the numeric profile",
        "service/cache_rows.py",
        "        profile.encode(),\n",
        "",
        CACHE,
    ),
    Mutant(
        "cache key ignores the program digest",
        "service/cache_rows.py",
        "        program_digest.encode(),\n",
        "",
        CACHE,
    ),
]
