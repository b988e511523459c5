"""The store: one database, opened and migrated, and its tables."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import Self

from sqlalchemy import Connection, Engine

from serve.store import engine as engines
from serve.store.deliveries import Deliveries
from serve.store.engine import READS_ONLY, make_engine
from serve.store.errors import StoreBusyError, StoreClosedError, told_plainly
from serve.store.feedback import FeedbackRows
from serve.store.idempotency import Idempotency
from serve.store.keys import Keys
from serve.store.migrate import migrate
from serve.store.predictions import Predictions
from serve.store.prune import prune
from serve.store.rows import Pruned
from serve.store.taggings import Taggings
from serve.store.url import parse_url


class Store:
    """A database and its tables; may be used from several threads.

    The methods of the tables take the connection first, so that several of them make one transaction:

        with store.begin() as conn:
            store.predictions.add(conn, rows)
            store.feedback.add(conn, feedback)
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_closed = False
        # SQLite has one writer at a time. Threads that wait for a lock of Python's get it at once when it is free;
        # those that wait for SQLite's look for it ten times a second, and may miss it for long.
        self._turn: AbstractContextManager[object] = _Turn() if engine.dialect.name == "sqlite" else nullcontext()
        self.predictions = Predictions()
        self.feedback = FeedbackRows()
        self.idempotency = Idempotency()
        self.keys = Keys()
        self.deliveries = Deliveries()
        self.taggings = Taggings()

    @classmethod
    def open(cls, url: str) -> Self:
        """Open a database; make or migrate its tables.

        Raises:
            StoreVersionError: A newer version has written it.
            StoreError: The URL cannot be used, or the database cannot be reached or written.
        """
        with told_plainly():
            store = cls(make_engine(parse_url(url)))
        try:
            migrate(store.begin)
        except BaseException:
            store.close()
            raise
        return store

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction: committed at the end, rolled back where an error comes out.

        Raises:
            StoreError: The database refuses something, the commit included.
        """
        self._check_open()
        with self._turn, told_plainly(), self._engine.begin() as conn:
            yield conn

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a connection to read from: all reads see the same moment in SQLite; nothing is kept of what is written.

        Raises:
            StoreError: The database refuses something.
        """
        self._check_open()
        with told_plainly(), self._engine.connect() as conn:
            yield conn.execution_options(**{READS_ONLY: True})

    def prune(self, now: datetime, *, retention_days: float, idempotency_hours: float) -> Pruned:
        """Delete what is older than this, in small batches; idempotency keys by hours, all else by days.

        Raises:
            StoreError: The database refuses something; what was deleted before stays deleted.
        """
        return prune(self.begin, now, retention_days=retention_days, idempotency_hours=idempotency_hours)

    def close(self) -> None:
        """Close all connections; what is under way ends first."""
        self._is_closed = True
        self._engine.dispose()

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreClosedError("the store has been closed: open it again")


class _Turn:
    """A lock that is waited for no longer than the database's own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=engines.BUSY_SECONDS):
            raise StoreBusyError("another thread writes to the store for too long: try again")

    def __exit__(self, *_: object) -> None:
        self._lock.release()
