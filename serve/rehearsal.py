"""The first request's work, done before there is one: so that it takes no longer than the next.

Threads are started, connections opened and statements compiled the first time they are needed; the model itself is warm
already.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gapnlp.text import hash_text
from serve.store import Origin, StoredPrediction

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from serve.service import Service

_TEXT = "Nobody told us, and nobody came."
_ROUNDS = 10  # code, too, runs faster the more often it has run


class _TakeBackError(Exception):
    """Ends a transaction without keeping anything of it."""


async def rehearse(service: Service) -> None:
    """Read a text, look for a key and write a prediction that is taken back; nothing of it stays.

    Raises:
        StoreError: The store cannot be read or written.
    """
    for number in range(_ROUNDS):
        (prediction,) = await service.batcher.classify([f"{_TEXT} {number}"], timeout=service.settings.timeout_seconds)
        await service.writer.read(lambda conn: service.store.keys.find(conn, "gapnlp_none_none"))
        origin = Origin(
            id=f"rehearsal-{number}",
            created_at=datetime.now(UTC),
            text_hash=hash_text(_TEXT),
            text=None,
            source="rehearsal",
            fingerprint=service.model.classifier.fingerprint,
        )
        row = StoredPrediction.of(prediction, origin)

        def write(conn: Connection, row: StoredPrediction = row) -> None:
            service.store.predictions.add(conn, [row])
            raise _TakeBackError

        try:
            await service.writer.run(write)
        except _TakeBackError:
            continue
