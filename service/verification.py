"""Bundles verified in a child process, so that one that breaks ONNX Runtime breaks nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

import runtime

__all__ = ["VERIFY", "Verdict", "verify_bundles"]

VERIFY = (sys.executable, "-m", "runtime.verify")
"""The child: given folders, it prints one JSON object a line for each, in order."""

_LINE_BYTES = 2**20
_TAIL_BYTES = 2000


@dataclass(frozen=True)
class Verdict:
    """What the child says of one bundle.

    Attributes:
        folder: the bundle.
        digest: its digest; empty if refused before it was known.
        reason: why it is refused, or None if it is good.
        bit_equal: whether its goldens came out the same to the last bit here.
    """

    folder: Path
    digest: str = ""
    reason: str | None = None
    bit_equal: bool = False


async def verify_bundles(
    folders: Sequence[Path], *, provider: str, patience_seconds: float, command: Sequence[str] = VERIFY
) -> AsyncGenerator[Verdict, None]:
    """Verify bundles one after another in a child process.

    A child that dies or takes too long is the fault of the bundle it was at: that one is refused, and a new child
    goes on with the next. Close the iterator (``contextlib.aclosing``) to end the child early.

    Args:
        folders: ``…/NAME/VERSION`` each.
        provider: ``cpu`` or ``cuda``.
        patience_seconds: how long one bundle may take, the start of the child included.
        command: what to run, without the folders.

    Yields:
        A verdict a folder, in order.
    """
    left = list(folders)
    while left:
        trouble = "verification ended without a verdict"
        child = _Child([*command, "--provider", provider, *map(str, left)])
        try:
            await child.start()
            while left:
                try:
                    async with asyncio.timeout(patience_seconds):
                        verdict = await child.verdict(left[0])
                except TimeoutError:
                    trouble = f"verification took longer than {patience_seconds:g} s"
                    break
                if verdict is None:
                    trouble = await child.epitaph()
                    break
                del left[0]
                yield verdict
        finally:
            await child.end()
        if left:
            yield Verdict(left[0], reason=f"{left.pop(0)}: {trouble}")


class _Child:
    """The process, and the last words on its standard error."""

    def __init__(self, command: Sequence[str]):
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._tail = b""

    async def start(self) -> None:
        # The child imports the same source as this process, wherever that came from.
        source = str(Path(runtime.__file__).parent.parent)
        path = os.pathsep.join(part for part in (source, os.environ.get("PYTHONPATH")) if part)
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the server, which ends its child itself
        )
        self._listener = asyncio.get_running_loop().create_task(self._listen())

    async def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while words := await self._process.stderr.read(2**16):
            self._tail = (self._tail + words)[-_TAIL_BYTES:]

    async def verdict(self, folder: Path) -> Verdict | None:
        """The next verdict, which must be on ``folder``; None when there is none to come."""
        assert self._process is not None
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # longer than any verdict
                return None
            if not line:
                return None
            with contextlib.suppress(ValueError):  # something else that a library printed
                said = json.loads(line)
                if isinstance(said, dict) and said.get("folder") == str(folder):
                    reason = None if said.get("ok") is True else str(said.get("reason") or "refused without a reason")
                    return Verdict(folder, str(said.get("digest") or ""), reason, said.get("bit_equal") is True)

    async def epitaph(self) -> str:
        """How the process ended, in words."""
        assert self._process is not None
        assert self._listener is not None
        if self._process.returncode is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):  # its output has ended; normally so has it
                    await self._process.wait()
                    await asyncio.wait([self._listener])
        code = self._process.returncode
        if code is None:
            how = "stopped talking"
        elif code < 0:
            how = f"was killed by {_signal_name(-code)}"
        else:
            how = f"ended with status {code}"
        words = self._tail.decode(errors="replace").strip().splitlines()
        return f"the verifying process {how}" + (f": {words[-1][:300]}" if words else "")

    async def end(self) -> None:
        """Kill the process if it still runs, and wait for its end, even when cancelled meanwhile: that is soon over."""
        ending = asyncio.get_running_loop().create_task(self._end())
        cancelled: asyncio.CancelledError | None = None
        while not ending.done():
            try:
                await asyncio.wait([ending])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _end(self) -> None:
        if self._process is None or self._process.stdout is None or self._listener is None:
            return
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # and whatever it has started, which holds its pipes
        # What it has left in a full pipe must be read before asyncio closes the pipe.
        while await self._process.stdout.read(_LINE_BYTES):
            pass
        await asyncio.wait([self._listener])
        await self._process.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
