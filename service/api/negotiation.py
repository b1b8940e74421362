"""Which type a body has, and which type the answer shall have (RFC 9110, sections 8.3, 8.4 and 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers

from service.api.problems import ProblemError

__all__ = ["EVENTS", "JSON", "NPY", "NPZ", "PNG", "answer_type", "body_type", "choose"]

JSON = "application/json"
NPY = "application/x-npy"
NPZ = "application/x-npz"
PNG = "image/png"
EVENTS = "text/event-stream"


def choose(header: str | None, offered: Sequence[str]) -> str | None:
    """The type of ``offered`` that an Accept header wants most; None if it wants none of them.

    For each type the most specific range that matches decides. Between types of equal quality the one that was named
    most specifically wins, then the one that is offered first.
    """
    if header is None or not header.strip():
        return offered[0]
    ranges = [_range(part) for part in header.split(",")]
    best, wanted = (0.0, 0), None
    for media_type in offered:
        ranks = {media_type: 3, f"{media_type.partition('/')[0]}/*": 2, "*/*": 1}
        rank, quality = max(
            ((ranks[name], -place, quality) for place, (name, quality) in enumerate(ranges) if name in ranks),
            default=(0, 0, 0.0),
        )[::2]
        if quality > 0 and (quality, rank) > best:
            best, wanted = (quality, int(rank)), media_type
    return wanted


def _range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = next((p[2:].strip() for p in parameters if p.startswith("q=")), "1")
    try:
        return name, float(weight)
    except ValueError:
        return name, 1.0


def answer_type(headers: Headers, offered: Sequence[str]) -> str:
    """The type that the answer shall have.

    Raises:
        ProblemError: 406.
    """
    accept = headers.get("accept")
    wanted = choose(accept, offered)
    if wanted is None:
        types = _or(offered)
        raise ProblemError("not-acceptable", f"the answer is {types}, which Accept: {accept} excludes", expected=types)
    return wanted


def body_type(headers: Headers, taken: Sequence[str], *, may_be_absent: bool = False) -> str:
    """The type that the body is said to have; where there may be none, and is none, it counts as JSON.

    Raises:
        ProblemError: 415.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise ProblemError(
            "unsupported-media-type", f"compressed bodies are not taken (Content-Encoding: {encoding})", got=encoding
        )
    given = headers.get("content-type")
    absent = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    if given is None and may_be_absent and absent:
        return JSON
    name, _, parameters = (given or "").partition(";")
    name = name.strip().lower()
    if name not in taken or (name == JSON and _charset(parameters) not in ("utf-8", "utf8", "us-ascii")):
        said = f"Content-Type: {given}" if given else "there is no header Content-Type"
        types = _or(taken)
        raise ProblemError(
            "unsupported-media-type", f"expected Content-Type: {types}, got {said}", expected=types, got=given
        )
    return name


def _charset(parameters: str) -> str:
    named = (p.partition("=") for p in parameters.split(";"))
    return next((value.strip(' "').lower() for name, _, value in named if name.strip().lower() == "charset"), "utf-8")


def _or(types: Sequence[str]) -> str:
    return types[0] if len(types) == 1 else f"{', '.join(types[:-1])} or {types[-1]}"
