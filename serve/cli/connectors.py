"""`gapnlp connectors`: the helpdesks whose tickets are tagged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapnlp.cli.console import out_console, print_json
from gapnlp.errors import ConfigError
from gapnlp.taxonomy import LABELS
from serve.cli.access import opened_store
from serve.cli.helpdesk import File, Name, find_helpdesk, helpdesk_settings, load_helpdesks, run_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from serve.connectors import Connector
    from serve.helpdesk.preview import Preview
    from serve.helpdesk.undo import Undone
    from serve.settings import Settings

EXIT_SOME_FAILED = 1
SHOWN_CHARACTERS = 300
_AGO = re.compile(r"(\d{1,6})\s*([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

app = typer.Typer(
    no_args_is_help=True,
    help="Look after the helpdesks whose tickets are tagged: those in the TOML file that GAPNLP_CONNECTORS names.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@app.command("list")
def list_connectors(*, file: File = None, as_json: AsJson = False) -> None:
    """List the helpdesks, and check that the file is right and every secret is set. Nothing is sent to them.

    Example:
      gapnlp connectors list
    """
    connectors = load_helpdesks(helpdesk_settings(file))
    rows = [_as_dict(connector) for connector in connectors.values()]
    if as_json:
        print_json(rows)
    else:
        _print_connectors(rows)


@app.command()
def check(
    name: Name,
    ticket: Annotated[str, typer.Argument(metavar="TICKET", help="The helpdesk's id of a ticket.")],
    *,
    file: File = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", metavar="DIR", help="A model directory.", show_default="GAPNLP_MODEL, or the shipped one"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how a ticket would be tagged: a dry run that writes nothing, neither to the helpdesk nor to the store.

    It also proves that the address and the credentials are right, and shows which words of the ticket are read.

    Example:
      gapnlp connectors check zendesk 35436
    """
    from serve.helpdesk.preview import preview_ticket

    settings = helpdesk_settings(file, model=model)
    connector = find_helpdesk(settings, name)
    preview = run_with(
        connector,
        lambda: preview_ticket(connector, ticket, predict=_predictor(settings), max_characters=settings.max_characters),
    )
    if as_json:
        print_json(preview_as_dict(preview))
    else:
        _print_preview(preview)


@app.command("test")
def send_delivery(
    name: Name,
    *,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Where the service is.", show_default="http://127.0.0.1, with the port of GAPNLP_PORT"
        ),
    ] = None,
    ticket: Annotated[
        str | None,
        typer.Option(
            metavar="TICKET", help="Let it be about this ticket: it is then read and tagged.", show_default="none"
        ),
    ] = None,
    file: File = None,
) -> None:
    """Send the running service a webhook, signed as the helpdesk signs it, and say what came back.

    It tells whether the service listens, knows the helpdesk, and has the same secret. It is about no ticket, so nothing
    is stored and nothing tagged. With --ticket it does what a real webhook does.

    Example:
      gapnlp connectors test zendesk
    """
    from serve.connectors.delivery import send_test

    settings = helpdesk_settings(file)
    connector = find_helpdesk(settings, name)
    if not (url or settings.port):
        raise ConfigError(
            "GAPNLP_PORT is 0, any free port: say with --url where the service is; its line `ready` tells"
        )
    where = url or f"http://127.0.0.1:{settings.port}"
    typer.echo(run_with(connector, lambda: send_test(connector, where, ticket=ticket)))


