"""``nonesuch score``: the anomaly scores of a file of rows, or of a Redis Stream of them."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

if TYPE_CHECKING:
    from scoring.scorer import Scorer

__all__ = ["score"]

_MOST_LABELS = 12  # whose promises are printed

_FILE = "Scoring a file"
_CLUSTER = "Scoring a file on a cluster"
_STREAM = "Scoring a Redis Stream"


def score(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE", help="A bundle's folder, …/NAME/VERSION; or NAME or NAME/VERSION in --bundles."
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Rows: .csv, .tsv (also .gz, .bz2, .zst) or .parquet, of any size."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The Parquet file to write.", rich_help_panel=_FILE)
    ] = None,
    alpha: Annotated[float, typer.Option(help="Rate of false alarms to keep: ordinary rows flagged at most.")] = 0.05,
    guarantee: Annotated[
        Literal["marginal", "training_conditional"],
        typer.Option(help="Whether that rate is kept on average over calibration sets, or by 95 % of them each."),
    ] = "marginal",
    label: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="A column of labels (of a stream, a field): each row is held against the calibration rows of its "
            "label, as /anomaly-score does with a label. For bundles calibrated with labels.",
        ),
    ] = None,
    bundles: Annotated[Path, typer.Option(envvar="NONESUCH_BUNDLES", help="Folder of bundles.")] = Path("bundles"),
    provider: Annotated[
        Literal["cpu", "cuda"], typer.Option(envvar="NONESUCH_PROVIDER", help="Where graphs run.")
    ] = "cpu",
    missing: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="A word for a missing value, beside NA, NaN, ? and the like; repeatable."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="A column to hand on with the scores; repeatable.", rich_help_panel=_FILE),
    ] = None,
    on_error: Annotated[
        Literal["fail", "skip"],
        typer.Option(
            help="At a row that cannot be scored: fail, or skip it, with null scores and the reason in a column error.",
            rich_help_panel=_FILE,
        ),
    ] = "fail",
    delimiter: Annotated[
        str | None,
        typer.Option(help="Of a CSV file.", show_default="a comma; of .tsv a tab", rich_help_panel=_FILE),
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of a CSV file.", rich_help_panel=_FILE)] = "utf-8",
    ray: Annotated[
        bool, typer.Option("--ray", help="Share the file among the workers of a Ray cluster.", rich_help_panel=_CLUSTER)
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            envvar="RAY_ADDRESS",
            help="Of a cluster that runs: HOST:PORT, auto, ray://HOST:PORT.",
            show_default="one on this machine, for as long as it takes",
            rich_help_panel=_CLUSTER,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Workers that score.", show_default="its processors", rich_help_panel=_CLUSTER),
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Of the Redis: redis:// …, unix:// …", rich_help_panel=_STREAM),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="STREAM", help="Where entries come from.", rich_help_panel=_STREAM)
    ] = None,
    target: Annotated[
        str | None, typer.Option("--to", metavar="STREAM", help="Where answers go.", rich_help_panel=_STREAM)
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The consumer group that shares the entries.", rich_help_panel=_STREAM),
    ] = None,
    consumer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="This one's name in the group, its own alone; one that comes back goes on where it stopped.",
            show_default="host and process",
            rich_help_panel=_STREAM,
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Entries answered at once.", rich_help_panel=_STREAM)] = 256,
    idle_seconds: Annotated[
        float,
        typer.Option(
            min=0.001,
            help="After so long, what another has read and not answered is taken from it. Longer than a batch takes.",
            rich_help_panel=_STREAM,
        ),
    ] = 60.0,
) -> None:
    """Score rows with a bundle: how strange each one is, with an alarm that keeps its rate.

    A FILE, which may be larger than memory, becomes a Parquet file: for each row its position in the file (column row,
    from 0), score, p_value, is_anomaly (null when so few calibration rows cannot reach alpha) and the statistics that
    the score is made of. The numbers are those of the service's /anomaly-score, to the last bit. Columns are found by
    name, and others may stand beside them; pictures are lists in a column row. A run that ends early leaves no file.

        nonesuch score thyroid patients.csv -o scores.parquet --keep patient

    With --ray, a cluster does this: one task reads the file and each worker scores pieces of it; the rows, their order
    and every bit are those of a single process, whoever dies meanwhile. Workers find the file and the bundle under the
    same paths, and have the same numeric profile.

        nonesuch score thyroid /data/patients.parquet -o scores.parquet --ray --ray-address auto

    A Redis Stream, with --stream, is read as one consumer of a group, until Ctrl-C or SIGTERM. An entry holds a row in
    the field row, as a JSON list, or in a field for each column. Its answer holds id (the entry's), score, p_value,
    is_anomaly, model, version and digest (with --label its label, too), or id and error. Every entry is answered,
    whoever dies meanwhile.

        nonesuch score thyroid --stream redis://localhost --from patients --to scores --group thyroid

    Exit status 2 if the bundle, the file or a row cannot be used.
    """
    streaming = {"--from": source, "--to": target, "--group": group}
    if stream is None:
        given = [name for name, value in {**streaming, "--consumer": consumer}.items() if value is not None]
        if given:
            _refuse(f"{given[0]} goes with --stream URL")
        if file is None or out is None:
            _refuse("expected a FILE and -o OUT.parquet, or --stream URL with --from, --to and --group")
    else:
        alone: dict[str, Any] = {"a FILE": file, "--out": out, "--keep": keep, "--delimiter": delimiter, "--ray": ray}
        given = [name for name, value in alone.items() if value]
        if given:
            _refuse(f"{given[0]} does not go with --stream")
        lacking = [name for name, value in streaming.items() if not value]
        if lacking:
            _refuse(f"--stream needs {', '.join(lacking)}")
        if source == target:
            _refuse("--from and --to are the same stream: it would answer its own answers")
    if workers is not None and not ray:
        _refuse("--workers goes with --ray")
    if delimiter is not None and len(delimiter.encode()) != 1:
        _refuse(f"--delimiter: expected one character, got {delimiter!r}")
    from contract.errors import BundleError, InputError
    from scoring.scorer import Scorer, find_bundle

    try:
        scorer = Scorer.open(find_bundle(bundle, bundles), alpha, provider, guarantee=guarantee, label=label)
    except (BundleError, InputError, OSError) as error:
        _refuse(str(error))
    if stream is None:
        assert file is not None
        assert out is not None
        _score_file(
            scorer,
            file,
            out,
            {"delimiter": delimiter, "encoding": encoding},
            {"keep": keep or (), "on_error": on_error, "missing": missing or ()},
            _Cluster(ray_address, workers) if ray else None,
        )
    else:
        _score_stream(
            scorer,
            stream,
            {
                "source": source,
                "target": target,
                "group": group,
                "consumer": consumer or f"{socket.gethostname()}-{os.getpid()}",
                "batch": batch,
                "idle_seconds": idle_seconds,
            },
            missing or [],
        )


class _Cluster(NamedTuple):
    """Where to score: an address, or None for this machine, and how many workers."""

    address: str | None
    workers: int | None


def _score_file(
    scorer: Scorer, file: Path, out: Path, reading: dict[str, Any], scoring: dict[str, Any], cluster: _Cluster | None
) -> None:
    from contract.errors import InputError
    from scoring.files import score_file
    from scoring.progress import FileProgress
    from scoring.rows import ClusterError, FileError, in_file
    from scoring.sources import open_source
    from scoring.tables import TableScorer
    from service.allocator import share_one_heap

    def ended(number: int, _: Any) -> None:
        raise SystemExit(128 + number)  # what was written so far goes on the way out

    share_one_heap()  # Arrow reads ahead in threads of its own
    signal.signal(signal.SIGTERM, ended)
    promise = _promise(scorer)
    try:
        if out.exists() and out.samefile(file):
            _refuse(f"{out} is the file that is read")
        table_scorer = TableScorer(scorer, **scoring)
        source = open_source(file, **reading)
        with FileProgress(file.name) as progress:
            if cluster is None:
                report = score_file(source, table_scorer, out, promise=promise, progress=progress)
            else:
                try:
                    from scoring.cluster import connected, score_file_on
                except ModuleNotFoundError as error:
                    if (error.name or "").partition(".")[0] != "ray":
                        raise
                    _refuse("--ray needs Ray, which is not installed here: pip install 'nonesuch[ray]'")
                with connected(*cluster) as workers:
                    report = score_file_on(
                        source,
                        reading,
                        table_scorer,
                        out,
                        workers=workers,
                        missing=scoring["missing"],
                        promise=promise,
                        progress=progress,
                    )
    except InputError as error:
        _refuse(in_file(error, file) if error.row is not None else str(error))
    except (ClusterError, FileError, OSError) as error:
        _refuse(str(error))
    except KeyboardInterrupt:
        print("nonesuch score: interrupted; nothing was written", file=sys.stderr)
        raise typer.Exit(130) from None
    print(f"{out}: {_counted(scorer, report)} {_said(scorer, promise)}")


def _score_stream(scorer: Scorer, url: str, options: dict[str, Any], missing: list[str]) -> None:
    from redis.exceptions import RedisError

    from contract.words import MISSING
    from scoring.stream import StreamScorer, connect

    def say(line: str) -> None:
        print(f"nonesuch score: {line}", file=sys.stderr, flush=True)

    try:
        client = connect(url)
    except ValueError as error:
        _refuse(f"--stream: {error}")
    words = MISSING | {word.strip().lower() for word in missing}
    consumer = StreamScorer(scorer, client, **options, missing=words, say=say)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: consumer.stop())
    manifest = scorer.manifest
    say(
        f"{manifest.name}/{manifest.version} ({scorer.model.digest[:12]}) scores {options['source']} into "
        f"{options['target']} as {options['consumer']} of {options['group']}, until Ctrl-C. "
        f"{_said(scorer, _promise(scorer))}"
    )
    try:
        with client:
            report = consumer.run()
    except RedisError as error:
        _refuse(f"Redis: {error}")
    print(f"{options['target']}: {_counted(scorer, report)}")


def _counted(scorer: Scorer, report: Any) -> str:
    """How many rows, alarms and rows without a score, in words."""
    scored = report.rows - report.unscored
    words = f"{report.rows:,} row{'s' * (report.rows != 1)}"
    if scorer.can_alarm:
        share = f" ({100.0 * report.alarms / scored:.2f} %)" if scored else ""
        words += f", {report.alarms:,} alarm{'s' * (report.alarms != 1)} at alpha = {scorer.alpha:g}{share}"
    return words + (f", {report.unscored:,} not scored." if report.unscored else ".")


def _promise(scorer: Scorer) -> str | dict[str, str]:
    """What the service promises of the same alarms, in its own words; by label where rows have labels."""
    import numpy as np

    from service.answers import Alarms, score_answer

    nothing = {part.name: np.empty((0, *part.shape)) for part in scorer.program.outputs}

    def promised(label: str | None) -> str:
        alarms = Alarms(scorer.alpha, scorer.guarantee, label=label)
        return str(score_answer(scorer.model, scorer.program, nothing, alarms)["promise"])

    return promised(None) if scorer.label is None else {label: promised(label) for label in scorer.calibration.labels}


def _said(scorer: Scorer, promise: str | dict[str, str]) -> str:
    """A promise as it is printed: of many labels, those of the first."""
    if isinstance(promise, str):
        return promise
    lines = [f"  {scorer.label} = {label}: {words}" for label, words in list(promise.items())[:_MOST_LABELS]]
    if len(promise) > len(lines):
        lines.append(f"  … and {len(promise) - len(lines):,} more labels.")
    return "\n".join(["By label:", *lines])


def _refuse(words: str) -> Any:
    print(f"nonesuch score: {words}", file=sys.stderr)
    raise typer.Exit(2) from None
