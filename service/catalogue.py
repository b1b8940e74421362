"""The catalogue: bundles on disk, the models that are served from them, and why the others are not."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import structlog

from contract.bundle import list_versions, open_bundle
from contract.errors import BundleError
from contract.lock import LOCK, read_lock
from runtime.model import LoadedModel, load_model
from service.errors import Starting, UnknownModel
from service.verification import VERIFY, Verdict, verify_bundles

__all__ = ["Catalogue", "Entry"]

_log: Any = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Entry:
    """A model that is served.

    Attributes:
        model: the bundle with its sessions open.
        pinned: whether ``bundles.lock`` names its digest.
        bit_equal: whether its goldens came out the same to the last bit on this machine.
    """

    model: LoadedModel
    pinned: bool
    bit_equal: bool


class _Place(NamedTuple):
    """A version's place: ``NAME/VERSION``."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


class _Scan(NamedTuple):
    """What a look at the disk saw: for each place what would change if the bundle did, and the lock's pins."""

    signatures: dict[_Place, Any]
    pins: Mapping[str, str]


class Catalogue:
    """Models by name and version, kept in step with a folder of bundles.

    Use it from one event loop. A look at the folder lists it and reads the files' sizes and times; only bundles that
    are new or have changed are verified, in a child process, then loaded and warmed in a thread, and only then take
    the place of what was served before. What cannot be verified is refused by name and takes nothing down. A request
    holds the model it was given, so that a model may be replaced while it is at work.

    Args:
        root: folder of bundles, ``NAME/VERSION/`` each.
        provider: ``cpu`` or ``cuda``.
        poll_seconds: time between two looks at the folder.
        patience_seconds: how long the verification of one bundle may take.
        warm: called in a thread with each model before it is served; raising refuses the bundle.
        forget: called with each model that is served no longer.
        verify_command: what verifies bundles, without their folders.

    Raises:
        FileNotFoundError: the root is not a folder.
    """

    def __init__(
        self,
        root: Path,
        *,
        provider: str = "cpu",
        poll_seconds: float = 2.0,
        patience_seconds: float = 120.0,
        warm: Callable[[LoadedModel], None] | None = None,
        forget: Callable[[LoadedModel], None] | None = None,
        verify_command: Sequence[str] = VERIFY,
    ):
        self._root = root.absolute()
        if not self._root.is_dir():
            raise FileNotFoundError(f"the folder of bundles {self._root} does not exist")
        self._provider = provider
        self._poll_seconds = poll_seconds
        self._patience_seconds = patience_seconds
        self._warm = warm
        self._forget = forget
        self._verify_command = verify_command
        self._served: dict[str, dict[int, Entry]] = {}  # versions from high to low
        self._refused: dict[str, str] = {}
        self._seen: dict[_Place, Any] = {}
        self._one_at_a_time = asyncio.Lock()
        self._wake = asyncio.Event()
        self._again = False
        self._watcher: asyncio.Task[None] | None = None
        self._ready = False
        self._awaited: set[_Place] | None = None  # of those there at the start; None before they were listed

    # -- what there is -------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether every bundle that was there at the start has been served or refused."""
        return self._ready

    @property
    def refused(self) -> Mapping[str, str]:
        """Reasons by ``NAME/VERSION``. A version may be served and refused: then its files changed for the worse."""
        return MappingProxyType(self._refused)

    def names(self) -> list[str]:
        """Names of the models served, sorted."""
        return sorted(self._served)

    def versions(self, name: str) -> list[int]:
        """Versions of a model that are served, ascending; empty for an unknown name."""
        return sorted(self._served.get(name, ()))

    def get(self, name: str, version: int | None = None) -> LoadedModel:
        """A model; by default its highest version.

        Raises:
            UnknownModel: no such name, or no such version of it.
            Starting: it may be among the bundles that have not been verified yet since the start.
        """
        return self.entry(name, version).model

    def entry(self, name: str, version: int | None = None) -> Entry:
        """A model with what is known of its bundle. Arguments and errors as for ``get``."""
        versions = self._served.get(name)
        if not self._ready and self._may_come(name, version, versions or {}):
            raise Starting()
        if versions is None:
            raise UnknownModel(name, None, self.names())
        if version is None:
            return next(iter(versions.values()))
        if version not in versions:
            raise UnknownModel(name, version, [str(known) for known in self.versions(name)])
        return versions[version]

    def _may_come(self, name: str, version: int | None, served: Mapping[int, Entry]) -> bool:
        """Whether what is asked for is still to be looked at; no older version stands in for the default."""
        if version in served:
            return False
        return self._awaited is None or any(
            place.name == name
            and (place.version == version if version is not None else place.version > max(served, default=0))
            for place in self._awaited
        )

    def pinned(self, name: str, version: int | None = None) -> bool:
        """Whether ``bundles.lock`` names the digest of this model. Arguments and errors as for ``get``."""
        return self.entry(name, version).pinned

    def missing(self, required: Iterable[str]) -> list[str]:
        """Which of the required models, ``NAME`` or ``NAME/VERSION`` each, are not served."""
        here = set(self._served) | {f"{name}/{version}" for name, found in self._served.items() for version in found}
        return [wanted for wanted in required if wanted not in here]

    # -- keeping in step -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Serve or refuse every bundle that is there now, then keep looking. Run it as a task to answer meanwhile."""
        await self.refresh()
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """Stop looking. Models stay as they are."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
            self._watcher = None

    def reload(self) -> None:
        """Look now (SIGHUP), and try refused bundles again even if their files are as they were."""
        self._again = True
        self._wake.set()

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._wake.wait()
            self._wake.clear()
            again, self._again = self._again, False
            try:
                await self.refresh(again=again)
            except Exception:  # the catalogue outlives whatever this was; the next look may fare better
                _log.exception("looking for bundles failed")

    async def refresh(self, *, again: bool = False) -> None:
        """Look once: drop what is gone, verify what is new or changed, serve what is good.

        Args:
            again: try refused bundles again even if their files are as they were.
        """
        async with self._one_at_a_time:
            try:
                scan = await asyncio.to_thread(_look, self._root)
            except OSError as error:
                # A volume that is away for a moment is no reason to stop serving what is in memory.
                _log.warning("the folder of bundles cannot be read; serving what is loaded", error=str(error))
                return
            for place in [place for place in self._seen if place not in scan.signatures]:
                self._drop(place, "removed")
                self._refused.pop(str(place), None)
                del self._seen[place]
            self._obey(scan.pins)
            changed = [
                place
                for place, signature in scan.signatures.items()
                if self._seen.get(place) != signature or (again and str(place) in self._refused)
            ]
            if not self._ready:
                self._awaited = set(changed)
            await self._verify(_in_order(changed, scan), scan)
            self._ready = True

    async def _verify(self, places: Sequence[_Place], scan: _Scan) -> None:
        folders = {self._root / place.name / str(place.version): place for place in places}
        verdicts = verify_bundles(
            list(folders),
            provider=self._provider,
            patience_seconds=self._patience_seconds,
            command=self._verify_command,
        )
        async with contextlib.aclosing(verdicts):
            async for verdict in verdicts:
                place = folders[verdict.folder]
                reason = verdict.reason or await self._admit(place, verdict, pinned=str(place) in scan.pins)
                if reason is not None:
                    self._refused[str(place)] = reason
                    _log.warning("bundle refused", bundle=str(place), reason=reason)
                else:
                    self._refused.pop(str(place), None)
                self._seen[place] = scan.signatures[place]
                if self._awaited is not None:
                    self._awaited.discard(place)

    async def _admit(self, place: _Place, verdict: Verdict, *, pinned: bool) -> str | None:
        """Load, warm and serve a verified bundle; returns why not, if it cannot be."""
        old = self._served.get(place.name, {}).get(place.version)
        if old is not None and old.model.digest == verdict.digest:  # touched, but the same
            self._serve(place, Entry(old.model, pinned, verdict.bit_equal))
            return None
        try:
            model = await asyncio.to_thread(self._load, verdict)
        except BundleError as error:
            return str(error)
        except Exception as error:  # ONNX Runtime's, NumPy's, or the warming's own
            return f"{verdict.folder}: {type(error).__name__}: {error}"
        self._serve(place, Entry(model, pinned, verdict.bit_equal))
        _log.info("model served", model=place.name, version=place.version, digest=model.digest[:12], pinned=pinned)
        return None

    def _load(self, verdict: Verdict) -> LoadedModel:
        bundle = open_bundle(verdict.folder)
        if bundle.digest != verdict.digest:
            raise BundleError(f"{verdict.folder}: it changed while it was being verified")
        model = load_model(bundle, self._provider)
        if self._warm is not None:
            self._warm(model)
        return model

    def _obey(self, pins: Mapping[str, str]) -> None:
        """Stop serving whatever the lock has come to name another digest for."""
        for name, versions in list(self._served.items()):
            for version, entry in list(versions.items()):
                place = _Place(name, version)
                pin = pins.get(str(place))
                if pin is not None and pin != entry.model.digest:
                    self._drop(place, "no longer what bundles.lock pins")

    # Both replace the inner dictionary and never change it, so that whoever iterates sees one state.

    def _serve(self, place: _Place, entry: Entry) -> None:
        versions = self._served.get(place.name, {})
        old = versions.get(place.version)
        self._served[place.name] = dict(sorted({**versions, place.version: entry}.items(), reverse=True))
        if old is not None and old.model is not entry.model and self._forget is not None:
            self._forget(old.model)

    def _drop(self, place: _Place, why: str) -> None:
        versions = dict(self._served.get(place.name, {}))
        old = versions.pop(place.version, None)
        if old is None:
            return
        if versions:
            self._served[place.name] = versions
        else:
            del self._served[place.name]
        _log.info("model dropped", model=place.name, version=place.version, why=why)
        if self._forget is not None:
            self._forget(old.model)


def _look(root: Path) -> _Scan:
    """List the bundles under a root without opening them.

    Raises:
        OSError: the root or a name's folder cannot be listed.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    pins: Mapping[str, str] = {}
    trouble = None
    try:
        pins = read_lock(root)
    except (BundleError, OSError, UnicodeDecodeError) as error:
        # Without its pins nothing new is served: the verifying process reads the lock too, and refuses.
        trouble = str(error)
        _log.warning("bundles.lock cannot be read", file=LOCK, error=trouble)
    places = [_Place(name, version) for name, versions in list_versions(root).items() for version in versions]
    return _Scan({place: (trouble, pins.get(str(place)), _files(root, place)) for place in places}, pins)


def _in_order(places: Sequence[_Place], scan: _Scan) -> list[_Place]:
    """What to verify first: the newest versions, and of those the small ones, so that answers come soon."""
    newest = {name: max(place.version for place in places if place.name == name) for name, _ in places}

    def size(place: _Place) -> int:
        files = scan.signatures[place][2]
        return sum(file[1] for file in files) if isinstance(files, list) else 0

    return sorted(places, key=lambda place: (place.version != newest[place.name], size(place)))


def _files(root: Path, place: _Place) -> Any:
    """Names, sizes, times and i-nodes of a bundle's files: equal as long as nobody has written there."""
    try:
        with os.scandir(root / place.name / str(place.version)) as entries:
            stats = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    except OSError as error:  # gone a moment later, or not ours to read: the verification will say
        return str(error)
    return sorted((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats)
