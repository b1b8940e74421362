"""False alarms and detections on the breast-cancer rows over random splits, beside two standard detectors.

For each of 20 splits the benign rows are dealt anew into training, calibration and test rows, the flow and its anomaly
law are fitted anew, exported, and scored with the exported graphs. The share of held-out benign rows flagged at α
should lie in the 99 % interval of the beta-binomial law (n_test, k, n_cal + 1 − k), k = ⌊α (n_cal + 1)⌋: the binomial
law with the luck of the calibration draw in it. Detection is the AUROC on the malignant rows, beside scikit-learn's
isolation forest and the distance to the fifth nearest neighbour, both fitted on the same training rows.

Run ``python -m benchmarks.breast_cancer``; it takes some minutes and writes ``docs/results-breast-cancer.md``.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import betabinom
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from contract.conformal import alarm_rank, p_values
from training.bundling import Parts, draft_bundle, provenance_of
from training.calibrate import calibration_scores, fit_law, law_rows, statistics
from training.data import Dataset
from training.evaluate import answers, auroc
from training.export import export_model, export_score
from training.folds import Folds, make_folds
from training.loop import fit_model
from training.parity import Verified, graph_file
from training.progress import Reporter
from training.recipe import Recipe, build_model, load_recipe
from training.train import prepare_data

__all__ = ["main"]

RECIPE = Path("recipes/breast-cancer.yaml")
RESULTS = Path("docs/results-breast-cancer.md")
ALPHAS = (0.05, 0.1)

Array = NDArray[Any]


@dataclass(frozen=True)
class Split:
    """What one split gave: flagged rows and interval by α, AUROC by detector."""

    n_calibration: int
    n_test: int
    flagged: dict[float, int]
    interval: dict[float, tuple[int, int]]
    aurocs: dict[str, float]

    def outside(self, alpha: float) -> bool:
        low, high = self.interval[alpha]
        return not low <= self.flagged[alpha] <= high


def one_split(recipe: Recipe, data: Dataset, key: int) -> Split:
    """Fit, calibrate and score on the split of a key."""
    recipe = recipe.model_copy(update={"folds": recipe.folds.model_copy(update={"key": key})})
    folds = make_folds(data, recipe.folds, calibrated=True, validated=True)
    assert folds.calibration is not None
    quiet = Reporter(Console(quiet=True))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        torch.manual_seed(recipe.seed)
        model = build_model(recipe, data.support)
        fit_model(
            model, recipe.training, folds.train, folds.validation, seed=recipe.seed, folder=folder, reporter=quiet
        )
        law = fit_law(model, recipe, folds, folder, quiet)
        exported = export_score(law, export_model(model))
        with torch.no_grad():
            provisional = law(torch.from_numpy(statistics(model, folds.calibration))).numpy()
        parts = Parts(
            recipe=recipe,
            model=model,
            data=data,
            exported=exported,
            verified=_unmeasured(exported.graphs, exported.programs),
            law=str(law.words),
            law_rows=law_rows(recipe, folds),
            provenance=provenance_of("", model, data, folds),
        )
        bundle = draft_bundle(parts, folder / "draft", provisional)
        scores = np.sort(calibration_scores(bundle, folds.calibration))
        test, malignant = (
            answers(bundle, "score", folds.test.rows),
            answers(bundle, "score", data.anomalies["malignant"]),
        )
    aurocs = {
        "Nonesuch score": auroc(test["score"], malignant["score"])[0],
        "minus log-probability": auroc(-test["log_prob"], -malignant["log_prob"])[0],
        **baselines(folds, data.anomalies["malignant"]),
    }
    n, m = len(scores), len(folds.test)
    flagged = {alpha: int((p_values(scores, test["score"]) <= alpha).sum()) for alpha in ALPHAS}
    intervals = {}
    for alpha in ALPHAS:
        k = alarm_rank(n, alpha)
        low, high = betabinom(m, k, n + 1 - k).interval(0.99)
        intervals[alpha] = (int(low), int(high))
    return Split(n, m, flagged, intervals, aurocs)


def baselines(folds: Folds, malignant: Array) -> dict[str, float]:
    """AUROC of two detectors fitted on the rows that the flow was fitted on, validation rows included."""
    scaler = StandardScaler().fit(rows := folds.fitted.rows)
    train, test, strange = (scaler.transform(part) for part in (rows, folds.test.rows, malignant))
    forest = IsolationForest(n_estimators=500, random_state=0).fit(train)
    neighbours = NearestNeighbors(n_neighbors=5).fit(train)
    return {
        "isolation forest": auroc(-forest.score_samples(test), -forest.score_samples(strange))[0],
        "distance to the 5th neighbour": auroc(
            neighbours.kneighbors(test)[0][:, -1], neighbours.kneighbors(strange)[0][:, -1]
        )[0],
    }


def _unmeasured(graphs: Any, programs: Any) -> Verified:
    from contract.manifest import Graph, Parity

    # Rows are scored in batches that never change, so that a row multiple and parity figures are of no account.
    return Verified(
        graphs={name: Graph(file=graph_file(name)) for name in graphs},
        parity={name: Parity(max_abs_error=0, rtol=0, atol=0) for name in programs},
    )


def write_results(splits: list[Split]) -> str:
    """The results as Markdown."""
    first = splits[0]
    lines = [
        "# Breast cancer: false alarms and detections",
        "",
        "Written by `python -m benchmarks.breast_cancer`; do not edit.",
        "",
        f"{len(splits)} random splits of the 357 benign rows; in each the flow and its law are fitted anew, exported, "
        f"and scored with the exported graphs: {first.n_calibration} calibration rows, {first.n_test} test rows.",
        "",
        "## Held-out benign rows flagged",
        "",
        "The interval is that of the beta-binomial law (n_test, k, n_cal + 1 − k), 99 %.",
        "",
        "| α | mean share flagged | smallest | largest | interval | splits outside |",
        "|---|---|---|---|---|---|",
    ]
    for alpha in ALPHAS:
        shares = [split.flagged[alpha] / split.n_test for split in splits]
        low, high = first.interval[alpha]
        lines.append(
            f"| {alpha:g} | {np.mean(shares):.3f} | {min(shares):.3f} | {max(shares):.3f} "
            f"| {low / first.n_test:.3f} to {high / first.n_test:.3f} "
            f"| {sum(split.outside(alpha) for split in splits)} of {len(splits)} |"
        )
    lines += [
        "",
        "## Malignant rows found (AUROC)",
        "",
        "| detector | mean | standard deviation over splits | smallest | largest |",
        "|---|---|---|---|---|",
    ]
    for name in first.aurocs:
        values = np.array([split.aurocs[name] for split in splits])
        lines.append(
            f"| {name} | {values.mean():.3f} | {values.std(ddof=1):.3f} | {values.min():.3f} | {values.max():.3f} |"
        )
    lines += [
        "",
        "The splits share rows, so that their standard deviation is that of the split, not of another hospital.",
        "The detectors see the same training rows, standardised; the forest has 500 trees.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms and detections on the breast-cancer rows.")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe, _ = load_recipe(RECIPE)
    data, _ = prepare_data(recipe, Path())
    splits = []
    for key in range(1, options.splits + 1):
        splits.append(one_split(recipe, data, key))
        words = ", ".join(f"{name} {value:.3f}" for name, value in splits[-1].aurocs.items())
        print(f"split {key}: flagged {splits[-1].flagged} of {splits[-1].n_test}; {words}", flush=True)
    options.out.write_text(write_results(splits), encoding="utf-8")
    print(options.out)


if __name__ == "__main__":
    main()
