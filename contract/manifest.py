"""The manifest of a bundle: ``manifest.json``, a pydantic model whose JSON Schema is ``docs/manifest.schema.json``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from contract.capabilities import CAPABILITIES, UNASKED, Capability
from contract.part import Part
from contract.programs import KNOWN, Name, Program
from contract.randomness import KEY, LOW_OFFSET, Stream
from contract.support import Support

__all__ = [
    "Calibration",
    "CalibrationGroup",
    "FileEntry",
    "Graph",
    "Manifest",
    "Metric",
    "Parity",
    "Provenance",
    "Randomness",
]

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(Part):
    """Size in bytes and SHA-256 of a file of the bundle."""

    size: int = Field(ge=0)
    sha256: Sha256


class Graph(Part):
    """An ONNX graph."""

    later: ClassVar[frozenset[str]] = frozenset({"alone"})

    file: FileName
    row_multiple: int = Field(
        default=1, ge=1, description="Rows are padded to a multiple of this, so that a row's bits ignore its batch."
    )
    alone: bool = Field(
        default=False,
        description="Rows run one at a time: the graph rounds a row differently in different batches, and no padding "
        "helps.",
    )


class Randomness(Part):
    """The random-number generator and its published constants."""

    generator: Literal["squares32"] = "squares32"
    key: str = Field(default=f"{KEY:#018x}", pattern=r"^0x[0-9a-f]{16}$")
    low_offset: str = Field(default=f"{LOW_OFFSET:#018x}", pattern=r"^0x[0-9a-f]{16}$")
    streams: dict[str, int] = Field(default={stream.name.lower(): int(stream) for stream in Stream})


class Metric(Part):
    """One measured number."""

    later: ClassVar[frozenset[str]] = frozenset({"blocks"})

    name: str = Field(description="For example test_log_prob or auroc_malignant.")
    value: float
    standard_error: float | None = Field(default=None, ge=0)
    kind: Literal["exact", "lower_bound", "estimate", "unnormalised", "rank"] = Field(
        description="Kind of the number; rank for statistics of ranks, such as AUROC."
    )
    units: str
    fold: str
    n: int = Field(ge=1, description="Rows it was measured on.")
    blocks: int | None = Field(
        default=None,
        ge=1,
        description="Blocks of rows that the standard error is over, where the rows of a block depend on each other.",
    )


class Parity(Part):
    """How far the exported program may stand from what it was exported from, and from itself elsewhere."""

    later: ClassVar[frozenset[str]] = frozenset({"max_rounded_mismatch"})

    max_abs_error: float = Field(ge=0, description="Largest difference between torch and ONNX Runtime at export.")
    rtol: float = Field(ge=0, description="Relative tolerance of the goldens in another numeric profile.")
    atol: float = Field(ge=0)
    max_row_mismatch: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of golden rows of a discrete chain that may differ in another numeric profile.",
    )
    max_rounded_mismatch: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of values rounded to levels that may be a neighbouring level in another numeric profile; "
        "where it is not 0, a row differs when a value of it is further off.",
    )


class CalibrationGroup(Part):
    """The calibration rows of one label."""

    later: ClassVar[frozenset[str]] = frozenset({"blocks"})

    label: str = Field(min_length=1)
    n: int = Field(ge=1)
    tied: float = Field(default=0.0, ge=0, le=1, description="Share of them whose score another one of them has too.")
    contaminated: int = Field(default=0, ge=0, description="At most so many of them are no ordinary ones.")
    blocks: int | None = Field(default=None, ge=1, description="Blocks that they are in, where rows have any.")

    @model_validator(mode="after")
    def _some_are_ordinary(self) -> Self:
        if self.contaminated >= self.n:
            raise ValueError(f"{self.contaminated} of the {self.n} rows of {self.label!r} cannot all be contaminated")
        return self


class Calibration(Part):
    """How anomaly scores become p-values. The sorted scores are the array ``scores`` of ``file``.

    Where rows have labels, ``groups`` says how many have which, and the sorted scores of the i-th group, counted from
    0, are the array ``scores.i``: p-values among these keep their rate for the rows of each label by themselves
    (label-conditional, or Mondrian, conformal prediction: V. Vovk, A. Gammerman and G. Shafer 2005, section 4.5).

    Where rows come in ``blocks``, those of a block depend on each other, as windows of a series do. Ranks among them
    are p-values in name: no rate of alarms is promised (``contract/blocks.py``).
    """

    later: ClassVar[frozenset[str]] = frozenset(
        {"source_sha256", "tied", "contaminated", "labelled_by", "groups", "blocks", "blocked_by"}
    )

    file: FileName
    n: int = Field(ge=1)
    statistics: tuple[str, ...] = Field(min_length=1, description="Outputs of the score program that enter the score.")
    law: str = Field(description="The law of the statistics vector, or the declared direction, in words.")
    rows: str = Field(description="Which rows count as ordinary, in words: 'benign tumours'.")
    source_sha256: Sha256 | None = Field(
        default=None, description="SHA-256 of the file of rows, where the bundle was calibrated with a file of its own."
    )
    tied: float = Field(
        default=0.0, ge=0, le=1, description="Share of the rows whose score another row has too, where it was counted."
    )
    contaminated: int = Field(
        default=0, ge=0, description="At most so many of the n rows are no ordinary ones; alarms keep their rate so."
    )
    labelled_by: str | None = Field(default=None, description="Column that held the labels, where rows have any.")
    groups: tuple[CalibrationGroup, ...] = Field(default=(), description="The rows of each label, where they have any.")
    blocks: int | None = Field(
        default=None, ge=1, description="Blocks that the rows come in, where the rows of a block depend on each other."
    )
    blocked_by: str | None = Field(
        default=None,
        min_length=1,
        description="What the rows of a block have in common, in words: 'the column day', 'blocks of 336 samples of "
        "the series'.",
    )

    @model_validator(mode="after")
    def _some_are_ordinary(self) -> Self:
        if self.contaminated >= self.n:
            raise ValueError(f"{self.contaminated} of {self.n} calibration rows cannot all be contaminated")
        return self

    @model_validator(mode="after")
    def _groups_are_all_rows(self) -> Self:
        if (self.labelled_by is None) != (not self.groups):
            raise ValueError("groups have labels, which some column held, and other rows have none")
        if not self.groups:
            return self
        labels = [group.label for group in self.groups]
        if len(set(labels)) != len(labels) or sum(group.n for group in self.groups) != self.n:
            raise ValueError(f"groups are different labels of {self.n} rows in all")
        return self

    @model_validator(mode="after")
    def _blocks_are_of_these_rows(self) -> Self:
        if (self.blocks is None) != (self.blocked_by is None):
            raise ValueError("blocks are held together by something, and blocked_by says what")
        if any((group.blocks is None) != (self.blocks is None) for group in self.groups):
            raise ValueError("either the rows of every label are in blocks, or none are")
        if self.blocks is None:
            return self
        if not 2 <= self.blocks <= self.n:
            raise ValueError(f"{self.n} rows come in two blocks or more, not more than rows, and not in {self.blocks}")
        if any(not group.blocks or group.blocks > min(group.n, self.blocks) for group in self.groups):
            raise ValueError("the rows of a label are in no more blocks than there are, of either")
        if self.contaminated:
            raise ValueError("rows in blocks keep no rate that contaminated ones could be counted against")
        return self

    @property
    def dependent(self) -> bool:
        """Whether rows depend on each other, so that nothing is promised of alarms."""
        return self.blocks is not None

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that rows have, in the order of their groups."""
        return tuple(group.label for group in self.groups)

    def of(self, label: str) -> Calibration:
        """The calibration by the rows of one label alone."""
        group = self.groups[self.labels.index(label)]
        return self.model_copy(
            update={
                "n": group.n,
                "tied": group.tied,
                "contaminated": group.contaminated,
                "blocks": group.blocks,
                "rows": f"{self.rows}, {self.labelled_by} = {label}",
                "groups": (),
            }
        )

    @property
    def of_a_label(self) -> bool:
        """Whether this is the calibration by the rows of one label alone."""
        return self.labelled_by is not None and not self.groups

    @property
    def ordinary(self) -> int:
        """How many of the rows are ordinary ones, at the least."""
        return self.n - self.contaminated


