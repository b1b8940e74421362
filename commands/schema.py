"""``docs/manifest.schema.json``: the manifest's JSON Schema, written from its model by ``make schema``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from contract.manifest import Manifest

__all__ = ["schema_text", "write_schema"]


def schema_text() -> str:
    """The JSON Schema (draft 2020-12) of ``manifest.json``, as text with a closing newline."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def write_schema(path: Path) -> None:
    """Write the schema to a file."""
    path.write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    write_schema(Path(sys.argv[1]))
