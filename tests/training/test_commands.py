"""The commands: what they print, and that what the user got wrong is one line and exit status 2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from commands.main import main
from contract.bundle import MANIFEST, Bundle, open_bundle
from contract.lock import read_lock
from tests.training.runs import ROOT, write_recipe
from training.train import Trained

REALNVP = "contract/realnvp.yaml"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    code = ended.value.code
    return code if isinstance(code, int) else 0 if code is None else 1


@pytest.fixture
def bundle(flow: Trained, tmp_path: Path) -> Bundle:
    """A copy of the flow's bundle, to be damaged."""
    folder = tmp_path / "copies" / "contract-realnvp" / "1"
    shutil.copytree(flow.bundle.folder, folder)
    return open_bundle(folder)


def one_line_error(capsys: pytest.CaptureFixture[str], command: str) -> str:
    said = capsys.readouterr()
    assert said.err.startswith(f"nonesuch {command}: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err + said.out
    return said.err


# -- train ---------------------------------------------------------------------------------------------------------


def test_train_ends_with_the_figures_and_the_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], exports_once: None
) -> None:
    recipe = ROOT / "recipes" / "contract" / "gaussian.yaml"
    assert run("train", recipe, "--out", tmp_path / "out", "--runs", tmp_path / "runs") == 0
    lines = capsys.readouterr().out.splitlines()
    stages = [line.partition(":")[0] for line in lines if line and line[0].islower()]
    assert stages == ["data", "run", "fit", "law", "export", "calibrate", "evaluate", "write"]
    assert any("test_log_prob" in line and "nats" in line for line in lines)
    assert Path(lines[-1]) == tmp_path / "out" / "contract-gaussian" / "1"
    assert open_bundle(Path(lines[-1]))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"colour": "red"}, "colour: no such field"),
        ({"family": "pixie"}, "unknown family 'pixie'"),
        ({"model": {"layers": "many"}}, "model: layers: "),
        ({"data": {"loader": "idx", "train": "a.idx", "description": "absent"}}, "a.idx: no such file; name the data"),
        ({"data": {"loader": "moons", "n": 20, "noise": 0, "seed": 0}, "folds": {"test": 0.9}}, "leave the"),
        ({"data": {"loader": "sklearn", "set": "digits"}}, "family: realnvp does not fit these data: "),
    ],
)
def test_train_says_in_one_line_what_is_wrong_with_a_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fields: dict[str, object], words: str
) -> None:
    recipe = write_recipe(tmp_path, REALNVP, **fields)
    code = run("train", recipe, "--data", tmp_path, "--out", tmp_path / "out", "--runs", tmp_path / "runs")
    assert code == 2
    assert words in one_line_error(capsys, "train")
    assert not (tmp_path / "out").exists()


def test_train_without_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", tmp_path / "absent.yaml") == 2
    assert "absent.yaml: no such recipe" in one_line_error(capsys, "train")


def test_train_into_a_place_that_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    recipe = ROOT / "recipes" / "contract" / "gaussian.yaml"
    assert run("train", recipe, "--runs", tmp_path / "file", "--out", tmp_path / "out") == 2
    assert "file" in one_line_error(capsys, "train")


def test_train_interrupted_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.adapter.Adapter.training_step", interrupt)
    code = run("train", ROOT / "recipes" / REALNVP, "--out", tmp_path / "out", "--runs", tmp_path / "runs")
    assert code == 130
    assert "interrupted; the same command goes on" in one_line_error(capsys, "train")


# -- evaluate ------------------------------------------------------------------------------------------------------


def test_evaluate_measures_the_same_again(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", bundle.folder) == 0
    said = capsys.readouterr().out
    value = next(metric.value for metric in bundle.manifest.metrics if metric.name == "test_log_prob")
    line = next(line for line in said.splitlines() if "test_log_prob" in line)
    assert line.count(f"{value:.6g}") == 2
    assert "within" in line


@pytest.mark.parametrize(("shift", "code"), [(0.019, 0), (-0.019, 0), (0.021, 1), (-0.021, 1)])
def test_evaluate_fails_outside_the_tolerance(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], shift: float, code: int
) -> None:
    _edit(bundle, lambda manifest: manifest["metrics"][0].update(value=manifest["metrics"][0]["value"] + shift))
    assert run("evaluate", bundle.folder) == code
    said = capsys.readouterr()
    assert ("outside" in said.out) == (code == 1)
    assert ("outside the recipe's tolerance: test_log_prob" in said.err) == (code == 1)


def test_evaluate_refuses_other_data(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    def other(manifest: dict[str, dict[str, str]]) -> None:
        manifest["provenance"]["recipe"] = manifest["provenance"]["recipe"].replace("noise: 0.1", "noise: 0.2")

    _edit(bundle, other)
    assert run("evaluate", bundle.folder) == 2
    assert "the data are not those that it was made from" in one_line_error(capsys, "evaluate")


def test_evaluate_refuses_another_test_fold(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    def other(manifest: dict[str, dict[str, str]]) -> None:
        manifest["provenance"]["recipe"] += "\nfolds: {key: 1}\n"

    _edit(bundle, other)
    assert run("evaluate", bundle.folder) == 2
    assert "the test fold is not the one" in one_line_error(capsys, "evaluate")


def test_evaluate_of_what_is_no_bundle(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", tmp_path / "absent") == 2
    assert "no manifest.json" in one_line_error(capsys, "evaluate")
    bundle.path("log_prob.onnx").write_bytes(b"broken")
    assert run("evaluate", bundle.folder) == 2
    assert "'log_prob.onnx' is corrupt" in one_line_error(capsys, "evaluate")


# -- lock ----------------------------------------------------------------------------------------------------------


def test_lock_pins_every_bundle(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    root = bundle.folder.parent.parent
    assert run("lock", root) == 0
    assert read_lock(root) == {"contract-realnvp/1": bundle.digest}
    assert f"contract-realnvp/1 {bundle.digest}" in capsys.readouterr().out


def test_lock_pins_nothing_corrupt(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    root = bundle.folder.parent.parent
    run("lock", root)
    before = read_lock(root)
    capsys.readouterr()
    bundle.path("card.md").write_text("another card")
    assert run("lock", root) == 2
    assert "'card.md' is corrupt" in one_line_error(capsys, "lock")
    assert read_lock(root) == before


def test_lock_of_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("lock", tmp_path) == 2
    assert "no bundles there" in one_line_error(capsys, "lock")
    assert list(tmp_path.iterdir()) == []


def _edit(bundle: Bundle, change: object) -> None:
    path = bundle.folder / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)  # type: ignore[operator]
    path.write_text(json.dumps(manifest), encoding="utf-8")
