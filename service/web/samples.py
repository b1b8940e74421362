"""Samples as the pages show them: addresses, one row, and what the other rows look like."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray

from contract.capabilities import NumberKind
from contract.programs import Program
from contract.randomness import ADDRESS_LIMIT
from contract.support import Support
from runtime.model import LoadedModel
from runtime.picture import is_picture, png
from service.api.problems import ProblemError
from service.errand import Errand
from service.errors import NotSupported, Overloaded, TooLarge
from service.parts import Parts
from service.web.choices import NOTHING, Chosen, default_of, own_noise, read_choices
from service.web.store import PictureStore

__all__ = [
    "PREFIX_LENGTH",
    "Address",
    "Gallery",
    "Likely",
    "address_at",
    "content_etag",
    "find_address",
    "picture_etag",
    "random_seed",
    "sample_curl",
]

PREFIX_LENGTH = 8
"""Characters of the program digest in a permanent address."""

PICTURE_PIXELS = 448
CLOUD_ROWS = 400
KEPT_CLOUDS = 16


@dataclass(frozen=True)
class Address:
    """Row ``row`` of ``seed`` of a model, drawn with what was chosen: what a permanent link names."""

    model: LoadedModel
    seed: int
    row: int
    chosen: Chosen = NOTHING

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model.manifest.name

    @property
    def support(self) -> Support:
        """The model's support."""
        return self.model.manifest.support

    @property
    def program(self) -> Program:
        """The program that draws it."""
        return self.model.program("sample")

    @property
    def path(self) -> str:
        """The permanent path; it outlives new versions that draw the same, and dies with the program that drew it."""
        return f"{self._place}{self.chosen.suffix}"

    @property
    def picture(self) -> str:
        """The permanent path of its picture."""
        return f"{self._place}.png{self.chosen.suffix}"

    @property
    def another(self) -> str:
        """The path to another sample drawn in this way; it names what pages would otherwise choose for themselves."""
        noise = own_noise(self.program, self.support)
        query = self.chosen.query
        if noise is not None and noise.default is not None and noise.name not in dict(self.chosen.parameters):
            query = "&".join([*filter(None, [query]), f"{noise.name}={noise.default:g}"])
        elif self.chosen == default_of(self.program, self.support):
            query = ""
        return f"/x/{self.name}?{query}" if query else f"/x/{self.name}"

    @property
    def _place(self) -> str:
        return f"/x/{self.name}@{self.prefix}/{self.seed}/{self.row}"

    @property
    def prefix(self) -> str:
        """What the address says of the program that draws it."""
        return self.model.program_digest("sample")[:PREFIX_LENGTH]

    def at(self, row: int) -> Address | None:
        """The address of another row of the seed, or None where there is none."""
        return replace(self, row=row) if 0 <= row < ADDRESS_LIMIT else None


def random_seed() -> int:
    """A seed from the operating system's randomness."""
    return secrets.randbelow(ADDRESS_LIMIT)


def address_at(model: LoadedModel, seed: int, row: int, query: bytes = b"") -> Address:
    """An address whose numbers came from a path that names no program: what it does not say, pages choose.

    Raises:
        NotSupported: the model cannot sample.
        ProblemError: a number is out of range, or the query string asks for what the model's samples do not take.
    """
    address = _checked(model, seed, row)
    return replace(address, chosen=default_of(address.program, address.support, query))


def _checked(model: LoadedModel, seed: int, row: int) -> Address:
    if "sample" not in model.manifest.capabilities:
        reason = model.manifest.reasons["sample"]
        raise NotSupported(model.manifest.name, "sample", reason)
    if seed >= ADDRESS_LIMIT or row >= ADDRESS_LIMIT:
        raise ProblemError("unknown-address", "seeds and rows are whole numbers below 2**53", expected="below 2**53")
    return Address(model, seed, row)


def find_address(parts: Parts, name: str, prefix: str, seed: int, row: int, query: bytes = b"") -> Address:
    """The address that a permanent path names.

    Raises:
        UnknownModel: no such model.
        ProblemError: no version of the model that is served draws under this digest, or not what the query string asks.
    """
    parts.catalogue.get(name, None)
    if len(prefix) == PREFIX_LENGTH:
        for version in reversed(parts.catalogue.versions(name)):
            model = parts.catalogue.get(name, version)
            if "sample" in model.manifest.capabilities and model.program_digest("sample").startswith(prefix):
                address = _checked(model, seed, row)
                return replace(address, chosen=read_choices(address.program, query))
    raise ProblemError(
        "unknown-address",
        f"no version of {name!r} that is served here draws under the digest {prefix[:64]!r}; "
        "the bundle that drew this sample is gone, or the link was never one",
    )


def picture_etag(address: Address) -> str:
    """A strong entity tag of a picture: whatever its bytes depend on."""
    program, scale = address.model.program_digest("sample"), picture_scale(address.support)
    place = f"{address.seed}|{address.row}|{address.chosen.query}"
    what = f"{program}|{address.model.profile}|{place}|{scale}|{PIL.__version__}"
    return f'"{hashlib.blake2b(what.encode(), digest_size=16).hexdigest()}"'


def content_etag(content: bytes) -> str:
    """A strong entity tag of a picture that is kept: of its bytes, whoever drew them."""
    return f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


