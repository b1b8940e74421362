"""What the page says beside its figures."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.labelled import MOST_ROWS
from evaluation.series import BLOCK, STRIDE, WINDOW

__all__ = [
    "ALARMS",
    "BY_SET",
    "CONDITIONAL",
    "DISCOVERIES",
    "FAILURES",
    "HEAD",
    "PICTURES",
    "RANKING",
    "SERIES",
    "table",
]

HEAD = f"""\
# Anomaly scores, measured

Written by `nonesuch evaluate --anomaly`; do not edit. Nothing about the default was chosen by these figures. Two things
were mended after a first run had shown them (ours minus the best detector was −0.002 then, −0.021 to +0.011): drafts
failed on two splits, where a column is rounded nearly too coarsely for a density, and tables of fewer than 198 rows set
half of them aside to calibrate; how many they set aside now was chosen on other data (decisions/0038).

The sets are those of ADBench (S. Han et al. 2022) in the data folder, rows that are labelled ordinary or not. For each
set and each of the seeds rows are dealt by the project's keyed hash, repeats one by one. Of training rows and of
held-out ordinary rows at most {MOST_ROWS:,} are taken, by lot.

- **Setting A**: half of the ordinary rows train; the other ordinary rows and all anomalies are held out.
- **Setting B**: half of all rows train, anomalies in their own share among them, labels unseen; the rest is held out.

**Ours** is what `nonesuch train TABLE --for anomaly` makes of the training rows as they stand: the recipe is drafted by
inspection, and folds for training, the law of the statistics, calibration and a test (which is not looked at here) are
cut out of the training rows by the pipeline. Scores are torch's, before export. A held-out row with a value that its
column cannot have, which a bundle refuses, counts as the strangest there is, ordinary or not.

**The others** are seven detectors of PyOD with their default parameters, on columns standardised by the training rows,
which they all see; columns in which these do not vary are left out. The seed is also that of isolation forest and PCA.
ECOD and COPOD rank a test row among training and test rows together, as PyOD has it; PCA gives every row an infinite
score where columns depend on each other linearly, and so an AUROC of 0.5.

AUROC and AUPR (average precision) are of held-out rows. They are compared among themselves alone. An interval after a
mean over sets is a paired bootstrap's, 95 %: sets are drawn with replacement, and seeds within them. Several sets were
cut out of one table (satellite, satimage-2 and landsat; annthyroid and thyroid; cardio and Cardiotocography; breastw
and WBC; http and smtp), so that there are fewer independent sources than sets; "sources drawn together" is the interval
with these drawn as one. Not inferior means that the interval of the difference ends above −0.01, a point of AUROC, and
better that it ends above 0. A detector that failed counts as one that guesses. The figures of every set and seed are in
the CSV file beside this page."""

RANKING = {"A": "Setting A: trained on ordinary rows", "B": "Setting B: trained on contaminated rows"}

BY_SET = "Mean over seeds ± standard deviation over seeds. Splits share rows: it is no error of another table's figure."

ALARMS = """\
In setting A, for each set, seed and α that the calibration rows can reach: of the held-out ordinary rows, so many alarm
(p ≤ α). Whatever the model, their number has the beta-binomial law (m, k, n + 1 − k), k = ⌊α (n + 1)⌋, of m held-out
rows and n calibration rows, if no scores tie; with ties there are fewer alarms. A cell is outside where the number is
not in the central 99 % of that law; below it only where at most 1 % of the calibration scores tie with another one.
Cells of one set share rows, and those of one seed the model. Anomalies that alarm are a mean over cells.
"""

CONDITIONAL = """\
With `guarantee: "training_conditional"` 95 % of calibration sets keep the realised rate at or below α, each for itself.
The realised rate is seen through the held-out rows alone, so that the share of cells with at most α alarms may fall
short of 95 % where these are few: beside it stands what is expected, exactly, of scores without ties. The share is a
mean over sets, and its interval is over sets and seeds; the promise is kept where the interval reaches what is
expected."""

DISCOVERIES = """\
Benjamini–Hochberg as the service does it, at a false discovery rate of 0.1: two hundred requests a cell, each of ninety
held-out ordinary rows and ten anomalies by lot, where there are as many and the calibration can reach a discovery. The
requests of a cell share its calibration rows, and the promise is on average over these; the interval is over sets and
seeds."""

SERIES = f"""\
The series of the Numenta Anomaly Benchmark with labelled stretches, setting A: each row is a window of {WINDOW}
samples, one every {STRIDE} in blocks of {BLOCK}; half of the blocks without a labelled sample train, by lot, and a
held-out window is strange where it touches a labelled stretch. The recipe is the table's default, which knows nothing
of time. **No guarantee: dependent data.** Windows overlap, neighbours resemble each other, and the labelled stretches
are long and hold ordinary samples too; no p-value is claimed, and the figures are not the benchmark's own scores."""

PICTURES = """\
Bundles scored by their own exported graphs: held-out pictures like those that were trained on, beside pictures of
another kind. ± is the standard error over pictures (DeLong). Beside the score stands the AUROC of minus the raw
log-probability, with its kind, which takes a low one for strange: where that is below 0.5, pictures of the other kind
are the likelier ones.

The bundles `fashion-anomaly` and `cifar-anomaly` have the image default, as `nonesuch train PICTURES --for anomaly`
drafts it, chosen on other pictures than these ([record 40](decisions/0040-what-a-pictures-score-is-made-of.md)).
CIFAR-10's pictures in the data folder were compressed as JPEG, and other pictures were not, which a score may see too:
CIFAR-10's own pictures without that compression, taken for strange, say how much."""

FAILURES = "In these cells a detector failed; it counts there as one that guesses."


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first end at the right."""
    rule = ["---", *("---:" for _ in headings[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))
