"""What people say of predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from sqlalchemy import Connection, exists, insert, select

from serve.store.errors import UnknownIdError
from serve.store.rows import Feedback, LastWord
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

    def last_words(self, conn: Connection) -> Iterator[LastWord]:
        """Yield what was said last of each prediction, the oldest first."""
        later = table.alias()
        is_later = (later.c.created_at > table.c.created_at) | (
            (later.c.created_at == table.c.created_at) & (later.c.id > table.c.id)
        )
        has_later = exists().where(later.c.prediction_id == table.c.prediction_id, is_later)
        query = select(table, predictions.c.text_hash, predictions.c.text, predictions.c.source)
        query = query.join(predictions, predictions.c.id == table.c.prediction_id).where(~has_later)
        for row in conn.execute(query.order_by(table.c.created_at, table.c.id)).mappings():
            given = {column.name: row[column.name] for column in table.c}
            feedback = Feedback(**{**given, "labels": tuple(given["labels"])})
            yield LastWord(feedback, row["text_hash"], row["text"], row["source"])
