"""The one statement that SQLAlchemy spells differently for the two databases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_new(conn: Connection, table: Table, *, values: Mapping[str, Any]) -> bool:
    """Insert a row unless one with the same unique values is there; return whether it was inserted."""
    insert = sqlite.insert if conn.dialect.name == "sqlite" else postgresql.insert
    # Counting the returned rows: `rowcount` of an INSERT is not told by every driver.
    statement = insert(table).on_conflict_do_nothing().returning(*table.primary_key)
    return conn.execute(statement, values).first() is not None
