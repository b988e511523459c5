"""Predictions, kept so that feedback and prevalence can name them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, insert, select

from serve.store.rows import StoredPrediction
from serve.store.tables import PROBA_COLUMNS
from serve.store.tables import predictions as table

_PLAIN_COLUMNS = (
    *("id", "created_at", "text_hash", "text", "source"),
    *("labels", "evidence", "review", "truncated", "model", "fingerprint"),
)
_N_AT_ONCE = 500  # ids in one statement; both databases allow a few ten thousand
_INSERT = insert(table)
_plain_values = attrgetter(*_PLAIN_COLUMNS)


class Predictions:
    """The table of predictions."""

    def add(self, conn: Connection, rows: Sequence[StoredPrediction]) -> None:
        """Insert rows in one statement.

        Raises:
            StoreError: An id is there already.
        """
        if rows:
            conn.execute(_INSERT, [_to_columns(row) for row in rows])

    def get(self, conn: Connection, ids: Sequence[str]) -> list[StoredPrediction]:
        """Return the rows with these ids, in the order of the ids; what is not there is left out."""
        found: dict[str, StoredPrediction] = {}
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), _N_AT_ONCE):
            query = select(table).where(table.c.id.in_(wanted[start : start + _N_AT_ONCE]))
            found |= {row.id: row for row in map(_to_prediction, conn.execute(query).mappings())}
        return [found[id_] for id_ in wanted if id_ in found]

    def between(self, conn: Connection, *, since: datetime, until: datetime, limit: int) -> list[StoredPrediction]:
        """Return the oldest `limit` rows made from `since` on and before `until`, the oldest first."""
        query = select(table).where(table.c.created_at >= since, table.c.created_at < until)
        query = query.order_by(table.c.created_at, table.c.id).limit(limit)
        return [_to_prediction(row) for row in conn.execute(query).mappings()]


def _to_columns(row: StoredPrediction) -> dict[str, Any]:
    """Return the values of a row per column."""
    values = dict(zip(_PLAIN_COLUMNS, _plain_values(row), strict=True))
    values.update(zip(PROBA_COLUMNS, row.proba, strict=True))
    return values


def _to_prediction(columns: Any) -> StoredPrediction:
    """Undo `_to_columns`."""
    values = {name: columns[name] for name in _PLAIN_COLUMNS}
    values["labels"] = tuple(values["labels"])
    values["evidence"] = tuple((label, start, end) for label, start, end in values["evidence"])
    return StoredPrediction(**values, proba=tuple(columns[name] for name in PROBA_COLUMNS))
