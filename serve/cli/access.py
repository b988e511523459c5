"""What the commands of the service need first: its settings, and its store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gapnlp.errors import MissingExtraError

if TYPE_CHECKING:
    from serve.settings import Settings
    from serve.store import Store

EXTRA = "serve"


def read_settings(**overrides: Any) -> Settings:
    """Read the settings; what is None among `overrides` was not asked for.

    Raises:
        ConfigError: A value cannot be used.
        MissingExtraError: The service is not installed.
    """
    try:
        from serve.settings import load_settings
    except ImportError as exc:
        raise MissingExtraError(exc.name or "pydantic-settings", EXTRA) from exc
    return load_settings(**{name: value for name, value in overrides.items() if value is not None})


@contextmanager
def opened_store(settings: Settings) -> Iterator[Store]:
    """Open the store that the settings name, and close it.

    Raises:
        StoreError: It cannot be opened, or refuses something.
        MissingExtraError: The service is not installed.
    """
    try:
        from serve.store import Store
    except ImportError as exc:
        raise MissingExtraError(exc.name or "sqlalchemy", EXTRA) from exc
    store = Store.open(settings.database_url.get_secret_value())
    try:
        yield store
    finally:
        store.close()
