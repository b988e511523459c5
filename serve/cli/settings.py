"""`gapnlp settings`: what the service would run with."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapnlp.cli.console import err_console, out_console, print_json
from serve.cli.access import read_settings

if TYPE_CHECKING:
    from serve.settings import Settings

HIDDEN = "**********"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting in force.

    Attributes:
        variable: The environment variable that sets it.
        value: As it would be written in that variable; secrets are masked.
        source: `environment` or `default`.
        description: What it is for.
    """

    variable: str
    value: str
    source: str
    description: str


def settings(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the defaults as a table for a page.")] = False,
) -> None:
    """Show every setting of the service: its value with secrets masked, and where it comes from.

    Example:
      GAPNLP_PORT=9000 gapnlp settings
    """
    if as_markdown:
        typer.echo(markdown_table(), nl=False)
        return
    in_force = list_settings(read_settings())
    if as_json:
        print_json([asdict(setting) for setting in in_force])
    else:
        _print_settings(in_force)
    from serve.settings import unknown_variables

    for name, nearest in unknown_variables(os.environ).items():
        hint = f"; did you mean {nearest}?" if nearest else ""
        err_console().print(f"{name} is set, but the service has no such setting{hint}")


def list_settings(settings: Settings) -> list[Setting]:
    """Return every setting as it is in force, in the order of the documentation."""
    from serve.settings import variable_of

    return [
        Setting(
            variable_of(name),
            shown(name, getattr(settings, name)),
            "environment" if name in settings.model_fields_set else "default",
            field.description or "",
        )
        for name, field in type(settings).model_fields.items()
    ]


def shown(name: str, value: Any) -> str:
    """Write a value as its variable would hold it; of a secret only what may be seen."""
    from pydantic import SecretStr

    if isinstance(value, SecretStr):
        return _shown_url(value.get_secret_value()) if name == "database_url" else HIDDEN
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def markdown_table() -> str:
    """Return all settings and their defaults as a table in Markdown."""
    from serve.settings import Settings, variable_of

    lines = ["| variable | default | what it is for |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = shown(name, field.default)
        lines.append(f"| `{variable_of(name)}` | {f'`{default}`' if default else ''} | {field.description} |")
    return "\n".join(lines) + "\n"


def _shown_url(url: str) -> str:
    """Return a database's URL without its password and options; nothing of one that cannot be read."""
    from gapnlp.errors import GapnlpError
    from serve.store.url import parse_url

    try:
        parsed = parse_url(url)
    except GapnlpError:
        return HIDDEN
    scheme, _, rest = parsed.set(query={}).render_as_string(hide_password=True).partition("://")
    return f"{scheme.partition('+')[0]}://{rest}{'?' + HIDDEN if parsed.query else ''}"


def _print_settings(in_force: list[Setting]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("variable", no_wrap=True)  # to be copied and searched for
    for header in ("value", "from", "what it is for"):
        table.add_column(header, overflow="fold")
    for setting in in_force:
        style = "bold" if setting.source != "default" else None
        table.add_row(setting.variable, setting.value, setting.source, setting.description, style=style)
    out_console().print(table)
