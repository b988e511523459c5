"""Delete what is too old, a few rows at a time, so that nobody waits long for the lock."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from sqlalchemy import Column, Connection, delete, select

from serve.store import tables
from serve.store.rows import Pruned

N_AT_ONCE = 200
_PAUSE_SECONDS = 0.01

Begin = Callable[[], AbstractContextManager[Connection]]


def prune(begin: Begin, now: datetime, *, retention_days: float, idempotency_hours: float) -> Pruned:
    """Delete the rows that are older than this, each batch in a transaction of its own."""
    too_old = now - timedelta(days=retention_days)
    forgotten = now - timedelta(hours=idempotency_hours)
    return Pruned(
        # Feedback first: it goes with its prediction too, but then nobody counts it.
        feedback=_delete(begin, tables.feedback.c.created_at, before=too_old),
        predictions=_delete(begin, tables.predictions.c.created_at, before=too_old),
        deliveries=_delete(begin, tables.deliveries.c.received_at, before=too_old),
        taggings=_delete(begin, tables.taggings.c.intended_at, before=too_old),
        idempotency=_delete(begin, tables.idempotency.c.started_at, before=forgotten),
    )


def _delete(begin: Begin, moment: Column[datetime], *, before: datetime) -> int:
    table = moment.table
    old = select(table.c.id).where(moment < before).order_by(moment).limit(N_AT_ONCE)
    n_deleted = 0
    while True:
        began = time.monotonic()
        with begin() as conn:
            n = conn.execute(delete(table).where(table.c.id.in_(old))).rowcount
        n_deleted += n
        if n < N_AT_ONCE:
            return n_deleted
        # SQLite's lock knows no queue: other processes must find it free as often as not.
        time.sleep(max(_PAUSE_SECONDS, time.monotonic() - began))
