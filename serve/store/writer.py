"""Writes from the event loop: what waits together is committed together."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from serve.store.errors import StoreBusyError, StoreClosedError, StoreError, StoreFullError, to_store_error
from serve.store.rows import StoredPrediction
from serve.store.store import Store

T = TypeVar("T")

MAX_WAITING = 4096
MAX_GROUP = 256
_N_READERS = 2
# Commits follow each other this closely at the most: under load a group gathers, an idle store answers at once.
_INTERVAL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class _Job:
    """A write that somebody waits for: rows to insert with those of others, or anything else to do."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    rows: Sequence[StoredPrediction] | None
    work: Callable[[Connection], Any]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a job."""

    job: _Job
    value: Any = None
    error: BaseException | None = None


class AsyncWriter:
    """One thread that writes, and a few that read, for an event loop that must not wait.

    Attributes:
        n_waiting: Writes that are not committed yet.
    """

    def __init__(self, store: Store, *, max_waiting: int = MAX_WAITING) -> None:
        self._store = store
        self._max_waiting = max_waiting
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._is_closed = False
        self.n_waiting = 0
        self._n_reading = 0
        self._readers = ThreadPoolExecutor(_N_READERS, thread_name_prefix="gapnlp-store-read")
        self._long_reader = ThreadPoolExecutor(1, thread_name_prefix="gapnlp-store-read-long")
        # A daemon: a process that ends without `close` must not hang; what was promised is on the disk.
        self._thread = threading.Thread(target=self._serve, name="gapnlp-store-write", daemon=True)
        self._thread.start()

    async def add_predictions(self, rows: Sequence[StoredPrediction]) -> None:
        """Insert predictions and return when they are committed: the cheapest way to keep them.

        The rows of all that wait go into the database in one statement.

        Raises:
            StoreBusyError: Too much waits already.
            StoreError: These rows are refused.
        """
        await self._submit(lambda conn: self._store.predictions.add(conn, rows), rows=rows)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction that it shares with others, and return its answer when that is committed.

        Where `work` raises, nothing of it stays and nobody else is harmed. It runs in the writer's thread and must be
        quick. It may be run again after what it did was rolled back, because another's work has failed: all that it
        does must be done to the connection, and all that it found out must be in what it returns.
        A caller that is cancelled while it waits takes back only work that has not begun.

        Raises:
            StoreBusyError: Too much waits already.
            StoreError: The database refuses the work or the commit.
        """
        result: T = await self._submit(work)
        return result

    async def read(self, work: Callable[[Connection], T], *, is_long: bool = False) -> T:
        """Do `work`, which only reads, in one of a few threads.

        Args:
            work: What to do.
            is_long: Whether it may take seconds; such work is done one after the other, and what is short need not
                wait for it.

        Raises:
            StoreBusyError: Too much waits already.
            StoreError: The database refuses the work.
        """
        self._check(self._n_reading)
        self._n_reading += 1
        try:
            readers = self._long_reader if is_long else self._readers
            return await asyncio.get_running_loop().run_in_executor(readers, self._read, work)
        finally:
            self._n_reading -= 1

    async def close(self) -> None:
        """Commit what waits, then stop; nothing new is taken. The store stays open."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._readers.shutdown)
        await asyncio.to_thread(self._long_reader.shutdown)

    def _check(self, n_waiting: int) -> None:
        if self._is_closed:
            raise StoreClosedError("the writer of the store has been closed: nothing more is written")
        if n_waiting >= self._max_waiting:
            raise StoreBusyError(f"{n_waiting:,} calls wait for the store already: try again in a second")

    async def _submit(
        self, work: Callable[[Connection], Any], *, rows: Sequence[StoredPrediction] | None = None
    ) -> Any:
        self._check(self.n_waiting)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self.n_waiting += 1
        self._queue.put(_Job(loop, future, rows, work))
        try:
            return await future
        finally:
            self.n_waiting -= 1

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._store.read() as conn:
            return work(conn)

    def _serve(self) -> None:
        """Commit one group after the other until there is nothing more to come."""
        last_commit = 0.0
        is_open = True
        while is_open:
            jobs = [self._queue.get()]
            pause = last_commit + _INTERVAL_SECONDS - time.monotonic()
            if pause > 0 and jobs[0] is not None:
                time.sleep(pause)
            while len(jobs) < MAX_GROUP and not self._queue.empty():
                jobs.append(self._queue.get())
            is_open = None not in jobs
            group = [job for job in jobs if job is not None and not job.future.cancelled()]
            if group:
                _settle(self._commit(group))
                last_commit = time.monotonic()

    def _commit(self, group: Sequence[_Job]) -> list[_Outcome]:
        """Do all jobs in one transaction; where one of them fails, do them again with savepoints between."""
        try:
            return self._do_together(group)
        except _JobFailedError:
            return self._do_apart(group)
        except BaseException as exc:  # noqa: BLE001 - whatever it is, somebody waits for an answer
            return self._share(exc, group)

    def _do_together(self, group: Sequence[_Job]) -> list[_Outcome]:
        """Insert the rows of all in one statement, and do everything else one after the other.

        Raises:
            _JobFailedError: One of several jobs fails; nothing is kept.
        """
        rows = [row for job in group for row in job.rows or ()]
        with self._store.begin() as conn:
            try:
                self._store.predictions.add(conn, rows)
                return [_Outcome(job, None if job.rows is not None else job.work(conn)) for job in group]
            except BaseException as exc:
                if len(group) == 1:
                    raise
                raise _JobFailedError from exc

    def _do_apart(self, group: Sequence[_Job]) -> list[_Outcome]:
        """Do each job between savepoints, in one transaction."""
        try:
            with self._store.begin() as conn:
                return [_try(conn, job) for job in group]
        except BaseException as exc:  # noqa: BLE001 - whatever it is, somebody waits for an answer
            return self._share(exc, group)

    def _share(self, error: BaseException, group: Sequence[_Job]) -> list[_Outcome]:
        """Fail all jobs of a transaction that is lost; but after a full disk let each have a transaction of its own."""
        if len(group) > 1 and isinstance(error, StoreFullError):
            # One large write may be the reason: the small ones may still fit.
            return [outcome for job in group for outcome in self._commit([job])]
        return [_Outcome(job, error=error) for job in group]


class _JobFailedError(Exception):
    """One of several jobs has failed, and the transaction with it."""


def _try(conn: Connection, job: _Job) -> _Outcome:
    """Do a job between savepoints.

    Raises:
        StoreError: The transaction itself is lost, with all that was done in it.
    """
    savepoint = conn.begin_nested()
    try:
        value = job.work(conn)
        savepoint.commit()
    except BaseException as exc:  # noqa: BLE001 - whatever it is, it belongs to the caller alone
        error = to_store_error(exc) if isinstance(exc, SQLAlchemyError) else exc
        try:
            savepoint.rollback()
        except SQLAlchemyError:
            raise error if isinstance(error, StoreError) else StoreError("the transaction was lost") from None
        return _Outcome(job, error=error)
    return _Outcome(job, value)


def _settle(outcomes: Sequence[_Outcome]) -> None:
    """Hand the outcomes to those who wait, with one call into each event loop."""
    per_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        per_loop.setdefault(outcome.job.loop, []).append(outcome)
    for loop, own in per_loop.items():
        try:
            loop.call_soon_threadsafe(_tell, own)
        except RuntimeError:
            continue  # the loop has been closed: nobody waits any more


def _tell(outcomes: Sequence[_Outcome]) -> None:
    for outcome in outcomes:
        future = outcome.job.future
        if future.done():
            continue
        if outcome.error is not None:
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome.value)
