"""`gapnlp classify`: label an archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapnlp.cli.console import EXIT_INTERRUPTED, err_console, print_json

if TYPE_CHECKING:
    from gapnlp.archive import ArchiveJob, JobOptions, Summary
    from gapnlp.archive.job import Classifier

EXIT_SOME_FAILED = 1
CAPTION = "counted labels, not a prevalence estimate"


def classify(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="CSV, TSV, XLSX, JSONL or Parquet; text formats also .gz; - is stdin."),
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
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Threads the model may use.", show_default="all cores"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUTPUT where it is there already.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON on stdout.")] = False,
) -> None:
    """Label every row of an archive with its gaps.

    The input's columns stay as they are, and the columns gap_primary, gap_labels and so on follow them.
    Exit status: 0 done, 1 some rows have no label (gap_error says why), 2 nothing was done.

    Example:
      gapnlp classify comments.csv -o labelled.csv --text-column comment
    """
    from gapnlp.archive import JobOptions

    options = JobOptions(
        inputs=tuple(inputs),
        output=output,
        text_column=text_column,
        id_column=id_column,
        stream_kind=stream_format,
        mask=mask,
        raw=raw,
        force=force,
    )
    summary = run_classify(options, lambda: _load(model, n_threads=threads), quiet=quiet, as_json=as_json)
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
    from gapnlp.errors import InputError

    if as_json and options.output == "-":
        raise InputError("--json and -o - would both write to stdout; give -o a file, or leave --json out")
    try:
        with open_job(options) as job:
            summary = _run(job, load, quiet=quiet)
    except KeyboardInterrupt as exc:
        left = "the rows on stdout are not all" if options.output == "-" else f"nothing was written to {options.output}"
        typer.echo(f"Interrupted: {left}.", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from exc
    if not quiet:
        _report(summary)
    if as_json:
        print_json(summary.as_dict())
    return summary


def _load(model: Path | None, *, n_threads: int | None) -> Classifier:
    from gapnlp.classifier import GapClassifier

    return GapClassifier.load(model, n_threads=n_threads)


def _run(job: ArchiveJob, load: Callable[[], Classifier], *, quiet: bool) -> Summary:
    if not quiet:
        for line in job.inputs:
            typer.echo(line, err=True)
    classifier = load()
    with _progress(job.n_rows, quiet=quiet) as on_rows:
        return job.run(classifier, on_rows=on_rows)


@contextmanager
def _progress(n_rows: int, *, quiet: bool) -> Iterator[Callable[[int], object]]:
    """Show rows, rows per second and the time left; on a terminal only."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = err_console()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("rows", total=n_rows, rate="")

        def on_rows(n_more: int) -> None:
            bar.advance(task, n_more)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:,.0f} rows/s" if speed else "")

        yield on_rows


def _report(summary: Summary) -> None:
    """Print the counts and the table of gaps on stderr."""
    from rich import box
    from rich.table import Table

    console = err_console()
    n_read = summary.n_rows - summary.n_failed
    left_out = f" (of the {n_read:,} rows that could be read)" if summary.n_failed else ""
    table = Table("gap", box=box.SIMPLE_HEAD, caption=CAPTION + left_out)
    table.add_column("counted", justify="right")
    table.add_column("share of rows", justify="right")
    for label, n_counted in summary.counted.items():
        table.add_row(label, f"{n_counted:,}", f"{n_counted / n_read:.1%}" if n_read else "-")
    console.print(table)
    for failure in summary.failures:
        typer.echo(f"no label: {failure}", err=True)
    for note in summary.notes:
        typer.echo(f"note: {note}", err=True)
    counts = f"{summary.n_rows:,} rows, {summary.n_failed:,} failed, {summary.n_truncated:,} truncated"
    speed = f"{summary.rows_per_second:,.0f} rows/s"
    typer.echo(f"{counts}, {summary.n_review:,} flagged for review; {speed}; model {summary.model}", err=True)
    typer.echo(f"output: {summary.output}", err=True)
