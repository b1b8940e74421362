"""From ONNX files of any origin to a bundle: names, types and a program around them, then what every bundle has.

Needs no torch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from pydantic import Field

from contract.bundle import CALIBRATION, CARD, GOLDENS, Bundle, list_versions, open_bundle, write_arrays, write_bundle
from contract.capabilities import CAPABILITIES, Capability
from contract.digest import sha256
from contract.errors import BundleError
from contract.manifest import Graph, Parity
from contract.part import Part
from contract.programs import Program, score_program
from contract.support import Support
from runtime.goldens import make_goldens
from runtime.invariance import ROWS, DependsOnBatchError, find_row_multiple
from runtime.loop import run_program
from runtime.model import LoadedModel, load_model
from runtime.profile import numeric_profile
from runtime.rows import Rows
from runtime.safety import check_graphs
from runtime.verify import verify
from runtime.wrapping import Port, ports, wrap

__all__ = ["GraphSpec", "PackSpec", "example_rows", "pack"]

Array = NDArray[Any]
Say = Callable[[str], None]

_SINGLE, _DOUBLE = 1e-4, 1e-9  # relative tolerance of goldens elsewhere, by precision
_NOTHING = "this bundle was packed from ONNX files, and none of them computes this"


class GraphSpec(Part):
    """A graph of a packed bundle."""

    file: str = Field(description="ONNX file, relative to the YAML file.")
    inputs: dict[str, str] = Field(default={}, description="The contract's name of an input by the file's own.")
    outputs: dict[str, str] = Field(default={}, description="The same of outputs; others are dropped.")


class PackSpec(Part):
    """What a bundle is packed from; the YAML file of ``nonesuch pack``."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of the bundle.")
    title: str = "This row does not exist"
    description: str = "Packed from ONNX files."
    licence: str = "not stated"
    family: str = "packed"
    support: Support
    graphs: dict[str, GraphSpec]
    capabilities: dict[Capability, Program]
    refusals: dict[Capability, str] = Field(default={}, description="Why each capability that is absent is absent.")
    data: str = Field(default="not known here", description="What the model was trained on, in words.")
    contains_training_rows: bool = Field(default=False, description="Whether training rows are among its tensors.")


def example_rows(support: Support, n: int = ROWS, seed: int = 0) -> Array:
    """Rows that a support allows, for goldens where nobody gave any: [n, *shape] of its dtype."""
    rng = np.random.default_rng(seed)
    values = np.empty((n, support.size))
    for column, where in support.alike:
        size = values[:, where].shape
        top = (column.levels or len(column.categories or ()) or 2) - 1
        match column.kind:
            case "real":
                draws = rng.normal(size=size)
            case "positive":
                draws = np.exp(rng.normal(size=size))
            case "count":
                draws = rng.poisson(3.0, size=size).astype(np.float64)
            case _:
                draws = rng.integers(0, top + 1, size=size).astype(np.float64)
        if column.missing_allowed:
            draws = np.where(rng.random(size) < 0.1, np.nan, draws)
        values[:, where] = draws
    return support.check(values.reshape(n, *support.shape))


def pack(
    spec: PackSpec,
    folder: Path,
    out: Path,
    *,
    source: str,
    rows: Array | None = None,
    calibration: Array | None = None,
    ordinary: str = "the calibration rows",
    say: Say = print,
) -> Bundle:
    """Write ``out/NAME/NEXT_VERSION``, after it has passed the service's own verification.

    Args:
        spec: what to pack.
        folder: where its files are.
        out: folder of bundles.
        source: the command or YAML text, for the provenance.
        rows: rows to write goldens of, [n, *shape]; drawn from the support if None.
        calibration: rows that count as ordinary, [n, *shape]: the bundle then scores how strange a row is.
        ordinary: which rows they are, in words.
        say: told what happens.

    Raises:
        BundleError: a file or the specification is at fault; one line that says where.
    """
    programs: dict[Capability, Program] = dict(spec.capabilities)
    files: dict[str, bytes] = {}
    names: set[str] = {graph for program in programs.values() for graph in program.graphs}
    for name in names - set(spec.graphs):
        raise BundleError(f"graphs: no graph {name!r}, which a capability runs")
    for name, graph in spec.graphs.items():
        files[f"{name}.onnx"] = _wrapped(name, graph, spec, folder, say)
    if calibration is not None:
        if "log_prob" not in programs:
            raise BundleError("a score is made of the log_prob, and this bundle has none")
        programs["score"] = score_program(programs["log_prob"])
        files["score.onnx"] = _negated()
    asked = example_rows(spec.support) if rows is None else spec.support.check(rows)
    manifest = _manifest(
        spec, programs, sorted({*spec.graphs, *(["score"] if calibration is not None else [])}), source
    )
    manifest["provenance"]["data_sha256"] = sha256(b"".join(files[name] for name in sorted(files)))
    with tempfile.TemporaryDirectory() as draft:
        scores = None if calibration is None else np.zeros(1)
        found = _try(manifest, files, Path(draft) / "a", scores, ordinary, spec, None)
        say("row by row: does an answer depend on the rows beside it?")
        manifest["graphs"], manifest["parity"] = _measure(found, asked, say)
        if calibration is not None:
            say(f"calibrate: {len(calibration):,} rows")
            found = _try(manifest, files, Path(draft) / "b", scores, ordinary, spec, None)
            scores = np.sort(run_program(found, "score", {"x": spec.support.check(calibration)})["score"])
            if np.isnan(scores).any():
                raise BundleError("the score of a calibration row is NaN, so it has no rank")
        found = _try(manifest, files, Path(draft) / "c", scores, ordinary, spec, asked)
        say("verify: as the service will")
        result = verify(found.bundle.folder)
        if not result["ok"] or not result["bit_equal"]:
            raise BundleError(result["reason"] or "its answers are not its goldens, bit for bit")
        version = max(list_versions(out).get(spec.name, []), default=0) + 1
        whole = {path.name: path.read_bytes() for path in found.bundle.folder.iterdir() if path.name != "manifest.json"}
        fields = {**found.manifest.model_dump(mode="json", exclude={"files"}), "version": version}
        return write_bundle(out, fields, whole)


