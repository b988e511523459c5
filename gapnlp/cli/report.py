"""`gapnlp report`: which gap to close first."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gapnlp.report.content import ReportContent

STDOUT = "-"


def report(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="What `gapnlp classify` wrote; patterns as '*.csv'; - is stdin, as CSV."
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="REPORT", help="Its extension tells the format; - is stdout.")
    ],
    *,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="COLUMN", help="Split by the values of a column; may be repeated."),
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(metavar="COLUMN[:UNIT[:FORMAT]]", help="Over time; UNIT is day, week, month, quarter or year."),
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(metavar="AUDIT", help="What `gapnlp audit draw` wrote, marked by people.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The model that labelled INPUT.", show_default="the shipped model"),
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="How often the ranges are to hold the true share.")
    ] = 0.95,
    min_texts: Annotated[
        int, typer.Option(min=1, metavar="N", help="A group or period with fewer texts is not shown by itself.")
    ] = 30,
    mask: Annotated[bool, typer.Option("--mask-personal-data", help="Mask personal data in quotations.")] = False,
    title: Annotated[str, typer.Option(help="Of the report.", show_default="the usual one")] = "",
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="html|print|json|csv|xlsx|md",
            help="The format; print is the page with everything unfolded, to print or to make a PDF of.",
            show_default="by the extension",
        ),
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column with the text.", show_default="told by its name")
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Call quoted comments by this column.", show_default="the row's number"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace REPORT where it is there already.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors alone.")] = False,
) -> None:
    """Say which gap to close first: shares with ranges that hold, by segment and over time, and what closes each gap.

    INPUT is what `gapnlp classify` wrote. The labels are not counted: the classifier's errors are corrected for, and
    with --audit the figures rest on texts that people read.

    Example:
      gapnlp report labelled.csv -o report.html --by branch --over date:month
    """
    from gapnlp.archive.inputs import expand_names
    from gapnlp.report import ReportOptions, build_report, render

    chosen = choose_kind(output, asked=kind)
    path = None if output == STDOUT else Path(os.path.realpath(output))
    names = expand_names(inputs, output=path)
    check_output(output, names, force=force)
    options = ReportOptions(
        by=tuple(by or ()),
        over=over,
        audit=audit,
        model=model,
        confidence=confidence,
        min_texts=min_texts,
        mask=mask,
        text_column=text_column,
        id_column=id_column,
        title=title,
    )
    content = build_report(names, options)
    write(render(content, kind=chosen), output)
    if not quiet:
        summarise(content, output=output)


def choose_kind(output: str, *, asked: str | None) -> str:
    """Choose the format: the one asked for, else by the output's extension.

    Raises:
        InputError: Neither tells one.
    """
    from gapnlp.errors import InputError
    from gapnlp.report.formats import KINDS, kind_of

    if asked is None and output == STDOUT:
        raise InputError(f"-o - : say what stdout is to carry with  --format {'|'.join(KINDS)}")
    if asked is not None and asked not in KINDS:
        raise InputError(f"--format {asked}: expected one of {', '.join(KINDS)}")
    return asked or kind_of(output)


def check_output(output: str, inputs: tuple[str, ...], *, force: bool) -> None:
    """Refuse, before anything is read, to write over an input, over what is there, or where nothing can be.

    Raises:
        InputError: It would.
    """
    from gapnlp.errors import InputError

    if output == STDOUT:
        return
    path = Path(os.path.realpath(output))
    if any(name != STDOUT and Path(os.path.realpath(name)) == path for name in inputs):
        raise InputError(f"{output} is the input as well as the output; write to another file")
    if path.is_dir():
        raise InputError(f"{output} is a folder; name a file to write")
    if not path.parent.is_dir():
        raise InputError(f"{output}: its folder does not exist; create it with  mkdir -p {Path(output).parent}")
    if path.exists() and not force:
        raise InputError(f"{output} is there already; choose another name, or replace it with  --force")


def write(document: bytes, output: str) -> None:
    """Write a report; a file appears whole or not at all.

    Raises:
        InputError: It cannot be written.
    """
    from gapnlp.archive.disk import explained_writing, write_whole

    if output == STDOUT:
        sys.stdout.buffer.write(document)
        return
    with explained_writing(output):
        write_whole(Path(os.path.realpath(output)), document)


def summarise(content: ReportContent, *, output: str) -> None:
    """Print the answer and the shares on stderr."""
    from rich import box
    from rich.table import Table

    from gapnlp.cli.console import err_console
    from gapnlp.report.words import is_known, share, span

    console = err_console()
    console.print(content.answer.headline, style="bold")
    table = Table("gap", box=box.SIMPLE_HEAD)
    for heading in ("estimate", f"{100 * content.confidence:g}% range", "counted"):
        table.add_column(heading, justify="right")
    for estimate in (*(section.estimate for section in content.gaps), content.none):
        known = is_known(estimate)
        value = share(estimate.prevalence, width=estimate.high - estimate.low) if known else "unknown"
        table.add_row(estimate.label, value, span(estimate) if known else "any", share(estimate.counted))
    console.print(table)
    console.print(content.answer.certainty)
    findings = [finding for split in content.splits for finding in split.findings]
    for finding in (*findings, *(content.timeline.findings if content.timeline else ())):
        console.print(f"- {finding}")
    typer.echo(f"output: {'stdout' if output == STDOUT else output}", err=True)
