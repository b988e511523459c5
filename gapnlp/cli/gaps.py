"""`gapnlp gaps`: print the taxonomy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gapnlp.cli.console import out_console, print_json

if TYPE_CHECKING:
    from gapnlp.taxonomy import Gap, Taxonomy


def gaps(
    name: Annotated[
        str | None,
        typer.Argument(help="One gap: its id, its number, or any name in use; without it, all five."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the five service gaps; with a NAME, all that is known of one.

    Example:
      gapnlp gaps "promise gap"
    """
    from dataclasses import asdict

    from gapnlp.taxonomy import load_taxonomy

    taxonomy = load_taxonomy()
    gap = None if name is None else taxonomy[name]
    if as_json:
        print_json(asdict(taxonomy if gap is None else gap))
    elif gap is None:
        _print_overview(taxonomy)
    else:
        _print_card(gap, source=taxonomy.source)


def _print_overview(taxonomy: Taxonomy) -> None:
    from rich import box
    from rich.table import Table

    table = Table("gap", "id", "name", "what differs", box=box.SIMPLE_HEAD)
    for gap in taxonomy.gaps:
        table.add_row(str(gap.number), gap.id, gap.name, gap.definition)
    console = out_console()
    console.print(table)
    console.print(f"{taxonomy.about}\n\nVersion {taxonomy.version}. Source: {taxonomy.source}")


def _print_card(gap: Gap, *, source: str) -> None:
    from textwrap import fill

    console = out_console()
    console.print(f"Gap {gap.number}: {gap.name} (id: {gap.id})", style="bold")
    console.print(gap.definition)
    sections = {
        "Names in use": gap.names,
        "Typical causes": gap.causes,
        "Questions to ask inside the company": gap.questions,
        "What closes it": gap.remedies,
    }
    for title, lines in sections.items():
        console.print(f"\n{title}", style="bold")
        for line in lines:
            console.print(fill(line, console.width, initial_indent="- ", subsequent_indent="  "))
    console.print(f"\nSource: {source}")
