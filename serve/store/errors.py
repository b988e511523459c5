"""What the store refuses, and foreign errors told in its words.

StoreError               the store cannot do what was asked of it
├── StoreBusyError       somebody else holds it, or it is behind; the same call may succeed later
├── StoreFullError       its disk is full or fails
├── StoreReadOnlyError   it may be read but not written
├── StoreUnreachableError  the database cannot be opened or has gone away
├── StoreVersionError    the database was written by a newer version
├── StoreClosedError     the store or its writer has been closed
└── UnknownIdError       nothing in the store has this id

A message never holds a value that was to be stored, nor the URL of the database: both may be secret.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gapnlp.errors import GapnlpError

if TYPE_CHECKING:
    from sqlalchemy.exc import SQLAlchemyError


class StoreError(GapnlpError):
    """The store cannot do what was asked of it."""


class StoreBusyError(StoreError):
    """Somebody else holds the store, or it is behind; the same call may succeed later."""


class StoreFullError(StoreError):
    """The store's disk is full or fails."""


class StoreReadOnlyError(StoreError):
    """The store may be read but not written."""


class StoreUnreachableError(StoreError):
    """The database cannot be opened or has gone away."""


class StoreVersionError(StoreError):
    """The database was written by a newer version."""


class StoreClosedError(StoreError):
    """The store or its writer has been closed."""


class UnknownIdError(StoreError):
    """Nothing in the store has this id."""


_BUSY = "the store is held by somebody else for too long: try again; if it stays so, end what else writes to it"
_FULL = "the store's disk is full or fails: make room for the database"
_READ_ONLY = "the store may not be written: give the service the right to write the database, its folder too"
_UNREACHABLE = "the store's database cannot be reached: check that it runs, and GAPNLP_DATABASE_URL"

# The beginning of a name of SQLite's errors (sqlite.org/rescode.html), or of a SQLSTATE (PostgreSQL, appendix A).
_TRANSLATIONS: tuple[tuple[str, type[StoreError], str], ...] = (
    ("SQLITE_BUSY", StoreBusyError, _BUSY),
    ("SQLITE_LOCKED", StoreBusyError, _BUSY),
    ("SQLITE_FULL", StoreFullError, _FULL),
    ("SQLITE_IOERR", StoreFullError, _FULL),
    ("SQLITE_READONLY", StoreReadOnlyError, _READ_ONLY),
    ("SQLITE_CANTOPEN", StoreUnreachableError, _UNREACHABLE),
    ("SQLITE_PERM", StoreUnreachableError, _UNREACHABLE),
    ("SQLITE_NOTADB", StoreError, "the store's file is no SQLite database: name another, or move it away"),
    ("SQLITE_CORRUPT", StoreError, "the store's file is damaged: put back a copy, or move it away"),
    ("53100", StoreFullError, _FULL),
    ("58", StoreFullError, _FULL),
    ("25006", StoreReadOnlyError, _READ_ONLY),
    ("42501", StoreReadOnlyError, _READ_ONLY),
    ("28", StoreUnreachableError, "the store's database refuses the user or the password of GAPNLP_DATABASE_URL"),
    ("3D", StoreUnreachableError, "the database that GAPNLP_DATABASE_URL names is not there: create it first"),
    ("08", StoreUnreachableError, _UNREACHABLE),
    ("57014", StoreBusyError, _BUSY),
    ("57P", StoreUnreachableError, _UNREACHABLE),
    ("53", StoreBusyError, _BUSY),
    ("55P03", StoreBusyError, _BUSY),
    ("40", StoreBusyError, _BUSY),
)


def to_store_error(exc: SQLAlchemyError | sqlite3.Error) -> StoreError:
    """Tell an error of the database in the words of the store, without the values that went with it."""
    from sqlalchemy import exc as sql

    if isinstance(exc, sql.TimeoutError):
        return StoreBusyError(_BUSY)
    original = exc.orig if isinstance(exc, sql.DBAPIError) else exc
    code = _code_of(original)
    for start, kind, sentence in _TRANSLATIONS:
        if code.startswith(start):
            return kind(f"{sentence} ({code})")
    if isinstance(exc, sql.OperationalError) and not code:
        # psycopg has no SQLSTATE where it did not get as far as the server.
        return StoreUnreachableError(_UNREACHABLE)
    return StoreError(f"the store refused this: {type(original).__name__} {code}".rstrip())


@contextmanager
def told_plainly() -> Iterator[None]:
    """Raise what the database raises inside as a StoreError.

    Raises:
        StoreError: With the cause cut off, because it may hold values.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as exc:
        raise to_store_error(exc) from None


def _code_of(original: BaseException | None) -> str:
    """Return SQLite's name of an error, or its SQLSTATE, or nothing."""
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorname", "")
    return getattr(original, "sqlstate", None) or ""
