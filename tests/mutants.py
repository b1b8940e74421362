"""Shows that the tests can fail: breaks the code on purpose, one place at a time, and runs the tests that must notice.

    python tests/mutants.py [--list] [--jobs N] [NAME ...]

Each mutant is one textual change to one file of a copy of the tree; the tests named with it must pass on the copy as it
is and fail on the changed one. A change whose old text is not found exactly once is an error, so that the list cannot
fall behind the code.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.mutations import MUTANTS, Mutant  # noqa: E402  a script finds its neighbours only after the line above

TIMEOUT = 600.0
TESTS_FAILED = 1  # pytest's exit status; any other is not the verdict of a test


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant."""

    caught: bool
    by: str
    seconds: float


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of the project's files, tracked or new, in a temporary folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    with tempfile.TemporaryDirectory(prefix="nonesuch-mutant-") as folder:
        tree = Path(folder) / "tree"
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, tree / name)
        yield tree


def run_tests(tree: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """Run pytest on a copy: its exit status and what it printed."""
    environment = {
        **os.environ,
        # The copy goes before the installed project, also in child processes; byte code would outlive a mutation.
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "--no-header",
            "-p",
            "no:cacheprovider",
            "--hypothesis-profile=hasty",
            *tests,
        ],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    return done.returncode, done.stdout


def mutated(tree: Path, mutant: Mutant) -> str:
    """The file's text with the error in it.

    Raises:
        ValueError: the old text is not there exactly once.
    """
    text = (tree / mutant.file).read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {mutant.file} has {text.count(mutant.old)} times {mutant.old!r}, not once")
    return text.replace(mutant.old, mutant.new)


def try_mutant(tree: Path, mutant: Mutant) -> Verdict:
    """Put the error in, run the tests, take it out again."""
    path = tree / mutant.file
    sound = path.read_text(encoding="utf-8")
    started = time.monotonic()
    path.write_text(mutated(tree, mutant), encoding="utf-8")
    try:
        status, output = run_tests(tree, mutant.tests)
    except subprocess.TimeoutExpired:
        return Verdict(False, f"no verdict in {TIMEOUT:.0f} s", time.monotonic() - started)
    finally:
        path.write_text(sound, encoding="utf-8")
    # An error is one of a fixture: training refuses to write a bundle that does not pass its own verification.
    failed = re.search(r"^((?:FAILED|ERROR) .+?)(?: - |$)", output, re.MULTILINE)
    caught = status == TESTS_FAILED and failed is not None
    by = failed[1] if caught and failed else "NOT CAUGHT" if status == 0 else f"pytest exit {status}: {output[-2000:]}"
    return Verdict(caught, by, time.monotonic() - started)


def try_all(chosen: list[Mutant], jobs: int) -> bool:
    """Whether the sound tree passes and every mutant is caught."""
    with ExitStack() as stack:
        trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for _ in range(jobs):
            trees.put(stack.enter_context(copied_tree()))

        def in_some_tree(mutant: Mutant) -> Verdict:
            tree = trees.get()
            try:
                return try_mutant(tree, mutant)
            finally:
                trees.put(tree)

        everything = tuple(sorted({test for mutant in chosen for test in mutant.tests}))
        print(f"the tree as it is: {' '.join(everything)}", flush=True)
        tree = trees.get()
        status, output = run_tests(tree, everything)
        trees.put(tree)
        print(output if status else output.strip().splitlines()[-1], flush=True)
        if status:
            return False
        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        tried = {pool.submit(in_some_tree, mutant): mutant for mutant in chosen}
        width = max(len(mutant.name) for mutant in chosen)
        caught = 0
        for future in as_completed(tried):
            verdict = future.result()
            caught += verdict.caught
            print(f"{tried[future].name:{width}}  {verdict.seconds:5.1f} s  {verdict.by}", flush=True)
    print(f"{caught} of {len(chosen)} mutants caught")
    return caught == len(chosen)


def main() -> None:
    """Try the mutants asked for, print a table, and exit with 1 if one was not caught."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="mutants to try, by part of their names [default: all]"
    )
    parser.add_argument("--list", action="store_true", help="list them and try none")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="how many at a time")
    given = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not given.names or any(part in mutant.name for part in given.names)]
    if not chosen:
        sys.exit("no mutant has such a name")
    for mutant in chosen:
        mutated(ROOT, mutant)  # all of the list must fit the tree before any is tried
    if given.list:
        print("\n".join(f"{mutant.name}\n    {mutant.file}: {mutant.old!r} -> {mutant.new!r}" for mutant in chosen))
    elif not try_all(chosen, given.jobs):
        sys.exit(1)


if __name__ == "__main__":
    main()
