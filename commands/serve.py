"""``nonesuch serve``: bundles over HTTP, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["serve"]


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 takes a free one.", show_default="8000")
    ] = None,
    bundles: Annotated[Path | None, typer.Option(help="Folder of bundles.", show_default="bundles")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve.", show_default="1")] = None,
    redis_url: Annotated[str | None, typer.Option(help="Redis behind the memory cache.", envvar=[])] = None,
    keys_file: Annotated[
        Path | None, typer.Option(help="File of keys, without one of which nobody may ask; see `nonesuch key`.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Where graphs run, cpu or cuda.", show_default="cpu")] = None,
    allow_anonymous: Annotated[
        bool | None,
        typer.Option("--allow-anonymous", help="Listen on a public address without keys, open to all."),
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="Log lines: console or json.", show_default="console")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default="info")] = None,
    access_log: Annotated[bool | None, typer.Option("--access-log", help="Log a line for every request.")] = None,
) -> None:
    """Serve bundles over HTTP.

    Every flag is also an environment variable, NONESUCH_HOST and so on; docs/settings.md lists them all. Flags win.
    """
    from pydantic import ValidationError

    from service.settings import Settings, variables

    given: dict[str, Any] = {name: value for name, value in locals().items() if name in Settings.model_fields}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        where = f"{variables(name)[0]}: " if name in Settings.model_fields else f"{name}: " if name else ""
        sys.exit(f"nonesuch serve: {where}{first['msg']}")

    from service.auth import Keyring
    from service.listener import ServeError, open_socket

    if settings.keys_file is not None:
        try:
            Keyring.read(settings.keys_file)
        except ValueError as error:
            sys.exit(f"nonesuch serve: {error}")
    may_be_public = settings.allow_anonymous or settings.keys_file is not None
    try:
        with open_socket(settings.host, settings.port, may_be_public=may_be_public) as listener:
            if settings.workers > 1:
                from service.workers import run_workers

                run_workers(settings, listener)
            else:
                from service.server import run

                run(settings, listener)
    except ServeError as error:
        sys.exit(f"nonesuch serve: {error}")
    except KeyboardInterrupt:  # before there was a server to tell
        sys.exit(130)
