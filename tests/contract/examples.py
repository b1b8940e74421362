"""A small coherent manifest and the files behind it, for tests that need some bundle and not a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from contract.bundle import CALIBRATION, CARD, GOLDENS, write_arrays
from contract.digest import sha256

__all__ = ["files", "manifest_fields"]

SCORES = np.array([-1.5, 0.0, 0.0, 2.25])


def files() -> dict[str, bytes]:
    """Every file of the example bundle but its manifest. The graphs are opaque bytes: the contract never reads them."""
    return {
        CARD: b"# Two numbers\n\nAn example.\n",
        GOLDENS: write_arrays({"x": np.zeros((3, 2))}),
        CALIBRATION: write_arrays({"scores": SCORES}),
        "latent.onnx": b"graph: latent",
        "decode.onnx": b"graph: decode",
        "log_prob.onnx": b"graph: log_prob",
        "score.onnx": b"graph: score",
        "weights.bin": bytes(range(64)),
    }


def manifest_fields() -> dict[str, Any]:
    """Fields of the example's manifest, without ``files``: what ``write_bundle`` takes."""
    x = {"name": "x", "dtype": "float64", "shape": [2], "source": "data"}
    z = {"name": "z", "dtype": "float64", "shape": [2]}
    address = [{"name": name, "dtype": "int64", "source": "address"} for name in ("seed", "row")]
    temperature = {
        "name": "temperature",
        "dtype": "float64",
        "source": "parameter",
        "default": 1.0,
        "minimum": 0.05,
        "maximum": 10.0,
    }
    log_prob = {"name": "log_prob", "dtype": "float64", "kind": "exact", "units": "nats"}
    sample = {"name": "x", "dtype": "float64", "shape": [2], "kind": "sample", "units": "data"}
    return {
        "name": "example",
        "version": 1,
        "title": "These two numbers do not exist",
        "description": "An example.",
        "family": "gaussian",
        "support": {
            "shape": [2],
            "columns": [{"name": name, "kind": "real", "base_measure": "lebesgue"} for name in ("width", "height")],
        },
        "capabilities": {
            "sample": {
                "init": "latent",
                "step": "decode",
                "inputs": [*address, temperature],
                "state": [z],
                "outputs": [sample],
            },
            "log_prob": {"step": "log_prob", "inputs": [x], "outputs": [log_prob]},
            "score": {
                "step": "log_prob",
                "final": "score",
                "inputs": [x],
                "state": [{"name": "log_prob", "dtype": "float64"}],
                "outputs": [
                    {"name": "score", "dtype": "float64", "kind": "score", "units": "none"},
                    {**log_prob, "kind": "statistic"},
                ],
            },
        },
        "refusals": dict.fromkeys(("latent", "decode", "encode"), "the example has none"),
        "graphs": {
            name: {"file": f"{name}.onnx", "row_multiple": 1} for name in ("latent", "decode", "log_prob", "score")
        },
        "weights": "weights.bin",
        "opset": 20,
        "tools": {"torch": "0.0"},
        "profile": "onnxruntime-0.0-cpu",
        "parity": {
            name: {"max_abs_error": 0.0, "rtol": 1e-5, "atol": 1e-6} for name in ("sample", "log_prob", "score")
        },
        "metrics": [
            {
                "name": "test_log_prob",
                "value": -1.5,
                "standard_error": 0.1,
                "kind": "exact",
                "units": "nats",
                "fold": "test",
                "n": 9,
            }
        ],
        "calibration": {
            "file": CALIBRATION,
            "n": len(SCORES),
            "statistics": ["log_prob"],
            "law": "an example's",
            "rows": "ordinary examples",
        },
        "provenance": {
            "recipe": "family: gaussian\n",
            "data": "made up",
            "data_sha256": sha256(b"made up"),
            "folds": {"test": {"n": 9, "sha256": sha256(b"test")}},
            "commit": "unknown",
            "contains_training_rows": False,
        },
        "licence": "Apache-2.0",
    }
