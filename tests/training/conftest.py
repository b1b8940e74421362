"""What the training tests share: one thread, one trained flow, and exports made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests.families import trained
from tests.training.runs import one_thread
from training import train as training
from training.export import Exported
from training.train import Trained

_EXPORTS: dict[Any, Exported] = {}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def flow() -> Trained:
    """The small flow of the contract tests, trained without an interruption."""
    family = trained("realnvp")
    return Trained(family.served.bundle, family.fit)


@pytest.fixture
def exports_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export equal modules once: they give equal bytes, and tests of what goes on around it need no second look."""
    export_model, export_score = training.export_model, training.export_score

    def weights(module: nn.Module) -> Any:
        return tuple((name, value.numpy().tobytes()) for name, value in module.state_dict().items())

    def model_once(model: Any) -> Exported:
        key = (type(model), model.support, weights(model))
        if key not in _EXPORTS:
            _EXPORTS[key] = export_model(model)
        return _EXPORTS[key]

    def score_once(law: nn.Module, exported: Exported) -> Exported:
        key = (type(law), weights(law), tuple(exported.graphs.items()))
        if key not in _EXPORTS:
            _EXPORTS[key] = export_score(law, exported)
        return _EXPORTS[key]

    monkeypatch.setattr(training, "export_model", model_once)
    monkeypatch.setattr(training, "export_score", score_once)


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """An empty data folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder
