"""Requests to /log_prob and its like, and what came back."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["JSON", "Question", "Wire", "json_rows", "read_answer", "write_question"]

Wire = Literal["json", "npy"]

JSON = {"Content-Type": "application/json"}
_NPY = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}


@dataclass(frozen=True)
class Question:
    """A POST."""

    path: str
    headers: dict[str, str]
    body: bytes


def json_rows(x: NDArray[np.float32]) -> str:
    """Rows as JSON, each number in its shortest text that reads back as the same float32, as most clients write it."""
    rows = (",".join(np.format_float_positional(value, unique=True, trim="0") for value in row) for row in x)
    return "[" + ",".join(f"[{row}]" for row in rows) + "]"


def write_question(path: str, x: NDArray[np.float32], wire: Wire) -> Question:
    """Ask about rows [n, columns]."""
    if wire == "json":
        return Question(path, JSON, f'{{"rows":{json_rows(x)}}}'.encode())
    file = io.BytesIO()
    np.save(file, x)
    return Question(path, _NPY, file.getvalue())


def read_answer(body: bytes) -> NDArray[np.float64]:
    """The log-probabilities in an answer, [n]."""
    if body.startswith(b"\x93NUMPY"):
        array: NDArray[np.float64] = np.load(io.BytesIO(body), allow_pickle=False)
        return array
    return np.array(json.loads(body)["log_prob"], dtype=np.float64)
