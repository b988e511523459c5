"""The helpdesks of a running service: what takes their webhooks in, and what tags their tickets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve.connectors import Connector
from serve.helpdesk.inbox import Inbox, Tally
from serve.helpdesk.tagger import Reader, ReadingRules, Tagger
from serve.helpdesk.worker import Worker, WorkerRules

if TYPE_CHECKING:
    from serve.settings import Settings
    from serve.store import AsyncWriter, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What helpdesks need of the service.

    Attributes:
        store: Deliveries, predictions and taggings.
        writer: The way into it from the event loop.
        reader: Reads texts; see `serve.inference.Batcher`.
        fingerprint: Says which model reads now.
        metrics: Where outcomes are counted.
    """

    store: Store
    writer: AsyncWriter
    reader: Reader
    fingerprint: Callable[[], str]
    metrics: Tally


class Helpdesk:
    """All helpdesks that the settings name. To be made in a running event loop.

    Attributes:
        connectors: By name.
        inbox: Takes webhooks in.
    """

    def __init__(
        self,
        connectors: Mapping[str, Connector],
        around: Surroundings,
        *,
        settings: Settings,
        rules: WorkerRules | None = None,
    ) -> None:
        self.connectors = connectors
        self._worker = Worker(
            Tagger(
                connectors,
                store=around.store,
                writer=around.writer,
                reader=around.reader,
                fingerprint=around.fingerprint,
                rules=ReadingRules(
                    max_characters=settings.max_characters,
                    timeout=settings.timeout_seconds,
                    keep_text=settings.store_text,
                ),
            ),
            store=around.store,
            writer=around.writer,
            metrics=around.metrics,
            rules=rules,
        )
        self.inbox = Inbox(
            connectors, store=around.store, writer=around.writer, metrics=around.metrics, on_new=self._worker.wake
        )

    @property
    def n_under_way(self) -> int:
        """How many deliveries are being worked on."""
        return self._worker.n_under_way

    def start(self) -> None:
        """Begin to work on what waits in the store, and on what comes."""
        self._worker.start()

    async def stop(self) -> None:
        """End what is under way, then close the connections; what is left stays in the store."""
        await self._worker.stop()
        await asyncio.gather(*(connector.close() for connector in self.connectors.values()))
