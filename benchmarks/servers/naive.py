"""What most people write: lists of lists through pydantic, a ``def`` endpoint, ONNX Runtime as it comes."""

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
sessions = {
    name: ort.InferenceSession(str(Path(os.environ["MODELS"]) / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    for name in ("tabular", "image")
}


class Question(BaseModel):
    rows: list[list[float]]


class Answer(BaseModel):
    log_prob: list[float]


@app.post("/{model}")
def predict(model: str, question: Question) -> Answer:
    x = np.array(question.rows, dtype=np.float32)
    return Answer(log_prob=sessions[model].run(["log_prob"], {"x": x})[0].tolist())
