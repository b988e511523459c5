"""Deliveries of helpdesks: a queue that several workers may share."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select, update

from serve.store.dialect import insert_new
from serve.store.rows import Delivery
from serve.store.tables import deliveries as table

WAITING = "waiting"
CLAIMED = "claimed"
DONE = "done"
GIVEN_UP = "given_up"
STATES = (WAITING, CLAIMED, DONE, GIVEN_UP)
_FIELDS = ("id", "connector", "delivery_id", "ticket", "payload", "received_at", "n_attempts")


class Deliveries:
    """The table of deliveries."""

    def add(self, conn: Connection, delivery: Delivery) -> bool:
        """Put a delivery into the queue, due at once; return False where it has been seen before."""
        values = {name: getattr(delivery, name) for name in _FIELDS}
        return insert_new(
            conn, table, values=values | {"state": WAITING, "due_at": delivery.received_at, "n_attempts": 0}
        )

    def claim(
        self, conn: Connection, *, now: datetime, lease_seconds: float, limit: int, leave: Collection[str] = ()
    ) -> list[Delivery]:
        """Take the deliveries that are longest due, for so long; nobody else gets them meanwhile.

        What is not done by then can be claimed again: its worker has died. Those of the connectors to `leave` stay.
        """
        due = (
            select(table.c.id)
            .where(table.c.state.in_((WAITING, CLAIMED)), table.c.due_at <= now, table.c.connector.not_in(leave))
            .order_by(table.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)  # SQLite has one writer at a time, and does without
            .cte("due")
        )
        values = {
            "state": CLAIMED,
            "due_at": now + timedelta(seconds=lease_seconds),
            "n_attempts": table.c.n_attempts + 1,
        }
        claim = update(table).where(table.c.id.in_(select(due.c.id))).values(values)
        rows = conn.execute(claim.returning(*(table.c[name] for name in _FIELDS))).mappings()
        return sorted((Delivery(**row) for row in rows), key=lambda row: (row.received_at, row.id))

    def done(self, conn: Connection, id_: str) -> None:
        """Take a delivery out of the queue; its payload is deleted."""
        _set(conn, id_, {"state": DONE, "payload": b"", "error": None})

    def retry(self, conn: Connection, id_: str, *, due_at: datetime, error: str) -> None:
        """Put a claimed delivery back for later; `error` says why and must hold no text of the customer."""
        _set(conn, id_, {"state": WAITING, "due_at": due_at, "error": error}, only=CLAIMED)

    def give_up(self, conn: Connection, id_: str, *, error: str) -> None:
        """Take a claimed delivery out of the queue undone; its payload stays, for `revive`."""
        _set(conn, id_, {"state": GIVEN_UP, "error": error}, only=CLAIMED)

    def revive(self, conn: Connection, connector: str, *, now: datetime) -> int:
        """Put what was given up back into the queue, with all its attempts but the first; return how many."""
        lost = update(table).where(table.c.connector == connector, table.c.state == GIVEN_UP)
        return conn.execute(lost.values(state=WAITING, due_at=now, n_attempts=1)).rowcount

    def counts(self, conn: Connection) -> dict[str, int]:
        """Count the deliveries in each of `STATES`."""
        query = select(table.c.state, func.count()).group_by(table.c.state)
        return dict.fromkeys(STATES, 0) | {row[0]: row[1] for row in conn.execute(query)}


def _set(conn: Connection, id_: str, values: dict[str, Any], *, only: str | None = None) -> None:
    change = update(table).where(table.c.id == id_)
    conn.execute((change if only is None else change.where(table.c.state == only)).values(values))
