"""Routes of the pages: ``/``, ``/x/…``, ``/docs`` and ``/problems/…``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from contract.capabilities import KIND_WORDS
from contract.errors import InputError
from runtime.model import LoadedModel
from runtime.picture import is_picture
from service.api.access import charge, errand_of
from service.api.calls import DisconnectWatch, parts_of, require_started
from service.api.problems import KINDS, ProblemError
from service.errand import Errand
from service.errors import DeadlineExceeded, Overloaded
from service.web.choices import own_noise, tidy
from service.web.figures import number, scatter
from service.web.samples import (
    Address,
    Gallery,
    address_at,
    content_etag,
    find_address,
    picture_etag,
    picture_scale,
    planar,
    random_seed,
    sample_curl,
    tabular,
)
from service.web.shown import choices, noise, values

__all__ = ["STATIC", "problem_page", "router", "wants_page"]

STATIC = Path(__file__).parent / "static"
FEW_VALUES = 4
MOSAIC = 8
PERMANENT = "public, max-age=31536000, immutable"

_PAGE_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Swagger UI draws its icons from data: addresses, and asks this server for the document and for the tries.
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(("html",)),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _page(
    request: Request, template: str, *, status: int = 200, policy: str = _PAGE_POLICY, **context: Any
) -> HTMLResponse:
    text = _templates.get_template(template).render(root=request.scope.get("root_path", ""), **context)
    return HTMLResponse(
        text,
        status,
        headers={
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        },
    )


# -- routes ----------------------------------------------------------------------------------------------------


@router.api_route("/", methods=["GET", "HEAD"])
async def home(request: Request) -> Response:
    """What is served, each with a fresh sample."""
    parts = parts_of(request)
    require_started(parts)
    models = [parts.catalogue.get(name, None) for name in parts.catalogue.names()]
    drawable = [model for model in models if "sample" in model.manifest.capabilities]
    async with _within(request) as errand:
        gallery = _gallery(request)
        cards = [await _card(request, gallery, model, errand) for model in drawable]
    # The shortest answer makes the best first try.
    first = min(drawable, key=lambda model: model.manifest.support.size, default=None)
    curl = sample_curl(_base(request), first, n=3, seed=42) if first is not None else ""
    return _page(request, "home.html", cards=cards, curl=curl)


@router.api_route("/x/{model}@{prefix}/{seed:int}/{row:int}.png", methods=["GET", "HEAD"])
async def picture(request: Request, model: str, prefix: str, seed: int, row: int) -> Response:
    """A sample's picture, for ever the same."""
    parts, gallery = parts_of(request), _gallery(request)
    require_started(parts)
    query: bytes = request.scope["query_string"]
    content = await gallery.kept(model, prefix, seed, row, tidy(query))
    if content is not None:
        return _picture(request, content_etag(content), content)
    address = find_address(parts, model, prefix, seed, row, query)
    if not is_picture(address.support):
        raise ProblemError("not-found", f"rows of {model!r} are no pictures; the page of this one is {address.path}")
    etag = picture_etag(address)
    if not gallery.keeps and _matches(request.headers.get("if-none-match"), etag):
        return _picture(request, etag, b"")
    async with _within(request) as errand:
        content = await gallery.keep(address, await gallery.picture(address, errand))
    return _picture(request, content_etag(content) if gallery.keeps else etag, content)


def _picture(request: Request, etag: str, content: bytes) -> Response:
    """A picture, or word that the client has it."""
    headers = {
        "ETag": etag,
        "Cache-Control": PERMANENT,
        "Access-Control-Allow-Origin": "*",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    if _matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="image/png", headers=headers)


@router.api_route("/x/{model}@{prefix}/{seed:int}/{row:int}", methods=["GET", "HEAD"])
async def permanent(request: Request, model: str, prefix: str, seed: int, row: int) -> Response:
    """The page of one sample."""
    parts = parts_of(request)
    require_started(parts)
    return await _sample_page(request, find_address(parts, model, prefix, seed, row, request.scope["query_string"]))


@router.api_route("/x/{model}/{seed:int}", methods=["GET", "HEAD"])
async def of_seed(request: Request, model: str, seed: int) -> Response:
    """From a seed to the permanent page of its first row, as the newest version draws it."""
    parts = parts_of(request)
    address = address_at(parts.catalogue.get(model, None), seed, 0, request.scope["query_string"])
    return RedirectResponse(_root(request) + address.path, 307, headers={"Cache-Control": "no-store"})


@router.api_route("/x/{model}", methods=["GET", "HEAD"])
async def fresh(request: Request, model: str) -> Response:
    """A sample that nobody has seen before."""
    parts = parts_of(request)
    address = address_at(parts.catalogue.get(model, None), random_seed(), 0, request.scope["query_string"])
    return await _sample_page(request, address)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request) -> Response:
    """The OpenAPI description, to read and to try."""
    return _page(request, "docs.html", policy=_DOCS_POLICY)


@router.api_route("/problems/{slug}", methods=["GET", "HEAD"])
async def problem_kind(request: Request, slug: str) -> Response:
    """What a kind of problem is, at the address that is its type."""
    kind = KINDS.get(slug)
    if kind is None:
        raise ProblemError("not-found", f"there is no kind of problem called {slug[:64]!r}")
    return _page(
        request, "problem.html", title=kind.title, code=kind.status, detail=None, advice=kind.advice, request_id=None
    )


