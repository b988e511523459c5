"""`gapnlp classify --engine-address`: the same job on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from gapnlp.cli.console import EXIT_INTERRUPTED, err_console
from gapnlp.cli.summary import show_summary
from gapnlp.errors import InputError

if TYPE_CHECKING:
    from gapnlp.archive import Summary
    from gapnlp.distributed import PartitionOptions


def check_unused(**options: object) -> None:
    """Refuse options that say how one file is written, where a folder of Parquet files is.

    Args:
        options: Name on the command line → value; falsy where it was not given.

    Raises:
        InputError: One of them was given.
    """
    for name, value in options.items():
        if value:
            raise InputError(
                f"--{name} is of no use with --engine-address, which writes a folder of Parquet files: leave one out"
            )


def run_on_cluster(
    inputs: Sequence[str],
    output: str,
    *,
    address: str,
    text_column: str | None,
    options: PartitionOptions,
    quiet: bool = False,
    as_json: bool = False,
) -> Summary:
    """Run the job and print what became of it; see `gapnlp.distributed.run_distributed`.

    Raises:
        GapnlpError: Something cannot be used as it is.
        typer.Exit: With 130 when interrupted.
    """
    from gapnlp.archive import Watch
    from gapnlp.distributed import run_distributed

    n_done = 0
    console = err_console()
    with console.status("starting") if console.is_terminal and not quiet else _Silent() as status:

        def tell(n_rows: int) -> None:
            nonlocal n_done
            n_done += n_rows
            status.update(f"{n_done:,} rows done")

        try:
            summary = run_distributed(
                inputs,
                output,
                address=address,
                text_column=text_column,
                options=options,
                watch=Watch(on_rows=tell, on_kept=tell),
            )
        except KeyboardInterrupt as exc:
            typer.echo("Interrupted: finished partitions are kept; the same command goes on from there.", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from exc
    show_summary(summary, quiet=quiet, as_json=as_json)
    return summary


class _Silent:
    """Stands in for the status line where there is no terminal."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, status: str) -> None:
        """Show nothing."""