@app.command()
def undo(
    name: Name,
    *,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", help="Only what was written since: 2h, 3d, or 2026-11-22T09:00.", show_default="all"
        ),
    ] = None,
    ticket: Annotated[str | None, typer.Option(metavar="TICKET", help="Only this ticket.", show_default="all")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and change nothing.")] = False,
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Take back the tags that the service added, and no others: what a ticket carried before stays.

    Exit 1 where some tickets could not be changed; run it again for them.

    Example:
      gapnlp connectors undo zendesk --since 2h --dry-run
    """
    from serve.helpdesk import undo_taggings

    settings = helpdesk_settings(file)
    connector, start = find_helpdesk(settings, name), parse_since(since)
    with opened_store(settings) as store:
        results = run_with(
            connector,
            lambda: undo_taggings(connector, store, since=start, ticket=ticket, dry_run=dry_run),
        )
    if as_json:
        print_json([_undone_as_dict(result) for result in results])
    else:
        _print_undone(results, dry_run=dry_run)
    if any(result.error for result in results):
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def retry(
    name: Name,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them, and change nothing.")] = False,
    file: File = None,
) -> None:
    """Put deliveries that were given up back into the queue, after their cause is mended; the service does the rest.

    Example:
      gapnlp connectors retry zendesk
    """
    from datetime import UTC, datetime

    settings = helpdesk_settings(file)
    connector = find_helpdesk(settings, name)
    with opened_store(settings) as store, store.begin() as conn:
        savepoint = conn.begin_nested()
        n_revived = store.deliveries.revive(conn, connector.name, now=datetime.now(UTC))
        if dry_run:
            savepoint.rollback()
    done = "would be put back" if dry_run else "put back"
    typer.echo(f"Deliveries {done} into the queue: {n_revived:,}", err=True)


def parse_since(text: str | None) -> datetime | None:
    """Read `2h`, `3d` or a date and time; without a zone, of this machine's.

    Raises:
        ConfigError: It is none of these.
    """
    from datetime import UTC, datetime, timedelta

    if text is None:
        return None
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--since {text}: expected how long ago, such as 30m, 2h or 3d, or a time such as 2026-11-22T09:00"
        ) from None


def preview_as_dict(preview: Preview) -> dict[str, Any]:
    """Return what `check --json` prints."""
    return {
        "ticket": preview.ticket,
        "tags_present": sorted(preview.present),
        "tags_wanted": list(preview.wanted),
        "tags_added": list(preview.added),
        "turns": [
            {
                "text": text.words,
                "cut": text.is_cut,
                "labels": list(prediction.labels),
                "probabilities": prediction.proba_by_label,
                "review": prediction.review,
                "model": prediction.model,
                "error": prediction.error,
            }
            for text, prediction in zip(preview.texts, preview.predictions, strict=True)
        ],
    }


def _predictor(settings: Settings) -> Callable[..., Any]:
    """Return what reads texts; the model is loaded only once there are some."""

    def predict(texts: list[str]) -> Any:
        from gapnlp.classifier import GapClassifier

        return GapClassifier.load(settings.model, engine=settings.engine, n_threads=settings.threads).predict(texts)

    return predict


def _as_dict(connector: Connector) -> dict[str, Any]:
    config = connector.config
    return {
        "name": connector.name,
        "kind": getattr(config, "kind", connector.name),
        "base_url": config.base_url,
        "webhook_path": f"/v1/webhooks/{connector.name}",
        "tags": list(config.tags_for(LABELS, review=True)),
        "dry_run": config.dry_run,
    }


def _undone_as_dict(result: Undone) -> dict[str, Any]:
    return {
        "ticket": result.tagging.ticket,
        "written_at": result.tagging.intended_at.isoformat(),
        "tags": list(result.tagging.tags),
        "removed": list(result.removed),
        "error": result.error,
    }


def _print_connectors(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for header in ("name", "kind", "address", "webhooks go to", "mode"):
        table.add_column(header, overflow="fold")
    for row in rows:
        mode = "dry run" if row["dry_run"] else "tags tickets"
        table.add_row(row["name"], row["kind"], row["base_url"], row["webhook_path"], mode)
    out_console().print(table)


def _print_preview(preview: Preview) -> None:
    console = out_console()
    if not preview.texts:
        console.print("The customer has written nothing that could be read.")
    for text, prediction in zip(preview.texts, preview.predictions, strict=True):
        labels = ", ".join(prediction.labels) or "none"
        console.print(f"{labels}{' (for review)' if prediction.review else ''}", style="bold")
        words = " ".join(text.words.split())
        console.print(f"  {words[:SHOWN_CHARACTERS]}{'…' if len(words) > SHOWN_CHARACTERS else ''}")
    console.print(f"\nTags of the ticket: {', '.join(sorted(preview.present)) or 'none'}")
    console.print(f"Would be added: {', '.join(preview.added) or 'none'}")


def _print_undone(results: list[Undone], *, dry_run: bool) -> None:
    console = out_console()
    for result in results:
        said = result.error or ", ".join(result.removed) or "nothing left of it"
        console.print(f"{result.tagging.ticket}: {said}")
    n_tags = sum(len(result.removed) for result in results)
    n_failed = sum(bool(result.error) for result in results)
    done = "would be removed" if dry_run else "removed"
    failed = f"; {n_failed:,} could not be changed, see above" if n_failed else ""
    n_done = len(results) - n_failed
    typer.echo(f"Tags {done}: {n_tags:,}, from {n_done:,} tagging{'' if n_done == 1 else 's'}{failed}", err=True)
