"""`gapnlp classify`: label an archive."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapnlp.cli.console import EXIT_INTERRUPTED, err_console
from gapnlp.cli.summary import show_summary
from gapnlp.engines import EngineName

if TYPE_CHECKING:
    from gapnlp.archive import ArchiveJob, JobOptions, Summary
    from gapnlp.archive.scoring import Classifier

EXIT_SOME_FAILED = 1
_N_INPUTS_SHOWN = 10


def classify(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="CSV, TSV, XLSX, JSONL or Parquet, text formats also .gz or .zst; patterns as '*.csv'; - is stdin.",
        ),
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="OUTPUT", help="Its extension tells the format; - is stdout."),
    ],
    *,
    text_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The column with the text.", show_default="told by its name"),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column that names a row in messages.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A model directory.", show_default="the shipped model")
    ] = None,
    stream_format: Annotated[
        str | None,
        typer.Option("--format", metavar="csv|tsv|jsonl", help="What stdin and stdout carry.", show_default="csv"),
    ] = None,
    mask: Annotated[
        bool,
        typer.Option("--mask-personal-data", help="Mask personal data in the text before anything else is done."),
    ] = False,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Write texts exactly, even those a spreadsheet would run as formulas."),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="How many batches run at once.", show_default="one per core"),
    ] = None,
    engine: Annotated[
        EngineName, typer.Option(help="What runs the model; openvino-f32 gives the same scores on every machine.")
    ] = "openvino",
    engine_address: Annotated[
        str | None,
        typer.Option(
            metavar="local|auto|ray://HOST:PORT",
            help="Work on a Ray cluster; OUTPUT is then a folder or a URL of one.",
            show_default="this process",
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin again, where an earlier run of the job has not finished.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUTPUT where it is there already.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON on stdout.")] = False,
) -> None:
    """Label every row of an archive with its gaps.

    The input's columns stay as they are, and the columns gap_primary, gap_labels and so on follow them.
    A run that was stopped, by Ctrl-C or by a crash, goes on when the same command is given again.
    Exit status: 0 done, 1 some rows have no label (gap_error says why), 2 no output was written, 130 interrupted.

    Example:
      gapnlp classify comments.csv -o labelled.csv --text-column comment
    """
    from gapnlp.archive import JobOptions

    if engine_address is not None:
        from gapnlp.cli.cluster import check_unused, run_on_cluster
        from gapnlp.distributed import PartitionOptions

        check_unused(raw=raw, force=force, format=stream_format)
        cluster_options = PartitionOptions(
            model=None if model is None else str(model),
            engine=engine,
            id_column=id_column,
            mask=mask,
            restart=restart,
            n_workers=workers,
        )
        summary = run_on_cluster(
            inputs,
            output,
            address=engine_address,
            text_column=text_column,
            options=cluster_options,
            quiet=quiet,
            as_json=as_json,
        )
        raise typer.Exit(EXIT_SOME_FAILED if summary.n_failed else 0)
    options = JobOptions(
        inputs=tuple(inputs),
        output=output,
        text_column=text_column,
        id_column=id_column,
        stream_kind=stream_format,
        mask=mask,
        raw=raw,
        force=force,
        restart=restart,
    )

    def load() -> Classifier:
        from gapnlp.classifier import GapClassifier

        return GapClassifier.load(model, engine=engine, n_threads=workers)

    summary = run_classify(options, load, quiet=quiet, as_json=as_json)
    if summary.n_failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def run_classify(
    options: JobOptions, load: Callable[[], Classifier], *, quiet: bool = False, as_json: bool = False
) -> Summary:
    """Run the job and print what became of it.

    Args:
        options: What to label, and how.
        load: Gives the model; called when the inputs are open and everything else is known to be in order.
        quiet: Print neither progress nor report.
        as_json: Print the summary as JSON on stdout.

    Raises:
        GapnlpError: Something cannot be used as it is.
        typer.Exit: With 130 when interrupted.
    """
    from gapnlp.archive import open_job
    from gapnlp.errors import GapnlpError, InputError

    if as_json and options.output == "-":
        raise InputError("--json and -o - would both write to stdout; give -o a file, or leave --json out")
    with _gentle_stop() as asked, open_job(options) as job:
        try:
            summary = _run(job, load, asked=asked, quiet=quiet)
        except KeyboardInterrupt as exc:
            left = "the rows on stdout are not all" if options.output == "-" else f"{options.output} is not written yet"
            typer.echo(f"Interrupted: {left}{_kept(job)}", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from exc
        except GapnlpError as exc:
            exc.args = (f"{exc}{_kept(job)}",)
            raise
    show_summary(summary, quiet=quiet, as_json=as_json)
    return summary


def _kept(job: ArchiveJob) -> str:
    """Say how to go on, if there is something to go on from."""
    n_rows = job.n_kept
    return f"; {n_rows:,} of {job.n_rows:,} rows are done and kept: the same command goes on from there" * bool(n_rows)


def _run(job: ArchiveJob, load: Callable[[], Classifier], *, asked: _Asked, quiet: bool) -> Summary:
    from gapnlp.archive import Watch

    if not quiet:
        _announce(job)
    classifier = load()
    with _progress(job.n_rows, asked=asked, quiet=quiet) as (on_rows, on_kept):
        asked.gently = True
        return job.run(classifier, watch=Watch(on_rows=on_rows, on_kept=on_kept, stop=lambda: asked.n_times > 0))


def _announce(job: ArchiveJob) -> None:
    for line in job.inputs[:_N_INPUTS_SHOWN]:
        typer.echo(line, err=True)
    if len(job.inputs) > _N_INPUTS_SHOWN:
        typer.echo(f"and {len(job.inputs) - _N_INPUTS_SHOWN:,} more inputs", err=True)
    if job.n_kept >= job.n_rows > 0:
        typer.echo("all rows are done; trying those again that the model failed on", err=True)
    elif job.n_kept:
        typer.echo(f"resuming at row {job.n_kept:,} of {job.n_rows:,}", err=True)


@dataclass(slots=True)
class _Asked:
    """How often the user asked to stop, and whether the job may first finish its chunk."""

    n_times: int = 0
    gently: bool = False
    say: Callable[[str], object] = lambda message: os.write(2, f"{message}\n".encode())  # safe inside a handler


@contextmanager
def _gentle_stop() -> Iterator[_Asked]:
    """Let Ctrl-C and SIGTERM stop the job at the end of a chunk, and at once the second time."""
    asked = _Asked()

    def handle(*_: object) -> None:
        asked.n_times += 1
        if asked.n_times > 1 or not asked.gently:
            raise KeyboardInterrupt
        asked.say("stopping after this chunk; Ctrl-C again: at once")

    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may handle signals
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(
    n_rows: int, *, asked: _Asked, quiet: bool
) -> Iterator[tuple[Callable[[int], object], Callable[[int], object]]]:
    """Show rows, rows per second and the time left; on a terminal only."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = err_console()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    message = TextColumn("{task.description}")
    is_shown = console.is_terminal and not quiet
    with Progress(*columns, message, console=console, transient=True, disable=not is_shown) as bar:
        task = bar.add_task("", total=n_rows, rate="")

        def on_rows(n_more: int) -> None:
            bar.advance(task, n_more)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:,.0f} rows/s" if speed else "")

        def on_kept(n_more: int) -> None:
            bar.reset(task, completed=int(bar.tasks[0].completed) + n_more)  # they say nothing of the speed

        if is_shown:
            asked.say = lambda message: bar.update(task, description=message)
        yield on_rows, on_kept
