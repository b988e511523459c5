"""`gapnlp keys`: who may call the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapnlp.cli.console import out_console, print_json
from gapnlp.errors import ConfigError
from serve.cli.access import opened_store, read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.store import KeyRow

USUAL_SCOPES = ("classify", "prevalence", "feedback")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]

app = typer.Typer(
    no_args_is_help=True,
    help="Make, list and revoke the API keys of the service, in the store that GAPNLP_DATABASE_URL names.",
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, for the list.")],
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="classify|prevalence|feedback|metrics",
            help="What it allows; may be repeated.",
            show_default="all but metrics",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key. It is printed on stdout, once: the store keeps its hash alone.

    Example:
      gapnlp keys create "helpdesk" --scope classify
    """
    from datetime import UTC, datetime

    if not name.strip():
        raise ConfigError("got an empty name for the key: say whose it is, such as  gapnlp keys create helpdesk")
    settings = read_settings()
    scopes = _check_scopes(scope or USUAL_SCOPES)
    with opened_store(settings) as store, store.begin() as conn:
        row, key = store.keys.create(conn, name, scopes=scopes, now=datetime.now(UTC))
    if as_json:
        print_json({**_as_dict(row), "key": key})
        return
    typer.echo(
        f"A key for {name} ({', '.join(scopes)}). Keep it now, it is not shown again; revoke it with  "
        f"gapnlp keys revoke {row.id}",
        err=True,
    )
    typer.echo(key)


@app.command("list")
def list_keys(*, as_json: AsJson = False) -> None:
    """List the API keys, the revoked ones too; never their secrets.

    Example:
      gapnlp keys list
    """
    with opened_store(read_settings()) as store, store.read() as conn:
        rows = store.keys.list(conn)
    if as_json:
        print_json([_as_dict(row) for row in rows])
    elif rows:
        _print_keys(rows)
    else:
        typer.echo("There are no keys yet: make one with  gapnlp keys create NAME", err=True)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `gapnlp keys list` shows it.")]) -> None:
    """Take an API key out of force for good; running services follow within seconds.

    Example:
      gapnlp keys revoke 4f1c0a9be2d7
    """
    from datetime import UTC, datetime

    from serve.security import REMEMBERED_SECONDS

    now = datetime.now(UTC)
    with opened_store(read_settings()) as store, store.begin() as conn:
        row = store.keys.revoke(conn, key_id, now=now)
    if row.revoked_at and row.revoked_at != now:
        typer.echo(
            f"The key of {row.name} ({row.id}) was revoked already, on {row.revoked_at:%Y-%m-%d at %H:%M} UTC.",
            err=True,
        )
        return
    typer.echo(
        f"The key of {row.name} ({row.id}) is revoked. Services that run refuse it within {REMEMBERED_SECONDS} s.",
        err=True,
    )


def _check_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    from serve.security import SCOPES

    for scope in scopes:
        if scope not in SCOPES:
            raise ConfigError(f"--scope {scope}: expected one of {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in scopes)


def _as_dict(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "scopes": list(row.scopes),
        "created_at": row.created_at.isoformat(),
        "revoked_at": row.revoked_at.isoformat() if row.revoked_at else None,
    }


def _print_keys(rows: Sequence[KeyRow]) -> None:
    from rich import box
    from rich.table import Table

    table = Table("id", "name", "allows", "made", "state", box=box.SIMPLE_HEAD)
    for row in rows:
        state = f"revoked {row.revoked_at:%Y-%m-%d}" if row.revoked_at else "in force"
        table.add_row(row.id, row.name, ", ".join(row.scopes), f"{row.created_at:%Y-%m-%d}", state)
    out_console().print(table)
