"""The address of the store, checked; no message shows any part of it, because any part may hold the password."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from serve.store.errors import StoreError

_EXPECTED = "expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE in GAPNLP_DATABASE_URL"
_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_HOST = re.compile(r"[\w.:%/-]*")


def parse_url(text: str) -> URL:
    """Return the URL with the driver that is used.

    Raises:
        StoreError: It is no URL, of another database, or its password is not percent-encoded.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # What could not be parsed is not named: a stray character often stands in the password.
        raise StoreError(
            f"the URL of the store cannot be read: {_EXPECTED}, the special characters of the password percent-encoded"
        ) from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise StoreError(f"got a URL of {url.drivername}, which the store does not run on: {_EXPECTED}")
    url = url.set(drivername=driver)
    if driver.startswith("sqlite"):
        _check_sqlite(url)
    elif not _HOST.fullmatch(url.host or ""):
        raise StoreError(f"the URL of the store names no possible host: {_EXPECTED}, '@' in the password as %40")
    return url


def sqlite_file(url: URL) -> Path | None:
    """Return the file of an SQLite database, or None of another one."""
    return Path(url.database or "") if url.drivername.startswith("sqlite") else None


def _check_sqlite(url: URL) -> None:
    """Refuse what is no plain file: a store in memory would lose everything, and be another one in each thread."""
    database = url.database or ""
    if database in {"", ":memory:"} or database.startswith("file:") or url.query:
        raise StoreError(
            "got an SQLite URL without a plain file, but the store must outlive the process: sqlite:///FILE"
        )
    folder = Path(database).absolute().parent
    if not folder.is_dir():
        raise StoreError(f"the folder {folder.name!r} for the store's file is not there: make it first")
