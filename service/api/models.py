"""GET /models, /models/{model}, /models/{model}/versions/{version}: what is served, and what each can answer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from contract.capabilities import CAPABILITIES, Capability
from contract.conformal import smallest_p_value
from contract.manifest import Metric, Parity
from contract.programs import Output, Program, ProgramInput, Steps
from contract.support import Support
from runtime.model import LoadedModel
from service.api.calls import parts_of, require_started
from service.api.codecs import dump
from service.api.negotiation import JSON
from service.api.problems import responses
from service.parts import Parts

__all__ = ["Card", "ModelList", "router"]

router = APIRouter(tags=["models"])

PROBLEMS = ("unauthorised", "unknown-model", "internal-error", "starting")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Line(_Part):
    """A model in one line."""

    name: str
    title: str
    description: str
    family: str
    version: int = Field(description="The default version: the highest one served.")
    versions: list[int] = Field(description="Versions that are served.")
    capabilities: list[Capability] = Field(description="Questions that it can answer.")
    shape: list[int] = Field(description="Shape of one row.")


class ModelList(_Part):
    """The models that are served."""

    models: list[Line]


class Ability(_Part):
    """One question that a model can answer."""

    program_digest: str = Field(description="Digest of the program; samples of equal program digests are equal.")
    outputs: list[Output] = Field(description="What comes back for each row: kind, units, shape.")
    parameters: list[ProgramInput] = Field(description="Knobs, with their defaults and ranges.")
    conditions: list[ProgramInput] = Field(description="What it can be conditioned on, with the labels of each.")
    steps: Steps = Field(
        description="How often the step graph runs; 1 for one-shot programs. Where a request may choose, it does so by "
        "the knob that `parameter` names."
    )
    parity: Parity = Field(description="How far the exported program may stand from what it was exported from.")


class CalibrationCard(_Part):
    """What p-values rest on."""

    n: int = Field(description="Calibration rows.")
    rows: str = Field(description="Which rows count as ordinary.")
    statistics: list[str] = Field(description="What the score is made of.")
    law: str = Field(description="How the score is made of it.")
    smallest_p_value: float = Field(description="The smallest p-value that so many calibration rows can give.")
    contaminated: int = Field(description="At most so many of the rows may be anomalies.")
    tied: float = Field(description="Share of the rows whose score another row has too, where it was counted.")
    labelled_by: str | None = Field(description="Column that held labels of the rows, where they have any.")
    labels: dict[str, int] = Field(description="Labels that a question may give, with the rows of each.")
    blocks: int | None = Field(
        description="Blocks that the rows come in, where the rows of a block depend on each other; nothing is promised "
        "of alarms then."
    )
    blocked_by: str | None = Field(description="What the rows of a block have in common, in words.")
    source_sha256: str | None = Field(description="SHA-256 of the file of rows, where they came in one of their own.")


class Origin(_Part):
    """Where a bundle came from."""

    data: str
    data_sha256: str
    commit: str
    contains_training_rows: bool


class Card(_Part):
    """A version of a model: what it is, what it can answer, and how well it does."""

    name: str
    version: int
    versions: list[int] = Field(description="Versions that are served.")
    title: str
    description: str
    family: str
    licence: str
    digest: str = Field(description="Digest of the bundle.")
    pinned: bool = Field(description="Whether the digest is pinned in the folder's bundles.lock.")
    profile: str = Field(description="Numeric profile in which it runs here.")
    support: Support = Field(description="Shape and meaning of one row.")
    capabilities: dict[Capability, Ability] = Field(description="Questions that it can answer.")
    refusals: dict[Capability, str] = Field(description="Questions that it cannot answer, and why.")
    metrics: list[Metric] = Field(description="How well it does on data that it has not seen.")
    calibration: CalibrationCard | None = Field(description="What p-values rest on, where it scores anomalies.")
    provenance: Origin


@router.get(
    "/models",
    operation_id="models",
    summary="List the models",
    response_model=None,
    responses={
        200: {"model": ModelList, "description": "The models."},
        **responses("unauthorised", "internal-error", "starting"),
    },
)
async def models(request: Request) -> Response:
    """Every model with its versions and the questions that it can answer."""
    parts = parts_of(request)
    require_started(parts)
    catalogue = parts.catalogue
    return _json({"models": [_line(parts, catalogue.get(name, None)) for name in catalogue.names()]})


@router.get(
    "/models/{model}",
    operation_id="model",
    summary="Describe a model's default version",
    response_model=None,
    responses={200: {"model": Card, "description": "The card of the default version."}, **responses(*PROBLEMS)},
)
async def model_card(request: Request, model: str) -> Response:
    """The default version is the highest one served; requests that name no version go to it."""
    parts = parts_of(request)
    return _json(_card(parts, parts.catalogue.get(model, None)))


@router.get(
    "/models/{model}/versions/{version:int}",
    operation_id="model_version",
    summary="Describe one version of a model",
    response_model=None,
    responses={200: {"model": Card, "description": "The version's card."}, **responses(*PROBLEMS)},
)
async def version_card(request: Request, model: str, version: int) -> Response:
    """What the version is, what it can answer and what it refuses, and how well it does."""
    parts = parts_of(request)
    return _json(_card(parts, parts.catalogue.get(model, version)))


def _json(value: Any) -> Response:
    return Response(dump(value), media_type=JSON)


def _line(parts: Parts, model: LoadedModel) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "name": manifest.name,
        "title": manifest.title,
        "description": manifest.description,
        "family": manifest.family,
        "version": manifest.version,
        "versions": parts.catalogue.versions(manifest.name),
        "capabilities": [name for name in CAPABILITIES if name in manifest.capabilities],
        "shape": manifest.support.shape,
    }


def _card(parts: Parts, model: LoadedModel) -> dict[str, Any]:
    manifest = model.manifest
    calibration = manifest.calibration
    return {
        "name": manifest.name,
        "version": manifest.version,
        "versions": parts.catalogue.versions(manifest.name),
        "title": manifest.title,
        "description": manifest.description,
        "family": manifest.family,
        "licence": manifest.licence,
        "digest": model.digest,
        "pinned": parts.catalogue.pinned(manifest.name, manifest.version),
        "profile": model.profile,
        "support": manifest.support.model_dump(mode="json"),
        "capabilities": {
            name: _ability(model, name, manifest.capabilities[name])
            for name in CAPABILITIES
            if name in manifest.capabilities
        },
        "refusals": manifest.reasons,
        "metrics": [metric.model_dump(mode="json") for metric in manifest.metrics],
        "calibration": None
        if calibration is None
        else {
            "n": calibration.n,
            "rows": calibration.rows,
            "statistics": calibration.statistics,
            "law": calibration.law,
            "smallest_p_value": smallest_p_value(calibration.ordinary),
            "contaminated": calibration.contaminated,
            "tied": calibration.tied,
            "labelled_by": calibration.labelled_by,
            "labels": {group.label: group.n for group in calibration.groups},
            "blocks": calibration.blocks,
            "blocked_by": calibration.blocked_by,
            "source_sha256": calibration.source_sha256,
        },
        "provenance": manifest.provenance.model_dump(
            mode="json", include={"data", "data_sha256", "commit", "contains_training_rows"}
        ),
    }


def _ability(model: LoadedModel, capability: Capability, program: Program) -> dict[str, Any]:
    return {
        "program_digest": model.program_digest(capability),
        "outputs": [part.model_dump(mode="json") for part in program.outputs],
        "parameters": [part.model_dump(mode="json") for part in program.inputs if part.source == "parameter"],
        "conditions": [part.model_dump(mode="json") for part in program.inputs if part.source == "condition"],
        "steps": program.steps.model_dump(mode="json"),
        "parity": model.manifest.parity[capability].model_dump(mode="json"),
    }
