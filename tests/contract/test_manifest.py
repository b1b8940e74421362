"""The manifest: what it refuses, and that its published JSON Schema is the model's."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from commands.schema import schema_text, write_schema
from contract.capabilities import UNASKED
from contract.digest import sha256
from contract.manifest import Manifest
from contract.randomness import KEY, LOW_OFFSET
from tests.contract.examples import files, manifest_fields

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "bundles").glob("*/*/manifest.json"))


def fields() -> dict[str, Any]:
    entries = {name: {"size": len(data), "sha256": sha256(data)} for name, data in files().items()}
    return {**manifest_fields(), "files": entries}


def test_the_published_schema_is_the_model_s() -> None:
    published = ROOT / "docs" / "manifest.schema.json"
    assert published.read_text(encoding="utf-8") == schema_text(), "stale: run `make schema`"


def test_the_schema_is_written_as_text(tmp_path: Path) -> None:
    write_schema(tmp_path / "schema.json")
    assert json.loads((tmp_path / "schema.json").read_bytes()) == json.loads(schema_text())


def test_a_schema_validator_accepts_what_the_model_writes() -> None:
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    written = Manifest.model_validate(fields()).model_dump(mode="json")
    jsonschema.validate(written, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**written, "surplus": 1}, schema)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_a_schema_validator_accepts_the_shipped_manifests(path: Path) -> None:
    jsonschema.validate(json.loads(path.read_bytes()), json.loads(schema_text()))


def test_a_manifest_round_trips_through_json() -> None:
    manifest = Manifest.model_validate(fields())
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert Manifest.model_validate(json.loads(json.dumps(manifest.model_dump(mode="json")))) == manifest


def test_the_published_constants_are_the_generator_s() -> None:
    randomness = Manifest.model_validate(fields()).randomness
    assert (int(randomness.key, 16), int(randomness.low_offset, 16)) == (KEY, LOW_OFFSET)
    assert randomness.streams == {"init": 0, "step": 1, "latent": 2, "observation": 3, "probe": 4}


def without(path: str) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        for part in parents:
            manifest = manifest[part]
        del manifest[last]

    return change


def with_value(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        for part in parents:
            manifest = manifest[part]
        manifest[last] = value

    return change


X = {"name": "x", "dtype": "float64", "shape": [2], "source": "data"}
WHICH = {"name": "known", "dtype": "bool", "shape": [2], "source": "data"}
LOG_PROB = {"name": "log_prob", "dtype": "float64", "kind": "exact", "units": "nats"}
POSTERIOR = {**LOG_PROB, "shape": [2], "vocabulary": ["cat", "dog"]}


def partial(name: str, *, refused: bool = False, **changes: Any) -> Callable[[dict[str, Any]], None]:
    """A capability that came after the first bundles, over a graph that is there."""

    def change(manifest: dict[str, Any]) -> None:
        program = {"step": "log_prob", "inputs": [X, WHICH], "outputs": [LOG_PROB], "filling": "exact", **changes}
        manifest["capabilities"][name] = program
        manifest["parity"][name] = manifest["parity"]["log_prob"]
        if refused:
            manifest["refusals"][name] = "none"

    return change


def test_a_manifest_from_before_refuses_newer_questions_without_a_word() -> None:
    manifest = Manifest.model_validate(fields())
    assert not set(UNASKED) & set(manifest.refusals)
    assert manifest.reasons == {**manifest.refusals, **UNASKED}
    assert "marginal" not in manifest.model_dump(mode="json")["refusals"], "so that its digest stays"
    for name in UNASKED:
        newer = copy.deepcopy(fields())
        partial(name, outputs=[POSTERIOR] if name == "classify" else [LOG_PROB])(newer)
        assert name not in Manifest.model_validate(newer).reasons
        told = Manifest.model_validate({**fields(), "refusals": {**fields()["refusals"], name: "because"}})
        assert told.reasons[name] == "because"


def with_groups(*groups: tuple[str, int], column: str | None = "kind") -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        found = [{"label": label, "n": n} for label, n in groups]
        manifest["calibration"] |= {"labelled_by": column, "groups": found}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("graphs/decode"), "names the graph 'decode', which the bundle lacks"),
        (without("parity/sample"), "capability sample has no parity figures"),
        (without("refusals/encode"), "capability encode must be either present or refused"),
        (with_value("refusals/sample", "none"), "capability sample must be either present or refused"),
        (partial("marginal", inputs=[X]), "needs the inputs x and 'known'"),
        (partial("marginal", outputs=[{**LOG_PROB, "kind": "estimate"}]), "a number of the same kind as the log_prob"),
        (partial("inpaint", filling=None), "must say what its filling is conditioned on"),
        (partial("inpaint", refused=True), "capability inpaint must be either present or refused"),
        (partial("classify"), "must name its labels"),
        (partial("classify", outputs=[{**POSTERIOR, "shape": [3]}]), "one for each number"),
        (partial("classify", outputs=[{**POSTERIOR, "prior": [0.5, 0.6]}]), "a probability for each label"),
        (without("files/weights.bin"), "'weights.bin' is named but not listed"),
        (without("files/score.onnx"), "'score.onnx' is named but not listed"),
        (without("files/calibration.npz"), "'calibration.npz' is named but not listed"),
        (without("calibration"), "a score needs a calibration"),
        (with_value("calibration/labelled_by", "kind"), "groups have labels"),
        (with_groups(("a", 2), ("a", 2)), "groups are different labels of 4 rows in all"),
        (with_groups(("a", 2), ("b", 1)), "groups are different labels of 4 rows in all"),
        (with_groups(("a", 2), ("b", 2), column=None), "groups have labels"),
        (with_value("name", "../example"), "name"),
        (with_value("name", "Example"), "name"),
        (with_value("version", 0), "version"),
        (with_value("format", 2), "format"),
        (with_value("weights", "../weights.bin"), "weights"),
        (with_value("graphs/score/file", "/score.onnx"), "file"),
        (with_value("graphs/score/file", ".score.onnx"), "file"),
        (with_value("graphs/score/row_multiple", 0), "row_multiple"),
        (with_value("files/card.md/sha256", "0" * 63), "sha256"),
        (with_value("surplus", 1), "surplus"),
        (with_value("capabilities/paint", {}), "capabilities"),
    ],
)
def test_an_incoherent_manifest_is_refused(change: Callable[[dict[str, Any]], None], message: str) -> None:
    manifest = copy.deepcopy(fields())
    change(manifest)
    with pytest.raises(ValidationError) as caught:
        Manifest.model_validate(manifest)
    assert message in str(caught.value)


def test_a_calibration_without_a_score_is_refused() -> None:
    manifest = fields()
    del manifest["capabilities"]["score"]
    del manifest["parity"]["score"]
    manifest["refusals"]["score"] = "none"
    with pytest.raises(ValidationError, match="a calibration a score"):
        Manifest.model_validate(manifest)
