"""Requests for the OpenAPI pages; each works against the bundles that ship."""

from __future__ import annotations

from typing import Any

__all__ = ["ANOMALY_SCORE", "CLASSIFY", "DECODE", "ENCODE", "INPAINT", "LOG_PROB", "SAMPLE"]

# The first benign and the first malignant row of the Wisconsin diagnostic data (Wolberg, Street and Mangasarian 1995).
_COLUMNS = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
)
_NAMES = (
    *(f"mean {name}" for name in _COLUMNS),
    *(f"{name} error" for name in _COLUMNS),
    *(f"worst {name}" for name in _COLUMNS),
)
# fmt: off
_BENIGN = (
    13.54, 14.36, 87.46, 566.3, 0.09779, 0.08129, 0.06664, 0.04781, 0.1885, 0.05766,
    0.2699, 0.7886, 2.058, 23.56, 0.008462, 0.0146, 0.02387, 0.01315, 0.0198, 0.0023,
    15.11, 19.26, 99.7, 711.2, 0.144, 0.1773, 0.239, 0.1288, 0.2977, 0.07259,
)
_MALIGNANT = (
    17.99, 10.38, 122.8, 1001.0, 0.1184, 0.2776, 0.3001, 0.1471, 0.2419, 0.07871,
    1.095, 0.9053, 8.589, 153.4, 0.006399, 0.04904, 0.05373, 0.01587, 0.03003, 0.006193,
    25.38, 17.33, 184.6, 2019.0, 0.1622, 0.6656, 0.7119, 0.2654, 0.4601, 0.1189,
)
# fmt: on
_RECORDS = [dict(zip(_NAMES, _BENIGN, strict=True)), dict(zip(_NAMES, _MALIGNANT, strict=True))]


def _example(summary: str, **value: Any) -> dict[str, Any]:
    return {"summary": summary, "value": value}


SAMPLE = {
    "moons": _example("Five points on two moons, of a seed of your own", model="moons", n=5, seed=42),
    "page": _example("The next five of them", model="moons", n=5, seed=42, start=5),
    "temperature": _example("A calmer draw", model="moons", n=5, seed=42, parameters={"temperature": 0.5}),
    "digit": _example("A digit that does not exist, of a random seed", model="digits"),
}

LOG_PROB = {
    "rows": _example("Two points: one on a moon, one far from both", model="moons", rows=[[0.0, 1.0], [3.0, 3.0]]),
    "records": _example("A benign and a malignant tumour, by column name", model="breast-cancer", records=_RECORDS),
}

ENCODE = {
    "rows": _example("The codes of two points", model="moons", rows=[[0.0, 1.0], [1.0, -0.5]]),
}

DECODE = {
    "codes": _example("The rows of two codes", model="moons", codes=[[0.0, 0.0], [1.0, -1.0]]),
}

ANOMALY_SCORE = {
    "records": _example(
        "Is either of these tumours unlike benign ones?", model="breast-cancer", records=_RECORDS, alpha=0.05
    ),
    "sure": _example(
        "With alarms whose rate this bundle keeps by itself, and not on average",
        model="breast-cancer",
        records=_RECORDS,
        guarantee="training_conditional",
    ),
    "fdr": _example(
        "Which of these points to look into, if one in ten of them may be ordinary",
        model="moons",
        rows=[[0.0, 1.0], [1.0, -0.5], [0.5, 0.25], [3.0, 3.0]],
        fdr=0.1,
    ),
    "explain": _example(
        "What is strange about this point, which lies too high for its x?",
        model="moons-gaussian",
        rows=[[0.5, 2.5]],
        explain=True,
    ),
}

# No bundle that ships has an exact law of rows given a label.
CLASSIFY: dict[str, Any] = {}

INPAINT = {
    "rows": _example("Where may a point lie whose x is known?", model="moons-gaussian", rows=[[0.5, None]], n=3),
}