def picture_scale(support: Support) -> int:
    """Pixels of the picture to a pixel of the row."""
    return max(1, PICTURE_PIXELS // max(support.shape[:2]))


def sample_curl(
    base: str,
    model: LoadedModel,
    *,
    n: int,
    seed: int,
    start: int = 0,
    chosen: Chosen = NOTHING,
    pin: bool = False,
    keyed: bool = False,
) -> str:
    """The command that draws samples, for a shell; where it needs a key, one that the shell holds."""
    asked: dict[str, Any] = {"model": model.manifest.name}
    asked |= {"version": model.manifest.version} if pin else {}
    asked |= {"n": n, "seed": seed}
    asked |= {"start": start} if start else {}
    asked |= {"condition": dict(chosen.condition)} if chosen.condition else {}
    asked |= {"parameters": dict(chosen.parameters)} if chosen.parameters else {}
    key = ' -H "Authorization: Bearer $NONESUCH_KEY"' if keyed else ""
    body = json.dumps(asked, separators=(",", ":")).replace("'", "\\u0027")  # a quote would end the shell's string
    return f"curl -s {base}/sample{key} -H 'Content-Type: application/json' \\\n  -d '{body}'"


class Likely(NamedTuple):
    """A log-probability, its standard error where it has one, what kind of number it is, and the labels it is given."""

    log_prob: float
    error: float | None
    kind: NumberKind
    given: tuple[str, ...]


class Gallery:
    """Draws rows for pages, through the same operations as everybody else.

    Args:
        parts: the service.
    """

    def __init__(self, parts: Parts):
        self._parts = parts
        self._clouds: OrderedDict[str, NDArray[np.float64]] = OrderedDict()
        folder = parts.settings.pictures
        self._store = PictureStore(folder, parts.settings.pictures_bytes) if folder is not None else None

    @property
    def keeps(self) -> bool:
        """Whether pictures are kept."""
        return self._store is not None

    async def row(self, address: Address, errand: Errand) -> NDArray[Any]:
        """The row at an address, [*shape]."""
        row: NDArray[Any] = (await self._sampled(address, 1, errand))["rows"][0]
        return row

    async def _sampled(self, address: Address, n: int, errand: Errand) -> dict[str, Any]:
        """The answer about n rows from an address on."""
        manifest, chosen = address.model.manifest, address.chosen
        answer = await self._parts.operations.raw.sample(
            manifest.name,
            manifest.version,
            n=n,
            seed=address.seed,
            start=address.row,
            condition=dict(chosen.condition),
            parameters=dict(chosen.parameters),
            errand=errand,
        )
        return answer.body

    async def picture(self, address: Address, errand: Errand) -> bytes:
        """The row at an address as a PNG."""
        return png(await self.row(address, errand), address.support, picture_scale(address.support))

    async def kept(self, name: str, prefix: str, seed: int, row: int, chosen: str) -> bytes | None:
        """The picture that was first drawn at an address, whether or not what drew it is still served."""
        if self._store is None:
            return None
        return await asyncio.to_thread(self._store.get, name, prefix, seed, row, chosen)

    async def keep(self, address: Address, content: bytes) -> bytes:
        """Keep a picture; gives the one to show, which is another's if that was kept first."""
        if self._store is None:
            return content
        where = address.name, address.prefix, address.seed, address.row
        return await asyncio.to_thread(self._store.put, *where, content, address.chosen.query)

    async def log_prob(self, address: Address, row: NDArray[Any], errand: Errand) -> Likely | None:
        """How likely a row is, given what it was drawn for, where the model knows."""
        manifest = address.model.manifest
        program = manifest.capabilities.get("log_prob")
        if program is None:
            return None
        known = {name: label for name, label in address.chosen.condition if program.input(name) is not None}
        answer = await self._parts.operations.log_prob(
            manifest.name, manifest.version, rows=[row.tolist()], condition=known, errand=errand
        )
        body = answer.body
        error = body.get("standard_error")  # of each row, or one that all rows share
        error = None if error is None else float(np.ravel(error)[0])
        return Likely(float(body["log_prob"][0]), error, body["kind"], tuple(known.values()))

    async def cloud(self, address: Address, errand: Errand) -> NDArray[np.float64] | None:
        """Some hundred samples of seed 0, [n, *shape], drawn in the same way; kept as long as somebody looks at them.

        They are the background: None when there is no time for them now.
        """
        key = f"{address.model.program_digest('sample')}?{address.chosen.query}"
        if key not in self._clouds:
            try:
                self._clouds[key] = await self._draw(replace(address, seed=0, row=0), CLOUD_ROWS, errand)
            except Overloaded:
                return None
            while len(self._clouds) > KEPT_CLOUDS:
                self._clouds.popitem(last=False)
        self._clouds.move_to_end(key)
        return self._clouds[key]

    async def _draw(self, address: Address, n: int, errand: Errand) -> NDArray[np.float64]:
        try:
            answer = await self._sampled(address, n, errand)
        except TooLarge as error:
            answer = await self._sampled(address, error.most, errand)
        rows: NDArray[np.float64] = answer["rows"].astype(np.float64)
        return rows


def planar(support: Support) -> bool:
    """Whether rows are points of a plane."""
    return support.columns is not None and support.size == 2 and not support.discrete


def tabular(support: Support) -> bool:
    """Whether rows are neither pictures nor points, and few enough numbers to be compared with others."""
    return not is_picture(support) and not planar(support) and support.columns is not None
