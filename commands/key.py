"""``nonesuch key``: a new key, shown once, and the line that stands for it in the service's file of keys."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

__all__ = ["key"]


def key(
    name: Annotated[str, typer.Argument(help="Whose key it is, as logs and metrics will call them.")],
    rows_per_minute: Annotated[
        int | None, typer.Option(min=1, help="A quota of its own, in rows a minute.", show_default="the service's")
    ] = None,
) -> None:
    """Make a key. It is printed once; the service needs only its line, which does not give the key away."""
    from service.auth import ANONYMOUS, Key, hash_key, new_key, valid_name

    if not valid_name(name) or name == ANONYMOUS:
        sys.exit(
            f"nonesuch key: {name!r} is no name of a key; expected 1 to 63 letters, digits, dots, dashes and "
            f"underscores, the first a letter or digit, and not {ANONYMOUS!r}"
        )
    made = new_key()
    print(f"The key of {name}, which is not shown again:\n")
    print(f"  {made}\n")
    print("Its line in the file that NONESUCH_KEYS_FILE names:\n")
    print(f"  {Key(name, hash_key(made), rows_per_minute).line()}\n")
    print(f"It is used as: curl -H 'Authorization: Bearer {made[:12]}...'")
