"""House rules that no linter knows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.mutants import mutated
from tests.mutations import MUTANTS, Mutant

ROOT = Path(__file__).parents[1]
MOST_LINES = 450
MOST_LINES_OF_TESTS = 600

# In two halves, so that this file keeps the rules it states.
FORBIDDEN = {
    "a path of the machine it was written on": [
        "/ho" + "me/",
        "/ro" + "ot/",
        "/wo" + "rk/",
        "/o" + "pt/py",
        "/Us" + "ers/",
    ],
    "a package registry's host": ["pypi" + ".org", "python" + "hosted", "npm" + "js.", "download.pytorch" + ".org"],
}


def project_files() -> list[str]:
    """Every file of the project: tracked by git, or new and not ignored; all files where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        hidden = re.compile(r"(^|/)(\.venv[^/]*|\.git|__pycache__|\.[a-z_]+_cache|\.hypothesis)/")
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
        return sorted(name for name in names if not hidden.search(name))
    return sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


def texts(*patterns: str) -> dict[str, str]:
    """Texts of the project's files by name; binary files, and texts that others wrote, are left out."""
    found = {}
    for name in project_files():
        path = Path(name)
        if "vendor" in path.parts or not any(path.match(pattern) for pattern in patterns):
            continue
        try:
            found[name] = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


def test_the_rules_look_at_the_project() -> None:
    assert {"Makefile", "contract/support.py", "tests/test_house.py"} <= texts("*").keys()


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_mentions(what: str) -> None:
    found = [
        f"{name}:{number}"
        for name, text in texts("*").items()
        for number, line in enumerate(text.splitlines(), start=1)
        if any(word in line for word in FORBIDDEN[what])
    ]
    assert not found, f"{what} in {', '.join(found)}"


def test_a_type_error_is_ignored_by_its_code() -> None:
    bare = re.compile(r"#\s*type:\s*ignore(?!\[[a-z-]+(, ?[a-z-]+)*\])")
    found = [
        f"{name}:{number}"
        for name, text in texts("*.py").items()
        for number, line in enumerate(text.splitlines(), start=1)
        if bare.search(line) and name != "tests/test_house.py"
    ]
    assert not found, f"`type: ignore` without a code in {', '.join(found)}"


def test_a_file_does_one_thing() -> None:
    long = {name: len(text.splitlines()) for name, text in texts("*.py", "Makefile", ".ci/*").items()}
    limits = {name: MOST_LINES_OF_TESTS if name.startswith("tests/") else MOST_LINES for name in long}
    assert not {name: lines for name, lines in long.items() if lines > limits[name]}


def test_every_module_says_what_it_is() -> None:
    silent = [
        name for name, text in texts("*.py").items() if text.strip() and not text.lstrip().startswith(('"""', "#!"))
    ]
    assert not silent


def test_a_library_module_says_what_it_offers() -> None:
    rooms = ("contract/", "runtime/", "models/", "training/", "evaluation/", "scoring/", "service/", "commands/")
    silent = [
        name
        for name, text in texts("*.py").items()
        if name.startswith(rooms) and not name.endswith("__init__.py") and "\n__all__ = " not in text
    ]
    assert not silent


def test_nothing_that_unpickles_is_used() -> None:
    loads = re.compile(
        r"\b(pickle|cPickle|dill|joblib|cloudpickle)\.loads?\(|allow_pickle=True|torch\.load\((?!.*weights_only=True)"
    )
    quoting = {"tests/test_house.py", "tests/mutations/contract.py", "tests/mutations/training.py"}
    found = [name for name, text in texts("*.py").items() if loads.search(text) and name not in quoting]
    assert not found


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    records = sorted(path.name for path in folder.glob("[0-9]*.md") if not path.name.startswith("0000"))
    listed = re.findall(r"^(\d+)\. \[(.+)\]\((.+)\)$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [file for _, _, file in listed] == records
    for number, title, file in listed:
        assert file.startswith(f"{int(number):04d}-")
        assert (folder / file).read_text(encoding="utf-8").splitlines()[0] == f"# {number}. {title}"


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for name, text in texts("*.md").items():
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text):
            if not (ROOT / name).parent.joinpath(target).exists():
                broken.append(f"{name}: {target}")
    assert not broken


def test_what_the_readme_says_make_does_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.* ## ", makefile, re.MULTILINE))
    assert {"help", "serve", "test", "lint", "train", "bench", "mutants", "clean"} <= targets
    for name, text in texts("*.md").items():
        for word in re.findall(r"(?:`|^|\$ )make ([a-z]+)", text, re.MULTILINE):
            assert word in targets, f"{name} speaks of `make {word}`"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_deliberate_error_fits_the_code(mutant: Mutant) -> None:
    assert mutated(ROOT, mutant) != (ROOT / mutant.file).read_text(encoding="utf-8")
    for test in mutant.tests:
        file, *names = test.partition("[")[0].split("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert all(name in text for name in names)
