"""What a labelling job prints when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from gapnlp.cli.console import err_console, print_json

if TYPE_CHECKING:
    from gapnlp.archive import Summary

CAPTION = "counted labels, not a prevalence estimate"


def show_summary(summary: Summary, *, quiet: bool, as_json: bool) -> None:
    """Print the counts and the table of gaps on stderr, or as JSON on stdout, or both."""
    if not quiet:
        _report(summary)
    if as_json:
        print_json(summary.as_dict())


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
    counts = f"{summary.n_rows:,} rows, {summary.n_failed:,} failed, {summary.n_duplicates:,} duplicates"
    others = f"{summary.n_truncated:,} truncated, {summary.n_review:,} flagged for review"
    kept = f" ({summary.n_kept:,} rows were done before)" * bool(summary.n_kept)
    speed = f"{summary.rows_per_second:,.0f} rows/s{kept}"
    typer.echo(f"{counts}, {others}; {speed}; model {summary.model}", err=True)
    typer.echo(f"output: {summary.output}", err=True)
