"""Several processes that fit one model together: who this one is, and what they tell each other.

The variables are torchrun's: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Without them
there is one process, and everything here costs nothing. The first process leads: it alone says how it goes, writes
the run's folder, and makes the bundle; the others help to fit.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from training.errors import TrainingError, TrainingInputError

__all__ = [
    "Helpers",
    "LostProcessError",
    "agree",
    "count",
    "expected",
    "join",
    "leave",
    "lost_process",
    "rank",
    "start_helpers",
    "total",
    "wait",
]

T = TypeVar("T")

_SECONDS_TO_END = 10.0
_LONGEST_WAIT = timedelta(minutes=10)  # for a process that has not come yet, or has stopped without ending


class LostProcessError(TrainingError):
    """Another process of the run ended before its time."""


def rank() -> int:
    """Number of this process, from 0; 0 leads."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """How many processes fit the model."""
    return dist.get_world_size() if dist.is_initialized() else 1


def expected() -> int:
    """How many processes the environment speaks of, found or not."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def agree(value: T) -> T:
    """The leading process's value, in every process: what all must decide alike, one decides."""
    if count() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def total(values: Tensor) -> Tensor:
    """The sum over processes of a tensor that has the same shape in each; the same bits in each."""
    if count() > 1:
        dist.all_reduce(values)
        dist.broadcast(values, src=0)
    return values


def wait() -> None:
    """Until every process is here."""
    if count() > 1:
        dist.barrier()


@contextmanager
def join() -> Iterator[None]:
    """Find the other processes, if the environment speaks of any, and leave them at the end.

    Raises:
        TrainingInputError: the environment is incomplete, or there are fewer GPUs than processes.
    """
    wanted = expected()
    if wanted == 1 or dist.is_initialized():
        yield
        return
    absent = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if absent:
        raise TrainingInputError(f"WORLD_SIZE is {wanted}, but {absent[0]} is not set: start it by torchrun")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", wanted))
    if torch.cuda.is_available():
        if here > torch.cuda.device_count():
            raise TrainingInputError(f"{here} processes for {torch.cuda.device_count()} GPUs: each needs one")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=_LONGEST_WAIT)
    complete = True
    try:
        yield
    except LostProcessError:
        complete = False  # what is left of the group is ended by leave
        raise
    finally:
        if complete:
            dist.destroy_process_group()


def lost_process(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    if count() == 1:
        return False
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def leave(status: int) -> NoReturn:
    """End this process at once, after another one was lost.

    What talks to the others cannot be taken down in order without them: a thread of it may wait, at the interpreter's
    end, for a process that will not come.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@dataclass
class Helpers:
    """The other processes, where this one started them.

    Attributes:
        processes: by their rank less one.
        said: what each wrote to stderr.
    """

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    said: list[IO[bytes]] = field(default_factory=list)

    def why(self) -> str:
        """What became of the first of them that failed, in words."""
        for number, (process, said) in enumerate(zip(self.processes, self.said, strict=True), start=1):
            try:
                code = process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                continue
            if code < 0:
                return f"process {number} was killed by {signal.Signals(-code).name}"
            if code > 0:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                return f"process {number} ended with status {code}" + (f": {lines[-1]}" if lines else "")
        return "another process ended"

    def end(self) -> None:
        """Wait for them, and end those that do not end."""
        for process, said in zip(self.processes, self.said, strict=True):
            try:
                process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            said.close()


def start_helpers(processes: int, arguments: Sequence[str]) -> Helpers:
    """Start the other processes of ``nonesuch ARGUMENTS`` on this machine, and make this one the first.

    Args:
        processes: how many in all.
        arguments: the command line that each of them runs.

    Raises:
        TrainingInputError: this process was started as one of several already.
    """
    if expected() > 1:
        raise TrainingInputError("--processes: torchrun has started several processes already; leave the option out")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = max(1, (os.cpu_count() or 1) // processes)
    torch.set_num_threads(min(threads, torch.get_num_threads()))
    shared = {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    os.environ.update(shared, RANK="0", LOCAL_RANK="0")
    helpers = Helpers()
    for number in range(1, processes):
        own = {"RANK": str(number), "LOCAL_RANK": str(number)}
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ, **own}
        said = tempfile.TemporaryFile()  # noqa: SIM115 - Helpers.end closes it
        command = [sys.executable, "-c", "from commands.main import main; main()", *arguments]
        helpers.processes.append(
            subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
        )
        helpers.said.append(said)
    return helpers