# -- pages for problems ------------------------------------------------------------------------------------------


def wants_page(request: Request) -> bool:
    """Whether the client is a browser that opened an address, rather than a program."""
    return "text/html" in request.headers.get("accept", "")


def problem_page(request: Request, problem: ProblemError) -> Response:
    """A problem as a page."""
    page = _page(
        request,
        "problem.html",
        status=problem.status,
        code=problem.status,
        title=problem.kind.title,
        detail=problem.detail,
        advice=problem.kind.advice,
        request_id=request.state.request_id,
    )
    page.headers.update(problem.headers)
    return page


# -- what pages show -----------------------------------------------------------------------------------------------


async def _sample_page(request: Request, address: Address) -> Response:
    root, model, manifest, support = _root(request), address.model, address.model.manifest, address.support
    gallery = _gallery(request)
    context: dict[str, Any] = {"picture": None, "svg": None, "values": [], "more": 0, "strips": False}
    async with _within(request) as errand:
        row = await gallery.row(address, errand)
        likely = await gallery.log_prob(address, row, errand)
        if is_picture(support):
            scale = picture_scale(support)
            height, width = support.shape[:2]
            context |= {"picture": root + address.picture, "width": width * scale, "height": height * scale}
        else:
            cloud = await gallery.cloud(address, errand) if planar(support) or tabular(support) else None
            context |= values(model, row, cloud)
    before, after = address.at(address.row - 1), address.at(address.row + 1)
    return _page(
        request,
        "sample.html",
        title=manifest.title,
        description=manifest.description,
        name=manifest.name,
        family=manifest.family,
        version=manifest.version,
        seed=address.seed,
        row=address.row,
        base=_base(request).removesuffix(root),
        permanent=root + address.path,
        previous=root + before.path if before else None,
        next=root + after.path if after else None,
        fresh=root + address.another,
        choices=choices(root, address),
        noise=noise(root, address),
        labels=[label for _, label in address.chosen.condition],
        drawn_with=[
            *address.chosen.condition,
            *((name, number(value)) for name, value in address.chosen.parameters),
        ],
        card=f"{root}/models/{manifest.name}/versions/{manifest.version}",
        log_prob={
            "label": "Log-probability" if support.discrete else "Log-density",
            "text": number(likely.log_prob, 5) + ("" if likely.error is None else f" ± {number(likely.error, 2)}"),
            "kind": KIND_WORDS[likely.kind],
            "given": ", ".join(likely.given),
        }
        if likely
        else None,
        curl=sample_curl(
            _base(request), model, n=1, seed=address.seed, start=address.row, chosen=address.chosen, pin=True
        ),
        **context,
    )


async def _card(request: Request, gallery: Gallery, model: LoadedModel, errand: Errand) -> dict[str, Any]:
    manifest, root = model.manifest, _root(request)
    first = address_at(model, random_seed(), 0)
    card: dict[str, Any] = {
        "name": manifest.name,
        "title": manifest.title,
        "description": manifest.description,
        "family": manifest.family,
        "version": manifest.version,
        "next": f"{root}/x/{manifest.name}",
        "pictures": None,
        "mean": False,
        "svg": None,
        "few": None,
        "more": 0,
    }
    # A model that is busy, or does not converge, stands there without a sample.
    with suppress(Overloaded, InputError):
        card |= await _figure(root, gallery, first, errand)
    return card


async def _figure(root: str, gallery: Gallery, first: Address, errand: Errand) -> dict[str, Any]:
    model, support = first.model, first.support
    if is_picture(support):
        scale = picture_scale(support)
        return {
            "pictures": [root + replace(first, row=row).picture for row in range(MOSAIC)],
            "width": support.shape[1] * scale,
            "height": support.shape[0] * scale,
            "mean": own_noise(first.program, support) is not None,
        }
    row = await gallery.row(first, errand)
    if planar(support):
        cloud = await gallery.cloud(first, errand)
        flat = row.reshape(2).astype(np.float64)
        axes = (support.label(0), support.label(1))
        return {"svg": scatter(cloud if cloud is not None else flat[None], flat, axes, (460, 230))}
    shown = values(model, row, None)["values"][:FEW_VALUES]
    return {"few": shown, "more": support.size - len(shown)}


# -- requests ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _within(request: Request) -> AsyncIterator[Errand]:
    """The default deadline, and an end to the work when the reader leaves."""
    parts = parts_of(request)
    await charge(parts, request.scope, 1)
    seconds = parts.settings.default_timeout_ms / 1000.0
    try:
        async with asyncio.timeout(seconds):
            with DisconnectWatch(request.receive):
                yield errand_of(request.scope, time.perf_counter() + seconds)
    except (TimeoutError, DeadlineExceeded):
        raise DeadlineExceeded(f"the page was not ready within {seconds:g} s") from None


def _gallery(request: Request) -> Gallery:
    gallery: Gallery = request.app.state.gallery
    return gallery


def _root(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/")


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag in tags or "*" in tags
