"""Canonical JSON and the two digests: what names a bundle, and what names a sample's address."""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

from contract.capabilities import CAPABILITIES
from contract.digest import bundle_digest, canonical, program_digest, sha256
from contract.manifest import Manifest
from tests.contract.examples import files, manifest_fields

Change = Callable[[dict[str, Any]], None]


def test_sha256_is_the_standard_s() -> None:
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_example_of_rfc_8785_section_3_2_2() -> None:
    given = json.loads(
        r"""{
          "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
          "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
          "literals": [null, true, false]
        }"""
    )
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical(given) == expected.encode()


def test_names_are_sorted_by_utf_16_as_in_rfc_8785_section_3_2_3() -> None:
    given = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    assert list(json.loads(canonical(given)).values()) == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]


@pytest.mark.parametrize(
    ("double", "text"),
    [  # RFC 8785, appendix B
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555554", "333333333.33333325"),
        ("41b3de4355555555", "333333333.3333333"),
        ("41b3de4355555556", "333333333.3333334"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_numbers_are_written_as_in_rfc_8785_appendix_b(double: str, text: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(double))
    assert canonical(value) == text.encode()


def manifest(*changes: Change) -> Manifest:
    fields = copy.deepcopy(manifest_fields())
    fields["files"] = {name: {"size": len(data), "sha256": sha256(data)} for name, data in files().items()}
    for change in changes:
        change(fields)
    return Manifest.model_validate(fields)


def new_content(name: str) -> Change:
    def change(fields: dict[str, Any]) -> None:
        fields["files"][name] = {"size": 3, "sha256": sha256(b"new")}

    return change


def set_field(*path: str | int, value: Any) -> Change:
    def change(fields: Any) -> None:
        for part in path[:-1]:
            fields = fields[part]
        fields[path[-1]] = value

    return change


def test_the_bundle_digest_is_the_hash_of_the_canonical_manifest() -> None:
    whole = manifest()
    assert bundle_digest(whole) == hashlib.sha256(canonical(json.loads(whole.model_dump_json()))).hexdigest()


MOVES_NOTHING_BUT_THE_BUNDLE = {
    "card": new_content("card.md"),
    "calibration": new_content("calibration.npz"),
    "goldens": new_content("goldens.npz"),
    "title": set_field("title", value="These numbers do exist"),
    "metrics": set_field("metrics", value=[]),
    "licence": set_field("licence", value="MIT"),
}


@pytest.mark.parametrize("change", MOVES_NOTHING_BUT_THE_BUNDLE.values(), ids=MOVES_NOTHING_BUT_THE_BUNDLE)
def test_a_correction_moves_no_sample(change: Change) -> None:
    before, after = manifest(), manifest(change)
    assert bundle_digest(before) != bundle_digest(after)
    for capability in before.capabilities:
        assert program_digest(before, capability) == program_digest(after, capability)


MOVES_SAMPLES = {
    "graph": new_content("decode.onnx"),
    "first graph": new_content("latent.onnx"),
    "weights": new_content("weights.bin"),
    "key": set_field("randomness", value={"key": "0x0000000000000001"}),
    "row multiple": set_field("graphs", "decode", "row_multiple", value=16),
    "default": set_field("capabilities", "sample", "inputs", 2, "default", value=0.5),
    "steps": set_field("capabilities", "sample", "steps", value={"default": 2, "allowed": [2]}),
}


@pytest.mark.parametrize("change", MOVES_SAMPLES.values(), ids=MOVES_SAMPLES)
def test_whatever_can_move_a_sample_moves_its_digest(change: Change) -> None:
    before, after = manifest(), manifest(change)
    assert program_digest(before, "sample") != program_digest(after, "sample")
    assert bundle_digest(before) != bundle_digest(after)


def test_a_graph_moves_only_the_programs_that_run_it() -> None:
    before, after = manifest(), manifest(new_content("decode.onnx"))
    moved = {name for name in before.capabilities if program_digest(before, name) != program_digest(after, name)}
    assert moved == {"sample"}
    after = manifest(new_content("log_prob.onnx"))
    moved = {name for name in before.capabilities if program_digest(before, name) != program_digest(after, name)}
    assert moved == {"log_prob", "score"}


def test_programs_have_different_digests() -> None:
    whole = manifest()
    digests = {program_digest(whole, name) for name in whole.capabilities}
    assert len(digests) == len(whole.capabilities)


def test_a_capability_that_the_bundle_lacks_has_no_digest() -> None:
    whole = manifest()
    for name in set(CAPABILITIES) - set(whole.capabilities):
        with pytest.raises(KeyError):
            program_digest(whole, name)
