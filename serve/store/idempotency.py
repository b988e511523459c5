"""Idempotency keys: the same request twice is done once."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, select, update

from serve.store.dialect import insert_new
from serve.store.rows import Claim, Finished, Mismatch, Running, Started
from serve.store.tables import idempotency as table

LEASE_SECONDS = 60
KEEP_HOURS = 24


class Idempotency:
    """The table of idempotency keys."""

    def begin(
        self,
        conn: Connection,
        key: str,
        *,
        scope: str,
        body_hash: str,
        now: datetime,
        keep_hours: float = KEEP_HOURS,
    ) -> Claim:
        """Claim a key, or say what became of it.

        Args:
            conn: An open transaction.
            key: What the client sent.
            scope: Whose key it is: two clients may use the same one.
            body_hash: Of what was asked; a key belongs to one body.
            now: The time.
            keep_hours: After so long a key is forgotten.
        """
        token = secrets.token_hex(16)
        new: dict[str, Any] = {
            "body_hash": body_hash,
            "token": token,
            "started_at": now,
            "leased_until": now + timedelta(seconds=LEASE_SECONDS),
        }
        id_ = _id_of(key, scope)
        if insert_new(conn, table, values={"id": id_, **new}):
            return Started(token)
        row = conn.execute(select(table).where(table.c.id == id_).with_for_update()).mappings().first()
        if row is None:
            return Running()  # abandoned or pruned between the two statements: the client's next try starts it
        is_forgotten = row["started_at"] <= now - timedelta(hours=keep_hours)
        if not is_forgotten:
            if row["body_hash"] != body_hash:
                return Mismatch()
            if row["status"] is not None:
                return Finished(row["status"], row["body"], row["content_type"])
            if row["leased_until"] > now:
                return Running()
        answer = {"status": None, "body": None, "content_type": None}
        conn.execute(update(table).where(table.c.id == id_).values(**new, **answer))
        return Started(token)

    def finish(
        self, conn: Connection, key: str, *, scope: str, token: str, status: int, body: bytes, content_type: str
    ) -> bool:
        """Keep the answer; return False where the claim was taken over meanwhile, and nothing is kept."""
        answer = {"status": status, "body": body, "content_type": content_type}
        done = conn.execute(update(table).where(*_claim(key, scope, token=token)).values(**answer))
        return bool(done.rowcount)

    def abandon(self, conn: Connection, key: str, *, scope: str, token: str) -> None:
        """Give the key back: the work failed, and may be tried again with it."""
        conn.execute(delete(table).where(*_claim(key, scope, token=token)))


def _claim(key: str, scope: str, *, token: str) -> tuple[Any, ...]:
    return table.c.id == _id_of(key, scope), table.c.token == token, table.c.status.is_(None)


def _id_of(key: str, scope: str) -> str:
    """Hash scope and key to one short id."""
    joined = f"{len(scope)}:{scope}{key}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()
