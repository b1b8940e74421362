"""Every knob of the service, typed and documented; read from ``NONESUCH_*`` variables or given by flags.

``python -m service.settings`` prints the page ``docs/settings.md``, so that it cannot fall behind this file.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["PREFIX", "Settings", "is_loopback", "settings_page", "variables"]

PREFIX = "NONESUCH_"
MIB = 2**20

Names = Annotated[tuple[str, ...], NoDecode]
"""Several names in one variable, separated by commas."""


class Settings(BaseSettings):
    """Settings of one service process."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", populate_by_name=True)

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. Anything but a loopback address needs keys, or `NONESUCH_ALLOW_ANONYMOUS`.",
    )
    port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("NONESUCH_PORT", "PORT"),
        description="Port to listen on; 0 takes a free one.",
    )
    allow_anonymous: bool = Field(
        default=False,
        description="Listen on a public address although nobody is asked for a key: all who reach it may use it. "
        "Where there are keys, they are asked for all the same.",
    )
    keys_file: Path | None = Field(
        default=None,
        description="File of keys, a line `NAME: sha256:HASH` or `NAME: sha256:HASH N rows/minute` each, as "
        "`nonesuch key NAME` prints them; SIGHUP reads it again. With it, all calls but the probes, the documentation "
        "and `/static` need `Authorization: Bearer KEY`; unset, none do.",
    )
    rows_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Quota of each key that has none of its own, in rows asked for a minute; beyond it 429. Pages and "
        "pictures count as one row each. Processes with the same Redis share the count.",
    )
    anonymous_rows_per_minute: int | None = Field(
        default=None, ge=1, description="The same by address (IPv6: by /64), for callers who need no key."
    )
    public_pages: bool = Field(
        default=False, description="Where there are keys: leave the pages and pictures, `/` and `/x/…`, open to all."
    )
    trusted_proxies: Names = Field(
        default=(),
        description="Addresses of reverse proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.",
    )

    bundles: Path = Field(default=Path("bundles"), description="Folder of bundles, `NAME/VERSION/` each.")
    provider: Literal["cpu", "cuda"] = Field(default="cpu", description="Where graphs run: `cpu` or `cuda`.")
    required_models: Names = Field(
        default=(), description="Models without which the service is not ready (`/readyz` answers 503)."
    )
    poll_seconds: float = Field(
        default=2.0,
        gt=0,
        description="How often the folder of bundles is looked at for new versions; SIGHUP looks now.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Processes that serve, each with its own models, limits and memory cache; one is best with a GPU.",
    )
    compute_threads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Batches that run at the same time in a process; unset means one a CPU core, among all workers.",
    )

    redis_url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("NONESUCH_REDIS_URL", "REDIS_URL"),
        description="Redis behind the memory cache, such as `redis://127.0.0.1:6379/0`; unset means memory alone.",
    )
    redis_timeout_ms: float = Field(
        default=50.0, gt=0, description="How long Redis may take to answer, in milliseconds, before it is a miss."
    )
    cache_bytes: int = Field(default=256 * MIB, ge=0, description="Size of the memory cache, in bytes; 0 turns it off.")
    cache_ttl_seconds: int = Field(
        default=7 * 24 * 3600, ge=1, description="How long an answer is kept, in seconds, in memory and in Redis."
    )
    cache_key: SecretStr | None = Field(
        default=None,
        description="Secret that signs what is stored in Redis, so that a Redis that lies is a miss. "
        "Services that share a Redis share the key.",
    )

    pictures: Path | None = Field(
        default=Path("~/.local/state/nonesuch/pictures"),
        description="Folder where permanent pictures are kept as they were first drawn, so that a link shows the same "
        "bytes after an upgrade or on another machine; empty turns it off.",
    )
    pictures_bytes: int = Field(
        default=1024 * MIB,
        ge=0,
        description="Most bytes of pictures kept, as files take them on disk; what is drawn beyond is not kept.",
    )

    max_json_bytes: int = Field(default=8 * MIB, ge=1024, description="Largest JSON body, in bytes; beyond it 413.")
    max_binary_bytes: int = Field(
        default=64 * MIB, ge=1024, description="Largest binary body (npy), in bytes; beyond it 413."
    )
    max_answer_bytes: int = Field(
        default=64 * MIB,
        ge=1024,
        description="Largest answer, in bytes; beyond it 422, with advice to page by `start`.",
    )
    max_bytes_in_flight: int = Field(
        default=256 * MIB,
        ge=1024,
        description="Bytes of bodies held at once, reserved before they are read; beyond it 503.",
    )
    max_rows_in_flight: int = Field(
        default=200_000, ge=1, description="Rows waiting or running at once; beyond it 503 with `Retry-After`."
    )
    max_row_bytes_in_flight: int = Field(
        default=2048 * MIB,
        ge=MIB,
        description="Memory of the rows waiting or running at once, states between steps included, in bytes; beyond it "
        "503 with `Retry-After`.",
    )
    default_timeout_ms: int = Field(
        default=30_000,
        ge=1,
        description="Deadline of a request without `X-Timeout-Ms`, in milliseconds; beyond it 504.",
    )
    max_timeout_ms: int = Field(default=600_000, ge=1, description="Longest `X-Timeout-Ms` accepted, in milliseconds.")
    drain_seconds: float = Field(
        default=5.0,
        ge=0,
        description="After SIGTERM, seconds to serve on while `/readyz` says 503, so that load balancers look away.",
    )
    finish_seconds: int = Field(
        default=30, ge=0, description="After draining, how long running requests may take before they are cut off."
    )

    drift_level: float = Field(
        default=0.001,
        gt=0,
        lt=1,
        description="Probability of a false alarm of drift (`/models/MODEL/drift`) that each version may have from the "
        "start of the service to its end; several workers share it.",
    )

    log_format: Literal["console", "json"] = Field(
        default="console", description="Log lines for people (`console`) or for machines (`json`)."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe line logged."
    )
    access_log: bool = Field(
        default=False,
        description="Log a line for every request: method, route, status, seconds, key, model, rows, cache.",
    )
    fast_path: bool = Field(
        default=True,
        description="Answer plain questions ahead of the web framework, with the same answers; turn off to look for a "
        "difference.",
    )

    @property
    def threads(self) -> int:
        """Batches that run at the same time."""
        return self.compute_threads or max(1, len(os.sched_getaffinity(0)) // self.workers)

    @field_validator("required_models", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("redis_url", "cache_key", "keys_file", "pictures", mode="before")
    @classmethod
    def _unset(cls, value: Any) -> Any:
        # `REDIS_URL=` in an environment file means "none", as everywhere else.
        return None if value == "" else value

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        for name in ("max_json_bytes", "max_binary_bytes"):
            if getattr(self, name) > self.max_bytes_in_flight:
                raise ValueError(f"{name} must not exceed max_bytes_in_flight, or the largest body never fits")
        if self.rows_per_minute is not None and self.keys_file is None:
            raise ValueError("rows_per_minute is the quota of a key and needs keys_file; see anonymous_rows_per_minute")
        if self.default_timeout_ms > self.max_timeout_ms:
            raise ValueError("default_timeout_ms must not exceed max_timeout_ms")
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def variables(name: str) -> tuple[str, ...]:
    """Environment variables that set the field ``name``, the first one winning."""
    alias = Settings.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices)
    return (f"{PREFIX}{name.upper()}",)


def settings_page() -> str:
    """The documentation of every setting, as Markdown."""
    lines = [
        "# Settings",
        "",
        "Each is an environment variable; `nonesuch serve --help` names the flags that set the common ones.",
        "Written by `python -m service.settings`; edit `service/settings.py` instead.",
        "",
        "| Variable | Default | Meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        shown = " or ".join(f"`{variable}`" for variable in variables(name))
        lines.append(f"| {shown} | {_default(field)} | {field.description} |")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value == ():
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


if __name__ == "__main__":
    print(settings_page(), end="")
