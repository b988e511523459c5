"""What the commands share: consoles, JSON on stdout, and how an error looks to a user."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from gapnlp.errors import GapnlpError

if TYPE_CHECKING:
    from rich.console import Console

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


def out_console() -> Console:
    """Return a console for data on stdout; texts are printed as they are (no markup, no highlighting)."""
    return _console(stderr=False)


def err_console() -> Console:
    """Return a console for messages and progress on stderr; likewise without markup."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class PipeConsole(Console):
        """Leave a closed pipe to `presented_errors`."""

        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704  rich calls this while it handles the BrokenPipeError

    return PipeConsole(stderr=stderr, highlight=False, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout; characters that stdout cannot encode are escaped.

    Raises:
        ValueError: If a number is NaN or infinite, which JSON cannot carry.
    """
    document = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        document.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        document = json.dumps(value, ensure_ascii=True, indent=2, allow_nan=False)
    sys.stdout.write(document + "\n")


def escape_unprintable() -> None:
    """Print what stdout cannot encode as an escape, rather than fail on it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def presented_errors() -> Iterator[None]:
    """Turn a user's mistake, Ctrl-C and a closed pipe into an exit status, without a traceback.

    Raises:
        SystemExit: With 2 for a `GapnlpError`, 130 when interrupted, 141 when the reader of stdout left.
    """
    try:
        yield
        sys.stdout.flush()
    except GapnlpError as exc:
        typer.echo(str(exc), err=True)
        raise SystemExit(EXIT_USAGE) from exc
    except KeyboardInterrupt as exc:
        typer.echo("Interrupted.", err=True)
        raise SystemExit(EXIT_INTERRUPTED) from exc
    except BrokenPipeError as exc:
        _silence_stdout()
        raise SystemExit(EXIT_BROKEN_PIPE) from exc


def _silence_stdout() -> None:
    """Send stdout nowhere, so that the interpreter's last flush does not complain either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
