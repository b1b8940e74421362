"""Sends the service whatever its OpenAPI document allows, and a good deal that it does not (schemathesis).

    python tests/fuzz.py [--examples N] [--seed N] [--bundles FOLDER]

A server of its own is started. No answer may be a 5xx (but the 504 of one who asks for an answer within a millisecond),
have a status that the document does not name, or a body other than it describes.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.service.server_process import serving  # noqa: E402  a script finds its neighbours after the line above

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def fuzz(url: str, *, examples: int, seed: int) -> tuple[int, str]:
    """Exit status and output of one run against a server."""
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(ROOT / "schemathesis.toml")),
        *("run", f"{url}/openapi.json", "--checks", CHECKS, "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", str(examples), "--seed", str(seed), "--no-color", "--generation-database", "none"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def cases(output: str) -> int:
    """How many cases a run generated."""
    found = re.search(r"(\d+) generated", output)
    return int(found[1]) if found else 0


def main() -> int:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2000, help="cases an operation (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases (default: 0)")
    parser.add_argument("--bundles", type=Path, default=ROOT / "bundles", help="folder of bundles")
    asked = parser.parse_args()
    with serving(asked.bundles) as server:
        status, output = fuzz(server.url, examples=asked.examples, seed=asked.seed)
        print(output)
        if "Traceback" in server.err:
            print(server.err)
            status = status or 1
    return status


if __name__ == "__main__":
    sys.exit(main())
