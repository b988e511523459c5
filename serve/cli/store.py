"""`gapnlp store`: look after what the service keeps."""

from __future__ import annotations

from typing import Annotated

import typer

from gapnlp.cli.console import print_json
from serve.cli.access import opened_store, read_settings

app = typer.Typer(
    no_args_is_help=True, help="Look after the store of the service, the one that GAPNLP_DATABASE_URL names."
)


@app.command()
def prune(
    *,
    retention_days: Annotated[
        int | None,
        typer.Option(min=1, metavar="DAYS", help="Delete what is older.", show_default="GAPNLP_RETENTION_DAYS, or 90"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON on stdout.")] = False,
) -> None:
    """Delete predictions, feedback and deliveries that are too old, in small batches, beside a running service.

    Example:
      gapnlp store prune --retention-days 30
    """
    from dataclasses import asdict
    from datetime import UTC, datetime

    settings = read_settings(retention_days=retention_days)
    with opened_store(settings) as store:
        pruned = store.prune(
            datetime.now(UTC), retention_days=settings.retention_days, idempotency_hours=settings.idempotency_hours
        )
    if as_json:
        print_json(asdict(pruned))
    else:
        counts = ", ".join(f"{n:,} {name}" for name, n in asdict(pruned).items())
        typer.echo(f"Deleted what was older than {settings.retention_days} days: {counts}", err=True)


@app.command()
def feedback() -> None:
    """Print what people said of predictions as labelled rows, the last word on each, for training.

    A row has its text where the service keeps texts (GAPNLP_STORE_TEXT), and can then be trained on. The others are
    named by hash: `gapnlp corpus join` finds their texts in any copy of them.

    Example:
      gapnlp store feedback > feedback.jsonl
      gapnlp corpus join feedback.jsonl tickets.csv -o mine.jsonl
    """
    import json

    n_rows = n_bare = 0
    with opened_store(read_settings()) as store, store.read() as conn:
        for word in store.feedback.last_words(conn):
            row = {
                "sha256": word.text_hash,
                "source": word.source,
                "id": word.feedback.prediction_id,
                "split": "train",
                "labels": word.feedback.labels,
                "evidence": [],
            }
            typer.echo(json.dumps(row if word.text is None else {**row, "text": word.text}, ensure_ascii=False))
            n_rows += 1
            n_bare += word.text is None
    without = f"; {n_bare:,} without their texts, which `gapnlp corpus join` adds from a copy" if n_bare else ""
    typer.echo(f"{n_rows:,} {'row' if n_rows == 1 else 'rows'}{without}", err=True)


@app.command()
def migrate() -> None:
    """Make the tables, or bring them to this version. `gapnlp serve` does so itself when it starts.

    Example:
      gapnlp store migrate
    """
    with opened_store(read_settings()):
        typer.echo("The store has the tables of this version.", err=True)
