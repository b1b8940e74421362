"""What bundles were measured to be, and what the table of results says of them: a line of JSON each, kept in a file."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import onnx
from onnx import numpy_helper
from pydantic import Field, ValidationError

from contract.bundle import Bundle, list_versions, open_bundle
from contract.manifest import Manifest, Metric, Sha256
from contract.part import Part
from runtime.loop import run_program
from runtime.model import LoadedModel, load_model
from training.errors import DataError, TrainingInputError
from training.hardware import cpu_name
from training.progress import Reporter

__all__ = [
    "BATCH",
    "LEAST_RUNS",
    "LONG",
    "Measured",
    "SamplingTime",
    "count_parameters",
    "keep",
    "measured_bundles",
    "read_measured",
    "time_sampling",
    "write_measured",
]

BATCH = 64
"""Rows of the batch in which sampling is timed."""

LEAST_RUNS = 3
"""Runs of which a time is the median, at least."""

LONG = 10.0
"""Seconds; a run that takes longer is made once."""

_SECONDS = 1.0
_COUNTED = ("test_log_prob", "test_bits_per_dimension", "auroc_")


class SamplingTime(Part):
    """Processor seconds that a row takes to sample."""

    alone: float = Field(ge=0, description="A row by itself.")
    in_batch: float = Field(ge=0, description=f"A row among {BATCH}.")
    on: str = Field(description="The processor, in words.")


class Measured(Part):
    """A bundle as the table has it. What is not in the bundle's manifest is measured when the line is made."""

    name: str
    version: Annotated[int, Field(ge=1)]
    digest: str | None = Field(description="The bundle's digest; null where only the figures are left of it.")
    family: str
    data: str = Field(description="The data set, in words.")
    test_fold: Sha256 = Field(description="Digest of the test rows; of all rows where there is no test fold.")
    test_rows: int | None
    metrics: tuple[Metric, ...] = Field(description="Those that the table shows.")
    parameters: int = Field(ge=0, description="As `count_parameters` counts them.")
    training_seconds: float | None
    hardware: str | None
    samples: bool
    sampling: SamplingTime | None = Field(description="Null where it was not timed.")

    @classmethod
    def of(cls, manifest: Manifest, *, digest: str | None, parameters: int, sampling: SamplingTime | None) -> Self:
        """What the table says of a bundle with this manifest."""
        provenance = manifest.provenance
        fold = provenance.folds.get("test", {})
        return cls(
            name=manifest.name,
            version=manifest.version,
            digest=digest,
            family=manifest.family,
            data=provenance.data,
            test_fold=str(fold.get("sha256", provenance.data_sha256)),
            test_rows=int(fold["n"]) if "n" in fold else None,
            metrics=tuple(metric for metric in manifest.metrics if metric.name.startswith(_COUNTED)),
            parameters=parameters,
            training_seconds=provenance.training_seconds,
            hardware=provenance.hardware,
            samples="sample" in manifest.capabilities,
            sampling=sampling,
        )

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


def measured_bundles(folders: Iterable[Path], *, sampling: bool, reporter: Reporter) -> list[Measured]:
    """Every version of every bundle in some folders of bundles, read and checked.

    Args:
        folders: folders of bundles; a bundle that is in two of them counts once.
        sampling: whether to measure how long sampling takes.
        reporter: where to say how it goes.

    Raises:
        TrainingInputError: there is no bundle.
        BundleError: a bundle is not what its manifest says.
    """
    found: dict[Path, Path] = {}
    for root in folders:
        for name, versions in list_versions(root).items():
            for version in versions:
                folder = root / name / str(version)
                found.setdefault(folder.resolve(), folder)
    if not found:
        raise TrainingInputError(f"{', '.join(map(str, folders))}: no bundles there")
    read = []
    with reporter.bar("bundles", len(found), unit="bundle") as bar:
        seen: set[str] = set()
        for done, folder in enumerate(found):
            bar.update(done, f"{folder.parent.name} {folder.name}")
            bundle = open_bundle(folder)
            if bundle.digest in seen:
                continue
            seen.add(bundle.digest)
            timed = time_sampling(load_model(bundle)) if sampling else None
            read.append(
                Measured.of(bundle.manifest, digest=bundle.digest, parameters=count_parameters(bundle), sampling=timed)
            )
    return read


def read_measured(path: Path) -> list[Measured]:
    """The lines of a file; none where there is no such file.

    Raises:
        DataError: a line is not one that `write_measured` writes; names the line and what is wrong with it.
    """
    if not path.is_file():
        return []
    found = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found.append(Measured.model_validate_json(text))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the line"
            raise DataError(f"{path}: line {number}: {place}: {first['msg']}") from None
    return found


def write_measured(path: Path, lines: Iterable[Measured]) -> None:
    """Write a file that `read_measured` reads, sorted by name and version."""
    ordered = sorted(lines, key=lambda line: (line.name, line.version, line.test_fold))
    path.write_text("".join(line.model_dump_json() + "\n" for line in ordered), encoding="utf-8")


def keep(earlier: Iterable[Measured], now: Sequence[Measured]) -> list[Measured]:
    """Lines from before of bundles that are not here now, and those of now.

    A bundle is known by its name and version. Where it is the same one to the byte and was not timed now, its time
    from before is kept.
    """
    before = {(line.name, line.version): line for line in earlier}
    lines = {}
    for line in now:
        place = (line.name, line.version)
        known = before.get(place)
        timed_before = known is not None and known.digest == line.digest and line.sampling is None
        lines[place] = line.model_copy(update={"sampling": known.sampling}) if known and timed_before else line
    return list({**before, **lines}.values())


def count_parameters(bundle: Bundle) -> int:
    """Floating-point numbers in the tensors that a bundle's graphs hold, masked weights and kept rows among them.

    A tensor that several graphs hold counts once; the graph that turns statistics into a score does not count, nor do
    single numbers without a shape, which are constants of formulas.
    """
    score = {"score"} if "score" in bundle.manifest.capabilities else set()
    shared = {name for has, part in bundle.manifest.capabilities.items() if has not in score for name in part.graphs}
    most: Counter[tuple[str, tuple[int, ...], int]] = Counter()
    for name in shared:
        held: Counter[tuple[str, tuple[int, ...], int]] = Counter()
        for tensor in onnx.load(str(bundle.path(bundle.manifest.graphs[name].file))).graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype.kind == "f" and values.ndim:
                content = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
                held[content, tuple(tensor.dims), values.size] += 1
        most |= held  # of two layers with equal weights in one graph, both count
    return sum(size * times for (_, _, size), times in most.items())


def time_sampling(model: LoadedModel) -> SamplingTime | None:
    """How long a row takes to sample on this machine's CPU; None where the bundle does not sample.

    Processor time of the one thread that a graph runs on, so that what else the machine does is no part of it: the
    median of three runs or more, a second of them at least, after one that does not count; of runs of more than ten
    seconds, the first counts alone. The number of steps is the program's default.
    """
    if "sample" not in model.manifest.capabilities:
        return None
    return SamplingTime(alone=_seconds(model, 1), in_batch=_seconds(model, BATCH) / BATCH, on=cpu_name())


def _seconds(model: LoadedModel, n: int) -> float:
    times: list[float] = []
    while len(times) <= LEAST_RUNS or sum(times[1:]) < _SECONDS:
        start = len(times) * n
        address = {"seed": np.full(n, 42, dtype=np.int64), "row": np.arange(start, start + n, dtype=np.int64)}
        started = time.process_time()
        run_program(model, "sample", address)
        times.append(time.process_time() - started)
        if times[0] > LONG:
            return times[0]
    return statistics.median(times[1:])
