"""Rounded columns from the recipe to the bundle: a bound with its error, draws on the grid, a calibrated score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from runtime.loop import run_program
from runtime.model import load_model
from runtime.verify import verify
from tests.training.runs import train_quietly, write_recipe


def lengths() -> np.ndarray:
    """Lengths in steps of 0.2 and widths in steps of 0.1, and a share of the two that is not rounded."""
    rng = np.random.default_rng(0)
    length = rng.normal(5.0, 0.8, 500)
    width = 0.4 * length + rng.normal(0.0, 0.2, 500)
    return np.stack([np.round(length * 5) / 5, np.round(width, 1), width / length], axis=1)


def test_rounded_columns_get_a_bound_and_draws_on_their_grid(tmp_path: Path) -> None:
    rows = lengths()
    np.savez(tmp_path / "leaves.npz", X=rows)
    columns: dict[str, Any] = {
        "length": {"kind": "real", "resolution": 0.2},
        "width": {"kind": "real", "resolution": 0.1},
        "share": {"kind": "real"},
    }
    data = {"loader": "npz", "file": "leaves.npz", "rows": "X", "names": list(columns), "columns": columns}
    recipe = write_recipe(
        tmp_path,
        "contract/nsf-coupling.yaml",
        name="leaves",
        data={**data, "description": "made leaves"},
        model={"layers": 1, "hidden": [8], "bins": 4, "dequantise": True},
        training={"max_epochs": 3, "batch_size": 64, "learning_rate": 0.005},
        folds={"repeats": "apart"},
        tolerance=None,
    )
    trained, _ = train_quietly(recipe, tmp_path)
    bundle = trained.bundle
    manifest = bundle.manifest
    program = manifest.capabilities["log_prob"]
    assert [output.kind for output in program.outputs] == ["lower_bound", "standard_error"]
    assert program.steps.parameter == "samples"
    (metric,) = [metric for metric in manifest.metrics if metric.name == "test_log_prob"]
    assert metric.kind == "lower_bound"
    assert np.isfinite(metric.value)
    assert verify(bundle.folder)["bit_equal"]
    served = load_model(bundle)
    drawn = run_program(served, "sample", {"seed": np.full(300, 1), "row": np.arange(300)})["x"]
    assert np.array_equal(drawn[:, 0], np.round(drawn[:, 0] * 5) / 5)
    assert np.array_equal(drawn[:, 1], np.round(drawn[:, 1], 1))
    assert len(np.unique(drawn[:, 2])) == 300
    ordinary, strange = rows[:1], np.array([[5.0, 9.0, 0.4]])
    scores = [run_program(served, "score", {"x": x})["score"][0] for x in (ordinary, strange)]
    assert scores[0] < scores[1]
    z = run_program(served, "encode", {"x": rows})["z"]
    back = run_program(served, "decode", {"z": z})["x"]
    assert np.array_equal(back[:, :2], rows[:, :2])
    assert np.allclose(back[:, 2], rows[:, 2])
