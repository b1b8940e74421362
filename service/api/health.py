"""GET /healthz, /readyz and /metrics."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from service.api.calls import parts_of
from service.api.codecs import dump
from service.api.negotiation import JSON
from service.api.problems import responses
from service.parts import Parts

__all__ = ["Health", "Readiness", "Served", "refusals", "router"]

router = APIRouter(tags=["probes"])


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"]


class Served(BaseModel):
    """A version that is served."""

    model_config = ConfigDict(extra="forbid")

    name: str
    version: int
    digest: str


class Readiness(BaseModel):
    """Whether requests should be sent here, and what is served."""

    model_config = ConfigDict(extra="forbid")

    ready: bool
    reason: str | None = Field(description="Why not.")
    models: list[Served] = Field(description="Every version that is served.")
    refused: dict[str, str] = Field(description="Bundles that were refused, as NAME/VERSION, each with the reason.")
    redis: Literal["absent", "closed", "open", "half-open"] = Field(
        description="The breaker in front of Redis: closed while Redis is in use, absent when there is none."
    )


@router.get(
    "/healthz",
    operation_id="healthz",
    summary="Is the process alive?",
    response_model=None,
    responses={200: {"model": Health, "description": "Alive."}},
)
async def healthz() -> Response:
    """It answers whatever runs, and does not say that requests should be sent here: /readyz does."""
    return Response(b'{"status":"ok"}', media_type=JSON)


@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Should requests be sent here?",
    response_model=None,
    responses={
        200: {"model": Readiness, "description": "Ready."},
        503: {
            "model": Readiness,
            "description": "Starting, stopping, without models, or without one of NONESUCH_REQUIRED_MODELS.",
            "headers": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
        },
    },
)
async def readyz(request: Request) -> Response:
    """A bundle that was refused does not make the service unready; it shows under `refused`."""
    parts = parts_of(request)
    reason = _unready(parts)
    catalogue = parts.catalogue
    body: dict[str, Any] = {
        "ready": reason is None,
        "reason": reason,
        "models": [
            {"name": name, "version": version, "digest": catalogue.get(name, version).digest}
            for name in catalogue.names()
            for version in catalogue.versions(name)
        ],
        "refused": refusals(parts),
        "redis": parts.cache.redis_state,
    }
    if reason is None:
        return Response(dump(body), media_type=JSON)
    return Response(dump(body), 503, media_type=JSON, headers={"Retry-After": "1"})


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Metrics, as Prometheus reads them",
    response_model=None,
    responses={
        200: {"description": "Metrics, as Prometheus reads them.", "content": {"text/plain": {}}},
        **responses("unauthorised"),
    },
)
async def metrics(request: Request) -> Response:
    """Requests, rows, cache, batches and queue, in Prometheus' text format or, when asked for, in OpenMetrics."""
    content, media_type = parts_of(request).metrics.exposition(request.headers.get("accept"))
    return Response(content, headers={"Content-Type": media_type})


def refusals(parts: Parts) -> dict[str, str]:
    """Reasons by ``NAME/VERSION``, without the path of the folder, which is nobody's business."""
    folder = f"{parts.settings.bundles.absolute()}/"
    return {name: reason.replace(folder, "") for name, reason in sorted(parts.catalogue.refused.items())}


def _unready(parts: Parts) -> str | None:
    if parts.draining:
        return "the service is stopping"
    if not parts.catalogue.ready:
        return "the bundles are being verified"
    missing = parts.catalogue.missing(parts.settings.required_models)
    if missing:
        return f"required models are missing: {', '.join(missing)}"
    return None if parts.catalogue.names() else "no bundle is served"
