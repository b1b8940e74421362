"""``nonesuch``: finds the subcommand, and imports nothing else.

Subcommands are named here and loaded when one is called, so that ``nonesuch --help`` answers at once and serving
never imports torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer

__all__ = ["SUBCOMMANDS", "Subcommand", "main"]


@dataclass(frozen=True)
class Subcommand:
    """A subcommand: the function of its own name in a module of its own.

    Attributes:
        help: one line for the list.
        extra: the optional dependencies that it needs, as ``pip install 'nonesuch[EXTRA]'`` names them.
    """

    help: str
    extra: str | None = None


_ALL = {
    "serve": Subcommand("Serve bundles over HTTP."),
    "train": Subcommand("Train a recipe into a bundle.", extra="training"),
    "evaluate": Subcommand("Measure a bundle on the test fold of its recipe.", extra="training"),
    "score": Subcommand("Score a file of rows, or a Redis Stream of them, with a bundle.", extra="scoring"),
    "pack": Subcommand("Make a bundle of an ONNX file from anywhere."),
    "calibrate": Subcommand("Calibrate a bundle's alarms with your own ordinary rows.", extra="scoring"),
    "key": Subcommand("Make a key that lets somebody ask the service."),
    "lock": Subcommand("Pin the digests of a folder of bundles in its bundles.lock."),
}
SUBCOMMANDS: dict[str, Subcommand] = {
    name: subcommand for name, subcommand in _ALL.items() if importlib.util.find_spec(f"commands.{name}") is not None
}
"""The subcommands of this installation."""

# What each extra installs; a module missing from anywhere else is a fault of ours and keeps its traceback.
_INSTALLED_BY = {
    "training": (
        "torch",
        "lightning",
        "sklearn",
        "scipy",
        "onnxscript",
        "safetensors",
        "yaml",
        "tensorboard",
        "pyarrow",
    ),
    "scoring": ("pyarrow",),
}
_REMARKS = {"training": " (torch is large)"}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ``arguments`` are those of the process when absent."""
    given = sys.argv[1:] if arguments is None else arguments
    called = next((word for word in given if not word.startswith("-")), None)
    app = typer.Typer(
        name="nonesuch",
        help="A sampling and density service for generative models.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_together)
    try:
        for name, subcommand in SUBCOMMANDS.items():
            function = _load(name) if name == called else _unloaded
            app.command(name, help=None if name == called else subcommand.help)(function)
        app(args=given, prog_name="nonesuch")
    except ModuleNotFoundError as error:
        message = _explanation(error, called)
        if message is None:
            raise
        sys.exit(message)


def _together() -> None:
    """A callback makes a group of even one command."""


def _unloaded() -> None:
    """Stands for a subcommand that was not called."""


def _load(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(importlib.import_module(f"commands.{name}"), name)
    return function


def _explanation(error: ModuleNotFoundError, called: str | None) -> str | None:
    subcommand = SUBCOMMANDS.get(called or "")
    package = (error.name or "").partition(".")[0]
    if subcommand is None or subcommand.extra is None or package not in _INSTALLED_BY[subcommand.extra]:
        return None
    return (
        f"nonesuch {called} needs {package}, which is not installed here.\n"
        f"Install what {subcommand.extra} needs{_REMARKS.get(subcommand.extra, '')}: "
        f"pip install 'nonesuch[{subcommand.extra}]'"
    )


if __name__ == "__main__":
    main()
