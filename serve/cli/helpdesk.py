"""What the commands about helpdesks share: which one is meant, and work that talks with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapnlp.errors import ConfigError, MissingExtraError
from serve.cli.access import EXTRA, read_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from serve.connectors import Connector
    from serve.settings import Settings

Name = Annotated[str, typer.Argument(metavar="HELPDESK", help="Its name in the file.")]
File = Annotated[
    Path | None,
    typer.Option("--file", metavar="TOML", help="The file of the helpdesks.", show_default="GAPNLP_CONNECTORS"),
]


def helpdesk_settings(file: Path | None, **overrides: Any) -> Settings:
    """Read the settings; a file that was given goes before that of the environment.

    Raises:
        ConfigError: A value cannot be used.
    """
    return read_settings(connectors=file, **overrides)


def load_helpdesks(settings: Settings) -> dict[str, Connector]:
    """Return the helpdesks of the file, by name.

    Raises:
        ConfigError: There is no such file, or it says something that cannot be used.
    """
    try:
        from serve.helpdesk import load_connectors
    except ImportError as exc:
        raise MissingExtraError(exc.name or "httpx", EXTRA) from exc
    if settings.connectors is None:
        raise ConfigError("no helpdesks are named: set GAPNLP_CONNECTORS to their TOML file, or give --file")
    return load_connectors(settings.connectors)


def find_helpdesk(settings: Settings, name: str) -> Connector:
    """Return the helpdesk of a name.

    Raises:
        ConfigError: There is none.
    """
    connectors = load_helpdesks(settings)
    if name not in connectors:
        raise ConfigError(f"got the helpdesk {name!r}, but {settings.connectors} has: {', '.join(connectors)}")
    return connectors[name]


def run_with(connector: Connector, work: Callable[[], Awaitable[Any]]) -> Any:
    """Run work in an event loop of its own, and close the connections after."""

    async def run() -> Any:
        try:
            return await work()
        finally:
            await connector.close()

    return asyncio.run(run())
