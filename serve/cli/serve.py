"""`gapnlp serve`: run the service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gapnlp.engines import EngineName
from gapnlp.errors import MissingExtraError
from serve.cli.access import EXTRA, read_settings


def serve(
    *,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Address to listen on; any but 127.0.0.1 needs API keys.", show_default="127.0.0.1"
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.", show_default="8080")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A model directory.", show_default="the shipped model")
    ] = None,
    engine: Annotated[EngineName | None, typer.Option(help="What runs the model.", show_default="openvino")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Cores that the model may use.", show_default="all")
    ] = None,
    connectors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file of the helpdesks to serve.", show_default="none")
    ] = None,
) -> None:
    """Serve predictions over HTTP, until it is told to stop.

    Everything can be set by variables GAPNLP_*, and `gapnlp settings` shows them all; an option here goes first.
    SIGTERM or Ctrl-C ends it without losing a request, a second one at once; SIGHUP loads the model anew.

    Example:
      gapnlp serve --port 8080
    """
    settings = read_settings(host=host, port=port, model=model, engine=engine, threads=threads, connectors=connectors)
    if "log_format" not in settings.model_fields_set and is_terminal():
        settings = settings.model_copy(update={"log_format": "console"})  # a person reads it
    try:
        from serve.server import run_server
    except ImportError as exc:
        raise MissingExtraError(exc.name or "uvicorn", EXTRA) from exc
    run_server(settings)


def is_terminal() -> bool:
    """Say whether a person reads what is logged."""
    return sys.stderr.isatty()