def _wrapped(name: str, graph: GraphSpec, spec: PackSpec, folder: Path, say: Say) -> bytes:
    path = folder / graph.file
    taken, given = ports(path)
    known: dict[str, Port] = {"t": Port("t", "int64", ())}
    for program in spec.capabilities.values():
        if name in program.graphs:
            known |= {part.name: Port(part.name, part.dtype, part.shape) for part in program.inputs}
            known |= {part.name: Port(part.name, part.dtype, part.shape) for part in program.state}
            known |= {part.name: Port(part.name, part.dtype, part.shape) for part in program.outputs}
            known |= {f"next_{part.name}": Port(f"next_{part.name}", part.dtype, part.shape) for part in program.state}
            if program.done is not None:
                known[program.done] = Port(program.done, "bool", ())
    for unknown in (set(graph.inputs) - {p.name for p in taken}) | (set(graph.outputs) - {p.name for p in given}):
        have = ", ".join(repr(port.name) for port in (*taken, *given))
        raise BundleError(f"graph {name}: {graph.file} has no {unknown!r}; it has {have}")
    inputs = {port.name: known.get(graph.inputs.get(port.name, port.name)) for port in taken}
    for port in taken:
        if inputs[port.name] is None:
            wanted = graph.inputs.get(port.name, port.name)
            raise BundleError(f"graph {name}: nothing is called {wanted!r}, which its input {port.name!r} would be")
    outputs = {port.name: known.get(graph.outputs.get(port.name, port.name)) for port in given}
    kept = {file_name: port for file_name, port in outputs.items() if port is not None}
    for port in (*taken, *given):
        end = inputs.get(port.name) or kept.get(port.name)
        role = f"-> {end.name} {end.dtype}" if end is not None else "dropped"
        say(f"graph {name}: {port.name} {port.dtype} {['n', *port.shape]} {role}")
    return wrap(path, {key: port for key, port in inputs.items() if port is not None}, kept)