class Provenance(Part):
    """Where a bundle came from."""

    later: ClassVar[frozenset[str]] = frozenset({"training_seconds", "hardware"})

    recipe: str = Field(description="The recipe's text, as trained.")
    data: str = Field(description="The data set, in words, with its source.")
    data_sha256: Sha256
    folds: dict[str, Annotated[dict[str, int | str], Field(description="n and sha256 of the fold's rows")]]
    commit: str = Field(description="Commit of the source tree, or 'unknown'.")
    contains_training_rows: bool
    training_seconds: float | None = Field(
        default=None, ge=0, description="Time that the fit took, over every run that contributed."
    )
    hardware: str | None = Field(
        default=None, description="What the fit ran on, in words: a kind of processor or GPU, never a machine's name."
    )


class Manifest(Part):
    """Everything that a server must know of a bundle."""

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    version: int = Field(ge=1)
    title: str
    description: str
    family: str
    support: Support
    capabilities: dict[Capability, Program]
    refusals: dict[Capability, str] = Field(
        description="Why each capability that is absent is absent; what is newer than the bundle need not be named."
    )
    graphs: dict[Name, Graph]
    weights: FileName | None = Field(default=None, description="External-data file shared by the graphs.")
    randomness: Randomness = Randomness()
    opset: int
    tools: dict[str, str] = Field(description="Versions of what trained and exported it.")
    profile: str = Field(description="Numeric profile in which the goldens were written.")
    parity: dict[Capability, Parity]
    metrics: tuple[Metric, ...] = ()
    calibration: Calibration | None = None
    provenance: Provenance
    licence: str
    files: dict[FileName, FileEntry] = Field(description="Every other file of the bundle.")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        for name, program in self.capabilities.items():
            missing = [graph for graph in program.graphs if graph not in self.graphs]
            if missing:
                raise ValueError(f"capability {name} names the graph {missing[0]!r}, which the bundle lacks")
            if name not in self.parity:
                raise ValueError(f"capability {name} has no parity figures")
        for name in CAPABILITIES:
            here, refused = name in self.capabilities, name in self.refusals
            if here == refused and (here or name not in UNASKED):
                raise ValueError(f"capability {name} must be either present or refused with a reason")
        for name, program in self.capabilities.items():
            if name in ("marginal", "inpaint") and (program.data_input is None or program.input(KNOWN) is None):
                raise ValueError(f"capability {name} needs the inputs x and {KNOWN!r}: it is about a part of a row")
        if "marginal" in self.capabilities and self._kind("marginal") != self._kind("log_prob"):
            raise ValueError("a marginal is a number of the same kind as the log_prob that it stands in for")
        if "inpaint" in self.capabilities and self.capabilities["inpaint"].filling is None:
            raise ValueError("capability inpaint must say what its filling is conditioned on")
        if "classify" in self.capabilities and self.capabilities["classify"].outputs[0].vocabulary is None:
            raise ValueError("capability classify must name its labels")
        wanted = [graph.file for graph in self.graphs.values()]
        wanted += [file for file in (self.weights, self.calibration and self.calibration.file) if file]
        for file in wanted:
            if file not in self.files:
                raise ValueError(f"the file {file!r} is named but not listed in files")
        if ("score" in self.capabilities) != (self.calibration is not None):
            raise ValueError("a score needs a calibration, and a calibration a score")
        return self

    def _kind(self, capability: Capability) -> str | None:
        program = self.capabilities.get(capability)
        return None if program is None else program.outputs[0].kind

    @property
    def reasons(self) -> dict[Capability, str]:
        """Why each capability that is absent is absent, those among them that are newer than the bundle."""
        return {
            name: self.refusals.get(name) or UNASKED[name] for name in CAPABILITIES if name not in self.capabilities
        }
