"""The connections to the database, set up so that what is committed stays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import URL, Connection, Engine, create_engine, event

from serve.store.errors import StoreReadOnlyError, StoreUnreachableError
from serve.store.url import sqlite_file

BUSY_SECONDS = 5.0
"""How long a statement waits for somebody else's lock before it is refused."""

READS_ONLY = "gapnlp_reads_only"
"""Execution option of connections that write nothing: in SQLite they need not wait for the writer."""

_STATEMENT_SECONDS = 30
# A server that went away without a word is noticed within seconds: statement timeouts are its own to keep.
_CONNECTION = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,  # milliseconds
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # in WAL mode anything less may lose the last commits when the power goes
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",  # what retention deletes must not stay readable in the file
)


def make_engine(url: URL) -> Engine:
    """Return the engine of a checked URL; nothing is opened yet, but a new SQLite file is made, for its owner alone.

    Raises:
        StoreReadOnlyError: The file cannot be made.
    """
    file = sqlite_file(url)
    options: dict[str, Any] = {
        "hide_parameters": True,  # SQLAlchemy's messages must not hold what customers wrote
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
        "pool_size": 8,
        "max_overflow": 8,
        "pool_timeout": BUSY_SECONDS,
    }
    if file is None:
        # A server may restart under us.
        options["pool_pre_ping"] = True
        options["connect_args"] = {name: value for name, value in _CONNECTION.items() if name not in url.query}
        engine = create_engine(url, **options)
        event.listen(engine, "connect", _set_up_postgresql)
        return engine
    _make_private(file)
    engine = create_engine(url, **options)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private(file: Path) -> None:
    """Make the file before SQLite does, which would let everybody read it."""
    try:
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    except PermissionError:
        # It may be there for reading alone; then the first statement says so better.
        if not file.exists():
            raise StoreReadOnlyError("the store's file cannot be made: give the right to write its folder") from None
    except OSError as exc:
        raise StoreUnreachableError(f"the store's file cannot be opened: {exc.strerror}") from None


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # Python's driver would open transactions too late, and not around everything; `_begin_sqlite` does it.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {round(BUSY_SECONDS * 1000)}")
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(conn: Connection) -> None:
    """Take the lock of the writer at once: taken later, it could be refused with no way to wait for it."""
    reads_only = conn.get_execution_options().get(READS_ONLY, False)
    driver: Any = conn.connection.dbapi_connection
    driver.execute("BEGIN" if reads_only else "BEGIN IMMEDIATE")  # straight: it is most of what a small commit costs


def _set_up_postgresql(connection: Any, _record: object) -> None:
    connection.execute(f"SET lock_timeout = {round(BUSY_SECONDS * 1000)}")
    connection.execute(f"SET statement_timeout = {_STATEMENT_SECONDS * 1000}")
    connection.commit()
