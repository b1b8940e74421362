"""``nonesuch pack SOURCE``: an ONNX file, or a YAML of several, becomes a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from runtime.packing import PackSpec

__all__ = ["pack"]


def pack(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="An ONNX file, or a YAML that names several.")],
    name: Annotated[str | None, typer.Option(help="Name of the bundle.", show_default="the file's")] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="What the file's numbers are: exact, lower_bound or unnormalised log-probabilities."),
    ] = None,
    input_: Annotated[
        str | None, typer.Option("--input", help="Input that takes the rows.", show_default="the only one")
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Output with the log-probability of each row.", show_default="the only one")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Names of the columns, separated by commas.", show_default="x0,x1,…")
    ] = None,
    title: Annotated[str, typer.Option(help="Its title on the pages.")] = "This row does not exist",
    licence: Annotated[str, typer.Option(help="Its licence.")] = "not stated",
    rows: Annotated[
        Path | None,
        typer.Option(help="Rows (npy or csv) to keep questions and answers of.", show_default="drawn"),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Ordinary rows (npy or csv), not trained on: the bundle then scores anomalies."),
    ] = None,
    ordinary: Annotated[
        str, typer.Option(help="Which rows count as ordinary, in words.")
    ] = "rows like those given for calibration",
    contains_training_rows: Annotated[
        bool, typer.Option("--contains-training-rows", help="Say that training rows are among the file's tensors.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of bundles.")] = Path("bundles"),
) -> None:
    """Make a bundle of a model that was trained elsewhere.

    An ONNX file by itself is taken for a log-probability: rows [n, columns] in, one number a row out; --kind says what
    the number is, which no file can. A YAML describes anything else: several graphs, samplers with steps, pictures; its
    fields are name, support, graphs (file, inputs, outputs), capabilities (programs, as in docs/manifest.schema.json)
    and refusals. The first dimension of every input must be free. Computation stays in the file's own precision.
    """
    from contract.errors import BundleError, InputError
    from runtime.packing import pack as make

    flags = sys.argv[sys.argv.index("pack") + 1 :] if "pack" in sys.argv else [str(source)]
    try:
        if source.suffix in (".yaml", ".yml"):
            refuse = {"--kind": kind, "--input": input_, "--output": output, "--columns": columns}
            told = next((flag for flag, value in refuse.items() if value is not None), None)
            if told is not None:
                raise BundleError(f"{told}: a YAML says so itself")
            spec, text = _described(source, name)
        else:
            spec = _of_file(source, name, kind, input_, output, columns, title, licence, contains_training_rows)
            text = " ".join(["nonesuch pack", *flags])
        bundle = make(
            spec,
            source.parent,
            out,
            source=text,
            rows=_rows(rows, spec),
            calibration=_rows(calibration, spec),
            ordinary=ordinary,
            say=lambda line: print(line, flush=True),
        )
    except (BundleError, InputError, OSError) as error:
        print(f"nonesuch pack: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    manifest = bundle.manifest
    print(f"{bundle.folder}: {', '.join(manifest.capabilities)}; digest {bundle.digest[:12]}…")
    print(f"Serve it: nonesuch serve --bundles {out}")


def _of_file(
    source: Path,
    name: str | None,
    kind: str | None,
    input_: str | None,
    output: str | None,
    columns: str | None,
    title: str,
    licence: str,
    contains_training_rows: bool,
) -> PackSpec:
    """The specification of one file with a log-probability."""
    from contract.errors import BundleError
    from runtime.packing import PackSpec
    from runtime.wrapping import ports

    taken, answers = ports(source)
    x = _the_one(source, "input", "--input", input_, [port.name for port in taken])
    y = _the_one(source, "output", "--output", output, [port.name for port in answers])
    if len(taken) > 1:
        others = ", ".join(repr(port.name) for port in taken if port.name != x)
        raise BundleError(f"{source}: it takes {others} beside the rows; describe it in a YAML")
    if kind is None:
        raise BundleError(
            "--kind: say what the numbers are: exact log-probabilities, a lower_bound on them, or unnormalised ones"
        )
    shape = next(port.shape for port in taken if port.name == x)
    if len(shape) != 1:
        raise BundleError(f"{source}: rows of shape {list(shape)}; what is no table is described in a YAML")
    names = columns.split(",") if columns is not None else [f"x{i}" for i in range(shape[0])]
    if len(names) != shape[0]:
        raise BundleError(f"--columns: {len(names)} names, but rows have {shape[0]} columns")
    fields: dict[str, Any] = {
        "name": name or source.stem.lower().replace("_", "-"),
        "title": title,
        "description": f"Packed from {source.name}.",
        "licence": licence,
        "support": {
            "shape": shape,
            "columns": [{"name": each.strip(), "kind": "real", "base_measure": "lebesgue"} for each in names],
        },
        "graphs": {"log_prob": {"file": source.name, "inputs": {x: "x"}, "outputs": {y: "log_prob"}}},
        "capabilities": {
            "log_prob": {
                "step": "log_prob",
                "inputs": [{"name": "x", "dtype": "float64", "shape": shape, "source": "data"}],
                "outputs": [{"name": "log_prob", "dtype": "float64", "kind": kind, "units": "nats"}],
            }
        },
        "contains_training_rows": contains_training_rows,
    }
    return _checked(PackSpec, fields, str(source))


def _described(source: Path, name: str | None) -> tuple[PackSpec, str]:
    """The specification in a YAML, and its text."""
    import yaml

    from contract.errors import BundleError
    from runtime.packing import PackSpec

    text = source.read_text(encoding="utf-8")
    try:
        fields = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BundleError(f"{source}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict):
        raise BundleError(f"{source}: expected a mapping of fields")
    return _checked(PackSpec, fields | ({"name": name} if name is not None else {}), str(source)), text


def _checked(model: type[PackSpec], fields: dict[str, Any], where: str) -> PackSpec:
    from pydantic import ValidationError

    from contract.errors import BundleError

    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{where}: {field}: {first['msg'].removeprefix('Value error, ')}") from None


def _the_one(source: Path, what: str, flag: str, asked: str | None, names: list[str]) -> str:
    from contract.errors import BundleError

    have = ", ".join(repr(each) for each in names)
    if asked is not None:
        if asked not in names:
            raise BundleError(f"{flag}: {source} has no {what} {asked!r}; it has {have}")
        return asked
    if len(names) != 1:
        raise BundleError(f"{flag}: {source} has several: {have}; say which")
    return names[0]


def _rows(path: Path | None, spec: PackSpec) -> Any:
    """Rows in a file, held against the support; None for no file."""
    import csv

    import numpy as np

    from contract.errors import BundleError

    if path is None:
        return None
    if path.suffix == ".npy":
        try:
            return spec.support.read(np.load(path, allow_pickle=False))
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from None
    if path.suffix != ".csv":
        raise BundleError(f"{path}: expected rows in an npy or a csv file")
    with path.open(newline="", encoding="utf-8") as file:
        records = [{key: _value(value) for key, value in record.items()} for record in csv.DictReader(file)]
    try:
        return spec.support.records_to_array(records)
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from None


def _value(text: str | None) -> Any:
    if text is None or text == "":
        return None
    try:
        return float(text)
    except ValueError:
        return text
