"""The OpenAPI document: the framework's, completed with the bodies that ``calls`` reads by itself."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.api.anomaly_score import AnomalyScoreRequest
from service.api.classify import ClassifyRequest
from service.api.encode import DecodeRequest, EncodeRequest
from service.api.inpaint import InpaintRequest
from service.api.log_prob import LogProbRequest
from service.api.problems import Problem
from service.api.sample import SampleRequest

__all__ = ["document"]

_MODELS: tuple[type[BaseModel], ...] = (
    Problem,
    SampleRequest,
    LogProbRequest,
    EncodeRequest,
    DecodeRequest,
    AnomalyScoreRequest,
    ClassifyRequest,
    InpaintRequest,
)
_TAGS = [
    {"name": "questions", "description": "What a model can be asked."},
    {"name": "models", "description": "What is served, and what each model can answer."},
    {"name": "probes", "description": "For those who run the service."},
]
# The framework's own description of a refused request, in whose place stand our problem documents.
_FOREIGN = ("HTTPValidationError", "ValidationError")


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of an application, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=_TAGS
        )
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        _, ours = models_json_schema(
            [(model, "validation") for model in _MODELS], ref_template="#/components/schemas/{model}"
        )
        schemas.update(ours["$defs"])
        made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for name in _FOREIGN:
            schemas.pop(name, None)
        for path in made["paths"].values():
            for operation in path.values():
                # A key is needed where the service has keys, which it does not say here.
                operation["security"] = [{"key": []}, {}] if "401" in operation["responses"] else []
                described = operation["responses"].get("422", {}).get("content", {}).get("application/json", {})
                if described.get("schema", {}).get("$ref", "").endswith("/HTTPValidationError"):
                    del operation["responses"]["422"]
        app.openapi_schema = made
    return app.openapi_schema
