"""The worker: claims deliveries that are due, does them, and sees to those that fail."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from gapnlp.errors import GapnlpError
from serve.connectors import HelpdeskError
from serve.helpdesk.inbox import Tally
from serve.helpdesk.retry import RetryRules
from serve.helpdesk.tagger import Tagger
from serve.store.rows import Delivery

if TYPE_CHECKING:
    from serve.store import AsyncWriter, Store

_log = structlog.get_logger(__name__)

RETRIED = "retried"
GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRules:
    """How the worker goes about it.

    Attributes:
        n_at_once: Deliveries of one helpdesk that are under way at a time.
        lease_seconds: How long a delivery is this worker's own; it is cut short before that.
        poll_seconds: How often the queue is looked at when nothing new was announced.
        stop_seconds: How long deliveries may take once the service stops.
        retry: When one is tried again.
    """

    n_at_once: int = 4
    lease_seconds: float = 120.0
    poll_seconds: float = 1.0
    stop_seconds: float = 10.0
    retry: RetryRules = field(default_factory=RetryRules)


class Worker:
    """Do deliveries until it is stopped."""

    def __init__(
        self,
        tagger: Tagger,
        *,
        store: Store,
        writer: AsyncWriter,
        metrics: Tally,
        rules: WorkerRules | None = None,
    ) -> None:
        self._tagger = tagger
        self._store = store
        self._writer = writer
        self._metrics = metrics
        self._rules = rules or WorkerRules()
        self._is_stopped = False
        self._changed = asyncio.Event()
        self._running: dict[asyncio.Task[None], str] = {}  # and the connector of each
        self._main: asyncio.Task[None] | None = None
        # One delivery of a ticket at a time: two would not see each other's tags.
        self._locks: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()

    @property
    def n_under_way(self) -> int:
        """How many deliveries were claimed and are not counted as done or failed yet."""
        return len(self._running)

    def start(self) -> None:
        """Begin."""
        self._main = asyncio.create_task(self._run(), name="helpdesk worker")

    def wake(self) -> None:
        """Look at the queue now."""
        self._changed.set()

    async def stop(self) -> None:
        """Claim nothing more; end what is under way, or leave it to whoever claims it when its lease is over."""
        self._is_stopped = True
        self.wake()
        if self._main:
            await self._main
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=self._rules.stop_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _run(self) -> None:
        pause = self._rules.poll_seconds
        while not self._is_stopped:
            self._changed.clear()
            try:
                claimed = await self._claim()
            except GapnlpError as exc:
                # A full disk or a lost database: nothing can be done but to try again, ever less often.
                _log.error("the queue of deliveries cannot be read", reason=str(exc))
                claimed, pause = [], min(pause * 2, 30.0)
            else:
                pause = self._rules.poll_seconds
            for delivery in claimed:
                task = asyncio.create_task(self._do(delivery))
                self._running[task] = delivery.connector
                task.add_done_callback(self._end)
            if not claimed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), pause)

    async def _claim(self) -> list[Delivery]:
        """Take what is due of the helpdesks that have room: one that does not answer must not hold up the others."""
        most, lease = self._rules.n_at_once, self._rules.lease_seconds
        running = Counter(self._running.values())
        full = [name for name, n in running.items() if n >= most]
        n_free = most - max((n for name, n in running.items() if name not in full), default=0)
        claim = self._store.deliveries.claim
        return await self._writer.run(
            lambda conn: claim(conn, now=datetime.now(UTC), lease_seconds=lease, limit=n_free, leave=full)
        )

    def _end(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self.wake()
        if not task.cancelled() and task.exception():
            _log.error("a delivery was left as it was", exc_info=task.exception())

    async def _do(self, delivery: Delivery) -> None:
        lock = self._locks.setdefault((delivery.connector, delivery.ticket), asyncio.Lock())
        try:
            async with asyncio.timeout(self._rules.lease_seconds * 0.8), lock:
                done = await self._tagger.handle(delivery)
        except TimeoutError:
            await self._fail(delivery, HelpdeskError("it took too long"))
        except GapnlpError as exc:
            await self._fail(delivery, exc)
        except Exception as exc:  # noqa: BLE001  one delivery must not end the worker; its words may hold a text
            _log.error("a delivery failed in a way that was not foreseen", delivery=delivery.id, exc_info=exc)
            await self._fail(delivery, HelpdeskError(f"{type(exc).__name__}: a fault of the service"))
        else:
            outcome = done.outcome.value
            self._metrics.delivery(delivery.connector, outcome)
            self._metrics.predictions(done.predictions, delivery.connector)
            _log.info("delivery done", connector=delivery.connector, ticket=delivery.ticket, outcome=outcome)

    async def _fail(self, delivery: Delivery, exc: GapnlpError) -> None:
        """Put a delivery back for later, or give it up; the reason is kept, and has no text of the customer in it."""
        rules = self._rules.retry
        error = f"{type(exc).__name__}: {exc}"
        is_final = isinstance(exc, HelpdeskError) and exc.is_final
        given_up = is_final or delivery.n_attempts >= rules.max_attempts
        deliveries = self._store.deliveries
        if given_up:
            await self._writer.run(lambda conn: deliveries.give_up(conn, delivery.id, error=error))
        else:
            delay = rules.delay(delivery.n_attempts, retry_after=float(getattr(exc, "retry_after", 0.0)))
            due_at = datetime.now(UTC) + timedelta(seconds=delay)
            await self._writer.run(lambda conn: deliveries.retry(conn, delivery.id, due_at=due_at, error=error))
        outcome = GIVEN_UP if given_up else RETRIED
        self._metrics.delivery(delivery.connector, outcome)
        level = _log.error if given_up else _log.warning
        level("delivery failed", connector=delivery.connector, delivery=delivery.id, outcome=outcome, reason=error)
