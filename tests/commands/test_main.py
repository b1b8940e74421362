"""The command line: quick, without torch, and clear about what is missing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commands.main import SUBCOMMANDS

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "lightning", "onnxruntime", "onnx", "fastapi", "sklearn", "numpy")

# Runs the command, and tells on its last line which heavy modules came with it.
PROGRAM = f"""
import sys
from commands.main import main
try:
    main(sys.argv[1:])
finally:
    print("came with", *(name for name in {HEAVY} if name in sys.modules))
"""


def run(*arguments: str, without: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "120"}
    if without is not None:
        environment["PYTHONPATH"] = str(without)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_help_names_every_subcommand_and_imports_nothing_heavy() -> None:
    done = run("--help")
    assert done.returncode == 0, done.stderr
    for name, subcommand in SUBCOMMANDS.items():
        assert f" {name} " in done.stdout
        assert subcommand.help in done.stdout
    assert done.stdout.splitlines()[-1] == "came with"


@pytest.mark.parametrize("name", sorted(SUBCOMMANDS))
def test_help_of_a_subcommand_imports_nothing_heavy(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"nonesuch {name}" in done.stdout
    assert done.stdout.splitlines()[-1] == "came with"


def test_every_subcommand_has_a_file_that_holds_it() -> None:
    assert {"serve", "train", "evaluate", "lock"} <= set(SUBCOMMANDS)
    for name in SUBCOMMANDS:
        assert importlib.util.find_spec(f"commands.{name}") is not None


def test_an_unknown_subcommand_is_refused() -> None:
    done = run("dance")
    assert done.returncode == 2
    assert "dance" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_whose_dependencies_are_not_installed_says_how_to_get_them(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text('raise ModuleNotFoundError("No module named \'torch\'", name="torch")\n')
    recipe = ROOT / "recipes" / "moons.yaml"
    done = run("train", str(recipe), "--data", str(tmp_path), "--out", str(tmp_path), without=tmp_path)
    assert done.returncode == 1
    assert "pip install 'nonesuch[training]'" in done.stderr
    assert "torch" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_port_of_a_flag_must_be_a_number() -> None:
    done = run("serve", "--port", "http")
    assert done.returncode == 2
    assert "--port" in done.stderr
