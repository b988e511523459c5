"""What people say of predictions."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, insert, select

from serve.store.errors import UnknownIdError
from serve.store.rows import Feedback
from serve.store.tables import feedback as table
from serve.store.tables import predictions


class FeedbackRows:
    """The table of feedback."""

    def add(self, conn: Connection, feedback: Feedback) -> None:
        """Insert one piece of feedback; a prediction may have several.

        Raises:
            UnknownIdError: There is no such prediction, or its time is over.
        """
        query = select(predictions.c.id).where(predictions.c.id == feedback.prediction_id)
        # PostgreSQL keeps the prediction from being pruned before the commit; SQLite has one writer at a time.
        if conn.execute(query.with_for_update(read=True, key_share=True)).first() is None:
            raise UnknownIdError(
                "no stored prediction has this id: expected one that /v1/classify has answered and that is not "
                "older than the retention time"
            )
        conn.execute(insert(table), asdict(feedback))

    def between(self, conn: Connection, *, since: datetime, until: datetime, limit: int) -> list[Feedback]:
        """Return the oldest `limit` rows given from `since` on and before `until`, the oldest first."""
        query = select(table).where(table.c.created_at >= since, table.c.created_at < until)
        query = query.order_by(table.c.created_at, table.c.id).limit(limit)
        rows = conn.execute(query).mappings()
        return [Feedback(**{**row, "labels": tuple(row["labels"])}) for row in rows]
