"""The tables, the same in SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from gapnlp.taxonomy import LABELS

PROBA_COLUMNS = tuple(f"proba_{label}" for label in LABELS)


class Moment(TypeDecorator[datetime]):
    """An aware time: kept as UTC, given back as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; SQLite has no zones, so it gets UTC without one."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("got a time without a zone, but expected an aware one, such as datetime.now(UTC)")
        return value.astimezone(UTC).replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give UTC, whatever zone the server thinks in."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Words(TypeDecorator[str]):
    """Text of any origin: what a database cannot hold, NUL and lone surrogates, becomes U+FFFD, one for one."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Replace what cannot be kept; offsets into the text stay true."""
        if value is None:
            return None
        if "\0" in value:
            value = value.replace("\0", "\ufffd")
        if value.isascii():
            return value
        try:
            value.encode()
        except UnicodeEncodeError:
            return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in value)
        return value


def _required(name: str, kind: Any, *, primary_key: bool = False) -> Column[Any]:
    return Column(name, kind, nullable=False, primary_key=primary_key)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

predictions = Table(
    "predictions",
    metadata,
    _required("id", Words, primary_key=True),
    _required("created_at", Moment),
    _required("text_hash", Text),
    Column("text", Words),
    _required("source", Text),
    _required("labels", JSON),
    *(_required(name, Float(53)) for name in PROBA_COLUMNS),
    _required("evidence", JSON),
    _required("review", Boolean),
    _required("truncated", Boolean),
    _required("model", Text),
    _required("fingerprint", Text),
    Index(None, "created_at"),
)

feedback = Table(
    "feedback",
    metadata,
    _required("id", Words, primary_key=True),
    Column("prediction_id", Words, ForeignKey("predictions.id", ondelete="CASCADE"), nullable=False),
    _required("created_at", Moment),
    _required("labels", JSON),
    Column("author", Words),
    Column("comment", Words),
    Index(None, "prediction_id"),
    Index(None, "created_at"),
)

idempotency = Table(
    "idempotency",
    metadata,
    _required("id", Words, primary_key=True),  # a hash of scope and key: bounded, whatever a client sends
    _required("body_hash", Words),
    _required("token", Words),
    _required("started_at", Moment),
    _required("leased_until", Moment),
    Column("status", Integer),  # none while running
    Column("body", LargeBinary),
    Column("content_type", Words),
    Index(None, "started_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    _required("id", Words, primary_key=True),
    _required("secret_hash", LargeBinary),
    _required("name", Words),
    _required("scopes", JSON),
    _required("created_at", Moment),
    Column("revoked_at", Moment),
)

deliveries = Table(
    "deliveries",
    metadata,
    _required("id", Words, primary_key=True),
    _required("connector", Words),
    _required("delivery_id", Words),
    _required("ticket", Words),
    _required("payload", LargeBinary),
    _required("received_at", Moment),
    _required("state", Words),
    _required("due_at", Moment),  # of a claimed one: when the claim lapses
    _required("n_attempts", Integer),
    Column("error", Words),
    UniqueConstraint("connector", "delivery_id"),
    Index(None, "state", "due_at"),
    Index(None, "received_at"),
)

taggings = Table(
    "taggings",
    metadata,
    _required("id", Words, primary_key=True),
    _required("connector", Words),
    _required("ticket", Words),
    _required("tags", JSON),
    _required("delivery_id", Words),
    _required("intended_at", Moment),
    Column("confirmed_at", Moment),
    Column("undone_at", Moment),
    Index(None, "connector", "intended_at"),
    Index(None, "delivery_id"),
    Index(None, "intended_at"),
)
