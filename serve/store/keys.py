"""API keys: the secret is shown once and kept as a hash.

A key reads `gapnlp_<id>_<secret>`. The secret has 256 random bits, so a plain SHA-256 of it cannot be guessed
back; slow hashes are for passwords that people choose.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from serve.store.errors import UnknownIdError
from serve.store.rows import KeyRow
from serve.store.tables import api_keys as table

PREFIX = "gapnlp"
_N_ID_BYTES = 6
_N_SECRET_BYTES = 32
_LONGEST_TOKEN = 200  # characters; a key of ours has 84
_COLUMNS = (table.c.id, table.c.name, table.c.scopes, table.c.created_at, table.c.revoked_at)


class Keys:
    """The table of API keys."""

    def create(self, conn: Connection, name: str, *, scopes: Sequence[str], now: datetime) -> tuple[KeyRow, str]:
        """Make a key; return its row and the whole key, which cannot be had again."""
        row = KeyRow(id=secrets.token_hex(_N_ID_BYTES), name=name, scopes=tuple(scopes), created_at=now)
        secret = secrets.token_hex(_N_SECRET_BYTES)
        values = {"id": row.id, "name": name, "scopes": row.scopes, "created_at": now, "secret_hash": _digest(secret)}
        conn.execute(insert(table), values)
        return row, f"{PREFIX}_{row.id}_{secret}"

    def find(self, conn: Connection, token: str) -> KeyRow | None:
        """Return the key in force that a client sent whole, or None."""
        prefix, _, rest = token[:_LONGEST_TOKEN].partition("_")
        id_, _, secret = rest.partition("_")
        if prefix != PREFIX or not secret:
            return None
        query = select(*_COLUMNS, table.c.secret_hash).where(table.c.id == id_, table.c.revoked_at.is_(None))
        row = conn.execute(query).mappings().first()
        if row is None or not hmac.compare_digest(row["secret_hash"], _digest(secret)):
            return None
        return _to_key(row)

    def revoke(self, conn: Connection, id_: str, *, now: datetime) -> KeyRow:
        """Take a key out of force at once; one that is revoked stays as it is.

        Raises:
            UnknownIdError: No key has this id.
        """
        conn.execute(update(table).where(table.c.id == id_, table.c.revoked_at.is_(None)).values(revoked_at=now))
        row = conn.execute(select(*_COLUMNS).where(table.c.id == id_)).mappings().first()
        if row is None:
            raise UnknownIdError("no API key has this id: `gapnlp keys list` shows the ids")
        return _to_key(row)

    def list(self, conn: Connection) -> tuple[KeyRow, ...]:
        """Return all keys, the revoked ones too, the oldest first."""
        query = select(*_COLUMNS).order_by(table.c.created_at, table.c.id)
        return tuple(_to_key(row) for row in conn.execute(query).mappings())


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _to_key(columns: Any) -> KeyRow:
    values = {column.name: columns[column.name] for column in _COLUMNS}
    return KeyRow(**values | {"scopes": tuple(values["scopes"])})
