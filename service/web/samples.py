"""Samples as the pages show them: addresses, one row, and what the other rows look like."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from contract.capabilities import NumberKind
from contract.randomness import ADDRESS_LIMIT
from contract.support import Support
from runtime.model import LoadedModel
from runtime.picture import is_picture, png
from service.api.problems import ProblemError
from service.errand import Errand
from service.errors import NotSupported, Overloaded, TooLarge
from service.parts import Parts
from service.web.store import PictureStore

__all__ = [
    "PREFIX_LENGTH",
    "Address",
    "Gallery",
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
    """Row ``row`` of ``seed`` of a model: what a permanent link names."""

    model: LoadedModel
    seed: int
    row: int

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model.manifest.name

    @property
    def support(self) -> Support:
        """The model's support."""
        return self.model.manifest.support

    @property
    def path(self) -> str:
        """The permanent path; it outlives new versions that draw the same, and dies with the program that drew it."""
        return f"/x/{self.name}@{self.prefix}/{self.seed}/{self.row}"

    @property
    def prefix(self) -> str:
        """What the address says of the program that draws it."""
        return self.model.program_digest("sample")[:PREFIX_LENGTH]

    def at(self, row: int) -> Address | None:
        """The address of another row of the seed, or None where there is none."""
        return Address(self.model, self.seed, row) if 0 <= row < ADDRESS_LIMIT else None


def random_seed() -> int:
    """A seed from the operating system's randomness."""
    return secrets.randbelow(ADDRESS_LIMIT)


def address_at(model: LoadedModel, seed: int, row: int) -> Address:
    """An address whose numbers came from a path.

    Raises:
        NotSupported: the model cannot sample.
        ProblemError: a number is out of range.
    """
    if "sample" not in model.manifest.capabilities:
        reason = model.manifest.refusals.get("sample", "it cannot sample")
        raise NotSupported(model.manifest.name, "sample", reason)
    if seed >= ADDRESS_LIMIT or row >= ADDRESS_LIMIT:
        raise ProblemError("unknown-address", "seeds and rows are whole numbers below 2**53", expected="below 2**53")
    return Address(model, seed, row)


def find_address(parts: Parts, name: str, prefix: str, seed: int, row: int) -> Address:
    """The address that a permanent path names.

    Raises:
        UnknownModel: no such model.
        ProblemError: no version of the model that is served draws under this digest.
    """
    parts.catalogue.get(name, None)
    if len(prefix) == PREFIX_LENGTH:
        for version in reversed(parts.catalogue.versions(name)):
            model = parts.catalogue.get(name, version)
            if "sample" in model.manifest.capabilities and model.program_digest("sample").startswith(prefix):
                return address_at(model, seed, row)
    raise ProblemError(
        "unknown-address",
        f"no version of {name!r} that is served here draws under the digest {prefix[:64]!r}; "
        "the bundle that drew this sample is gone, or the link was never one",
    )


def picture_etag(address: Address) -> str:
    """A strong entity tag of a picture: whatever its bytes depend on."""
    program, scale = address.model.program_digest("sample"), picture_scale(address.support)
    what = f"{program}|{address.model.profile}|{address.seed}|{address.row}|{scale}|{PIL.__version__}"
    return f'"{hashlib.blake2b(what.encode(), digest_size=16).hexdigest()}"'


def content_etag(content: bytes) -> str:
    """A strong entity tag of a picture that is kept: of its bytes, whoever drew them."""
    return f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


def picture_scale(support: Support) -> int:
    """Pixels of the picture to a pixel of the row."""
    return max(1, PICTURE_PIXELS // max(support.shape[:2]))


def sample_curl(
    base: str, model: LoadedModel, *, n: int, seed: int, start: int = 0, pin: bool = False, keyed: bool = False
) -> str:
    """The command that draws samples, for a shell; where it needs a key, one that the shell holds."""
    version = f',"version":{model.manifest.version}' if pin else ""
    first = f',"start":{start}' if start else ""
    key = ' -H "Authorization: Bearer $NONESUCH_KEY"' if keyed else ""
    return (
        f"curl -s {base}/sample{key} -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"model":"{model.manifest.name}"{version},"n":{n},"seed":{seed}{first}}}\''
    )


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

    async def row(self, address: Address, deadline: float) -> NDArray[Any]:
        """The row at an address, [*shape]."""
        manifest = address.model.manifest
        answer = await self._parts.operations.sample(
            manifest.name, manifest.version, n=1, seed=address.seed, start=address.row, errand=Errand(deadline)
        )
        row: NDArray[Any] = answer.body["rows"][0]
        return row

    async def picture(self, address: Address, deadline: float) -> bytes:
        """The row at an address as a PNG."""
        return png(await self.row(address, deadline), address.support, picture_scale(address.support))

    async def kept(self, name: str, prefix: str, seed: int, row: int) -> bytes | None:
        """The picture that was first drawn at an address, whether or not what drew it is still served."""
        if self._store is None:
            return None
        return await asyncio.to_thread(self._store.get, name, prefix, seed, row)

    async def keep(self, address: Address, content: bytes) -> bytes:
        """Keep a picture; gives the one to show, which is another's if that was kept first."""
        if self._store is None:
            return content
        where = address.name, address.prefix, address.seed, address.row
        return await asyncio.to_thread(self._store.put, *where, content)

    async def log_prob(self, model: LoadedModel, row: NDArray[Any], deadline: float) -> tuple[float, NumberKind] | None:
        """Log-probability of a row and its kind, where the model has one."""
        manifest = model.manifest
        if "log_prob" not in manifest.capabilities:
            return None
        answer = await self._parts.operations.log_prob(
            manifest.name, manifest.version, rows=[row.tolist()], errand=Errand(deadline)
        )
        return float(answer.body["log_prob"][0]), answer.body["kind"]

    async def cloud(self, model: LoadedModel, deadline: float) -> NDArray[np.float64] | None:
        """Some hundred samples of seed 0, [n, *shape], kept for as long as the model is looked at.

        They are the background: None when there is no time for them now.
        """
        key = model.program_digest("sample")
        if key not in self._clouds:
            try:
                self._clouds[key] = await self._draw(model, CLOUD_ROWS, deadline)
            except Overloaded:
                return None
            while len(self._clouds) > KEPT_CLOUDS:
                self._clouds.popitem(last=False)
        self._clouds.move_to_end(key)
        return self._clouds[key]

    async def _draw(self, model: LoadedModel, n: int, deadline: float) -> NDArray[np.float64]:
        name, version = model.manifest.name, model.manifest.version
        try:
            answer = await self._parts.operations.sample(name, version, n=n, seed=0, errand=Errand(deadline))
        except TooLarge as error:
            answer = await self._parts.operations.sample(name, version, n=error.most, seed=0, errand=Errand(deadline))
        rows: NDArray[np.float64] = answer.body["rows"].astype(np.float64)
        return rows


def planar(support: Support) -> bool:
    """Whether rows are points of a plane."""
    return support.columns is not None and support.size == 2 and not support.discrete


def tabular(support: Support) -> bool:
    """Whether rows are neither pictures nor points, and few enough numbers to be compared with others."""
    return not is_picture(support) and not planar(support) and support.columns is not None
