"""GET /models/{model}/drift: whether the anomaly scores given out still look like the calibration scores."""

from __future__ import annotations

from datetime import datetime
from math import log10
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from contract.alarms import NO_GUARANTEE
from contract.manifest import Calibration
from service.api.calls import parts_of
from service.api.codecs import dump
from service.api.negotiation import JSON
from service.api.problems import responses
from service.errors import NotSupported
from service.parts import Parts

__all__ = ["DriftAnswer", "router"]

router = APIRouter(tags=["models"])


class DriftAnswer(BaseModel):
    """What is known of the scores that a version has given out, and whether they alarm."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(description="The model's name.")
    version: int = Field(description="The version that is watched.")
    digest: str = Field(description="Digest of the bundle. The watch of another bundle starts afresh.")
    rows: int = Field(description="Rows that were given an anomaly score, repeated ones included.")
    since: datetime | None = Field(description="When the first of them came; null before.")
    n_calibration: int = Field(description="Calibration scores that they are compared with.")
    n_blocks: int | None = Field(
        default=None,
        ge=1,
        description="Blocks that these come in, where the rows of a block depend on each other: nothing is bet on such "
        "rows, and all that rests on bets is null.",
    )
    alarm: bool | None = Field(
        description="Whether the alarm was raised. It stays so for the version's life. Null where none can be."
    )
    alarm_at_row: int | None = Field(description="Which row raised it, from 1; null while there is no alarm.")
    level: float | None = Field(
        description="A false alarm has this probability at most, over the version's whole life, all workers together, "
        "on average over draws of the calibration rows."
    )
    log10_martingale: float | None = Field(
        description="Evidence against ordinary rows, as it stands: log10 of what one unit has become that was bet on "
        "their ceasing to be ordinary. 0 at the start."
    )
    log10_highest: float | None = Field(description="The same at its highest.")
    log10_alarm: float | None = Field(description="Where the alarm is raised: -log10(level / workers).")
    window: int = Field(description="Last rows that the distance is measured of.")
    ks_statistic: float | None = Field(
        description="Two-sample Kolmogorov-Smirnov distance of their scores from the calibration scores; null without "
        "rows."
    )
    ks_p_value: float | None = Field(
        description="Its p-value for one look. Whoever looks often finds small ones by chance: no alarm rests on it. "
        "Null where there are `n_blocks`, for it is that of independent rows."
    )
    workers: int = Field(description="Processes that serve; each watches, and tells here, its own share of the rows.")
    meaning: str = Field(description="What follows from it, and what does not.")


def _meaning(alarm: bool, level: float) -> str:
    found = (
        "The rows are not, or ceased to be, like the calibration rows: the p-values of /anomaly-score keep no rate "
        "while that lasts. Look at what is sent; calibrate or train a new version, whose watch starts afresh."
        if alarm
        else "No alarm, which is no proof that nothing drifts: small changes need many rows to show, and many "
        "calibration rows."
    )
    return (
        f"{found} For rows exchangeable with the calibration rows the alarm is ever raised with probability at most "
        f"{level:g}. Rows that depend on each other, or the same row asked again and again, are not exchangeable and "
        "raise it too."
    )


def _unwatched(about: Calibration) -> str:
    return (
        f"{NO_GUARANTEE}. The calibration rows come in {about.blocks} blocks ({about.blocked_by}) of rows that depend "
        "on each other, and no rows are exchangeable with such, however ordinary: an alarm would tell of that and not "
        "of drift, so that none is raised; the distance is what was measured, and without a law."
    )


_EXAMPLES = {
    "loud": {
        "summary": "After 4,000 points of the two moons and 1,000 of noise 0.15 instead of 0.1",
        "value": {
            "model": "moons",
            "version": 1,
            "digest": "1eefdb145ac1737785de67edd7128289d6d64dd848fe07adf8b35f0c12709e31",
            "rows": 5000,
            "since": "2026-11-21T17:23:52+00:00",
            "n_calibration": 2000,
            "alarm": True,
            "alarm_at_row": 4195,
            "level": 0.001,
            "log10_martingale": 34.0522552473065,
            "log10_highest": 34.601345134029025,
            "log10_alarm": 3.0,
            "window": 1024,
            "ks_statistic": 0.19164843750000005,
            "ks_p_value": 3.0784352154174747e-22,
            "workers": 1,
            "meaning": _meaning(True, 0.001),
        },
    }
}

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": DriftAnswer,
        "description": "What is known of the scores that were given out.",
        "content": {JSON: {"examples": _EXAMPLES}},
    },
    **responses("unauthorised", "unknown-model", "capability-not-supported", "internal-error", "starting"),
}


@router.get(
    "/models/{model}/drift",
    operation_id="model_drift",
    summary="Do served scores drift?",
    response_model=None,
    responses=_RESPONSES,
)
async def drift(request: Request, model: str) -> Response:
    """Whether the default version's anomaly scores are still like its calibration scores, with an alarm that keeps its
    level however often it is looked at.
    """
    return await _answer(parts_of(request), model, None)


@router.get(
    "/models/{model}/versions/{version:int}/drift",
    operation_id="model_version_drift",
    summary="Do a version's served scores drift?",
    response_model=None,
    responses=_RESPONSES,
)
async def version_drift(request: Request, model: str, version: int) -> Response:
    """The same of one version."""
    return await _answer(parts_of(request), model, version)


async def _answer(parts: Parts, name: str, version: int | None) -> Response:
    model = parts.catalogue.get(name, version)
    manifest, calibration = model.manifest, model.calibration_scores
    about = manifest.calibration
    if calibration is None or about is None:
        raise NotSupported(name, "score", manifest.reasons["score"])
    watch, settings = await parts.drift.caught_up(model), parts.settings
    statistic, p_value = watch.distance() or (None, None)
    body = {
        "model": manifest.name,
        "version": manifest.version,
        "digest": model.digest,
        "rows": watch.rows,
        "since": None if watch.since is None else watch.since.isoformat(timespec="seconds"),
        "n_calibration": len(calibration),
        **({"n_blocks": about.blocks} if watch.dependent else {}),
        "alarm": None if watch.dependent else watch.alarm_at is not None,
        "alarm_at_row": watch.alarm_at,
        "level": None if watch.dependent else settings.drift_level,
        "log10_martingale": watch.log10_martingale,
        "log10_highest": watch.log10_highest,
        "log10_alarm": None if watch.dependent else -log10(watch.level),
        "window": watch.window,
        "ks_statistic": statistic,
        "ks_p_value": None if watch.dependent else p_value,
        "workers": settings.workers,
        "meaning": _unwatched(about) if watch.dependent else _meaning(watch.alarm_at is not None, settings.drift_level),
    }
    return Response(dump(body), media_type=JSON)
