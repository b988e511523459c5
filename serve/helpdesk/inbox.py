"""Webhooks: checked, read and put into the store, all within milliseconds."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import structlog

from serve.connectors import Connector, Event, PayloadError, SignatureError, Webhook
from serve.store.rows import Delivery

if TYPE_CHECKING:
    from gapnlp.records import Prediction
    from serve.store import AsyncWriter, Store

_log = structlog.get_logger(__name__)

_LONG_BODY = 50_000  # bytes that take more than a moment to check and read


class Receipt(StrEnum):
    """What became of a webhook."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"


class Tally(Protocol):
    """Where outcomes are counted; see `serve.metrics.Metrics`."""

    def delivery(self, connector: str, outcome: str) -> None:
        """Count one outcome."""

    def predictions(self, predictions: Sequence[Prediction], source: str) -> None:
        """Count what was found in texts of a connector."""


class Inbox:
    """Take webhooks in."""

    def __init__(
        self,
        connectors: Mapping[str, Connector],
        *,
        store: Store,
        writer: AsyncWriter,
        metrics: Tally,
        on_new: Callable[[], object],
    ) -> None:
        """Prepare.

        Args:
            connectors: By name.
            store: Where deliveries are kept.
            writer: The way into it.
            metrics: Where outcomes are counted.
            on_new: Called when a delivery has been stored.
        """
        self._connectors = connectors
        self._store = store
        self._writer = writer
        self._metrics = metrics
        self._on_new = on_new

    def knows(self, name: str) -> bool:
        """Tell whether there is a helpdesk of this name."""
        return name in self._connectors

    async def receive(self, name: str, webhook: Webhook) -> Receipt:
        """Check a webhook and keep it; it is on the disk when this returns.

        Raises:
            SignatureError: It does not come from the helpdesk, or is too old.
            PayloadError: It cannot be read.
            StoreError: It could not be kept: the helpdesk must send it again.
        """
        connector = self._connectors[name]
        read = asyncio.to_thread if len(webhook.body) > _LONG_BODY else _at_once
        try:
            event = await read(_read, connector, webhook)
        except (SignatureError, PayloadError) as exc:
            self._metrics.delivery(name, "refused")
            _log.warning("webhook refused", connector=name, reason=str(exc))
            raise
        receipt = Receipt.IGNORED if event is None else await self._keep(name, event)
        self._metrics.delivery(name, receipt.value)
        return receipt

    async def _keep(self, name: str, event: Event) -> Receipt:
        id_ = secrets.token_hex(16)
        delivery = Delivery(
            id=id_,
            connector=name,
            delivery_id=event.delivery_id or id_,
            ticket=event.ticket,
            payload=event.to_payload(),
            received_at=datetime.now(UTC),
        )
        if not await self._writer.run(lambda conn: self._store.deliveries.add(conn, delivery)):
            return Receipt.DUPLICATE
        self._on_new()
        return Receipt.STORED


def _read(connector: Connector, webhook: Webhook) -> Event | None:
    connector.check_signature(webhook, now=datetime.now(UTC))
    return connector.read_event(webhook)


async def _at_once(
    work: Callable[[Connector, Webhook], Event | None], connector: Connector, webhook: Webhook
) -> Event | None:
    return work(connector, webhook)
