"""What is too old is deleted while the service runs."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from serve.store import StoreError

if TYPE_CHECKING:
    from serve.settings import Settings
    from serve.store import Store

FIRST_AFTER = 60.0  # seconds: a start has other things to do
EVERY = 3600.0  # seconds

_log = structlog.get_logger("serve.retention")


async def keep_pruned(
    store: Store, settings: Settings, *, first_after: float = FIRST_AFTER, every: float = EVERY
) -> None:
    """Prune the store again and again, until cancelled; a store that cannot be pruned now is pruned later.

    Args:
        store: What is pruned; other processes may do the same.
        settings: How long things are kept.
        first_after: Seconds until the first time.
        every: Seconds between two times.
    """
    await asyncio.sleep(first_after)
    while True:
        try:
            pruned = await asyncio.to_thread(_prune, store, settings)
        except StoreError as exc:
            _log.warning("the store could not be pruned, another try follows", reason=str(exc))
        else:
            if any(pruned.values()):
                _log.info("deleted what was too old", **pruned)
        await asyncio.sleep(every)


def _prune(store: Store, settings: Settings) -> dict[str, int]:
    pruned = store.prune(
        datetime.now(UTC), retention_days=settings.retention_days, idempotency_hours=settings.idempotency_hours
    )
    return asdict(pruned)