def _negated() -> bytes:
    """The graph of a score whose direction is declared: strange is a low log-probability."""
    ends = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n"]) for name in ("log_prob", "score")]
    graph = helper.make_graph([helper.make_node("Neg", ["log_prob"], ["score"])], "score", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def _manifest(spec: PackSpec, programs: dict[Capability, Program], graphs: list[str], source: str) -> dict[str, Any]:
    missing = "this bundle was made without calibration rows"
    reasons: dict[Capability, str] = {**dict.fromkeys(CAPABILITIES, _NOTHING), "score": missing, **spec.refusals}
    return {
        "name": spec.name,
        "version": 1,
        "title": spec.title,
        "description": spec.description.strip(),
        "family": spec.family,
        "support": spec.support,
        "capabilities": {name: programs[name] for name in CAPABILITIES if name in programs},
        "refusals": {name: reasons[name] for name in CAPABILITIES if name not in programs},
        "graphs": {name: Graph(file=f"{name}.onnx") for name in graphs},
        "opset": 20,
        "tools": {"onnx": onnx.__version__},
        "profile": numeric_profile(),
        "parity": {name: Parity(max_abs_error=0.0, rtol=_SINGLE, atol=_SINGLE) for name in programs},
        "provenance": {
            "recipe": source,
            "data": spec.data,
            "folds": {},
            "commit": "unknown",
            "contains_training_rows": spec.contains_training_rows,
        },
        "licence": spec.licence.strip(),
    }


def _try(
    manifest: dict[str, Any],
    files: dict[str, bytes],
    root: Path,
    scores: Array | None,
    ordinary: str,
    spec: PackSpec,
    goldens_of: Array | None,
) -> LoadedModel:
    """A bundle in a folder of its own, checked for what graphs may not contain, its sessions open."""
    whole = {**files, CARD: _card(spec, manifest).encode()}
    fields = dict(manifest)
    if scores is not None:
        whole[CALIBRATION] = write_arrays({"scores": scores})
        law = "minus the log-probability: strange is a low one"
        about = {"file": CALIBRATION, "n": len(scores), "statistics": ("log_prob",), "law": law, "rows": ordinary}
        fields["calibration"] = about
    bundle = write_bundle(root / "draft", fields, whole)
    check_graphs(bundle)
    model = load_model(bundle)
    if goldens_of is None:
        return model
    again = write_bundle(root / "golden", fields, {**whole, GOLDENS: make_goldens(model, goldens_of)})
    return load_model(open_bundle(again.folder))


def _measure(model: LoadedModel, rows: Array, say: Say) -> tuple[dict[str, Graph], dict[Capability, Parity]]:
    """The row multiple of each graph and the tolerances of each capability, by running them."""
    seen: dict[str, list[dict[str, Array]]] = {name: [] for name in model.graphs}
    sizes: dict[Capability, float] = {}
    codes: Array | None = None
    for capability in sorted(model.manifest.capabilities, key=_asks_for_codes(model)):
        program = model.program(capability)
        inputs: dict[str, Array] = {}
        for part in program.inputs:
            if part.source == "address" and program.data_input is None:
                inputs[part.name] = np.arange(ROWS) if part.name == "row" else np.full(ROWS, 42)
            elif part.source == "data":
                if part.name != "x" and codes is None:
                    raise BundleError(
                        f"{capability} asks about codes, and no other capability gives any to try it with"
                    )
                data = rows if part.name == "x" or codes is None else codes
                inputs[part.name] = np.resize(data, (ROWS, *data.shape[1:]))
            elif part.vocabulary is not None:
                inputs[part.name] = np.arange(ROWS) % len(part.vocabulary)
        walk = Rows(program, inputs or {"n": np.zeros(ROWS)})
        while (graph := walk.graph) is not None:
            feeds = walk.feeds()
            if len(seen[graph]) < 4:
                seen[graph].append({name: array.copy() for name, array in feeds.items()})
            walk.accept(model.graphs[graph].run(feeds))
        result = walk.result()
        codes = result.get("z", codes)
        finite = [value[np.isfinite(value)] for value in result.values() if value.dtype.kind == "f"]
        sizes[capability] = max((float(np.sqrt(np.mean(part**2))) for part in finite if part.size), default=1.0)
    graphs = {}
    for name, session in model.graphs.items():
        try:
            graphs[name] = Graph(file=f"{name}.onnx", row_multiple=find_row_multiple(session, seen[name]))
        except DependsOnBatchError as error:
            if not error.rounding:
                raise BundleError(f"graph {name}: {error}: no row of it has an answer of its own") from None
            say(f"graph {name}: rounds a row differently in different batches, so that rows will run one at a time")
            graphs[name] = Graph(file=f"{name}.onnx", alone=True)
    parity = {}
    for capability, program in model.manifest.capabilities.items():
        single = any(_in_single(model, name) for name in program.graphs)
        rtol = _SINGLE if single else _DOUBLE
        discrete = any(part.dtype in ("uint8", "int64", "bool") for part in program.outputs)
        parity[capability] = Parity(
            max_abs_error=0.0, rtol=rtol, atol=rtol * max(sizes[capability], 1e-12), max_row_mismatch=0.2 * discrete
        )
    return graphs, parity


def _asks_for_codes(model: LoadedModel) -> Callable[[Capability], bool]:
    return lambda name: (part := model.program(name).data_input) is not None and part.name != "x"


def _in_single(model: LoadedModel, name: str) -> bool:
    text = (model.bundle.folder / f"{name}.onnx").read_bytes()
    graph = onnx.load_from_string(text).graph
    casts = (a.i for node in graph.node if node.op_type == "Cast" for a in node.attribute if a.name == "to")
    return TensorProto.FLOAT in {*casts, *(tensor.data_type for tensor in graph.initializer)}


def _card(spec: PackSpec, manifest: dict[str, Any]) -> str:
    lines = [f"# {spec.name}", "", f"*{spec.title}.*", "", spec.description.strip(), "", "## Data", ""]
    lines += [f"{spec.data}.", "", "## Licence", "", spec.licence.strip(), "", "## What it answers", ""]
    lines += [f"- {name}" for name in manifest["capabilities"]]
    lines += ["", "It refuses:", "", *(f"- {name}: {reason}." for name, reason in manifest["refusals"].items())]
    lines += ["", "## How it was packed", "", "```", manifest["provenance"]["recipe"].rstrip(), "```", ""]
    return "\n".join(lines)
