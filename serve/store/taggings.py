"""What was written to tickets: noted before it is written, so that all of it can be taken back."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from serve.store.errors import UnknownIdError
from serve.store.rows import Tagging
from serve.store.tables import taggings as table


class Taggings:
    """The table of taggings."""

    def intend(
        self, conn: Connection, *, connector: str, ticket: str, tags: Sequence[str], delivery_id: str, now: datetime
    ) -> Tagging:
        """Note tags that are about to be written, before they are.

        A second try for the same delivery adds its tags to those of the first: a crash between leaves
        nothing on the ticket that is not noted.

        Args:
            conn: An open transaction.
            connector: The helpdesk's name in the settings.
            ticket: The helpdesk's id of the ticket.
            tags: Those alone that the ticket does not carry yet: what a person has put there is not ours to undo.
            delivery_id: `Delivery.id` of what they are written for.
            now: The time.
        """
        before = select(table).where(table.c.delivery_id == delivery_id, table.c.undone_at.is_(None))
        found = conn.execute(before).mappings().first()
        if found is not None:
            tagging = _to_tagging(found)
            tagging = replace(tagging, tags=tuple(dict.fromkeys((*tagging.tags, *tags))))
            conn.execute(update(table).where(table.c.id == tagging.id).values(tags=tagging.tags))
            return tagging
        tagging = Tagging(
            id=secrets.token_hex(16),
            connector=connector,
            ticket=ticket,
            tags=tuple(tags),
            delivery_id=delivery_id,
            intended_at=now,
        )
        conn.execute(insert(table), asdict(tagging))
        return tagging

    def confirm(self, conn: Connection, id_: str, *, now: datetime) -> None:
        """Note that the helpdesk has taken the tags.

        Raises:
            UnknownIdError: No tagging has this id.
        """
        _set(conn, id_, {"confirmed_at": now})

    def undone(self, conn: Connection, id_: str, *, now: datetime) -> None:
        """Note that the tags were taken back.

        Raises:
            UnknownIdError: No tagging has this id.
        """
        _set(conn, id_, {"undone_at": now})

    def open_for(self, conn: Connection, connector: str, *, since: datetime | None = None) -> list[Tagging]:
        """Return what is, or may be, on a helpdesk's tickets, the newest first: confirmed or not, not undone."""
        query = select(table).where(table.c.connector == connector, table.c.undone_at.is_(None))
        if since is not None:
            query = query.where(table.c.intended_at >= since)
        query = query.order_by(table.c.intended_at.desc(), table.c.id)
        return [_to_tagging(row) for row in conn.execute(query).mappings()]


def _set(conn: Connection, id_: str, values: dict[str, Any]) -> None:
    if not conn.execute(update(table).where(table.c.id == id_).values(values)).rowcount:
        raise UnknownIdError("no tagging has this id: expected one that `intend` has returned")


def _to_tagging(columns: Any) -> Tagging:
    return Tagging(**{**columns, "tags": tuple(columns["tags"])})
